/**
 * "The kernel's own timeouts are bound to the lease, so that even a stopped or hung daemon cannot serve a stale name":
 * what the kernel is allowed to keep, and what it is told to forget.
 */
import t from 'tap';
import { ROOT_INODE, ROOT_NODE, type InodeNumber } from '../../lib/base/brand.ts';
import type { DirectoryPlusRecord, EntryReply } from '../../lib/fuse/operations.ts';
import type { DroppedName, NamesListener } from '../../lib/namespace/namespace.ts';
import { FakeMount, nameOf } from './fake-mount.ts';
import { ManualClock } from './manual-clock.ts';

/** What is kept for less than the lease. */
const MARGIN_MS = 100;
const VALID_MS = 10_000;

function leasedMount(notifications: 'none' | 'entries' | 'all' = 'all') {
  const clock = new ManualClock();
  const mount = new FakeMount({ clock, notifications });
  mount.namespace.validForMs = VALID_MS;
  const listener = mount.namespace.listener as NamesListener;
  return { clock, mount, listener };
}

function dropped(name: string, options: Partial<DroppedName> = {}): DroppedName {
  return { directory: ROOT_INODE, name, inode: undefined, attributesOnly: false, wasAsked: true, ...options };
}

/** Lets what waits for promises alone go on. */
async function settle(): Promise<void> {
  for (let turns = 0; turns < 20; turns++) await Promise.resolve();
}

t.test('the kernel may keep what is held, for less than the rest of the term', async (t) => {
  const { mount } = leasedMount();
  mount.namespace.put('file', 'bytes');
  const entry = await mount.lookup(ROOT_NODE, 'file');
  t.equal(entry.entryValidForMs, VALID_MS - MARGIN_MS);
  t.equal(entry.validForMs, VALID_MS - MARGIN_MS);
  const { validForMs } = await mount.vfs.attributes(entry.node, undefined, mount.context());
  t.equal(validForMs, VALID_MS - MARGIN_MS);
  const absent = await mount.lookup(ROOT_NODE, 'absent');
  t.equal(absent.node, 0n);
  t.equal(absent.entryValidForMs, VALID_MS - MARGIN_MS);
  mount.namespace.validForMs = MARGIN_MS;
  t.equal((await mount.lookup(ROOT_NODE, 'file')).entryValidForMs, 0, 'the term is about to end');
  t.equal(mount.namespace.calls.lookup, 0);
});

t.test('the kernel keeps nothing of an answer that is used once', async (t) => {
  const { mount } = leasedMount();
  mount.namespace.put('file', 'bytes');
  mount.namespace.validForMs = 0;
  const entry = await mount.lookup(ROOT_NODE, 'file');
  t.same([entry.entryValidForMs, entry.validForMs], [0, 0]);
});

t.test('a driver without notifications keeps nothing', async (t) => {
  const { mount, listener } = leasedMount('none');
  const { inode } = mount.namespace.put('file', 'bytes');
  const entry = await mount.lookup(ROOT_NODE, 'file');
  t.same([entry.entryValidForMs, entry.validForMs], [0, 0]);
  t.equal((await mount.lookup(ROOT_NODE, 'absent')).entryValidForMs, 0);
  await listener.drop([dropped('file', { inode })]);
  await listener.dropAll();
  t.same(mount.notified, []);
});

t.test('a listing gives the kernel what is held when it is given, not when it was listed', async (t) => {
  const { mount } = leasedMount();
  mount.namespace.put('a', '1');
  mount.namespace.put('b', '2');
  const { handle } = await mount.vfs.openDirectory(ROOT_NODE, mount.context());
  const records: DirectoryPlusRecord[] = [];
  const take = (record: DirectoryPlusRecord): boolean => records.push(record) > 0;
  await mount.vfs.readDirectoryPlus(handle, 0n, take, mount.context());
  const changed = mount.namespace.put('a', 'longer');
  mount.namespace.remove('b');
  const entries = new Map(records.map((record) => [nameOf(record), record.entry()]));
  const a = entries.get('a') as EntryReply;
  t.same([a.attributes.sizeBytes, a.entryValidForMs], [changed.sizeBytes, VALID_MS - MARGIN_MS]);
  const b = entries.get('b') as EntryReply;
  t.same([b.entryValidForMs, b.validForMs], [0, 0], 'listed, and gone since: to be asked for');
});

