import t from 'tap';
import { ROOT_NODE } from '../../lib/base/brand.ts';
import { LIST_PAGE_ENTRIES } from '../../lib/base/limits.ts';
import { Errno } from '../../lib/fuse/errno.ts';
import { NamespaceError } from '../../lib/namespace/namespace.ts';
import type { EntryReply } from '../../lib/fuse/operations.ts';
import { FakeMount, nameOf, withErrno } from './fake-mount.ts';

const name = (n: number): string => `file-${String(n).padStart(6, '0')}`;

function mountWith(entries: number): FakeMount {
  const mount = new FakeMount();
  mount.namespace.mkdir('dir');
  for (let n = 0; n < entries; n++) mount.namespace.mkdir(`dir/${name(n)}`);
  return mount;
}

async function openDir(mount: FakeMount): Promise<bigint> {
  const { node } = await mount.walk('dir');
  return (await mount.vfs.openDirectory(node, mount.context())).handle;
}

t.test('directory', async (t) => {
  t.test('of a few thousand entries is listed whole, once, in order', async (t) => {
    const mount = mountWith(3_500);
    const { node } = await mount.walk('dir');
    for (const perCall of [7, 128, 100_000]) {
      const records = await mount.list(node, perCall);
      t.same(records.slice(0, 2).map(nameOf), ['.', '..']);
      t.same(
        records.slice(2).map(nameOf),
        Array.from({ length: 3_500 }, (_, n) => name(n)),
      );
      t.same(new Set(records.map(({ nextOffset }) => nextOffset)).size, records.length, 'offsets differ');
      t.ok(records.every(({ nextOffset }) => nextOffset > 0n));
    }
  });

  t.test('shows inodes and types, its own and its parent’s included', async (t) => {
    const mount = new FakeMount();
    const dir = mount.namespace.mkdir('dir');
    const sub = mount.namespace.mkdir('dir/sub');
    const file = mount.namespace.put('dir/sub/file', 'x');
    mount.namespace.symlink('dir/sub/link', 'file');
    const { node } = await mount.walk('dir/sub');
    const records = (await mount.list(node)).map((r) => [nameOf(r), r.inode, r.type]);
    t.match(records, [
      ['.', sub.inode, 4],
      ['..', dir.inode, 4],
      ['file', file.inode, 8],
      ['link', BigInt, 10],
    ]);
    const root = await mount.list(ROOT_NODE);
    t.match(root.slice(0, 2), [{ inode: 1n }, { inode: 1n }], 'the root is its own parent');
  });

  t.test('offsets stay stable while others change the directory', async (t) => {
    const mount = mountWith(8 * LIST_PAGE_ENTRIES);
    const handle = await openDir(mount);
    const all = await mount.readAll(handle, 500);
    t.equal(all.length, 8 * LIST_PAGE_ENTRIES + 2);
    for (let n = 0; n < 8 * LIST_PAGE_ENTRIES; n += 2) mount.namespace.remove(`dir/${name(n)}`);
    for (let n = 0; n < LIST_PAGE_ENTRIES; n++) mount.namespace.mkdir(`dir/${name(n)}-new`);
    for (const at of [2, 1_001, 1_500, 5_003, 2_500, 7_999]) {
      const [from] = all.slice(at, at + 1);
      const next = (await mount.readSome(handle, from?.nextOffset ?? 0n, 100)).map(nameOf);
      const expected = all
        .slice(at + 1)
        .map(nameOf)
        .filter((text) => next.includes(text));
      t.same(next, expected, 'in their order, and nothing that was passed already');
      const odd = all.slice(at + 1).find((r) => Number(nameOf(r).slice(5)) % 2 === 1);
      t.ok(odd === undefined || next.includes(nameOf(odd)), 'the next one that is still there is not missed');
    }
  });

  t.test('is read from scratch after a rewind', async (t) => {
    const mount = mountWith(3);
    const handle = await openDir(mount);
    t.equal((await mount.readAll(handle, 10)).length, 5);
    mount.namespace.mkdir('dir/another');
    t.equal((await mount.readAll(handle, 10)).length, 6);
    mount.namespace.remove('dir/another');
    t.equal((await mount.readAll(handle, 10)).length, 5);
  });

  t.test('of 100,000 entries asks for each page once, and keeps few of them', async (t) => {
    const mount = new FakeMount();
    const attributes = mount.namespace.mkdir('dir');
    const entries = 100_000;
    let listed = 0;
    mount.namespace.list = async (_directory, { after, entriesMax }) => {
      listed += 1;
      const from = after === undefined ? 0 : Number(after.slice(5)) + 1;
      const to = Math.min(from + entriesMax, entries);
      const page = Array.from({ length: to - from }, (_, i) => ({
        name: name(from + i),
        attributes: attributes,
      }));
      return { entries: page, next: to < entries ? name(to - 1) : undefined, isHeld: false };
    };
    const handle = await openDir(mount);
    let count = 0;
    let offset = 0n;
    for (;;) {
      const part = await mount.readSome(handle, offset, 1_000);
      const last = part.at(-1);
      if (last === undefined) break;
      count += part.length;
      offset = last.nextOffset;
    }
    t.equal(count, entries + 2);
    t.equal(listed, entries / LIST_PAGE_ENTRIES);
    const middle = await mount.readSome(handle, 50_002n, 1);
    t.equal(middle.map(nameOf)[0], name(50_000));
    t.equal(listed, entries / LIST_PAGE_ENTRIES + 2, 'a seek back lists that page again, and the next ahead');
  });

  t.test('the next page is asked for while the current one is consumed', async (t) => {
    const mount = mountWith(3 * LIST_PAGE_ENTRIES);
    const handle = await openDir(mount);
    await mount.readSome(handle, 0n, 10);
    t.equal(mount.namespace.calls.list, 2);
  });

  t.test('a page that fails is asked for again', async (t) => {
    const mount = mountWith(2 * LIST_PAGE_ENTRIES);
    const handle = await openDir(mount);
    mount.namespace.failures.set('list', new NamespaceError('timeout', 'late'));
    await t.rejects(mount.readSome(handle, 0n, 5_000), withErrno(Errno.ETIMEDOUT));
    mount.namespace.failures.clear();
    t.equal((await mount.readAll(handle, 5_000)).length, 2 * LIST_PAGE_ENTRIES + 2);
  });

  t.test('readdirplus counts a lookup only for records that were taken', async (t) => {
    const mount = mountWith(10);
    const { node } = await mount.walk('dir');
    const { handle } = await mount.vfs.openDirectory(node, mount.context());
    const taken: (EntryReply | undefined)[] = [];
    const before = mount.vfs.stat().nodes;
    await mount.vfs.readDirectoryPlus(
      handle,
      0n,
      (record) => {
        if (taken.length === 6) return false;
        taken.push(record.entry());
        return true;
      },
      mount.context(),
    );
    t.same(taken.slice(0, 2), [undefined, undefined], '. and .. are no lookups');
    t.equal(mount.vfs.stat().nodes, before + 4);
    for (const entry of taken) if (entry) mount.vfs.forget(entry.node, 1n);
    t.equal(mount.vfs.stat().nodes, before);
    t.match(taken[2], { validForMs: 0, entryValidForMs: 0 });
  });

  t.test('names that cannot be shown are left out', async (t) => {
    const mount = new FakeMount();
    mount.namespace.mkdir('dir');
    const attributes = mount.namespace.mkdir('dir/good');
    const names = ['', '.', '..', 'a/b', 'nul\0', 'x'.repeat(256), '\ud800', 'ü'.repeat(127), 'good'];
    mount.namespace.list = async () => ({
      entries: names.map((text) => ({ name: text, attributes })),
      next: undefined,
      isHeld: false,
    });
    const { node } = await mount.walk('dir');
    t.same((await mount.list(node)).map(nameOf), ['.', '..', 'ü'.repeat(127), 'good']);
  });

  t.test('an open directory holds its node, and a closed handle is EBADF', async (t) => {
    const mount = mountWith(1);
    const { node } = await mount.walk('dir');
    const { handle } = await mount.vfs.openDirectory(node, mount.context());
    mount.forget(node);
    t.equal(mount.vfs.stat().nodes, 2);
    t.equal((await mount.readAll(handle, 10)).length, 3);
    mount.vfs.releaseDirectory(handle);
    t.equal(mount.vfs.stat().nodes, 1);
    await t.rejects(mount.readSome(handle, 0n, 1), withErrno(Errno.EBADF));
  });

  t.test('only directories are opened as such', async (t) => {
    const mount = new FakeMount();
    mount.namespace.put('file', 'x');
    const { node } = await mount.walk('file');
    await t.rejects(async () => mount.vfs.openDirectory(node, mount.context()), withErrno(Errno.ENOTDIR));
    await t.rejects(mount.lookup(node, 'child'), withErrno(Errno.ENOTDIR));
    await t.rejects(async () => mount.vfs.open(ROOT_NODE, 0, mount.context()), withErrno(Errno.EISDIR));
  });
});
