import t from 'tap';
import { fakeStatus, fakeWorld } from './fakes.ts';

t.test('up prints one ready line, then figures, and stops when it is asked', async (t) => {
  const world = fakeWorld();
  const exit = world.run('up', '--sample');
  await world.out.printed('ready:');
  t.same(world.out.stdout, ['ready: /mnt/up']);
  t.same(world.runtime.asked, [
    [
      'up',
      {
        directory: undefined,
        mountpoint: undefined,
        sample: true,
        cacheBytes: 4 * 1024 ** 3,
        driver: 'kernel',
      },
    ],
  ]);

  world.clock.pass(5000);
  await world.out.printed('fetched 8 MiB, 0 B/s');
  const { cache } = world.runtime.running.statusAnswer;
  world.runtime.running.statusAnswer = fakeStatus('/mnt/up', {
    cache: { ...cache, fetchedBytes: cache.fetchedBytes + 50 * 1024 ** 2 },
  });
  world.clock.pass(5000);
  await world.out.printed('fetched 58 MiB, 10 MiB/s');
  t.match(
    world.out.stdout[1],
    'opens 7 (5 passthrough), read through us 3 MiB, hits 10, misses 1, cached 25 GiB',
  );
  t.equal(world.out.stdout.filter((line) => line.startsWith('ready:')).length, 1);

  world.signal();
  t.equal(await exit, 0);
  t.equal(world.runtime.running.stops, 1);
  const lines = world.out.stdout.length;
  world.clock.pass(60_000);
  t.equal(world.out.stdout.length, lines, 'no figures after the end');
  t.same(world.out.stderr, []);
});

t.test('up draws its figures over one line on a terminal, every second', async (t) => {
  const world = fakeWorld({ terminal: true });
  const exit = world.run('up');
  await world.out.printed('ready:');
  world.clock.pass(1000);
  await world.out.printed('fetched');
  t.equal(world.out.drawn.length, 1);
  t.same(world.out.stdout, ['ready: /mnt/up']);
  world.signal();
  t.equal(await exit, 0);
});

t.test('up goes on when figures fail', async (t) => {
  const world = fakeWorld();
  const { running } = world.runtime;
  running.status = () => Promise.reject(new Error('busy'));
  const exit = world.run('up', '--every', '250ms');
  await world.out.printed('ready:');
  world.clock.pass(250);
  await world.out.printed('no figures: busy');
  world.signal();
  t.equal(await exit, 0);
});

t.test('up takes its places from flags', async (t) => {
  const world = fakeWorld();
  const exit = world.run(
    'up',
    '--dir',
    'd',
    '--mount',
    '/mnt/x/',
    '--cache-size',
    '1GiB',
    '--driver',
    'portable',
  );
  await world.out.printed('ready:');
  t.same(world.runtime.asked[0]?.[1], {
    directory: '/work dir/d',
    mountpoint: '/mnt/x',
    sample: false,
    cacheBytes: 1024 ** 3,
    driver: 'portable',
  });
  world.runtime.running.end();
  t.equal(await exit, 0);
});

t.test('up refuses wrong values', async (t) => {
  const cases: [string[], string][] = [
    [['--cache-size', '1MiB'], '"1MiB" is less than 64MiB'],
    [['--every', '5'], '"5" is not a duration'],
    [['--every', '1 fortnight'], 'is not a duration'],
    [['--every', '1ms'], '"1ms" is less than 100ms'],
  ];
  for (const [words, error] of cases) {
    const world = fakeWorld();
    t.equal(await world.run('up', ...words), 2);
    t.match(world.complaint().error, error);
    t.type(world.complaint().hint, 'string');
  }
});

t.test('up that is asked to stop while it starts stops as soon as it runs', async (t) => {
  const world = fakeWorld();
  let started = (): void => undefined;
  world.runtime.starting = new Promise((resolve) => (started = resolve));
  const exit = world.run('up');
  world.signal();
  started();
  t.equal(await exit, 0);
  t.equal(world.runtime.running.stops, 1);
});

t.test('a second signal ends by force and detaches the mount', async (t) => {
  const world = fakeWorld({ terminal: true });
  world.runtime.running.stuck = true;
  const exit = world.run('up');
  await world.out.printed('ready:');
  world.signal();
  await world.out.printed('stopping; once more to force');
  world.signal();
  t.equal(await exit, 1);
  t.same(world.runtime.asked.at(-1), ['forceUnmount', '/mnt/up']);
  t.same(world.complaint().error, 'perigee: up: ended by force');
});

t.test('a second signal while it starts ends by force', async (t) => {
  const world = fakeWorld();
  world.runtime.starting = new Promise(() => undefined);
  const exit = world.run('up');
  world.signal();
  world.signal();
  t.equal(await exit, 1);
});

t.test('a stop that never ends is given up at its deadline', async (t) => {
  const world = fakeWorld({ terminal: true });
  world.runtime.running.stuck = true;
  const exit = world.run('up');
  await world.out.printed('ready:');
  world.signal();
  await world.out.printed('stopping');
  world.clock.pass(60_000);
  t.equal(await exit, 1);
  t.match(world.complaint(), { error: 'did not stop within 60 s', hint: 'fuser' });
});

t.test('a process that fails while it runs is reported', async (t) => {
  const world = fakeWorld();
  const exit = world.run('up');
  await world.out.printed('ready:');
  world.runtime.running.fail(new Error('the kernel went away'));
  t.equal(await exit, 1);
  t.equal(world.complaint().error, 'perigee: up: the kernel went away');
});