t.test('a withdrawn name leaves the kernel', async (t) => {
  t.test('with the attributes of its inode, if the kernel can have it', async (t) => {
    const { mount, listener } = leasedMount();
    const { inode } = mount.namespace.put('file', 'bytes');
    await listener.drop([dropped('file', { inode })]);
    t.same(mount.notified, [], 'it was never shown');
    const { node } = await mount.lookup(ROOT_NODE, 'file');
    await listener.drop([dropped('file', { inode })]);
    t.same(mount.notified, [`attributes ${node}`, `entry ${ROOT_NODE} file`]);
  });

  t.test('and so does one that was shown to be absent', async (t) => {
    const { mount, listener } = leasedMount();
    await mount.lookup(ROOT_NODE, 'absent');
    await listener.drop([dropped('absent')]);
    t.same(mount.notified, [`entry ${ROOT_NODE} absent`]);
  });

  t.test('but stays if only attributes are old', async (t) => {
    const { mount, listener } = leasedMount();
    const { inode } = mount.namespace.mkdir('dir');
    const { node } = await mount.lookup(ROOT_NODE, 'dir');
    await listener.drop([dropped('dir', { inode, attributesOnly: true })]);
    t.same(mount.notified, [`attributes ${node}`]);
  });

  t.test('the root is dropped by its attributes', async (t) => {
    const { mount, listener } = leasedMount();
    await mount.vfs.attributes(ROOT_NODE, undefined, mount.context());
    await listener.drop([dropped('', { inode: ROOT_INODE, attributesOnly: true })]);
    t.same(mount.notified, [`attributes ${ROOT_NODE}`]);
  });

  t.test('unless its time is over', async (t) => {
    const { clock, mount, listener } = leasedMount();
    const { inode } = mount.namespace.put('file', 'bytes');
    await mount.lookup(ROOT_NODE, 'file');
    clock.advance(VALID_MS);
    await listener.drop([dropped('file', { inode })]);
    t.same(mount.notified, []);
  });
});

t.test('a notification that waits for a lock of the kernel holds nothing up', async (t) => {
  const { clock, mount, listener } = leasedMount();
  await mount.lookup(ROOT_NODE, 'absent');
  const lock = Promise.withResolvers<void>();
  mount.lock = lock.promise;
  let isDone = false;
  const dropping = listener.drop([dropped('absent')]).then(() => (isDone = true));
  clock.advance(49);
  await settle();
  t.notOk(isDone);
  clock.advance(1);
  await dropping;
  t.same(mount.notified, [`entry ${ROOT_NODE} absent`, 'all']);
  lock.resolve();
});

t.test('a kernel that cannot drop all entries at once is waited for', async (t) => {
  const { clock, mount, listener } = leasedMount('entries');
  t.equal((await mount.lookup(ROOT_NODE, 'absent')).entryValidForMs, 0, 'nobody could name it later');
  const { inode } = mount.namespace.put('file', 'bytes');
  await mount.lookup(ROOT_NODE, 'file');
  const lock = Promise.withResolvers<void>();
  mount.lock = lock.promise;
  let isDone = false;
  const dropping = listener.drop([dropped('file', { inode })]).then(() => (isDone = true));
  clock.advance(1_000);
  await settle();
  t.notOk(isDone);
  lock.resolve();
  await dropping;
  mount.notified.length = 0;
  await mount.lookup(ROOT_NODE, 'file');
  await listener.dropAll();
  t.match(mount.notified, [`entry ${ROOT_NODE} file`]);
});

t.test('when all is lost the kernel forgets all entries, and attributes that need no path', async (t) => {
  const { mount, listener } = leasedMount();
  mount.namespace.mkdir('dir');
  mount.namespace.put('open', 'bytes');
  mount.namespace.put('closed', 'bytes');
  await mount.vfs.attributes(ROOT_NODE, undefined, mount.context());
  const dir = await mount.lookup(ROOT_NODE, 'dir');
  const file = await mount.open('open');
  await mount.lookup(ROOT_NODE, 'closed');
  await listener.dropAll();
  const attributes = [ROOT_NODE, dir.node, file.node].map((node) => `attributes ${node}`);
  t.same(mount.notified, [...attributes, 'all']);
});

