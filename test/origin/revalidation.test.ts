/** Listed directories are compared with the store again by age, and export parameters that say so. */
import t, { type Test } from 'tap';
import { type Clock, systemClock } from '../../lib/base/clock.ts';
import { parseExports } from '../../lib/origin/export-options.ts';
import { type ChangedExport, openChanged, until } from './changes-fixture.ts';
import { MemoryStore } from './memory-store.ts';

interface Aged {
  readonly changed: ChangedExport;
  readonly pass: (ms: number) => void;
}

async function start(t: Test, store: MemoryStore, url: string): Promise<Aged> {
  let passedMs = 0;
  const clock: Clock = { ...systemClock, nowMs: () => systemClock.nowMs() + passedMs };
  const changed = await openChanged(store, { file: ':memory:', url, clock });
  t.teardown(() => changed.close());
  return { changed, pass: (ms) => (passedMs += ms) };
}

t.test('a directory that is used and old is compared with the store, behind the answer', async (t) => {
  const store = new MemoryStore();
  store.fill({ 'd/a': 'a', 'd/b': 'b', 'd/c-': 'c', 'd/c/x': 'x' });
  const { changed, pass } = await start(t, store, 'memory://bucket?attributes=list&revalidate=1h');
  await changed.tree();
  await changed.find('d/b');
  store.fill({ 'd/a': 'A', 'd/new': 'n' });
  store.remove('d/b');
  store.remove('d/c/x');
  const lists = store.calls.list;
  pass(50 * 60_000);
  t.equal((await changed.find('d/b'))?.kind, 'file');
  t.equal(store.calls.list, lists, 'young enough');
  pass(11 * 60_000);
  t.equal((await changed.find('d/b'))?.kind, 'file', 'what was told holds until it is compared');
  await until(async () => (await changed.find('d/b')) === undefined);
  await until(async () => JSON.stringify(Object.keys(await changed.tree())) === '["d","d/a","d/c-","d/new"]');
  t.equal(await changed.read('d/a'), 'A');
  const after = store.calls.list;
  await changed.find('d/new');
  t.equal(store.calls.list, after, 'and is young again');
});

t.test('a comparison of any page size finds exactly what differs', async (t) => {
  const names = ['a', 'a-b', 'a.b/x', 'a/x', 'a0', 'b', 'b-/x', 'b/x', 'c', 'd/x', 'd0/x', 'é', '文/x'];
  for (const pageMax of [1, 2, 3, 100]) {
    for (const gone of names) {
      const store = new MemoryStore();
      store.pageMax = pageMax;
      store.fill(names);
      const { changed } = await start(t, store, 'memory://bucket?attributes=list&exclusive=true');
      await changed.tree();
      store.remove(gone);
      store.fill({ 'a-c': 'new', 'zz/x': 'new' });
      const sum = { added: 0, changed: 0, gone: 0 };
      for await (const page of changed.served.revalidation.compare(1)) {
        sum.added += page.added;
        sum.changed += page.changed;
        sum.gone += page.gone;
      }
      // A file that a directory of its name has hidden shows when the directory goes.
      const shows = gone === 'a/x' || gone === 'b/x';
      const hidden = gone === 'a' || gone === 'b';
      const expected = { added: 2, changed: shows ? 1 : 0, gone: shows || hidden ? 0 : 1 };
      if (JSON.stringify(sum) !== JSON.stringify(expected)) {
        t.same(sum, expected, `${gone}, pages of ${pageMax}`);
      }
      const fresh = await start(t, store, 'memory://bucket?attributes=list&exclusive=true');
      t.same(
        Object.keys(await changed.tree()),
        Object.keys(await fresh.changed.tree()),
        `${gone}, pages of ${pageMax}`,
      );
      await changed.close();
      await fresh.changed.close();
    }
  }
});

t.test('an export that nobody else changes is not compared', async (t) => {
  const store = new MemoryStore();
  store.fill(['d/a']);
  const { changed, pass } = await start(t, store, 'memory://bucket?exclusive=true');
  await changed.tree();
  await changed.find('d/a');
  const calls = { ...store.calls };
  pass(24 * 60 * 60_000);
  await changed.find('d/a');
  await changed.find('d/none');
  await new Promise((resolve) => setImmediate(resolve));
  t.same({ ...store.calls }, calls);
});

t.test('export says how old a listing may get, that it is exclusive, and what is immutable', async (t) => {
  const parse = (parameters: string) => parseExports([{ name: 'a', url: `s3://b/p?${parameters}` }])[0];
  t.match(parse(''), { revalidateMs: 30_000, immutable: [] });
  t.match(parse('revalidate=2m'), { revalidateMs: 120_000 });
  t.match(parse('exclusive=true&region=eu'), { revalidateMs: undefined, storeUrl: 's3://b/p?region=eu' });
  t.same(parse('immutable=train/**&immutable=*.tar')?.immutable, ['train/**', '*.tar']);
  for (const wrong of [
    'revalidate=0s',
    'revalidate=x',
    'exclusive=yes',
    'exclusive=true&revalidate=1m',
    'immutable=',
    'immutable=/x',
  ]) {
    t.throws(() => parse(wrong), { code: 'usage', hint: /write/ }, wrong);
  }
});
