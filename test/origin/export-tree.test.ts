/** The tree against a model of it, over random keys, page sizes and orders of questions. */
import fc from 'fast-check';
import t from 'tap';
import { systemClock } from '../../lib/base/clock.ts';
import { parseExports } from '../../lib/origin/export-options.ts';
import { ExportTree } from '../../lib/origin/tree/export-tree.ts';
import { nameProblem } from '../../lib/origin/tree/key-names.ts';
import { compareBytes } from '../../lib/origin/tree/listing-order.ts';
import { NameGate } from './name-gate.ts';
import { NamespaceIndex } from '../../lib/origin/index/namespace-index.ts';
import { StoreCalls } from '../../lib/origin/tree/store-calls.ts';
import { createMetrics } from '../../lib/telemetry/metrics.ts';
import { MemoryStore } from './memory-store.ts';
import { weirdKey } from './weird-keys.ts';

async function createTree(store: MemoryStore, url = 'memory://bucket') {
  const index = new NamespaceIndex({ file: ':memory:', clock: systemClock });
  const [options] = parseExports([{ name: 'data', url }]);
  if (options === undefined) throw new Error('one export');
  const { exportId } = await index.openExport('data', { identity: options.identity, nowMs: 0 });
  const calls = new StoreCalls({ store, clock: systemClock, metrics: createMetrics() });
  const gate = new NameGate();
  const occupied = new Set<string>();
  const tree = new ExportTree({ exportId, options, index, store: calls, clock: systemClock, gate, occupied });
  return { index, tree, exportId };
}

/** Paths to kinds, by the rules of lib/origin/README.md. */
function model(keys: readonly string[]): Map<string, 'file' | 'directory'> {
  const isVisible = (path: string): boolean =>
    path.split('/').every((segment) => nameProblem(segment) === undefined);
  const tree = new Map<string, 'file' | 'directory'>();
  for (const key of keys) {
    if (!key.endsWith('/') && isVisible(key)) tree.set(key, tree.get(key) ?? 'file');
    for (let at = key.indexOf('/'); at !== -1; at = key.indexOf('/', at + 1)) {
      const path = key.slice(0, at);
      if (isVisible(path)) tree.set(path, 'directory');
    }
  }
  return tree;
}

async function readTree(tree: ExportTree, entriesMax: number): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  const walk = async (directory: number, path: string): Promise<void> => {
    const entries = [];
    let after = '';
    for (let more = true; more;) {
      const page = await tree.list(directory, { after, entriesMax });
      if (page.more && page.entries.length === 0) throw new Error('an empty page that is not the last');
      if (page.entries.length > entriesMax) throw new Error('a page that is too long');
      entries.push(...page.entries);
      after = page.entries.at(-1)?.name ?? after;
      more = page.more;
    }
    const names = entries.map(({ name }) => name);
    const sorted = [...new Set(names)].sort(compareBytes);
    if (JSON.stringify(names) !== JSON.stringify(sorted)) throw new Error(`out of order: ${names.join(' ')}`);
    for (const { name, kind, inode } of entries) {
      found.set(path + name, kind);
      if (kind === 'directory') await walk(inode, `${path}${name}/`);
    }
  };
  await walk(1, '');
  return found;
}

t.test('tree equals its model, whatever the keys, the pages and the questions before', async (t) => {
  await fc.assert(
    fc.asyncProperty(
      fc.uniqueArray(weirdKey(), { maxLength: 30 }),
      fc.record({
        pageMax: fc.integer({ min: 1, max: 5 }),
        entriesMax: fc.integer({ min: 1, max: 5 }),
        attributes: fc.constantFrom('list', 'head'),
        lookups: fc.array(fc.nat(), { maxLength: 5 }),
      }),
      async (keys, { pageMax, entriesMax, attributes, lookups }) => {
        const store = new MemoryStore();
        store.pageMax = pageMax;
        store.fill(Object.fromEntries(keys.map((key, at) => [key, at % 3 === 0 ? '' : 'x'])));
        const expected = model(keys);
        const { tree, index } = await createTree(store, `memory://bucket?attributes=${attributes}`);
        const lookUp = async (path: string): Promise<string | undefined> => {
          let at = 1;
          let kind: string | undefined = 'directory';
          for (const name of path.split('/')) {
            if (kind !== 'directory') return undefined;
            const child = await tree.lookup(at, name);
            if (child === undefined) return undefined;
            at = child.inode;
            kind = child.kind;
          }
          return kind;
        };
        const paths = [...expected.keys()];
        const askSome = async (): Promise<void> => {
          for (const pick of lookups) {
            const path = paths[pick % paths.length];
            if (path !== undefined && (await lookUp(path)) !== expected.get(path))
              throw new Error(`lookup ${path}`);
          }
        };
        await askSome();
        if (pick(lookups)) await tree.list(1, { after: '', entriesMax: 1 });
        await askSome();
        const found = await readTree(tree, entriesMax);
        const asText = (map: Map<string, string>): string => JSON.stringify([...map].sort());
        if (asText(found) !== asText(expected))
          throw new Error(`${asText(found)} is not ${asText(expected)}`);
        for (const path of paths)
          if ((await lookUp(path)) !== expected.get(path)) throw new Error(`after: ${path}`);
        index.close();
      },
    ),
    { numRuns: 150 },
  );
  t.pass();
});

