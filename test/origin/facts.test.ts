/** What was told changes only through the gate; what nobody was told does not; late answers change nothing. */
import t from 'tap';
import type { ListPage, ListRequest, ObjectHead } from '../../lib/store/object-store.ts';
import { type ChangedExport, startChanged } from './changes-fixture.ts';
import { MemoryStore } from './memory-store.ts';

const LISTED = 'memory://bucket?attributes=list&exclusive=true';

/** Names that went through the gate since it was asked for the last time, as `directory/name`. */
function watchGate({ served }: ChangedExport): () => string[] {
  const seen: string[] = [];
  const { leases } = served;
  const run = leases.run.bind(leases);
  leases.run = (change, perform, signal) => {
    seen.push(...change.names.map(({ directory, name }) => `${directory}/${name}`));
    return run(change, perform, signal);
  };
  return () => seen.splice(0).sort();
}

/** Answers as the store was when it was asked, but only when it is let. */
class LateStore extends MemoryStore {
  late: ((call: string, key: string) => Promise<void> | undefined) | undefined;

  override async head(key: string): Promise<ObjectHead> {
    const head = await super.head(key).catch((error: unknown) => ({ error }));
    await this.late?.('head', key);
    if ('error' in head) throw head.error;
    return head;
  }

  override async list(request: ListRequest): Promise<ListPage> {
    const page = await super.list(request);
    await this.late?.('list', request.prefix);
    return page;
  }

  /** Holds the next call of a kind; the promise is for when it has asked. */
  hold(wanted: string): { readonly asked: Promise<void>; readonly release: () => void } {
    let release = (): void => undefined;
    let ask = (): void => undefined;
    const held = new Promise<void>((resolve) => (release = resolve));
    const asked = new Promise<void>((resolve) => (ask = resolve));
    this.late = (call) => {
      if (call !== wanted) return undefined;
      this.late = undefined;
      ask();
      return held;
    };
    return { asked, release };
  }
}

t.test('learning a name that nobody was told about is no change', async (t) => {
  const store = new MemoryStore();
  store.fill(['a', 'd/x', 'd/y']);
  const changed = await startChanged(t, store, LISTED);
  const gated = watchGate(changed);
  await changed.find('a');
  await changed.tree();
  t.same(gated(), []);
});

t.test(
  'absence that was told is a fact: the name appears through the gate, and only that name',
  async (t) => {
    const store = new MemoryStore();
    store.fill(['d/x']);
    const changed = await startChanged(t, store, LISTED);
    const gated = watchGate(changed);
    t.equal(await changed.find('d/new'), undefined);
    store.fill(['d/new', 'd/other']);
    const d = (await changed.find('d'))?.inode;
    t.match(await changed.tree(), { 'd/new': 'x', 'd/other': 'x' });
    t.same(gated(), [`${d}/new`]);
    t.equal(changed.served.tree.absences.size, 0);
  },
);

t.test('absences are forgotten through the gate when there are too many', async (t) => {
  const { Absences } = await import('../../lib/origin/tree/absences.ts');
  const { NameGate } = await import('./name-gate.ts');
  const gate = new NameGate();
  const absences = new Absences({ gate, max: 10 });
  for (let at = 0; at < 10; at++) absences.remember(1, `n${at}`);
  await absences.room();
  t.ok(absences.has(1, 'n0'));
  absences.remember(1, 'n10');
  let open = (): void => undefined;
  const held = new Promise<void>((resolve) => (open = resolve));
  const holder = gate.run({ names: [{ directory: 1, name: 'n3' }] }, () => held);
  const room = absences.room();
  t.ok(absences.has(1, 'n0'), 'it is held until no satellite has it');
  open();
  await Promise.all([holder, room]);
  t.equal(absences.size, 0);
});