t.test('directories that are given up leave the kernel only if it has names of theirs', async (t) => {
  const { clock, mount, listener } = leasedMount();
  const { inode } = mount.namespace.mkdir('dir');
  mount.namespace.put('dir/file', 'bytes');
  await mount.walk('dir');
  await listener.dropDirectories([inode, 77n as InodeNumber]);
  t.same(mount.notified, []);
  await mount.walk('dir/file');
  await listener.dropDirectories([inode]);
  t.equal(mount.notified.at(-1), 'all');
  mount.notified.length = 0;
  clock.advance(VALID_MS);
  await listener.dropDirectories([inode]);
  t.same(mount.notified, []);
});

t.test('a process that was stopped before its reply was written makes the kernel forget', async (t) => {
  const { clock, mount } = leasedMount();
  mount.namespace.put('file', 'bytes');
  await mount.lookup(ROOT_NODE, 'file');
  clock.advance(MARGIN_MS);
  for (const turn of mount.turns.splice(0)) turn();
  t.same(mount.notified, [], 'the margin covers a reply that is a little late');
  await mount.lookup(ROOT_NODE, 'file');
  clock.advance(MARGIN_MS + 1);
  for (const turn of mount.turns.splice(0)) turn();
  t.equal(mount.notified[0], 'all');
  // Also when the kernel's time, by the lease, is over already.
  mount.notified.length = 0;
  await mount.vfs.attributes(ROOT_NODE, undefined, mount.context());
  await mount.lookup(ROOT_NODE, 'file');
  clock.advance(10 * VALID_MS);
  for (const turn of mount.turns.splice(0)) turn();
  t.same(mount.notified, [`attributes ${ROOT_NODE}`, 'all']);
});

t.test('the kernel may keep the listing of a directory that is held whole', async (t) => {
  t.test('until a name in it is dropped', async (t) => {
    const { mount, listener } = leasedMount();
    mount.namespace.put('a', '1');
    const { keepCache, handle } = await mount.vfs.openDirectory(ROOT_NODE, mount.context());
    t.equal(keepCache, true);
    await mount.readAll(handle, 10);
    t.same(mount.notified, []);
    await listener.drop([dropped('new', { wasAsked: false })]);
    t.same(mount.notified, [`listing ${ROOT_NODE}`], 'a name that nobody asked for has no entry');
    await listener.drop([dropped('a', { inode: 2n as InodeNumber, attributesOnly: true })]);
    t.equal(mount.notified.length, 1, 'attributes are not part of a listing');
    await listener.dropAll();
    t.ok(mount.notified.slice(1).includes(`listing ${ROOT_NODE}`));
  });

  t.test('but not what was dropped while it was being read', async (t) => {
    const { mount, listener } = leasedMount();
    mount.namespace.put('a', '1');
    mount.namespace.put('b', '2');
    const { handle } = await mount.vfs.openDirectory(ROOT_NODE, mount.context());
    await mount.readSome(handle, 0n, 3);
    await listener.drop([dropped('c', { wasAsked: false })]);
    mount.notified.length = 0;
    const [last] = await mount.readSome(handle, 3n, 3);
    t.same(mount.notified, [], 'the kernel does not use it before its end');
    await mount.readSome(handle, last?.nextOffset ?? 0n, 3);
    t.same(mount.notified, [`listing ${ROOT_NODE}`], 'gone before the end is told');
    mount.notified.length = 0;
    await mount.readAll(handle, 10);
    t.same(mount.notified, [], 'the next pass is whole');
  });

  t.test('nor what was not held in all its parts', async (t) => {
    const { mount } = leasedMount();
    mount.namespace.put('a', '1');
    const { handle } = await mount.vfs.openDirectory(ROOT_NODE, mount.context());
    await mount.readAll(handle, 10);
    mount.namespace.validForMs = 0;
    await mount.readAll(handle, 10);
    t.same(mount.notified, [`listing ${ROOT_NODE}`]);
    const { keepCache } = await mount.vfs.openDirectory(ROOT_NODE, mount.context());
    t.equal(keepCache, false);
  });

  t.test('unless it cannot be told to forget', async (t) => {
    const { mount } = leasedMount('none');
    t.equal((await mount.vfs.openDirectory(ROOT_NODE, mount.context())).keepCache, false);
  });
});
