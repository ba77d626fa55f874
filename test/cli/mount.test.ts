import fs from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { PerigeeError } from '../../lib/base/errors.ts';
import { CACHE_FLAGS, fakeWorld } from './fakes.ts';

class TestError extends PerigeeError<'test'> {
  override readonly layer = 'test';
}

const usual = {
  origin: '10.0.0.1:7420',
  exportName: 'datasets',
  mountpoint: '/mnt/data',
  cacheDirectory: '/nvme/p',
  cacheBytes: 100 * 1024 ** 3,
  blockBytes: 4 * 1024 ** 2,
  wholeOnOpenBytes: 8 * 1024 ** 2,
  partitionWaitMs: 30_000,
  driver: 'kernel',
  readOnly: false,
  writeMode: 'through',
  writeBackBytesMax: 50 * 1024 ** 3,
  allowOther: false,
  fetchThreads: 2,
  labels: {},
  credentials: {
    tlsCert: undefined,
    tlsKey: undefined,
    tlsCa: undefined,
    tokenFile: undefined,
    insecure: false,
  },
  metrics: undefined,
  logLevel: 'info',
  logFile: undefined,
};

t.test('mount starts a daemon with the defaults and prints one short line', async (t) => {
  const world = fakeWorld();
  t.equal(await world.run('mount', '10.0.0.1:7420/datasets', '/mnt/data', ...CACHE_FLAGS), 0);
  t.same(world.runtime.asked, [['mountBackground', usual]]);
  t.same(world.out.stdout, ['mounted: /mnt/data (process 4242)']);
  t.same(world.out.stderr, []);
});

t.test('mount takes every option as a flag', async (t) => {
  const world = fakeWorld();
  const words =
    'mount [::1]:7420/datasets mnt --cache cache --cache-size 2TiB --block-size 8MiB --whole-on-open 1MiB ' +
    '--driver portable --read-only --write-mode back --writeback-bytes-max 1GiB --allow-other --fetch-threads 8 --partition-wait 5s --label rack=a1 --label gpu=h200 ' +
    '--tls-cert c.pem --tls-key /k.pem --tls-ca ca.pem --token-file t --insecure ' +
    '--metrics 127.0.0.1:9000 --log-level debug --log-file logs/x.log';
  t.equal(await world.run(...words.split(' ')), 0);
  t.same(world.runtime.asked, [
    [
      'mountBackground',
      {
        origin: '[::1]:7420',
        exportName: 'datasets',
        mountpoint: '/work dir/mnt',
        cacheDirectory: '/work dir/cache',
        cacheBytes: 2 * 1024 ** 4,
        blockBytes: 8 * 1024 ** 2,
        wholeOnOpenBytes: 1024 ** 2,
        driver: 'portable',
        readOnly: true,
        writeMode: 'back',
        writeBackBytesMax: 1024 ** 3,
        allowOther: true,
        fetchThreads: 8,
        partitionWaitMs: 5_000,
        labels: { rack: 'a1', gpu: 'h200' },
        credentials: {
          tlsCert: '/work dir/c.pem',
          tlsKey: '/k.pem',
          tlsCa: '/work dir/ca.pem',
          tokenFile: '/work dir/t',
          insecure: true,
        },
        metrics: { host: '127.0.0.1', port: 9000 },
        logLevel: 'debug',
        logFile: '/work dir/logs/x.log',
      },
    ],
  ]);
});

t.test('mount prefers flag, then environment, then file, then default', async (t) => {
  const configFile = path.join(t.testdir(), 'perigee.yaml');
  fs.writeFileSync(
    configFile,
    'mount:\n  cache: /from/file\n  cache-size: 1GiB\n  block-size: 1MiB\n  driver: portable\n  labels: { rack: a1, unit: 7 }\n',
  );
  const world = fakeWorld({
    configFile,
    env: { PERIGEE_CACHE_SIZE: '2GiB', PERIGEE_BLOCK_SIZE: '2MiB', PERIGEE_DRIVER: '' },
  });
  t.equal(await world.run('mount', 'o:1/e', '/m', '--block-size', '8MiB'), 0);
  t.match(world.runtime.asked[0]?.[1], {
    cacheDirectory: '/from/file',
    cacheBytes: 2 * 1024 ** 3,
    blockBytes: 8 * 1024 ** 2,
    driver: 'portable',
    labels: { rack: 'a1', unit: '7' },
    fetchThreads: 2,
  });
});

