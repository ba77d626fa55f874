/** Real mounts by the portable driver, and what it says where it cannot work. */
import { readdirSync, readFileSync, statfsSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { SystemCalls } from '../../lib/fuse/device.ts';
import { loadNativeLibrary } from '../../lib/fuse/fuse-native.ts';
import { inspectMountpoint } from '../../lib/fuse/mountpoint.ts';
import { contentOf } from '../conformance/tree.ts';
import { noMounts, startMount } from './mounting.ts';

const skip = noMounts('portable');

t.test('portable driver says what to install', async (t) => {
  await t.rejects(
    loadNativeLibrary(() => Promise.reject(new Error("Cannot find package 'fuse-native'"))),
    { code: 'fuse-native-missing', hint: /npm install fuse-native/ },
  );
  await t.rejects(
    loadNativeLibrary(() => Promise.reject(new Error('libfuse.so.2: cannot open shared object file'))),
    { code: 'libfuse-missing', hint: /./ },
  );
});

t.test('portable mount shows its type, reads, and ends its process', { skip }, async (t) => {
  const mount = await startMount(t, { driver: 'portable', source: 'host:7070/a,b' });
  t.equal(await inspectMountpoint(mount.mountpoint), 'alive-perigee');
  t.match(
    readFileSync('/proc/mounts', 'utf8'),
    `host:7070/a,b ${mount.mountpoint} fuse.perigee ro,nosuid,nodev`,
  );
  const large = contentOf({ path: 'large', sizeBytes: 3 * 1024 * 1024 + 17 });
  t.ok(readFileSync(join(mount.mountpoint, 'large')).equals(large));
  t.equal((await mount.state()).passthrough, false);
  const { bsize, blocks, bfree } = statfsSync(mount.mountpoint);
  t.same([bsize * blocks, bsize * bfree], [2 ** 46, 2 ** 45], 'sizes beyond 32 bits');
  await mount.tell({ do: 'fail-reads' });
  t.throws(() => readFileSync(join(mount.mountpoint, 'page')), { code: 'EIO' });
  mount.child.send({ id: 1, command: { do: 'unmount', deadlineMs: 5_000 } });
  t.match(await mount.event('ended'), { reason: 'unmounted', disconnections: 1 });
  t.match(await mount.exited(), { code: 0 });
  t.equal(await inspectMountpoint(mount.mountpoint), 'free');
});

// Close-to-open: an open sees the newest version.
t.test('portable mount opens the newest version', { skip }, async (t) => {
  const mount = await startMount(t, { driver: 'portable', validForMs: 3_600_000 });
  const path = join(mount.mountpoint, 'page');
  t.equal(readFileSync(path).length, 4096);
  await mount.tell({ do: 'supersede', path: 'page', content: 'newer' });
  t.equal(readFileSync(path, 'utf8'), 'newer');
  await mount.tell({ do: 'remove', path: 'one' });
  t.notOk(readdirSync(mount.mountpoint).includes('one'));
});

t.test('portable mount ends when others unmount it, and is cleaned up when killed', { skip }, async (t) => {
  const first = await startMount(t, { driver: 'portable' });
  await new SystemCalls().unmount(first.mountpoint, 0);
  t.match(await first.event('ended'), { reason: 'unmounted' });
  t.match(await first.exited(), { code: 0 });

  const { mountpoint } = first;
  const killed = await startMount(t, { driver: 'portable', mountpoint });
  await killed.kill();
  t.equal(await inspectMountpoint(mountpoint), 'dead-perigee');
  await startMount(t, { driver: 'portable', mountpoint });
  t.equal(await inspectMountpoint(mountpoint), 'alive-perigee');
});
