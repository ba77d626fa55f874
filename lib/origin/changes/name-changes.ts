/**
 * Removing and renaming: changes of the index alone, at one instant, whatever the size of what is removed or renamed.
 * The bytes follow behind (`leftovers.ts`, `relocation.ts`); until then the index knows which keys mean nothing.
 */
import { ROOT_INODE } from '../../base/brand.ts';
import type { ChangeGate } from './change-gate.ts';
import type { DirectoryTimes } from './directory-times.ts';
import { type Located, locate, noSuchPath } from '../tree/export-paths.ts';
import type { ExportTree } from '../tree/export-tree.ts';
import type { ChangedRows, Leftover } from '../index/index-changes.ts';
import type { IndexedInode } from '../index/index-rows.ts';
import type { Leftovers } from './leftovers.ts';
import type { NamespaceIndex } from '../index/namespace-index.ts';
import { OriginError } from '../origin.ts';

/** Depth of a tree; each level has a name, and paths are bounded. */
const DEPTH_MAX = 4_096;
/** Rows counted at once. */
const COUNTED_AT_ONCE = 1_000;
/** A rename that finds its names changed under it begins anew so often. */
const ATTEMPTS_MAX = 16;

export interface NameChangesOptions {
  readonly exportId: number;
  readonly index: NamespaceIndex;
  readonly tree: ExportTree;
  readonly gate: ChangeGate;
  readonly leftovers: Leftovers;
  readonly times: DirectoryTimes;
}

export class NameChanges {
  readonly #options: NameChangesOptions;

  constructor(options: NameChangesOptions) {
    this.#options = options;
  }

