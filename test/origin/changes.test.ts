/** What changes through the origin: puts, removes, renames, directories, over a store in memory. */
import t from 'tap';
import { MemoryStore } from './memory-store.ts';
import { startChanged, until } from './changes-fixture.ts';

t.test('put makes the file and the directories on the way, and a second one replaces it whole', async (t) => {
  const store = new MemoryStore();
  const changed = await startChanged(t, store);
  const first = await changed.put('a/b/c', 'one');
  t.equal(first.kind, 'file');
  t.equal(await changed.read('a/b/c'), 'one');
  const second = await changed.put('a/b/c', 'second');
  t.equal(second.inode, first.inode, 'the inode survives');
  t.not(second.version?.id, first.version?.id);
  t.same(await changed.tree(), { a: undefined, 'a/b': undefined, 'a/b/c': 'second' });
  await changed.put('empty', '');
  t.equal(await changed.read('empty'), '');
  t.same(store.keys, ['a/b/c', 'empty']);
  t.equal(store.uploads, 0, 'nothing stays begun');
  t.match(changed.index.totals(changed.served.indexed.exportId), { inodes: 5, bytes: 6 });
});

t.test('change is refused in words where something stands in its way', async (t) => {
  const store = new MemoryStore();
  store.fill(['dir/file', 'plain']);
  const changed = await startChanged(t, store);
  const { names, uploads } = changed.served;
  const metadata = {};
  await t.rejects(changed.put('dir', 'x'), { code: 'is-directory', message: /"dir" is a directory/ });
  await t.rejects(changed.put('plain/x', 'x'), { code: 'not-directory', message: /"plain"/ });
  for (const path of ['a//b', 'a/./b', '../b', 'a/..', '/a', `${'n'.repeat(256)}`, 'a\0b']) {
    await t.rejects(changed.put(path, 'x'), { code: 'invalid', hint: /single slashes/ }, path);
  }
  await t.rejects(changed.put('', 'x'), { code: 'invalid', message: /root/ });
  await t.rejects(names.remove('none', { recursive: false }), { code: 'not-found', message: /"none"/ });
  await t.rejects(names.remove('dir', { recursive: false }), { code: 'not-empty', hint: /--recursive/ });
  await t.rejects(names.rename('dir', 'dir/sub', { noReplace: false }), { code: 'invalid' });
  await t.rejects(names.rename('plain', 'dir', { noReplace: false }), { code: 'is-directory' });
  await t.rejects(names.rename('dir', 'plain', { noReplace: false }), { code: 'not-directory' });
  await t.rejects(names.rename('plain', 'dir/file', { noReplace: true }), { code: 'exists' });
  await t.rejects(uploads.makeDirectory('dir', { metadata, parents: false }), { code: 'exists' });
  await t.rejects(uploads.makeDirectory('x/y', { metadata, parents: false }), { code: 'not-found' });
  await t.rejects(uploads.commit('nothing', { parts: [], sizeBytes: 0 }), { code: 'not-found' });
  t.same(store.keys, ['dir/file', 'plain'], 'nothing was touched');
  t.equal(store.uploads, 0);
});

t.test('names of any characters are put and read back', async (t) => {
  const store = new MemoryStore();
  const changed = await startChanged(t, store);
  const names = [
    ' ',
    'ü – 文',
    '%2F',
    'a+b',
    '\n',
    '~',
    '-rf',
    'n'.repeat(255),
    '💾'.repeat(63),
    'x'.repeat(9),
  ];
  for (const name of names) await changed.put(`d/${name}`, name);
  for (const name of names) t.equal(await changed.read(`d/${name}`), name);
});

t.test('directory is made with its attributes, and goes when it is empty', async (t) => {
  const store = new MemoryStore();
  const changed = await startChanged(t, store);
  const { uploads, names } = changed.served;
  const metadata = { mode: String(0o40750) };
  await uploads.makeDirectory('a/b', { metadata, parents: true });
  t.match(await changed.find('a/b'), { kind: 'directory', mode: 0o750 });
  t.same(store.keys, ['a/b/']);
  await uploads.makeDirectory('a/b', { metadata, parents: true });
  await changed.put('a/b/f', 'x');
  await names.remove('a/b/f', { recursive: false });
  await names.remove('a/b', { recursive: false });
  await until(() => store.keys.length === 0);
  t.equal(await changed.find('a/b'), undefined);
});

t.test(
  'removed directory is gone at once, however long its objects take, and its name is free again',
  async (t) => {
    const store = new MemoryStore();
    store.fill(Object.fromEntries(Array.from({ length: 50 }, (_, at) => [`d/${at}`, `old ${at}`])));
    store.fill(['d//hidden', 'other']);
    const changed = await startChanged(t, store);
    await changed.tree();
    let open = (): void => undefined;
    const gate = new Promise<void>((resolve) => (open = resolve));
    store.onWrite = (call) => (call === 'delete' ? gate : undefined);
    t.equal(await changed.served.names.remove('d', { recursive: true }), 51);
    t.same(await changed.tree(), { other: 'x' });
    t.ok(store.keys.includes('d/7'), 'the store has not followed yet');
    await t.resolves(changed.served.names.remove('other', { recursive: false }));
    const again = changed.put('d/7', 'new');
    open();
    await again;
    t.same(await changed.tree(), { d: undefined, 'd/7': 'new' });
    await until(() => store.keys.length === 1);
    t.same(store.keys, ['d/7']);
    // Rows go in steps, behind the objects.
    await until(() => changed.index.totals(changed.served.indexed.exportId).bytes === 3);
  },
);

