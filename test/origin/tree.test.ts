/** The tree that an origin makes of a store's keys, seen by a satellite over RPC. */
import t from 'tap';
import { readAll, startFixture, walk } from './origin-fixture.ts';

t.test('lookup finds files and directories without listing', async (t) => {
  const { store, namespace } = await startFixture(t);
  store.fill({ 'a/b/c.txt': 'hello', top: 'x' });
  const file = await walk(namespace, 'a/b/c.txt');
  t.equal(file?.kind, 'file');
  t.equal(file?.sizeBytes, 5);
  t.equal(file?.mode, 0o644);
  t.equal(file?.source?.objectKey, 'a/b/c.txt');
  t.match(file?.source?.version, /^[0-9a-f]{32}$/);
  t.equal((await walk(namespace, 'a'))?.kind, 'directory');
  t.equal(await walk(namespace, 'a/none'), undefined);
  t.equal(await walk(namespace, 'top/below').catch((error: { code: string }) => error.code), 'not-directory');
  const calls = { ...store.calls };
  t.same(await walk(namespace, 'a/b/c.txt'), file);
  t.same(store.calls, calls, 'a second walk asks no store');
});

t.test('list answers in the order of names', async (t) => {
  const { store, namespace } = await startFixture(t);
  store.fill(['a-b', 'a/x', 'a.txt', 'b', 'ab', 'é', 'z/']);
  const root = await walk(namespace, '');
  t.ok(root);
  if (!root) return;
  const names = (await readAll(namespace, root, 2)).map(({ name }) => name);
  t.same(names, ['a', 'a-b', 'a.txt', 'ab', 'b', 'z', 'é']);
});
