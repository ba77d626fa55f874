/**
 * Moves the objects of renamed files and directories to the keys that their names make, behind the rename.
 *
 * A file: copy, then one transaction inside the change gate says where the version lies now, and only then the old
 * object is deleted; the version keeps its identity, so caches stay useful. A directory: listed whole, each child
 * moved, then its prefix is switched; whatever else lies below the old prefix follows. Every step leaves a state that
 * the index describes, and repeats harmlessly, so that a crash costs time only. A step that finds its file renamed or
 * replaced meanwhile takes its copy back.
 */
import PQueue from 'p-queue';
import { ROOT_INODE } from '../../base/brand.ts';
import { randomId } from '../../base/prng.ts';
import type { ChangeGate } from './change-gate.ts';
import { attributesName } from './directory-times.ts';
import type { ExportTree } from '../tree/export-tree.ts';
import type { Leftover } from '../index/index-changes.ts';
import type { IndexedInode, IndexedVersion } from '../index/index-rows.ts';
import { Later, type Leftovers } from './leftovers.ts';
import type { NamespaceIndex } from '../index/namespace-index.ts';
import type { StoreCalls } from '../tree/store-calls.ts';

const COPIES_AT_ONCE = 16;
const ROWS_AT_ONCE = 1_000;
/** Moves that wait for each other's keys; more than that is a circle. */
const CHAIN_MAX = 1_000;
const SCRATCH_ID_BYTES = 8;

export interface RelocationOptions {
  readonly exportId: number;
  readonly index: NamespaceIndex;
  readonly store: StoreCalls;
  readonly tree: ExportTree;
  readonly gate: ChangeGate;
  readonly leftovers: Leftovers;
  /** An object at this key may just be getting a name. */
  readonly isCommitting: (key: string) => boolean;
}

export class Relocation {
  readonly #options: RelocationOptions;

  constructor(options: RelocationOptions) {
    this.#options = options;
  }

  /** @throws Later, and what the store's failures become */
  async run(leftover: Leftover, signal: AbortSignal): Promise<void> {
    const { index, exportId } = this.#options;
    const { inode, key } = leftover;
    const row = inode === undefined ? undefined : await index.inode(exportId, inode);
    if (row === undefined || !(await this.#isAttached(row))) return;
    if (row.kind !== 'directory') {
      if (row.version?.objectKey === key) await this.#moveFile(row, await this.#destination(row, key));
      const now = await index.inode(exportId, row.inode);
      // Nothing is deleted that a name still means.
      if (now?.version?.objectKey === key) throw new Later(key);
      return;
    }
    const prefix = async () => (await index.directory({ exportId, directory: row.inode }))?.keyPrefix;
    if ((await prefix()) === key) {
      await this.#moveDirectory(row.inode, await this.#destination(row, key), signal);
    }
    const to = await prefix();
    if (to !== undefined) await this.#moveRest({ inode: row.inode, from: key, to }, signal);
  }

  /**
   * Where the name says it lies; somewhere aside if others wait for us while we wait for them. Of a circle always the
   * same one goes aside, and a directory always to the same prefix, so that another life goes on with what it finds.
   */
  async #destination(row: IndexedInode, from: string): Promise<Destination> {
    const { leftovers } = this.#options;
    const natural = await this.#naturalKey(row);
    let blocking = leftovers.get(natural);
    let isFirst = true;
    for (let length = 0; blocking?.inode !== undefined && length < CHAIN_MAX; length++) {
      if (blocking.key === from) {
        if (!isFirst) throw new Later(natural);
        const isDirectory = row.kind === 'directory';
        const scratch = isDirectory ? `${row.inode}/` : randomId(SCRATCH_ID_BYTES);
        return { key: `${natural.replace(/\/$/, '')}.moving-${scratch}`, isAside: true };
      }
      isFirst &&= row.inode < blocking.inode;
      const other = await this.#options.index.inode(this.#options.exportId, blocking.inode);
      blocking = other === undefined ? undefined : leftovers.get(await this.#naturalKey(other));
    }
    if (leftovers.has(natural)) throw new Later(natural);
    return { key: natural, isAside: false };
  }

  async #naturalKey(row: IndexedInode): Promise<string> {
    const { index, exportId } = this.#options;
    const parent = await index.directory({ exportId, directory: row.parent });
    return (parent?.keyPrefix ?? '') + row.name + (row.kind === 'directory' ? '/' : '');
  }

  /** Else it was removed with a directory above it, and not swept yet. */
  async #isAttached(row: IndexedInode): Promise<boolean> {
    const { index, exportId } = this.#options;
    let at: IndexedInode | undefined = row;
    while (at !== undefined && at.inode !== Number(ROOT_INODE)) at = await index.inode(exportId, at.parent);
    return at !== undefined;
  }