t.test('renamed file keeps inode and version, and its object follows', async (t) => {
  const store = new MemoryStore();
  const changed = await startChanged(t, store);
  const before = await changed.put('a', 'text');
  await changed.put('b', 'replaced');
  let open = (): void => undefined;
  const gate = new Promise<void>((resolve) => (open = resolve));
  store.onWrite = (call) => (call === 'copy' ? gate : undefined);
  const after = await changed.served.names.rename('a', 'b', { noReplace: false });
  t.equal(after.inode, before.inode);
  t.same(await changed.tree(), { b: 'text' });
  const put = changed.put('a', 'another');
  open();
  await put;
  t.same(await changed.tree(), { a: 'another', b: 'text' });
  await until(async () => (await changed.find('b'))?.version?.objectKey === 'b');
  t.equal((await changed.find('b'))?.version?.id, before.version?.id, 'the version keeps its identity');
  await until(() => store.text('a') === 'another');
  t.same(store.keys, ['a', 'b']);
  t.equal(store.text('b'), 'text');
});

t.test('renamed directory is whole under its new name at once, and its objects follow', async (t) => {
  const store = new MemoryStore();
  const files = Object.fromEntries(
    Array.from({ length: 40 }, (_, at) => [`d/s${at % 3}/${at}`, `text ${at}`]),
  );
  store.fill(files);
  store.fill(['d//hidden', 'd/s0/']);
  const changed = await startChanged(t, store);
  const seen = Object.fromEntries(
    Object.entries(await changed.tree()).map(([path, text]) => [path.replace(/^d/, 'e'), text]),
  );
  let copies = 0;
  let open = (): void => undefined;
  const gate = new Promise<void>((resolve) => (open = resolve));
  store.onWrite = (call) => (call === 'copy' && ++copies > 5 ? gate : undefined);
  await changed.served.names.rename('d', 'e', { noReplace: false });
  t.same(await changed.tree(), seen);
  await until(() => copies > 5);
  t.same(await changed.tree(), seen, 'half-way too');
  await changed.put('e/s1/new', 'put meanwhile');
  await changed.served.names.remove('e/s2/2', { recursive: false });
  await changed.served.names.rename('e/s2/5', 'out', { noReplace: false });
  const now = await changed.tree();
  t.equal(now['e/s1/new'], 'put meanwhile');
  t.equal(now['e/s2/2'], undefined);
  t.equal(now['out'], 'text 5');
  open();
  await until(() => !store.keys.some((key) => key.startsWith('d/')));
  t.same(await changed.tree(), now);
  t.same(
    store.keys.filter((key) => !key.endsWith('/')).sort(),
    [...Object.keys(now).filter((path) => now[path] !== undefined), 'e//hidden'].sort(),
  );
});

t.test('directory inside one that is being moved is renamed when that is done', async (t) => {
  const store = new MemoryStore();
  store.fill({ 'd/in/1': 'one', 'd/in/2': 'two' });
  const changed = await startChanged(t, store);
  const { names } = changed.served;
  await changed.tree();
  let open = (): void => undefined;
  const gate = new Promise<void>((resolve) => (open = resolve));
  let copies = 0;
  store.onWrite = (call) => (call === 'copy' && ++copies > 1 ? gate : undefined);
  await names.rename('d', 'e', { noReplace: false });
  await until(() => copies > 1);
  let isDone = false;
  const inner = names.rename('e/in', 'out', { noReplace: false }).finally(() => (isDone = true));
  t.same(Object.keys(await changed.tree()).sort(), ['e', 'e/in', 'e/in/1', 'e/in/2']);
  t.equal(isDone, false, 'half of it lies at keys of the name that it has');
  open();
  await inner;
  await changed.put('e/in/1', 'another');
  const now = { e: undefined, 'e/in': undefined, 'e/in/1': 'another', out: undefined };
  t.same(await changed.tree(), { ...now, 'out/1': 'one', 'out/2': 'two' });
  await until(() => store.text('out/2') === 'two' && store.keys.length === 3);
  t.same(await changed.tree(), { ...now, 'out/1': 'one', 'out/2': 'two' });
});

t.test('names that are exchanged by renames end at their own keys', async (t) => {
  const store = new MemoryStore();
  store.fill({ a: 'A', b: 'B', 'x/1': 'X', 'y/1': 'Y' });
  const changed = await startChanged(t, store);
  const { names } = changed.served;
  const noReplace = { noReplace: false };
  for (const [one, other] of [
    ['a', 'b'],
    ['x', 'y'],
  ] as const) {
    await names.rename(one, 'tmp', noReplace);
    await names.rename(other, one, noReplace);
    await names.rename('tmp', other, noReplace);
  }
  const expected = { a: 'B', b: 'A', x: undefined, 'x/1': 'Y', y: undefined, 'y/1': 'X' };
  t.same(await changed.tree(), expected);
  await until(() => store.text('a') === 'B' && store.text('x/1') === 'Y' && store.keys.length === 4);
  t.same(await changed.tree(), expected);
  t.equal(store.text('b'), 'A');
});
