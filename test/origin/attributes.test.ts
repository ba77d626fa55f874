/** Attributes, symlinks, markers, and what becomes of them when the bucket changes behind our back. */
import t from 'tap';
import type { InodeAttributes } from '../../lib/namespace/namespace.ts';
import { formatPosixMetadata } from '../../lib/store/posix-metadata.ts';
import { readAll, startFixture, walk } from './origin-fixture.ts';

async function there(found: Promise<InodeAttributes | undefined>): Promise<InodeAttributes> {
  const attributes = await found;
  if (attributes === undefined) throw new Error('it is not there');
  return attributes;
}

t.test('attributes are the defaults of the export where an object carries none', async (t) => {
  const { store, namespace } = await startFixture(t, {
    url: 'memory://bucket?mode=0600&dirMode=0711&uid=7&gid=8',
  });
  store.nowMs = 1_700_000_000_123;
  store.fill({ 'd/a': 'abc' });
  t.match(await walk(namespace, 'd/a'), {
    mode: 0o600,
    uid: 7,
    gid: 8,
    links: 1,
    sizeBytes: 3,
    modifiedNs: 1_700_000_000_123_000_000n,
    source: { sizeBytes: 3, objectKey: 'd/a', exportName: 'data', objectVersion: undefined },
  });
  t.match(await walk(namespace, 'd'), { mode: 0o711, uid: 7, links: 2, source: undefined });
  t.match(await walk(namespace, ''), { kind: 'directory', mode: 0o711, inode: 1n });
});

t.test('attributes come from the metadata of objects', async (t) => {
  const { store, namespace } = await startFixture(t, { url: 'memory://bucket?attributes=head' });
  const carried = { mode: 0o640, uid: 1000, gid: 100, modifiedNs: 1_600_000_000_123_456_789n };
  store.fill({ 'd/a': 'abc' }, formatPosixMetadata({ kind: 'file', ...carried }));
  store.fill({ 'd/': '' }, formatPosixMetadata({ kind: 'directory', ...carried, mode: 0o700 }));
  const directory = await there(walk(namespace, 'd'));
  t.match(directory, { ...carried, mode: 0o700 });
  const [entry] = await readAll(namespace, directory);
  t.match(entry, { name: 'a', attributes: carried });
  t.match(await walk(namespace, 'd/a'), carried);
});

t.test('symlinks are known in listings and lookups', async (t) => {
  const { store, namespace } = await startFixture(t);
  const link = formatPosixMetadata({ kind: 'symlink', mode: 0o777, symlinkTarget: '../é/x' });
  store.fill({ 'd/link': '' }, link);
  store.fill({ 'd/empty': '', 'd/full': 'x' });
  store.fill({ 'd/of-s3fs': '/target' }, { mode: String(0o120777) });
  const looked = await there(walk(namespace, 'd/of-s3fs'));
  t.match(looked, { kind: 'symlink', target: '/target', sizeBytes: 7 }, 'the target is the body');
  const { head } = store.calls;
  const entries = await readAll(namespace, await there(walk(namespace, 'd')));
  t.match(entries, [
    { name: 'empty', attributes: { kind: 'file', sizeBytes: 0 } },
    { name: 'full', attributes: { kind: 'file' } },
    { name: 'link', attributes: { kind: 'symlink', target: '../é/x', sizeBytes: 7, source: undefined } },
    { name: 'of-s3fs', attributes: { kind: 'symlink', inode: looked.inode } },
  ]);
  t.ok(store.calls.head <= head + 3, 'objects with bytes are not asked one by one');
  t.same(await walk(namespace, 'd/link'), entries[2]?.attributes);
});

t.test('version is the same for the same object, whenever and however it is met', async (t) => {
  const first = await startFixture(t);
  first.store.fill({ 'd/a': 'one', 'd/b': 'one' });
  const byLookup = await there(walk(first.namespace, 'd/a'));
  const anew = await startFixture(t, { store: first.store });
  const [listed, other] = await readAll(anew.namespace, await there(walk(anew.namespace, 'd')));
  t.equal(listed?.attributes.source?.version, byLookup.source?.version);
  t.not(other?.attributes.source?.version, byLookup.source?.version, 'another key is another version');
});

t.test(
  'change behind our back is seen after a fetch reported it: "readers then see either the old version whole, ' +
    'the new version whole, or an error"',
  async (t) => {
    const { store, namespace } = await startFixture(t);
    store.fill({ 'd/a': 'one', 'd/b': 'x' });
    const before = await there(walk(namespace, 'd/a'));
    await readAll(namespace, await there(walk(namespace, 'd')));
    store.fill({ 'd/a': 'three' });
    t.same(await walk(namespace, 'd/a'), before, 'not noticed yet');
    if (before.source === undefined) throw new Error('a file has a source');
    const source = before.source;
    await Promise.all(Array.from({ length: 10 }, () => namespace.reportStale(before.inode, source)));
    const after = await there(walk(namespace, 'd/a'));
    t.equal(after.inode, before.inode, 'the same file');
    t.equal(after.sizeBytes, 5);
    t.not(after.source?.version, source.version);
    t.equal(after.source?.sizeBytes, 5);
    const { head } = store.calls;
    await namespace.reportStale(before.inode, source);
    t.equal(store.calls.head, head, 'a report about a version that is known to be gone asks nobody');

    store.remove('d/a');
    if (after.source) await namespace.reportStale(after.inode, after.source);
    t.equal(await walk(namespace, 'd/a'), undefined);
    await t.rejects(namespace.attributes(after.inode), { code: 'not-found' });
    const names = (await readAll(namespace, await there(walk(namespace, 'd')))).map(({ name }) => name);
    t.same(names, ['b']);
    await namespace.reportStale(after.inode, source);
  },
);

t.test('name that changes its kind is another inode', async (t) => {
  const { store, namespace } = await startFixture(t);
  store.fill({ a: 'one' });
  const file = await there(walk(namespace, 'a'));
  store.remove('a');
  store.fill({ 'a/b/c': 'x', 'a/d': 'x' });
  if (file.source) await namespace.reportStale(file.inode, file.source);
  const directory = await there(walk(namespace, 'a'));
  t.equal(directory.kind, 'directory');
  t.not(directory.inode, file.inode);
  await t.rejects(namespace.attributes(file.inode), { code: 'not-found' });
  const below = await there(walk(namespace, 'a/b/c'));
  t.equal((await readAll(namespace, directory)).length, 2);

  // The way back is noticed by whoever asks for a file below.
  for (const key of store.keys) store.remove(key);
  store.fill({ a: 'two' });
  if (below.source) await namespace.reportStale(below.inode, below.source);
  t.equal(await walk(namespace, 'a/b/c'), undefined);
});