t.test(
  'different version, kind or attributes, and a name that is gone, change through the gate',
  async (t) => {
    const store = new MemoryStore();
    store.fill(['changed', 'gone', 'same', 'turned', 'mode/x']);
    const changed = await startChanged(t, store, LISTED);
    const before = await changed.tree();
    t.equal(before['changed'], 'x');
    const inode = (await changed.find('changed'))?.inode ?? 0;
    const version = (await changed.find('changed'))?.version?.id ?? '';
    const gated = watchGate(changed);
    store.fill({ changed: 'other', 'turned/x': 'x' });
    store.remove('gone');
    store.remove('turned');
    store.fill({ 'mode/': '' }, { mode: String(0o40700) });
    await changed.served.tree.reportStale(inode, version);
    t.equal(await changed.read('changed'), 'other');
    t.same(gated(), ['1/changed']);
    const figures = await refresh(changed, '');
    t.match(figures, { directories: 3, changed: 1, gone: 1 });
    t.same(gated(), ['1/gone', '1/turned']);
    t.equal(
      (await changed.find('mode'))?.mode,
      0o700,
      'a default was told, and the marker says something else',
    );
    t.same(gated(), ['1/mode']);
    store.fill({ 'mode/': '' }, { mode: String(0o40711) });
    t.match(await refresh(changed, 'mode'), { changed: 1 });
    t.equal((await changed.find('mode'))?.mode, 0o711);
    t.same(gated(), ['1/mode']);
    t.match(await refresh(changed, ''), { added: 0, changed: 0, gone: 0 });
    t.same(gated(), [], 'where nothing differs nothing is changed');
  },
);

async function refresh({ served, index }: ChangedExport, path: string) {
  const { Refresh } = await import('../../lib/origin/tree/refresh.ts');
  const { tree, revalidation, indexed } = served;
  const { signal } = new AbortController();
  const run = new Refresh({ exportId: indexed.exportId, index, tree, revalidation, signal });
  let sum;
  for await (const figures of run.run(path, { recursive: true })) sum = figures;
  return sum;
}

t.test('late answer about an object does not overwrite a change', async (t) => {
  const store = new LateStore();
  store.fill({ f: 'old' });
  const changed = await startChanged(t, store);
  await changed.find('f');
  const stale = await changed.find('f');
  store.fill({ f: 'foreign' });
  const { asked, release } = store.hold('head');
  const reported = changed.served.tree.reportStale(stale?.inode ?? 0, stale?.version?.id ?? '');
  await asked;
  await changed.put('f', 'ours');
  release();
  await reported;
  t.equal(await changed.read('f'), 'ours');
});

t.test('late answer does not bring back what was removed', async (t) => {
  const store = new LateStore();
  store.fill({ gone: 'x' });
  const changed = await startChanged(t, store);
  const known = await changed.find('gone');
  const { asked, release } = store.hold('head');
  const reported = changed.served.tree.reportStale(known?.inode ?? 0, known?.version?.id ?? '');
  await asked;
  await changed.served.names.remove('gone', { recursive: false });
  release();
  await reported;
  t.equal(await changed.find('gone'), undefined);
  t.same(await changed.tree(), {});
});

t.test('late page of a listing does not overwrite changes of its names', async (t) => {
  const store = new LateStore();
  store.fill({ 'd/a': 'old', 'd/b': 'b', 'd/c': 'c', 'd/m': 'm' });
  const changed = await startChanged(t, store);
  for (const name of ['a', 'b', 'm']) await changed.find(`d/${name}`);
  const { asked, release } = store.hold('list');
  const listed = changed.served.tree.list((await changed.find('d'))?.inode ?? 0, {
    after: '',
    entriesMax: 100,
  });
  await asked;
  await changed.put('d/a', 'new');
  await changed.served.names.remove('d/b', { recursive: false });
  await changed.served.names.rename('d/m', 'd/n', { noReplace: false });
  await changed.put('d/z', 'z');
  release();
  await listed;
  t.same(await changed.tree(), { d: undefined, 'd/a': 'new', 'd/c': 'c', 'd/n': 'm', 'd/z': 'z' });
});