  /** Leaves the old object. @returns false if the file was changed or renamed meanwhile */
  async #moveFile(row: IndexedInode, to: Destination): Promise<boolean> {
    const { exportId, store, tree, index } = this.#options;
    const { version } = row;
    if (version === undefined || version.objectKey === to.key) return true;
    const release = this.#hold(to.key);
    try {
      // Until the key was held somebody else could move it there, or put another file there.
      if (!isUnmoved(row, await index.inode(exportId, row.inode))) return false;
      // No name leads there: after a death before the switch, the next life empties it.
      const aside = { key: to.key, entityTag: undefined, inode: undefined };
      if (to.isAside) index.changes.durably((rows) => rows.putLeftover(exportId, aside));
      const isCopied = await store.copy({ from: version.objectKey, to: to.key, ifMatch: version.entityTag });
      const head = isCopied ? await store.head(to.key) : undefined;
      if (head?.sizeBytes !== version.sizeBytes) {
        // What lies there is another object by now: then the name is, too.
        const parent = await index.directory({ exportId, directory: row.parent });
        if (parent !== undefined) await tree.facts.ask(parent, [{ name: row.name }]);
        return false;
      }
      const moved: IndexedVersion = {
        ...version,
        objectKey: to.key,
        entityTag: head.entityTag,
        objectVersion: head.versionId,
      };
      const isDone = await this.#switchFile(row, moved, to.isAside);
      if (isDone) return true;
      await store.delete(to.key, head.entityTag);
      if (to.isAside) index.changes.durably((rows) => rows.deleteLeftover(exportId, to.key));
      return false;
    } finally {
      release();
    }
  }

  /** Nobody commits or moves anything at the key until it is released. @throws Later if somebody does already */
  #hold(key: string): () => void {
    const { leftovers, isCommitting } = this.#options;
    if (isCommitting(key) || leftovers.isHeld(key)) throw new Later(key);
    return leftovers.hold(key);
  }

  #switchFile(row: IndexedInode, moved: IndexedVersion, isAside: boolean): Promise<boolean> {
    const { exportId, index, gate, tree, leftovers } = this.#options;
    const aside = { key: moved.objectKey, entityTag: moved.entityTag, inode: row.inode };
    return gate.run({ names: [attributesName(row)] }, async () => {
      const isDone = index.changes.durably((rows) => {
        if (!isUnmoved(row, rows.inode(exportId, row.inode))) return false;
        rows.setObject(exportId, row.inode, moved);
        if (isAside) rows.putLeftover(exportId, aside);
        return true;
      });
      tree.questions.changed(row.parent, [row.name]);
      if (isDone && isAside) leftovers.add([aside]);
      return isDone;
    });
  }

  async #moveDirectory(directory: number, to: Destination, signal: AbortSignal): Promise<void> {
    const { exportId, index, tree, leftovers } = this.#options;
    const key = { exportId, directory };
    for (;;) {
      signal.throwIfAborted();
      await tree.complete(directory);
      const from = (await index.directory(key))?.keyPrefix;
      if (from === undefined || from === to.key) return;
      await this.#moveChildren(directory, to.key, signal);
      await this.#copyOver({ inode: directory, from, to: to.key });
      const aside = { key: to.key, entityTag: undefined, inode: directory };
      const isSwitched = index.changes.durably((rows) => {
        if (rows.hasChildElsewhere(key, to.key)) return false;
        rows.setKeyPrefix(exportId, directory, to.key);
        if (to.isAside) rows.putLeftover(exportId, aside);
        return true;
      });
      if (!isSwitched) continue;
      if (to.isAside) leftovers.add([aside]);
      tree.questions.changedAll(directory);
      return tree.forgetListing(directory);
    }
  }

  async #moveChildren(directory: number, to: string, signal: AbortSignal): Promise<void> {
    const { exportId, index, store } = this.#options;
    const copies = new PQueue({ concurrency: COPIES_AT_ONCE });
    const moveOne = async (row: IndexedInode): Promise<void> => {
      const { version } = row;
      if (version === undefined || version.objectKey === to + row.name) return;
      const isMoved = await this.#moveFile(row, { key: to + row.name, isAside: false });
      if (isMoved) await store.delete(version.objectKey, version.entityTag);
    };
    for (let after = '', more = true; more;) {
      signal.throwIfAborted();
      const page = { after, below: undefined, limit: ROWS_AT_ONCE };
      const rows = await index.children({ exportId, directory }, page);
      await copies.addAll(rows.filter(({ kind }) => kind !== 'directory').map((row) => () => moveOne(row)));
      for (const row of rows) {
        if (row.kind !== 'directory') continue;
        await this.#moveDirectory(row.inode, { key: `${to}${row.name}/`, isAside: false }, signal);
      }
      after = rows.at(-1)?.name ?? '';
      more = rows.length === ROWS_AT_ONCE;
    }
  }

  /** What has no row: markers, keys that cannot be names, objects that others put there meanwhile. @throws Later */
  async #moveRest({ inode, from, to }: CopyOver, signal: AbortSignal): Promise<void> {
    const { store, leftovers, isCommitting } = this.#options;
    const copies = new PQueue({ concurrency: COPIES_AT_ONCE });
    let startAfter = from;
    for (;;) {
      signal.throwIfAborted();
      const page = await store.list({ prefix: from, ...(startAfter === from ? {} : { startAfter }) });
      const isRest = (key: string): boolean => (key === from || !leftovers.has(key)) && !isCommitting(key);
      const rest = page.objects.filter(({ key }) => isRest(key));
      await copies.addAll(
        rest.map(({ key, entityTag }) => async () => {
          await this.#copyOver({ inode, from: key, to: to + key.slice(from.length) });
          await store.delete(key, entityTag);
        }),
      );
      startAfter = page.objects.at(-1)?.key ?? startAfter;
      if (page.nextToken === undefined) break;
    }
    const left = await store.list({ prefix: from, keysMax: 1 });
    if (left.objects.length > 0) throw new Later(from);
  }

  /**
   * Copies an object that no row knows, unless there is one already. If the directory is removed meanwhile, nothing of
   * it must come back with another of its name. @throws Later
   */
  async #copyOver({ inode, from, to }: CopyOver): Promise<void> {
    const { store } = this.#options;
    const release = this.#hold(to);
    try {
      const [head, there] = await Promise.all([store.head(from), store.head(to)]);
      if (!(await this.#isThere(inode))) throw new Later(from);
      if (head === undefined || there !== undefined) return;
      await store.copy({ from, to, ifMatch: head.entityTag });
      if (await this.#isThere(inode)) return;
      await store.delete(to, (await store.head(to))?.entityTag);
      throw new Later(from);
    } finally {
      release();
    }
  }

  async #isThere(inode: number): Promise<boolean> {
    const row = await this.#options.index.inode(this.#options.exportId, inode);
    return row !== undefined && this.#isAttached(row);
  }
}

/** Whether a file has the name and the bytes that it had, and these lie where they lay. */
function isUnmoved(row: IndexedInode, now: IndexedInode | undefined): boolean {
  const isSameVersion =
    now?.version?.id === row.version?.id && now?.version?.objectKey === row.version?.objectKey;
  return isSameVersion && now?.parent === row.parent && now.name === row.name;
}

/** From one key to another, or all below a prefix to another, as long as the directory is there. */
interface CopyOver {
  readonly inode: number;
  readonly from: string;
  readonly to: string;
}

interface Destination {
  readonly key: string;
  /** Not where the name says: another move follows. */
  readonly isAside: boolean;
}
