/**
 * The origin dies at every write to the store of every kind of change, just before it and just after it has happened,
 * and at every transaction of its index; a restart finds each name old or new, whole, and the store follows.
 */
import t from 'tap';
import { type ChangedExport, openChanged, temporaryFile, until } from './changes-fixture.ts';
import { type MemoryCall, MemoryStore, type MemoryWrite } from './memory-store.ts';

const URL = 'memory://bucket?attributes=head&exclusive=true';
const FILES = { 'd/a': 'A', 'd/b': 'B', 'd/s/c': 'C', top: 'T' };
type Tree = Record<string, string | undefined>;

const OLD: Tree = { d: undefined, 'd/a': 'A', 'd/b': 'B', 'd/s': undefined, 'd/s/c': 'C', top: 'T' };
const without = (...names: string[]): Tree =>
  Object.fromEntries(
    Object.entries(OLD).filter(([name]) => !names.some((one) => name === one || name.startsWith(`${one}/`))),
  );

const changes: {
  readonly name: string;
  readonly run: (changed: ChangedExport) => Promise<unknown>;
  readonly after: Tree;
}[] = [
  { name: 'put anew', run: (c) => c.put('n/x', 'new'), after: { ...OLD, n: undefined, 'n/x': 'new' } },
  { name: 'put over', run: (c) => c.put('d/a', 'newer'), after: { ...OLD, 'd/a': 'newer' } },
  { name: 'put of no bytes', run: (c) => c.put('d/a', ''), after: { ...OLD, 'd/a': '' } },
  {
    name: 'mkdir',
    run: (c) => c.served.uploads.makeDirectory('m', { metadata: {}, parents: false }),
    after: { ...OLD, m: undefined },
  },
  { name: 'rm', run: (c) => c.served.names.remove('d/a', { recursive: false }), after: without('d/a') },
  { name: 'rm -r', run: (c) => c.served.names.remove('d', { recursive: true }), after: without('d') },
  {
    name: 'mv of a file over another',
    run: (c) => c.served.names.rename('top', 'd/b', { noReplace: false }),
    after: { ...without('top'), 'd/b': 'T' },
  },
  {
    name: 'mv of a directory',
    run: (c) => c.served.names.rename('d', 'e', { noReplace: false }),
    after: { e: undefined, 'e/a': 'A', 'e/b': 'B', 'e/s': undefined, 'e/s/c': 'C', top: 'T' },
  },
  {
    name: 'mv of a file, and another in its place',
    run: async (c) => {
      await c.served.names.rename('top', 'd/t', { noReplace: false });
      await c.put('top', 'other');
    },
    after: { ...OLD, 'd/t': 'T', top: 'other' },
  },
];

/** The process is gone: nothing it has asked for is ever answered, and nothing more of it reaches the store. */
class Death extends Error {}

/** Counts what may be the last thing that an origin does, and makes it that. */
class Fate {
  #left: number;
  dead = false;

  constructor(steps: number) {
    this.#left = steps;
  }

  step(): void {
    if (this.dead || this.#left-- === 0) {
      this.dead = true;
      throw new Death('the origin died');
    }
  }
}

function mortal(store: MemoryStore, fate: Fate): void {
  const die = (): Promise<never> => new Promise(() => undefined);
  store.onWrite = (_call: MemoryWrite, _key: string, _done: boolean) => {
    try {
      fate.step();
      return undefined;
    } catch {
      return die();
    }
  };
  store.before = (_call: MemoryCall) => (fate.dead ? die() : undefined);
}

function sortedText(tree: Tree): string {
  return JSON.stringify(
    Object.entries(tree)
      .map(([name, text]) => [name, text ?? null])
      .sort(),
  );
}

/** What the store alone makes of the names: a second origin that never saw the first. */
async function afresh(store: MemoryStore): Promise<Tree> {
  const changed = await openChanged(store, { file: ':memory:', url: URL });
  try {
    return await changed.tree();
  } finally {
    await changed.close();
  }
}

for (const { name, run, after } of changes) {
  t.test(`${name} survives the death of the origin at every step`, async (t) => {
    let deaths = 0;
    for (let steps = 0; ; steps++) {
      const store = new MemoryStore();
      store.fill(FILES);
      const file = await temporaryFile(t);
      const fate = new Fate(steps);
      const first = await openChanged(store, { file, url: URL });
      if (sortedText(await first.tree()) !== sortedText(OLD)) throw new Error('it begins with the old');
      mortal(store, fate);
      const { changes: transactions } = first.index;
      const durably = transactions.durably.bind(transactions);
      transactions.durably = (work) => {
        fate.step();
        const result = durably(work);
        fate.step();
        return result;
      };
      const running = run(first).then(
        () => 'done' as const,
        (error: unknown) => {
          if (error instanceof Death || fate.dead) return 'died' as const;
          throw error;
        },
      );
      const quiet = async (): Promise<'quiet'> => {
        await until(() => fate.dead);
        return 'quiet';
      };
      const result = await Promise.race([running, quiet()]);
      if (result === 'done') await Promise.race([quiet(), settled(first, store)]);
      // Everything was done before the fate came.
      const survived = !fate.dead;
      fate.dead = true;
      first.index.close();
      store.onWrite = () => undefined;
      store.before = () => undefined;

      const second = await openChanged(store, { file, url: URL });
      await settled(second, store);
      const seen = await second.tree();
      const text = sortedText(seen);
      const acknowledged = result === 'done';
      const allowed = acknowledged
        ? [after]
        : [OLD, after, ...(name.includes('and another') ? [partly] : [])];
      if (!allowed.some((one) => sortedText(one) === text)) {
        throw new Error(`${name}, step ${steps}, ${result}: ${text}`);
      }
      const alone = sortedText(await afresh(store));
      if (alone !== text)
        throw new Error(`${name}, step ${steps}: the store has ${alone}, the index ${text}`);
      await second.close();
      if (survived) break;
      deaths += 1;
    }
    t.ok(deaths >= 2, `${deaths} deaths`);
  });
}

const partly: Tree = { ...without('top'), 'd/t': 'T' };

/** The store has followed the index, and what an earlier life left open is settled. */
async function settled(changed: ChangedExport, store: MemoryStore): Promise<void> {
  const { index, served } = changed;
  const { exportId } = served.indexed;
  await until(
    () =>
      index.changes.leftovers(exportId).length === 0 &&
      index.changes.uploads(exportId).every(({ state }) => state === 'open') &&
      store.keys.length > 0,
  );
}
