import path from 'node:path';
import t from 'tap';
import { runMountHelper } from '../../lib/cli/mount-helper.ts';
import { fakeWorld } from './fakes.ts';

const CACHE = 'cache=/nvme/p,cache-size=1GiB';

t.test('mount.perigee maps -o to settings and passes over what is meant for others', async (t) => {
  const world = fakeWorld();
  const generic =
    'rw,noauto,user,_netdev,x-systemd.automount,x-systemd.requires=a.service,defaults,nofail,noatime';
  const words = ['10.0.0.1:7420/datasets', '/mnt/data', '-o', `${generic},${CACHE},ro,allow_other`];
  t.equal(await runMountHelper([...words, '-o', 'fetch_threads=4,label=a=1,label=b=2'], world), 0);
  t.match(world.runtime.asked, [
    [
      'mountBackground',
      {
        origin: '10.0.0.1:7420',
        exportName: 'datasets',
        mountpoint: '/mnt/data',
        cacheDirectory: '/nvme/p',
        cacheBytes: 1024 ** 3,
        readOnly: true,
        allowOther: true,
        fetchThreads: 4,
        labels: { a: '1', b: '2' },
      },
    ],
  ]);
  t.same([...world.out.stdout, ...world.out.stderr], []);
});

t.test(
  'mount.perigee takes the last of ro and rw, and rw, which mount(8) always says, for no more',
  async (t) => {
    const readOnly = async (options: string, file = ''): Promise<unknown> => {
      const world = fakeWorld({ configFile: path.join(t.testdir({ f: file }), 'f') });
      t.equal(await runMountHelper(['o:1/e', '/m', '-o', `${options},${CACHE}`], world), 0);
      return (world.runtime.asked[0]?.[1] as { readOnly: boolean }).readOnly;
    };
    t.equal(await readOnly('rw'), false);
    t.equal(await readOnly('rw,ro'), true);
    t.equal(await readOnly('ro,rw'), false);
    t.equal(await readOnly('rw', 'mount: { read-only: true }'), true);
  },
);

t.test('mount.perigee knows the flags of mount(8)', async (t) => {
  const world = fakeWorld();
  t.equal(await runMountHelper(['o:1/e', '/m', '-nvf', '-o', CACHE], world), 0);
  t.same(world.runtime.asked, [], '-f mounts nothing');
  t.equal(await runMountHelper(['o:1/e', '/m', '-sv', '-o', `${CACHE},unheard=of`], world), 0);
  t.same(world.out.stdout, ['mount.perigee: o:1/e mounted on /m (process 4242)']);
  t.equal(
    await runMountHelper(['o:1/e', '/m', '-N', '/proc/1/ns/mnt', '-t', 'perigee', '-o', CACHE], world),
    0,
  );
});

t.test('mount.perigee takes the rest from a configuration file', async (t) => {
  const directory = t.testdir({ f: 'mount:\n  cache: /from/file\n  cache-size: 1GiB\n' });
  const world = fakeWorld();
  t.equal(await runMountHelper(['o:1/e', '/m', '-o', `config=${path.join(directory, 'f')}`], world), 0);
  t.match(world.runtime.asked, [['mountBackground', { cacheDirectory: '/from/file' }]]);
});

t.test('mount.perigee refuses with the exit codes of mount(8)', async (t) => {
  const cases: [string[], string, string][] = [
    [['o:1/e'], 'expected a source and a mount point, got 1 name', 'MOUNTPOINT'],
    [['o:1/e', '/m', '/n'], 'got 3 names', 'MOUNTPOINT'],
    [['o:1/e', '/m', '-x'], 'unknown option -x', 'MOUNTPOINT'],
    [['o:1/e', '/m', '-o'], '-o has no value', 'MOUNTPOINT'],
    [['o:1/e', '/m', '-o', `${CACHE},cach=x`], 'the option "cach" is unknown', 'did you mean cache?'],
    [['o:1/e', '/m', '-o', `${CACHE},noexec`], 'the option "noexec" is not supported', 'add exec'],
    [
      ['o:1/e', '/m', '-o', `${CACHE},remount`],
      'the option "remount" is not supported',
      'unmount and mount again',
    ],
    [['o:1/e', '/m', '-o', 'cache'], 'the option cache has no value', 'MOUNTPOINT'],
    [['o:1/e', '/m', '-o', 'cache=/c,cache-size=x'], '"x" is not a size', '512MiB'],
    [
      ['o:1/e', '/m', '-o', `${CACHE},allow_other=maybe`],
      '"maybe" is neither true nor false',
      'true or false',
    ],
  ];
  for (const [words, error, hint] of cases) {
    const world = fakeWorld();
    t.equal(await runMountHelper(words, world), 1, words.join(' '));
    t.ok(world.out.stderr[0]?.startsWith('mount.perigee: '));
    t.ok(world.out.stderr[0]?.includes(error), `${world.out.stderr[0]} has ${error}`);
    t.ok(world.out.stderr[1]?.includes(hint), `${world.out.stderr[1]} has ${hint}`);
    t.same(world.runtime.asked, []);
  }
  const failing = fakeWorld();
  failing.runtime.failure = new Error('origin unreachable');
  t.equal(await runMountHelper(['o:1/e', '/m', '-o', CACHE], failing), 32);
  t.same(failing.out.stderr, ['mount.perigee: origin unreachable']);
});
