import fs from 'node:fs';
import t from 'tap';
import { FakeControl, fakeStatus, type FakeWorld, fakeWorld } from './fakes.ts';

function worldWith(...mountpoints: string[]): FakeWorld & { control: (mountpoint: string) => FakeControl } {
  const world = fakeWorld();
  const controls = new Map(mountpoints.map((mountpoint) => [mountpoint, new FakeControl(mountpoint)]));
  for (const [mountpoint, control] of controls) world.runtime.controls.set(mountpoint, control);
  return { ...world, control: (mountpoint) => controls.get(mountpoint) ?? new FakeControl(mountpoint) };
}

t.test('cache stat prints figures of the only mount', async (t) => {
  const world = worldWith('/m');
  t.equal(await world.run('cache', 'stat'), 0);
  t.match(world.out.stdout, [
    'directory       /nvme/perigee',
    'health          normal',
    'capacity        100 GiB',
  ]);
  t.match(world.out.stdout.join('\n'), 'used            25 GiB (25.0%)');
});

t.test('cache stat --json prints the tier as it is', async (t) => {
  const world = worldWith('/m', '/n');
  t.equal(await world.run('cache', 'stat', '/n/x', '--json'), 0);
  t.same(JSON.parse(world.out.stdout.join('')), fakeStatus('/n').cache);
});

t.test('cache list prints a table that no file name can break', async (t) => {
  const world = worldWith('/m');
  t.equal(await world.run('cache', 'list', '/m/train'), 0);
  t.same(world.control('/m').calls, ['list train']);
  t.same(world.out.stdout, [
    'CACHED  SIZE   STATE           USES  PATH',
    '1 KiB   2 KiB  filling,pinned  7     "train/große datei\\n.bin"',
  ]);
});

t.test('cache list --json prints every field', async (t) => {
  const world = worldWith('/m');
  t.equal(await world.run('cache', 'list', '--json'), 0);
  t.same(world.control('/m').calls, ['list undefined']);
  t.match(JSON.parse(world.out.stdout.join('')), [{ path: 'train/große datei\n.bin', state: 'filling' }]);
});

t.test('cache pin, unpin and evict tell what they did', async (t) => {
  const world = worldWith('/m');
  t.equal(await world.run('cache', 'pin', '/m/a b/'), 0);
  t.equal(await world.run('cache', 'unpin', '/m/a'), 0);
  t.equal(await world.run('cache', 'evict', '/m'), 0);
  t.equal(await world.run('cache', 'evict', '/m/a', '--json'), 0);
  t.same(world.control('/m').calls, ['pin a b true', 'pin a false', 'evict undefined', 'evict a']);
  t.same(world.out.stdout, [
    'pinned: 3 files',
    'unpinned: 3 files',
    'evicted: 5 MiB',
    '{"freedBytes":5242880,"keptBlobs":0}',
  ]);
});

t.test('cache evict says how many files it had to keep', async (t) => {
  const world = worldWith('/m');
  world.control('/m').keptBlobs = 2;
  t.equal(await world.run('cache', 'evict', '/m/a'), 3);
  t.same(world.out.stdout, ['evicted: 5 MiB', 'kept: 2 files open or pinned']);
  t.equal(await world.run('cache', 'evict', '/m/a', '--json'), 3);
  t.same(JSON.parse(world.out.stdout[2] ?? ''), { freedBytes: 5242880, keptBlobs: 2 });
});

t.test('cache pin of what is not cached has failed', async (t) => {
  const world = worldWith('/m');
  world.control('/m').pinned = 0;
  t.equal(await world.run('cache', 'pin', '/m/a'), 1);
  t.match(world.complaint(), {
    error: 'perigee: cache pin: nothing at or below /m/a is cached',
    hint: /read the files/,
  });
});

t.test('cache verify reports, and fails when blocks were bad', async (t) => {
  const world = worldWith('/m');
  t.equal(await world.run('cache', 'verify'), 0);
  t.same(world.out.stdout, ['verified: 4 KiB in 2 blobs']);
  world.control('/m').badBlocks = 2;
  t.equal(await world.run('cache', 'verify', '--json'), 1);
  t.same(JSON.parse(world.out.stdout[1] ?? ''), { blobs: 2, bytes: 4096, badBlocks: 2, missingBlobs: 0 });
  t.match(world.complaint(), { error: '2 blocks did not match their checksums', hint: /fetched again/ });
  world.control('/m').badBlocks = 0;
  world.control('/m').missingBlobs = 1;
  t.equal(await world.run('cache', 'verify'), 0);
  t.same(world.out.stdout.slice(2), [
    'verified: 4 KiB in 2 blobs',
    'dropped: 1 blob whose file is gone; it will be fetched again',
  ]);
});

t.test('cache finds the innermost mount of a path, relative ones too', async (t) => {
  const world = worldWith('/work dir', '/work dir/inner', '/work dir/inner2');
  t.equal(await world.run('cache', 'list', 'inner/x'), 0);
  t.equal(await world.run('cache', 'list', './inne'), 0);
  t.same(world.control('/work dir/inner').calls, ['list x']);
  t.same(world.control('/work dir').calls, ['list inne']);
});

t.test('cache follows links that lead to a mount', async (t) => {
  const directory = fs.realpathSync(t.testdir({ mnt: { a: '' }, link: t.fixture('symlink', 'mnt') }));
  const world = worldWith(`${directory}/mnt`);
  t.equal(await world.run('cache', 'list', `${directory}/link/a`), 0);
  t.same(world.control(`${directory}/mnt`).calls, ['list a']);
});

t.test('cache refuses paths outside of mounts, and to guess among several', async (t) => {
  const none = worldWith();
  t.equal(await none.run('cache', 'stat'), 2);
  t.match(none.complaint(), { error: 'there is no mount on this host', hint: /perigee mount/ });
  const several = worldWith('/a', '/b');
  t.equal(await several.run('cache', 'list'), 2);
  t.match(several.complaint(), { error: 'there are several mounts', hint: '/a, /b' });
  const outside = worldWith('/a');
  t.equal(await outside.run('cache', 'list', '/ab/c'), 2);
  t.match(outside.complaint(), { error: '/ab/c is in no mount of this host', hint: 'the mounts are /a' });
});
