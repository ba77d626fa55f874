/**
 * The origin dies at every write to the store of every kind of change, just before it and just after it has happened,
 * and at every transaction of its index; a restart finds each name old or new, whole, and the store follows.
 */
import t from 'tap';
import type { SessionId } from '../../lib/base/brand.ts';
import type { RenameMode } from '../../lib/origin/changes/name-changes.ts';
import type { WriteContent, Writer, WriteToken } from '../../lib/origin/changes/writes.ts';
import { OriginError } from '../../lib/origin/origin.ts';
import type { Place } from '../../lib/origin/tree/export-paths.ts';
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

/** What the satellite of a write remembers when the origin has died. */
interface Memory {
  token?: WriteToken;
}

interface CrashedChange {
  readonly name: string;
  readonly run: (changed: ChangedExport, memory: Memory) => Promise<unknown>;
  /** Objects that are there from the beginning, beside the usual. */
  readonly more?: Readonly<Record<string, string>>;
  readonly after: Tree;
  /** Of changes in several steps: what is there between them. */
  readonly between?: readonly Tree[];
  /** What a satellite does after a restart, which brings it to `after` from wherever it was. */
  readonly again?: (changed: ChangedExport, token: WriteToken) => Promise<unknown>;
}

const EXCHANGED: Tree = {
  d: 'T',
  top: undefined,
  'top/a': 'A',
  'top/b': 'B',
  'top/s': undefined,
  'top/s/c': 'C',
};
const SATELLITE = 'satellite' as SessionId;
const WRITER: Writer = { by: SATELLITE, host: 'host' };
const CONTENT: Omit<WriteContent, 'content' | 'operation'> = {
  attributes: (before) => before,
  metadata: () => ({ metadata: {}, isWhole: true }),
  isLast: true,
  by: SATELLITE,
};

const changes: readonly CrashedChange[] = [
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
    between: [{ ...without('top'), 'd/t': 'T' }],
  },
  {
    name: 'commit of a file that was made',
    run: async (c, memory) => commit(c, (memory.token = await create(c, 'd/n')), 'new'),
    after: { ...OLD, 'd/n': 'new' },
    again: (c, token) => commit(c, token, 'new'),
  },
  {
    name: 'commit over a file',
    run: async (c, memory) => commit(c, (memory.token = await openWrite(c, 'd/a')), 'newer'),
    after: { ...OLD, 'd/a': 'newer' },
    again: (c, token) => commit(c, token, 'newer'),
  },
  {
    name: 'commit of no bytes over a file',
    run: async (c, memory) => commit(c, (memory.token = await openWrite(c, 'd/a')), ''),
    after: { ...OLD, 'd/a': '' },
    again: (c, token) => commit(c, token, ''),
  },
  {
    name: 'commit of a file that was made, renamed over another',
    run: async (c, memory) => {
      memory.token = await create(c, 'd/tmp');
      await rename(c, 'd/tmp', 'd/a');
      await commit(c, memory.token, 'renamed');
    },
    after: { ...OLD, 'd/a': 'renamed' },
    again: async (c, token) => {
      await rename(c, 'd/tmp', 'd/a').catch(refusedAs('not-found'));
      await commit(c, token, 'renamed');
    },
  },
  {
    name: 'commit of parts that were begun under another name',
    run: async (c, memory) => {
      memory.token = await create(c, 'd/tmp');
      const upload = await begin(c, memory.token, 'moved');
      await rename(c, 'd/tmp', 'top');
      await commitParts(c, memory.token, upload);
    },
    after: { ...OLD, top: 'moved' },
    again: async (c, token) => {
      await rename(c, 'd/tmp', 'top').catch(refusedAs('not-found'));
      await commit(c, token, 'moved', 'parts');
    },
  },
  {
    name: 'commit of parts of a file that was renamed',
    run: async (c, memory) => {
      memory.token = await openWrite(c, 'd/a');
      const upload = await begin(c, memory.token, 'moved');
      await rename(c, 'd/a', 'd/z');
      await commitParts(c, memory.token, upload);
    },
    after: { ...without('d/a'), 'd/z': 'moved' },
    between: [{ ...without('d/a'), 'd/z': 'A' }],
  },
  {
    name: 'rm of a file that was made and renamed over another',
    run: async (c, memory) => {
      memory.token = await create(c, 'd/tmp');
      await rename(c, 'd/tmp', 'd/a');
      await c.served.names.removeAt(await place(c, 'd/a'), { kind: 'other', by: SATELLITE });
    },
    after: without('d/a'),
  },
  {
    name: 'exchange of two files',
    run: (c) => rename(c, 'd/a', 'top', 'exchange'),
    after: { ...OLD, 'd/a': 'T', top: 'A' },
  },
  {
    name: 'exchange of a directory and a file, there and back and there',
    run: async (c) => {
      for (let turn = 0; turn < 3; turn++) await rename(c, 'd', 'top', 'exchange');
    },
    after: EXCHANGED,
    between: [EXCHANGED],
  },
  {
    name: 'exchange of two directories',
    run: (c) => rename(c, 'd', 'd2', 'exchange'),
    more: { 'd/': '', 'd2/': '', 'd2/x': 'X' },
    after: {
      ...Object.fromEntries(Object.entries(OLD).map(([name, text]) => [name.replace(/^d/, 'd2'), text])),
      d: undefined,
      'd/x': 'X',
    },
  },
  {
    name: 'exchange of files, and a rename of one of them',
    run: async (c) => {
      await rename(c, 'd/a', 'top', 'exchange');
      await rename(c, 'top', 'd/z');
    },
    after: { ...without('top'), 'd/a': 'T', 'd/z': 'A' },
    between: [{ ...OLD, 'd/a': 'T', top: 'A' }],
  },
  {
    name: 'mkdir at a place',
    run: async (c) =>
      c.served.uploads.makeAt(await place(c, 'd/m'), { kind: 'directory', metadata: {}, by: SATELLITE }),
    after: { ...OLD, 'd/m': undefined },
  },
];

