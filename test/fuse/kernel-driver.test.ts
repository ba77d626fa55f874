/** Real mounts by the kernel driver. The mount is served by a process of its own; this one only makes system calls. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  fstatSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  statfsSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { systemClock } from '../../lib/base/clock.ts';
import { SystemCalls } from '../../lib/fuse/device.ts';
import { mountKernel } from '../../lib/fuse/kernel-driver.ts';
import { probeKernel } from '../../lib/fuse/kernel-probe.ts';
import { findMount, parseMountTable } from '../../lib/fuse/mount-table.ts';
import { detachMount, inspectMountpoint } from '../../lib/fuse/mountpoint.ts';
import { createLogger } from '../../lib/telemetry/log.ts';
import { createMetrics } from '../../lib/telemetry/metrics.ts';
import { readMapped } from '../conformance/posix.ts';
import { conformanceTree, contentOf } from '../conformance/tree.ts';
import { MemoryFs } from './memory-fs.ts';
import { MountProcess, mountDirectory, noMounts, startMount } from './mounting.ts';

const skip = noMounts();
const large = contentOf({ path: 'large', sizeBytes: 3 * 1024 * 1024 + 17 });
const LONG_MS = 3_600_000;

const mountOf = (path: string) =>
  findMount(parseMountTable(readFileSync('/proc/self/mountinfo', 'utf8')), path);

t.test('kernel mount shows its type and source, and larger readahead', { skip }, async (t) => {
  const { mountpoint } = await startMount(t, { driver: 'kernel', source: 'host:7070/a b' });
  const mounted = mountOf(mountpoint);
  t.match(mounted, { type: 'fuse.perigee', source: 'host:7070/a b', readOnly: true });
  t.match(readFileSync('/proc/mounts', 'utf8'), / fuse\.perigee ro,nosuid,nodev/);
  t.equal(readFileSync(`/sys/class/bdi/${mounted?.device}/read_ahead_kb`, 'utf8').trim(), '1024');
  t.equal(await inspectMountpoint(mountpoint), 'alive-perigee');
  const { bsize, blocks, bfree } = statfsSync(mountpoint);
  t.same([bsize * blocks, bsize * bfree], [2 ** 46, 2 ** 45], 'sizes beyond 32 bits');
});

t.test('kernel mount ends its process when unmounted, by us and by others', { skip }, async (t) => {
  const ours = await startMount(t, { driver: 'kernel' });
  readdirSync(ours.mountpoint);
  ours.child.send({ id: 1, command: { do: 'unmount', deadlineMs: 5_000 } });
  t.match(await ours.event('ended'), { reason: 'unmounted', disconnections: 1 });
  t.match(await ours.exited(), { code: 0 });
  t.equal(await inspectMountpoint(ours.mountpoint), 'free');

  const theirs = await startMount(t, { driver: 'kernel' });
  readdirSync(theirs.mountpoint);
  await new SystemCalls().unmount(theirs.mountpoint, 0);
  t.match(await theirs.event('ended'), { reason: 'unmounted' });
  t.match(await theirs.exited(), { code: 0 });
});

t.test('kernel mount in use is unmounted lazily after the deadline', { skip }, async (t) => {
  const mount = await startMount(t, { driver: 'kernel', passthrough: true });
  const handed = openSync(join(mount.mountpoint, 'large'), 'r');
  await mount.tell({ do: 'passthrough', on: false });
  const served = openSync(join(mount.mountpoint, 'page'), 'r');
  mount.child.send({ id: 1, command: { do: 'unmount', deadlineMs: 100 } });
  t.match(await mount.event('ended'), { reason: 'unmounted' });
  t.match(await mount.exited(), { code: 0 });
  t.equal(await inspectMountpoint(mount.mountpoint), 'free');
  const into = Buffer.alloc(4096);
  t.equal(readSync(handed, into, 0, 4096, 1_048_576), 4096, 'what the kernel reads by itself goes on');
  t.ok(into.equals(large.subarray(1_048_576, 1_048_576 + 4096)));
  t.throws(() => readSync(served, into, 0, 4096, 0), { code: /ENOTCONN|ECONNABORTED/ });
  closeSync(handed);
  t.throws(() => closeSync(served), { code: /ENOTCONN|ECONNABORTED/ }, 'close still frees the descriptor');
});

t.test('kernel mount that is bound elsewhere ends all the same', { skip }, async (t) => {
  const mount = await startMount(t, { driver: 'kernel' });
  const elsewhere = mountDirectory(t);
  const bind = 4096;
  new SystemCalls().mount({
    source: mount.mountpoint,
    target: elsewhere,
    type: 'none',
    flags: bind,
    data: '',
  });
  mount.child.send({ id: 1, command: { do: 'unmount', deadlineMs: 1_000 } });
  await mount.event('ended');
  t.match(await mount.exited(), { code: 0 });
  t.throws(() => readdirSync(elsewhere), { code: /ENOTCONN|ECONNABORTED/ });
});

t.test('kernel mount whose connection is cut is taken off its path', { skip }, async (t) => {
  const mount = await startMount(t, { driver: 'kernel' });
  const device = mountOf(mount.mountpoint)?.device.split(':')[1];
  new SystemCalls().abortConnection(Number(device));
  t.match(await mount.event('ended'), { reason: 'aborted', disconnections: 1 });
  t.match(await mount.exited(), { code: 0 });
  t.equal(await inspectMountpoint(mount.mountpoint), 'free');
});

t.test('kernel mount of a killed process is cleaned up by the next mount', { skip }, async (t) => {
  const first = await startMount(t, { driver: 'kernel', validForMs: LONG_MS });
  const { mountpoint } = first;
  statSync(join(mountpoint, 'page'));
  await first.kill();
  t.equal(await inspectMountpoint(mountpoint), 'dead-perigee', 'also with cached attributes');
  t.throws(() => statfsSync(mountpoint), { code: 'ENOTCONN' });
  const second = await startMount(t, { driver: 'kernel', mountpoint });
  t.ok(readFileSync(join(mountpoint, 'large')).equals(large));
  await second.tell({ do: 'unmount', deadlineMs: 5_000 }).catch(() => undefined);
  await second.exited();
  t.equal(await inspectMountpoint(mountpoint), 'free', 'nothing is left underneath');
});

t.test('kernel mount of a process that crashes or exits fails instead of hanging', { skip }, async (t) => {
  for (const how of ['crash', 'exit'] as const) {
    const mount = await startMount(t, { driver: 'kernel' });
    const held = openSync(join(mount.mountpoint, 'page'), 'r');
    mount.child.send({ id: 1, command: { do: how } });
    t.match(await mount.exited(), { code: how === 'crash' ? 1 : 3 });
    t.throws(() => statfsSync(mount.mountpoint), { code: 'ENOTCONN' });
    t.equal(await inspectMountpoint(mount.mountpoint), 'dead-perigee');
    t.throws(() => closeSync(held));
  }
});

t.test('kernel mount refuses places that it cannot have, with a hint', { skip }, async (t) => {
  const alive = await startMount(t, { driver: 'kernel' });
  const files = t.testdir({ file: '', full: { file: '' } });
  const other = mountDirectory(t);
  new SystemCalls().mount({ source: 'none', target: other, type: 'tmpfs', flags: 0, data: '' });
  t.equal(await inspectMountpoint(other), 'other-mount');
  for (const [mountpoint, code] of [
    [alive.mountpoint, 'already-mounted'],
    [join(files, 'absent'), 'mountpoint-missing'],
    [join(files, 'absent/absent'), 'mountpoint-missing'],
    [join(files, 'file'), 'mountpoint-not-directory'],
    [join(files, 'full'), 'mountpoint-not-empty'],
    [other, 'mountpoint-busy'],
  ] as const) {
    const refused = new MountProcess({ driver: 'kernel', mountpoint });
    t.match(await refused.event('failed'), { code, hint: /./ }, code);
    await refused.exited();
  }
  t.equal(await inspectMountpoint(join(files, 'absent')), 'missing');
  t.equal(await inspectMountpoint(join(files, 'file/child')), 'not-directory');
  t.equal(await inspectMountpoint(join(files, 'full')), 'not-empty');
  t.ok(readdirSync(alive.mountpoint).length > 0, 'the mount that was there lives on');
  await t.rejects(detachMount(other), { code: 'mountpoint-busy' }, 'what is not ours stays');
});

t.test('kernel mount finds its mount point through links', { skip }, async (t) => {
  const directory = mountDirectory(t);
  const links = t.testdir({ link: t.fixture('symlink', directory) });
  const mount = await startMount(t, { driver: 'kernel', mountpoint: join(links, 'link') });
  t.equal((await mount.event('mounted'))['mountpoint'], directory);
  t.equal(await inspectMountpoint(join(links, 'link')), 'alive-perigee');
  t.equal(await inspectMountpoint(directory), 'alive-perigee');
});

t.test('kernel mount aborts a read that its caller gave up', { skip }, async (t) => {
  const mount = await startMount(t, { driver: 'kernel' });
  await mount.tell({ do: 'block-reads' });
  // A read through the page cache waits for a page, not for us; a direct one waits for our reply.
  const reader = spawn('dd', [`if=${join(mount.mountpoint, 'page')}`, 'iflag=direct', 'bs=4096'], {
    stdio: 'ignore',
  });
  await mount.event('blocked');
  // dd has a handler for this one: on a local disk its read would go on.
  reader.kill('SIGUSR1');
  while (!/op="interrupt",errno="OK"} [1-9]/.test(String(await mount.tell({ do: 'metrics' })))) continue;
  t.match(await mount.tell({ do: 'metrics' }), /op="read",errno="EINTR"} 0|^(?!.*op="read",errno="EINTR")/s);
  reader.kill('SIGTERM');
  await mount.event('interrupted');
  const [, signal] = (await once(reader, 'exit')) as [unknown, string];
  t.equal(signal, 'SIGTERM');
});

t.test('kernel mount answers EIO for a fault and lives on', { skip }, async (t) => {
  const mount = await startMount(t, { driver: 'kernel' });
  await mount.tell({ do: 'fail-reads' });
  t.throws(() => readFileSync(join(mount.mountpoint, 'page')), { code: 'EIO' });
  await mount.tell({ do: 'refuse-reads' });
  t.throws(() => readFileSync(join(mount.mountpoint, 'one')), { code: 'ETIMEDOUT' });
  t.equal(statSync(join(mount.mountpoint, 'page')).size, 4096);
});

t.test('kernel mount never mixes the modes of a node', { skip }, async (t) => {
  const mount = await startMount(t, { driver: 'kernel', passthrough: true });
  const path = join(mount.mountpoint, 'large');
  if (!(await mount.state()).passthrough) return void t.comment('this kernel has no passthrough');
  const first = openSync(path, 'r');
  const second = openSync(path, 'r');
  await mount.tell({ do: 'passthrough', on: false });
  const third = openSync(path, 'r');
  for (const fd of [first, second, third]) {
    const bytes = Buffer.alloc(large.length);
    t.equal(readSync(fd, bytes, 0, bytes.length, 0), bytes.length);
    t.ok(bytes.equals(large));
  }
  t.equal((await mount.state()).calls['read'], undefined, 'no read came to the file system');
  const other = join(mount.mountpoint, 'page');
  const served = openSync(other, 'r');
  await mount.tell({ do: 'passthrough', on: true });
  const shared = openSync(other, 'r');
  t.equal(readSync(shared, Buffer.alloc(4096)), 4096);
  for (const fd of [first, second, third, served, shared]) closeSync(fd);
  const again = readFileSync(other);
  t.ok(again.equals(contentOf({ path: 'page', sizeBytes: 4096 })), 'the other mode once nobody has it open');
});

t.test('kernel mount maps passthrough files, also after the process is gone', { skip }, async (t) => {
  const mount = await startMount(t, { driver: 'kernel', passthrough: true });
  if (!(await mount.state()).passthrough) return void t.comment('this kernel has no passthrough');
  const fd = openSync(join(mount.mountpoint, 'large'), 'r');
  t.ok((await readMapped(fd, large.length)).equals(large));
  await mount.kill();
  t.ok((await readMapped(fd, large.length)).equals(large));
  closeSync(fd);
});

// "All reads through one handle see one version, from open to close, whatever others commit meanwhile."
t.test(
  'kernel mount keeps a handle on its version, and notifications show the new one',
  { skip },
  async (t) => {
    const mount = await startMount(t, { driver: 'kernel', validForMs: LONG_MS });
    const path = join(mount.mountpoint, 'page');
    const old = openSync(path, 'r');
    const before = fstatSync(old).ino;
    await mount.tell({ do: 'supersede', path: 'page', content: 'newer' });
    t.equal(statSync(path).ino, before, 'the kernel keeps what it may keep');
    await mount.tell({ do: 'invalidate-entry', parent: '', name: 'page' });
    t.equal(readFileSync(path, 'utf8'), 'newer', 'code 3 drops an entry');
    t.equal(readFileSync(old).length, 4096, 'the old handle reads the old version');
    closeSync(old);

    await mount.tell({ do: 'supersede', path: 'page', content: 'newest' });
    t.equal(await mount.tell({ do: 'invalidate-all' }), true);
    t.equal(readFileSync(path, 'utf8'), 'newest', 'code 8 drops all entries');

    const cached = join(mount.mountpoint, 'one');
    t.equal(statSync(cached).size, 1);
    await mount.tell({ do: 'replace', path: 'one', content: 'longer' });
    t.equal(statSync(cached).size, 1);
    await mount.tell({ do: 'invalidate-attributes', path: 'one' });
    t.equal(statSync(cached).size, 6, 'code 2 drops attributes');
    t.equal(readFileSync(cached, 'utf8'), 'longer');
    await mount.tell({ do: 'invalidate-entry', parent: '', name: 'absent' });
  },
);

t.test('kernel mount gives back every lookup that memory pressure drops', { skip }, async (t) => {
  const mount = await startMount(t, { driver: 'kernel', validForMs: LONG_MS });
  for (const name of readdirSync(join(mount.mountpoint, 'many')))
    statSync(join(mount.mountpoint, 'many', name));
  t.ok((await mount.state()).held > 3_000);
  try {
    writeFileSync('/proc/sys/vm/drop_caches', '2');
  } catch {
    return void t.comment('caches cannot be dropped here');
  }
  const deadline = performance.now() + 20_000;
  while ((await mount.state()).held > 100 && performance.now() < deadline);
  t.ok((await mount.state()).held <= 100, 'forgotten exactly, or the file system would have thrown');
});

t.test('kernel mount works while many use it', { skip }, async (t) => {
  const mount = await startMount(t, { driver: 'kernel' });
  const script = `find ${mount.mountpoint} -type f -name '*[05]' -size -2 -exec cat {} + | cksum`;
  const results = await Promise.all(
    Array.from({ length: 3 }, async () => {
      const walker = spawn('sh', ['-c', script], { stdio: ['ignore', 'pipe', 'ignore'] });
      let text = '';
      walker.stdout.on('data', (chunk: Buffer) => (text += chunk.toString()));
      await once(walker, 'close');
      return text;
    }),
  );
  t.equal(new Set(results.join('').trim().split('\n')).size, 1);
  t.match(await mount.state(), { openFiles: 0, openDirectories: 0 });
});

t.test('kernel mount lets other users in only as it was told, and by their modes', { skip }, async (t) => {
  const nobody = { uid: 65_534, gid: 65_534 };
  const reads = (mount: MountProcess, file: string): boolean =>
    spawnSync('cat', [join(mount.mountpoint, file)], nobody).status === 0;
  const open = await startMount(t, { driver: 'kernel', allowOther: true });
  t.ok(reads(open, 'page'));
  t.notOk(reads(open, 'private'), 'mode 0600');
  t.notOk(reads(await startMount(t, { driver: 'kernel' }), 'page'));
});

t.test('kernel mount in this process leaves nothing when it fails to connect', { skip }, async (t) => {
  const mountpoint = mountDirectory(t);
  const fs = new MemoryFs(conformanceTree.slice(0, 3));
  t.teardown(() => fs.dispose());
  fs.connected = () => {
    throw new Error('the file system does not start');
  };
  await t.rejects(
    mountKernel({
      mountpoint,
      source: 'memory',
      readOnly: true,
      allowOther: false,
      operations: fs,
      logger: createLogger({ level: 'silent' }),
      metrics: createMetrics(),
      clock: systemClock,
    }),
    /does not start/,
  );
  t.equal(await inspectMountpoint(mountpoint), 'free');
});

t.test('kernel probe tells what this host can do', { skip }, async (t) => {
  const probe = probeKernel();
  t.match(probe, { device: 'present', supported: true, release: /^\d+\.\d+/ });
  t.type(probe.passthrough, 'boolean');
});