t.test('mount reads the file that --config or PERIGEE_CONFIG names', async (t) => {
  const directory = t.testdir({ a: 'mount:\n  cache: /a\n', b: 'mount:\n  cache: /b\n' });
  const env = { PERIGEE_CONFIG: path.join(directory, 'a'), PERIGEE_CACHE_SIZE: '1GiB' };
  const first = fakeWorld({ env });
  t.equal(await first.run('mount', 'o:1/e', '/m'), 0);
  t.match(first.runtime.asked[0]?.[1], { cacheDirectory: '/a' });
  const second = fakeWorld({ env });
  t.equal(await second.run('mount', 'o:1/e', '/m', '--config', path.join(directory, 'b')), 0);
  t.match(second.runtime.asked[0]?.[1], { cacheDirectory: '/b' });
});

t.test('mount takes labels from the environment, separated by commas', async (t) => {
  const world = fakeWorld({ env: { PERIGEE_LABELS: 'rack=a1,zone=b=c' } });
  t.equal(await world.run('mount', 'o:1/e', '/m', ...CACHE_FLAGS), 0);
  t.match(world.runtime.asked[0]?.[1], { labels: { rack: 'a1', zone: 'b=c' } });
});

t.test('mount refuses wrong values with exit code 2 and a hint', async (t) => {
  const cases: [string[], string, string][] = [
    [['o:1/e', '/m', '--cache-size', '1GiB'], 'mount: --cache is missing: directory', 'PERIGEE_CACHE'],
    [['o:1/e', '/m', '--cache', '/c'], 'mount: --cache-size is missing', '--cache-size <size>'],
    ...['5 bananas', '-1GiB', 'NaN', '100GB', '', '1e9', '0x10', 'Infinity', '1,5GiB', '99999999TiB'].map(
      (size): [string[], string, string] => [
        ['o:1/e', '/m', '--cache', '/c', '--cache-size', size],
        `mount: --cache-size: ${JSON.stringify(size)} is not a size`,
        '512MiB',
      ],
    ),
    [
      ['o:1/e', '/m', '--cache', '/c', '--cache-size', '100'],
      'mount: --cache-size: "100" is less than 1MiB',
      '100GiB',
    ],
    [
      ['o:1/e', '/m', '--cache', '/c', '--cache-size', '3MiB'],
      'mount: --cache-size: 3MiB is smaller than one block of 4MiB',
      '100GiB',
    ],
    [['o:1/e', '/m', ...CACHE_FLAGS, '--block-size', '3MiB'], '3MiB is not a power of two', '4MiB'],
    [['o:1/e', '/m', ...CACHE_FLAGS, '--block-size', '1GiB'], 'is more than 64MiB', 'MiB'],
    [
      ['o:1/e', '/m', ...CACHE_FLAGS, '--driver', 'kernl'],
      '"kernl" is none of kernel, portable',
      'did you mean kernel?',
    ],
    [['o:1/e', '/m', ...CACHE_FLAGS, '--driver', 'x'], '"x" is none of', 'choose kernel or portable'],
    [
      ['o:1/e', '/m', ...CACHE_FLAGS, '--fetch-threads', '0'],
      'is not a whole number from 1 to 64',
      'from 1 to 64',
    ],
    [['o:1/e', '/m', ...CACHE_FLAGS, '--fetch-threads', '1.5'], 'is not a whole number', 'from 1 to 64'],
    [['o:1/e', '/m', ...CACHE_FLAGS, '--label', 'rack'], '--label: "rack" is not key=value', 'rack=a1'],
    [['o:1/e', '/m', ...CACHE_FLAGS, '--label', 'a=1', '--label', 'a=2'], 'gives a twice', 'once'],
    [['o:1/e', '/m', ...CACHE_FLAGS, '--metrics', '9000'], '--metrics: "9000" has no port', '[::1]:7420'],
    [['o:1/e', '/m', ...CACHE_FLAGS, '--metrics', '::1:9000'], 'more than one colon', '[::1]:7420'],
    [['o:1/e', '/m', ...CACHE_FLAGS, '--metrics', 'a:70000'], 'has a port over 65535', 'host:port'],
    [['o:1/e', '/m', ...CACHE_FLAGS, '--log-level', 'inof'], 'is none of', 'did you mean info?'],
    [['o:1/e', '/m', '--cache', '', '--cache-size', '1GiB'], '--cache: "" is not a path', 'directory'],
    [['origin', '/m', ...CACHE_FLAGS], '"origin" names no export', 'host:port/name'],
    [['origin/e', '/m', ...CACHE_FLAGS], 'the origin has no port', 'host:port/name'],
    [['o:0/e', '/m', ...CACHE_FLAGS], 'the origin has port 0', 'host:port/name'],
    [['o:1/', '/m', ...CACHE_FLAGS], '"o:1/" names no export', 'host:port/name'],
    [['o:1/a/b', '/m', ...CACHE_FLAGS], 'an export name has 1 to 64', 'host:port/name'],
    [[':1/a', '/m', ...CACHE_FLAGS], 'the origin has no host', 'host:port/name'],
    [['o:1/e', '/', ...CACHE_FLAGS], 'the root directory cannot be a mount point', '/mnt/data'],
    [['o:1/e', '', ...CACHE_FLAGS], '"" is not a mount point', '/mnt/data'],
    [
      ['o:1/e', '/m', ...CACHE_FLAGS, '--config', '/no/such'],
      'cannot read the configuration file /no/such: ENOENT',
      '--config',
    ],
  ];
  for (const [words, error, hint] of cases) {
    const world = fakeWorld();
    t.equal(await world.run('mount', ...words), 2, words.join(' '));
    t.match(world.complaint().error, `perigee: `);
    t.ok(world.complaint().error?.includes(error), `${world.complaint().error} has ${error}`);
    t.ok(world.complaint().hint?.includes(hint), `${world.complaint().hint} has ${hint}`);
    t.same(world.runtime.asked, []);
  }
});