function pick(numbers: readonly number[]): boolean {
  return (numbers[0] ?? 0) % 2 === 1;
}

t.test('lookup in a directory that was never listed costs one head and one list', async (t) => {
  const store = new MemoryStore();
  store.fill(['a', 'b/c']);
  const { tree, index } = await createTree(store);
  t.teardown(() => index.close());
  t.equal((await tree.lookup(1, 'a'))?.kind, 'file');
  t.same(store.calls, { head: 1, get: 0, list: 1 });
  t.equal((await tree.lookup(1, 'b'))?.kind, 'directory');
  t.same(store.calls, { head: 2, get: 0, list: 2 });
  t.equal(await tree.lookup(1, 'none'), undefined);
  t.equal(await tree.lookup(1, 'none'), undefined);
  t.same(store.calls, { head: 4, get: 0, list: 4 }, 'an absence is not remembered');
  await tree.list(1, { after: '', entriesMax: 10 });
  const { list, head } = store.calls;
  t.equal(await tree.lookup(1, 'none'), undefined);
  t.same(store.calls, { head, get: 0, list }, 'a listed directory knows what it has not');
});

t.test('concurrent questions are one question to the store', async (t) => {
  const store = new MemoryStore();
  store.fill(['d/a', 'd/b']);
  const { tree, index } = await createTree(store);
  t.teardown(() => index.close());
  const found = await Promise.all(Array.from({ length: 20 }, () => tree.lookup(1, 'd')));
  t.equal(new Set(found.map((row) => row?.inode)).size, 1);
  t.same(store.calls, { head: 1, get: 0, list: 1 });
  const directory = found[0]?.inode ?? 0;
  await Promise.all(Array.from({ length: 20 }, () => tree.list(directory, { after: '', entriesMax: 10 })));
  t.equal(store.calls.list, 2, 'one listing');
});

t.test('first page of a huge directory does not wait for the last', async (t) => {
  const store = new MemoryStore();
  store.fill(Array.from({ length: 20_000 }, (_, at) => `part-${String(at).padStart(6, '0')}.bin`));
  const { tree, index } = await createTree(store);
  t.teardown(() => index.close());
  const page = await tree.list(1, { after: '', entriesMax: 500 });
  t.equal(page.entries.length, 500);
  t.ok(page.more);
  t.ok(store.calls.list < 10, `${store.calls.list} calls`);
  const calls = { ...store.calls };
  t.equal((await tree.lookup(1, 'part-000001.bin'))?.kind, 'file');
  t.equal(await tree.lookup(1, 'part-000001.bim'), undefined);
  t.same(store.calls, calls, 'what is settled is answered from the index');
});

t.test('listing goes on where a failure left it', async (t) => {
  const store = new MemoryStore();
  store.pageMax = 10;
  const keys = Array.from({ length: 100 }, (_, at) => `k${String(at).padStart(3, '0')}`);
  store.fill(keys);
  const { tree, index } = await createTree(store);
  t.teardown(() => index.close());
  let failures = 0;
  store.before = (call) => {
    if (call === 'list' && ++failures % 3 === 0) throw new Error('reset');
  };
  const names: string[] = [];
  let after = '';
  for (let more = true; more;) {
    const page = await tree.list(1, { after, entriesMax: 7 }).catch(() => undefined);
    if (page === undefined) continue;
    names.push(...page.entries.map(({ name }) => name));
    after = names.at(-1) ?? '';
    more = page.more;
  }
  t.same(names, keys);
});

t.test('listing looks again at names that it did not meet', async (t) => {
  const store = new MemoryStore();
  store.fill(['gone', 'stays', 'turns']);
  const { tree, index, exportId } = await createTree(store);
  t.teardown(() => index.close());
  const before = await Promise.all(['gone', 'stays', 'turns'].map((name) => tree.lookup(1, name)));
  store.remove('gone');
  store.remove('turns');
  store.fill(['turns/into']);
  const { entries } = await tree.list(1, { after: '', entriesMax: 10 });
  t.same(
    entries.map(({ name, kind }) => [name, kind]),
    [
      ['stays', 'file'],
      ['turns', 'directory'],
    ],
  );
  t.equal(entries[0]?.inode, before[1]?.inode, 'what stayed keeps its number');
  t.not(entries[1]?.inode, before[2]?.inode, 'another kind is another inode');
  t.equal(index.totals(exportId).inodes, 3);
});

t.test('a directory in which several names are looked up is listed behind the lookups', async (t) => {
  const store = new MemoryStore();
  const names = Array.from({ length: 3_000 }, (_, index) => `file-${String(index).padStart(4, '0')}`);
  for (const name of names) await store.put(name, Buffer.from('x'));
  const { tree, index, exportId } = await createTree(store);
  for (const name of names.slice(0, 8)) t.equal((await tree.lookup(1, name))?.kind, 'file');
  while ((await index.directory({ exportId, directory: 1 }))?.state !== 'listed') {
    await new Promise((resolve) => setImmediate(resolve));
  }
  const { head } = store.calls;
  for (const name of names) t.equal((await tree.lookup(1, name))?.kind, 'file');
  t.equal(await tree.lookup(1, 'absent'), undefined);
  t.equal(store.calls.head, head, 'the store is asked no more');
});
