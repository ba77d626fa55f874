import t from 'tap';
import { FakeControl, fakeStatus, fakeWorld } from './fakes.ts';

t.test('status without mounts says so', async (t) => {
  const world = fakeWorld();
  t.equal(await world.run('status'), 0);
  t.same(world.out.stdout, ['no mounts on this host']);
  const json = fakeWorld();
  t.equal(await json.run('status', '--json'), 0);
  t.same(JSON.parse(json.out.stdout.join('')), []);
});

t.test('status shows one mount in lines', async (t) => {
  const world = fakeWorld();
  world.runtime.controls.set('/mnt/ein gabe', new FakeControl('/mnt/ein gabe'));
  t.equal(await world.run('status', '/mnt/ein gabe'), 0);
  t.same(world.out.stdout, [
    '/mnt/ein gabe',
    '  export       datasets of 127.0.0.1:7420',
    '  names        1,234 names in 1 directory, 2 leases, session 0123abcd live, 17 seconds left',
    '  store        s3://bucket/prefix',
    '  labels       rack=a1, room=b 2',
    '  driver       kernel, passthrough on, read-only',
    '  process      4242, version 1.2.3, up 2 minutes, 120 MiB',
    '  cache        25 GiB of 100 GiB in 1,234 blobs (1,230 complete), health normal',
    '               /nvme/perigee',
    '  block reads  10 hits, 1 miss, 8 MiB fetched',
    '  opens        5 passthrough (read by the kernel itself), 2 served (3 MiB)',
    '  open         1 file, 12 nodes',
  ]);
});

t.test('status tells of an origin out of reach and of faults', async (t) => {
  const world = fakeWorld();
  const { cache } = fakeStatus('/m');
  const changes = {
    originReachable: false,
    leases: { state: 'lost', termLeftMs: 0, leases: 0, names: 0, directories: 0, directoriesComplete: 0 },
    cache: { ...cache, checksumFailures: 1, bypassedReads: 2 },
  } as const;
  world.runtime.controls.set('/m', new FakeControl('/m', changes));
  t.equal(await world.run('status'), 0);
  const text = world.out.stdout.join('\n');
  t.match(text, 'datasets of 127.0.0.1:7420 (unreachable)');
  t.match(text, 'names        no lease session: names are asked for one by one');
  t.match(text, 'faults       1 bad block fetched again, 2 reads past the cache');
});

t.test('status --json prints one object or an array', async (t) => {
  const world = fakeWorld();
  world.runtime.controls.set('/m', new FakeControl('/m'));
  t.equal(await world.run('status', '/m', '--json'), 0);
  t.same(JSON.parse(world.out.stdout.join('')), fakeStatus('/m'));
  const all = fakeWorld();
  all.runtime.controls.set('/m', new FakeControl('/m'));
  t.equal(await all.run('status', '--json'), 0);
  t.same(JSON.parse(all.out.stdout.join('')), [fakeStatus('/m')]);
});

t.test('status of several mounts of which one does not answer is partly done', async (t) => {
  for (const json of [false, true]) {
    const world = fakeWorld();
    const dead = new FakeControl('/dead');
    dead.failure = new Error('no answer');
    world.runtime.controls.set('/alive', new FakeControl('/alive')).set('/dead', dead);
    t.equal(await world.run('status', ...(json ? ['--json'] : [])), 3);
    t.same(world.out.stderr, ['perigee: status: /dead: no answer']);
    if (json) {
      t.match(JSON.parse(world.out.stdout.join('')), [
        { mountpoint: '/alive' },
        { mountpoint: '/dead', error: 'no answer' },
      ]);
    } else {
      t.equal(world.out.stdout[0], '/alive');
    }
  }
});

t.test('status of mounts that all do not answer has failed', async (t) => {
  const world = fakeWorld();
  const dead = new FakeControl('/dead');
  dead.failure = new Error('no answer');
  world.runtime.controls.set('/dead', dead);
  t.equal(await world.run('status'), 1);
});

t.test('status of what is no mount has failed', async (t) => {
  const world = fakeWorld();
  t.equal(await world.run('status', '/m'), 1);
  t.same(world.out.stderr, ['perigee: status: nothing at /m']);
});