  /** @returns how many names the index knew that are gone @throws OriginError `not-empty` and others */
  async remove(path: string, options: { readonly recursive: boolean }): Promise<number> {
    const { tree, gate, times, leftovers } = this.#options;
    leftovers.admit();
    const at = await locate(tree, path);
    const { inode } = at;
    if (inode === undefined) throw noSuchPath(path);
    if (inode.kind === 'directory' && !options.recursive) {
      const { entries } = await tree.list(inode.inode, { after: '', entriesMax: 1 });
      if (entries.length > 0) throw notEmpty(path);
    }
    const removed = inode.kind === 'directory' && options.recursive ? await this.#count(inode.inode) : 1;
    await gate.run({ names: [nameOf(at)], ...movedOf(inode) }, async () => {
      this.#apply([at], (rows, left) => {
        const row = this.#expect(rows, at);
        if (row.kind === 'directory' && !options.recursive && this.#hasChildren(rows, row)) {
          throw notEmpty(path);
        }
        this.#leave(rows, { row, left });
        rows.remove(this.#options.exportId, row);
      });
    });
    await times.touch(at.directory);
    return removed;
  }

  /** As rename(2). @throws OriginError */
  async rename(from: string, to: string, options: { readonly noReplace: boolean }): Promise<IndexedInode> {
    const { tree, gate, times, leftovers, index, exportId } = this.#options;
    leftovers.admit();
    for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
      const source = await locate(tree, from);
      const target = await locate(tree, to);
      const { inode } = source;
      if (inode === undefined) throw noSuchPath(from);
      if (source.directory === target.directory && source.name === target.name) return inode;
      await this.#checkTarget({ from, to, inode, target }, options);
      await this.#settleEarlier(inode);
      const names = [nameOf(source), nameOf(target)];
      const renamed = await gate.run({ names, ...movedOf(inode) }, async () => {
        if (!(await this.#isStillSo(source)) || !(await this.#isStillSo(target))) return undefined;
        if (inode.kind === 'directory' && (await this.#isInside(target.directory, inode.inode)))
          return undefined;
        if ((await this.#movedFrom(inode)) !== undefined) return undefined;
        this.#apply([source, target], (rows, left, kept) => this.#move(rows, { source, target, left, kept }));
        // Outside the gate it may be renamed or removed again before anybody looks.
        return index.inode(exportId, inode.inode);
      });
      if (renamed === undefined) continue;
      await Promise.all([...new Set([source.directory, target.directory])].map((one) => times.touch(one)));
      return renamed;
    }
    const hint = 'try again';
    throw new OriginError('unavailable', 'others keep changing these names', { hint });
  }

  /**
   * One transaction, and what follows from it in memory.
   *
   * @param work adds keys that are left, and keys that were left and are a name's own again
   */
  #apply(
    names: readonly Located[],
    work: (rows: ChangedRows, left: Leftover[], kept: string[]) => void,
  ): void {
    const { index, tree, leftovers, exportId } = this.#options;
    const left: Leftover[] = [];
    const kept: string[] = [];
    index.changes.durably((rows) => {
      work(rows, left, kept);
      for (const leftover of left) rows.putLeftover(exportId, leftover);
    });
    for (const { directory, name } of names) {
      tree.questions.changed(directory, [name]);
      const child = index.changes.quickly((rows) => rows.child({ exportId, directory }, name));
      if (child === undefined) tree.absences.remember(directory, name);
      else tree.absences.drop(directory, name);
    }
    for (const key of kept) leftovers.cancel(key);
    leftovers.add(left);
  }

  #move(
    rows: ChangedRows,
    given: {
      readonly source: Located;
      readonly target: Located;
      readonly left: Leftover[];
      readonly kept: string[];
    },
  ): void {
    const { exportId } = this.#options;
    const { source, target, left, kept } = given;
    const row = this.#expect(rows, source);
    const replaced = rows.child({ exportId, directory: target.directory }, target.name);
    if (replaced !== undefined) {
      if (replaced.kind === 'directory' && this.#hasChildren(rows, replaced)) throw notEmpty(target.name);
      this.#leave(rows, { row: replaced, left });
      rows.remove(exportId, replaced);
    }
    this.#leave(rows, { row, left, movedInode: row.inode });
    rows.move(exportId, row.inode, { parent: target.directory, name: target.name });
    const own = left.findIndex(({ inode }) => inode === row.inode);
    // Back where its bytes lie.
    if (left[own]?.key === this.#naturalKey(rows, { ...row, parent: target.directory, name: target.name })) {
      for (const { key } of left.splice(own, 1)) {
        rows.deleteLeftover(exportId, key);
        kept.push(key);
      }
    }
  }

  /** Notes the keys that a row leaves: where its bytes lie, and where a move of them may have begun to put them. */
  #leave(
    rows: ChangedRows,
    {
      row,
      left,
      movedInode,
    }: { readonly row: IndexedInode; readonly left: Leftover[]; readonly movedInode?: number },
  ): void {
    const key = this.#actualKey(rows, row);
    const naturalKey = this.#naturalKey(rows, row);
    left.push({ key, entityTag: row.version?.entityTag, inode: movedInode });
    if (naturalKey !== key) left.push({ key: naturalKey, entityTag: undefined, inode: undefined });
  }

  #actualKey(rows: ChangedRows, row: IndexedInode): string {
    const { exportId } = this.#options;
    if (row.version !== undefined) return row.version.objectKey;
    return rows.directory({ exportId, directory: row.inode })?.keyPrefix ?? this.#naturalKey(rows, row);
  }

  #naturalKey(rows: ChangedRows, row: IndexedInode): string {
    const { exportId } = this.#options;
    const prefix = rows.directory({ exportId, directory: row.parent })?.keyPrefix ?? '';
    return prefix + row.name + (row.kind === 'directory' ? '/' : '');
  }

  #hasChildren(rows: ChangedRows, { inode }: IndexedInode): boolean {
    return rows.hasChildren({ exportId: this.#options.exportId, directory: inode });
  }

  #expect(rows: ChangedRows, { directory, name, inode }: Located): IndexedInode {
    const row = rows.child({ exportId: this.#options.exportId, directory }, name);
    if (row !== undefined && row.inode === inode?.inode) return row;
    throw noSuchPath(name);
  }

  async #isStillSo({ directory, name, inode }: Located): Promise<boolean> {
    const { index, exportId } = this.#options;
    if ((await index.directory({ exportId, directory })) === undefined) return false;
    return (await index.child({ exportId, directory }, name))?.inode === inode?.inode;
  }

  /**
   * A directory half of whose files are moved already keeps its name until they all are, and so does one in it: what was
   * moved lies at keys of the name that it had when the move began.
   */
  async #settleEarlier(inode: IndexedInode): Promise<void> {
    const { leftovers } = this.#options;
    for (let key = await this.#movedFrom(inode); key !== undefined; key = await this.#movedFrom(inode)) {
      await leftovers.freed(key);
    }
  }

  /** The prefix that a directory, or one that it lies in, is just being moved away from. */
  async #movedFrom(inode: IndexedInode): Promise<string | undefined> {
    const { index, exportId, leftovers } = this.#options;
    if (inode.kind !== 'directory') return undefined;
    for await (const at of this.#upwards(inode.inode)) {
      const directory = await index.directory({ exportId, directory: at });
      if (directory !== undefined && leftovers.get(directory.keyPrefix) !== undefined)
        return directory.keyPrefix;
    }
    return undefined;
  }

  /** @throws OriginError `exists`, `is-directory`, `not-directory`, `not-empty`, `invalid` */
  async #checkTarget(
    given: {
      readonly from: string;
      readonly to: string;
      readonly inode: IndexedInode;
      readonly target: Located;
    },
    { noReplace }: { readonly noReplace: boolean },
  ): Promise<void> {
    const { from, to, inode, target } = given;
    if (inode.kind === 'directory' && (await this.#isInside(target.directory, inode.inode))) {
      throw new OriginError('invalid', `${JSON.stringify(to)} lies in ${JSON.stringify(from)} itself`);
    }
    const existing = target.inode;
    if (existing === undefined) return;
    if (noReplace) throw new OriginError('exists', `there is ${JSON.stringify(to)} already`);
    if (existing.kind === 'directory' && inode.kind !== 'directory') {
      throw new OriginError('is-directory', `${JSON.stringify(to)} is a directory`, {
        hint: 'name the new place in it',
      });
    }
    if (existing.kind !== 'directory' && inode.kind === 'directory') {
      throw new OriginError('not-directory', `${JSON.stringify(to)} is not a directory`);
    }
    if (existing.kind !== 'directory') return;
    const { entries } = await this.#options.tree.list(existing.inode, { after: '', entriesMax: 1 });
    if (entries.length > 0) throw notEmpty(to);
  }

  async #isInside(directory: number, ancestor: number): Promise<boolean> {
    for await (const at of this.#upwards(directory)) if (at === ancestor) return true;
    return false;
  }

  /** A directory and those above it, without the root; ends early where one is gone. */
  async *#upwards(directory: number): AsyncGenerator<number> {
    const { index, exportId } = this.#options;
    for (let at = directory, depth = 0; depth < DEPTH_MAX && at !== Number(ROOT_INODE); depth++) {
      yield at;
      at = (await index.inode(exportId, at))?.parent ?? Number(ROOT_INODE);
    }
  }

  async #count(directory: number): Promise<number> {
    const { index, exportId } = this.#options;
    let count = 1;
    const open = [directory];
    for (let at = open.pop(); at !== undefined; at = open.pop()) {
      for (let after = '', more = true; more;) {
        const page = { after, below: undefined, limit: COUNTED_AT_ONCE };
        const rows = await index.children({ exportId, directory: at }, page);
        for (const row of rows) {
          if (row.kind === 'directory') open.push(row.inode);
          else count += 1;
        }
        after = rows.at(-1)?.name ?? '';
        more = rows.length === COUNTED_AT_ONCE;
      }
      if (at !== directory) count += 1;
    }
    return count;
  }
}

function nameOf({ directory, name }: Located): { readonly directory: number; readonly name: string } {
  return { directory, name };
}

/** What satellites know below a directory goes with its name. */
function movedOf({ kind, inode }: IndexedInode): { readonly moved?: readonly number[] } {
  return kind === 'directory' ? { moved: [inode] } : {};
}

function notEmpty(path: string): OriginError {
  return new OriginError('not-empty', `${JSON.stringify(path)} is not empty`, {
    hint: 'remove what is in it first, or all of it with --recursive',
  });
}