async function place(c: ChangedExport, path: string): Promise<Place> {
  const slash = path.lastIndexOf('/');
  const directory = await c.find(slash === -1 ? '' : path.slice(0, slash));
  if (directory === undefined) throw new OriginError('not-found', `no ${path}`);
  return { directory: directory.inode, name: path.slice(slash + 1) };
}

async function create(c: ChangedExport, path: string): Promise<WriteToken> {
  const { row } = await c.served.writes.create(
    await place(c, path),
    { modifiedNs: 0n, changedNs: 0n },
    WRITER,
  );
  return { write: row.write, token: BigInt(row.token) };
}

async function openWrite(c: ChangedExport, path: string): Promise<WriteToken> {
  const { row } = await c.served.writes.open((await c.find(path))?.inode ?? 0, WRITER);
  return { write: row.write, token: BigInt(row.token) };
}

function commit(
  c: ChangedExport,
  token: WriteToken,
  text: string,
  operation = 'operation',
): Promise<unknown> {
  const content = { kind: 'bytes', bytes: Buffer.from(text) } as const;
  return c.served.writes.commit(token, { ...CONTENT, content, operation });
}

async function begin(c: ChangedExport, token: WriteToken, text: string) {
  const { objectKey: key, storeUpload, upload } = await c.served.writes.beginUpload(token, CONTENT.metadata);
  const part = await c.store.uploadPart({ key, uploadId: storeUpload, partNumber: 1 }, Buffer.from(text));
  return { kind: 'parts', upload, parts: [part], sizeBytes: part.sizeBytes } as const;
}

function commitParts(
  c: ChangedExport,
  token: WriteToken,
  content: WriteContent['content'],
): Promise<unknown> {
  return c.served.writes.commit(token, { ...CONTENT, content, operation: 'parts' });
}

async function rename(
  c: ChangedExport,
  from: string,
  to: string,
  mode: RenameMode = 'replace',
): Promise<unknown> {
  return c.served.names.renameAt(await place(c, from), await place(c, to), { mode, by: SATELLITE });
}

function refusedAs(code: string): (error: unknown) => void {
  return (error) => {
    if (!(error instanceof OriginError) || error.code !== code) throw error;
  };
}

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

for (const { name, run, more = {}, after, between = [], again } of changes) {
  t.test(`${name} survives the death of the origin at every step`, async (t) => {
    let deaths = 0;
    for (let steps = 0; ; steps++) {
      const store = new MemoryStore();
      store.fill({ ...FILES, ...more });
      const file = await temporaryFile(t);
      const fate = new Fate(steps);
      const first = await openChanged(store, { file, url: URL });
      const old = await first.tree();
      const isUsual = Object.keys(more).length === 0;
      if (isUsual && sortedText(old) !== sortedText(OLD)) throw new Error('it begins with the old');
      mortal(store, fate);
      const { changes: transactions } = first.index;
      for (const kind of ['durably', 'quickly'] as const) {
        const transact = transactions[kind].bind(transactions);
        transactions[kind] = (work) => {
          fate.step();
          const result = transact(work);
          fate.step();
          return result;
        };
      }
      const memory: Memory = {};
      const running = run(first, memory).then(
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
      const acknowledged = result === 'done';
      if (again !== undefined && memory.token !== undefined) {
        await again(second, memory.token);
        await settled(second, store);
      }
      const text = sortedText(await second.tree());
      const isCertain = acknowledged || (again !== undefined && memory.token !== undefined);
      const allowed = isCertain ? [after] : [old, after, ...between];
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