t.test('mount names the variable or the place in the file that is wrong', async (t) => {
  const world = fakeWorld({ env: { PERIGEE_CACHE_SIZE: 'much', PERIGEE_CACHE: '/c' } });
  t.equal(await world.run('mount', 'o:1/e', '/m'), 2);
  t.equal(world.complaint().error, 'perigee: mount: PERIGEE_CACHE_SIZE: "much" is not a size');

  const configFile = path.join(t.testdir({ f: 'mount:\n  cache: /c\n  cache-size: -5\n' }), 'f');
  const second = fakeWorld({ configFile });
  t.equal(await second.run('mount', 'o:1/e', '/m'), 2);
  t.equal(second.complaint().error, `perigee: mount: ${configFile}:3:15: mount.cache-size: -5 is not a size`);
});

t.test('mount reports what the daemon refuses, with its hint, as failed', async (t) => {
  const world = fakeWorld();
  world.runtime.failure = new TestError('test', 'cannot mount on /m', {
    cause: new Error('EBUSY'),
    hint: 'choose another directory',
  });
  t.equal(await world.run('mount', 'o:1/e', '/m', ...CACHE_FLAGS), 1);
  t.same(world.out.stderr, ['perigee: mount: cannot mount on /m: EBUSY', 'hint: choose another directory']);
});

t.test('mount refuses to let more wait for the store than the cache has room for', async (t) => {
  const world = fakeWorld();
  t.equal(await world.run('mount', 'o:1/e', '/m', ...CACHE_FLAGS, '--writeback-bytes-max', '101GiB'), 2);
  t.match(world.complaint().error, '--writeback-bytes-max: is more than the cache has room for');
});

t.test('mount resolves links that lead to the mount point and takes any name', async (t) => {
  const directory = fs.realpathSync(t.testdir({ 'größe  x': {}, link: t.fixture('symlink', 'größe  x') }));
  const world = fakeWorld();
  t.equal(await world.run('mount', 'o:1/e', `${directory}/link/`, ...CACHE_FLAGS), 0);
  t.match(world.runtime.asked[0]?.[1], { mountpoint: `${directory}/größe  x` });
  t.same(world.out.stdout, [`mounted: ${directory}/größe  x (process 4242)`]);
});

t.test('mount --foreground runs until it is asked to stop', async (t) => {
  const world = fakeWorld();
  const exit = world.run('mount', 'o:1/e', '/mnt/new\nline', ...CACHE_FLAGS, '--foreground');
  await world.out.printed('mounted: "/mnt/new\\nline"');
  t.equal(world.runtime.running.stops, 0);
  world.signal();
  t.equal(await exit, 0);
  t.equal(world.runtime.running.stops, 1);
});

t.test('mount --foreground ends fine when another command unmounts', async (t) => {
  const world = fakeWorld();
  const exit = world.run('mount', 'o:1/e', '/m', ...CACHE_FLAGS, '--foreground');
  await world.out.printed('mounted: /m');
  world.runtime.running.end();
  t.equal(await exit, 0);
});
