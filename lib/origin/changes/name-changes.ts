/**
 * Removing and renaming: changes of the index alone, at one instant, whatever the size of what is removed or renamed.
 * The bytes follow behind (`leftovers.ts`, `relocation.ts`); until then the index knows which keys mean nothing.
 *
 * Tools name paths, satellites places: a directory's inode and a name. A satellite sees, and changes, its own files that
 * have no version yet (`writes.ts`) as if they stood over whatever has the name.
 */
import { ROOT_INODE, type SessionId } from '../../base/brand.ts';
import { invariant } from '../../base/errors.ts';
import type { ChangeGate } from './change-gate.ts';
import { attributesName, type DirectoryTimes } from './directory-times.ts';
import { locate, locateAt, type Located, noSuchPath, type Place } from '../tree/export-paths.ts';
import type { ExportTree } from '../tree/export-tree.ts';
import type { ChangedRows } from '../index/index-changes.ts';
import type { CarriedAttributes, IndexedInode } from '../index/index-rows.ts';
import { LeftKeys } from './left-keys.ts';
import type { Leftovers } from './leftovers.ts';
import type { NamespaceIndex } from '../index/namespace-index.ts';
import { OriginError } from '../origin.ts';
import type { WriteRow } from '../index/write-rows.ts';
import { pendingInode, type WriteSeats } from './write-seats.ts';

/** Depth of a tree; each level has a name, and paths are bounded. */
const DEPTH_MAX = 4_096;
/** Rows counted at once. */
const COUNTED_AT_ONCE = 1_000;
/** A change that finds its names changed under it begins anew so often. */
const ATTEMPTS_MAX = 16;
/** No file can be called so. */
const NO_NAME = '\0';

export interface NameChangesOptions {
  readonly exportId: number;
  readonly index: NamespaceIndex;
  readonly tree: ExportTree;
  readonly gate: ChangeGate;
  readonly leftovers: Leftovers;
  readonly times: DirectoryTimes;
  readonly seats: WriteSeats;
}

/** `keep`: refused where there is something. */
export type RenameMode = 'replace' | 'keep' | 'exchange';

export interface Removal {
  /** What it must be. */
  readonly kind: 'directory' | 'other' | 'any';
  readonly recursive: boolean;
  readonly by?: SessionId | undefined;
}

export interface Renaming {
  readonly mode: RenameMode;
  readonly by?: SessionId | undefined;
}

export interface Renamed {
  readonly inode: IndexedInode;
  /** What has no name any more. */
  readonly replaced: IndexedInode | undefined;
}

/** What a name is for who changes it. */
interface Seen extends Located {
  /** Its own file without a version, which stands over the inode. */
  readonly pending: WriteRow | undefined;
}

interface Pass {
  readonly seen: readonly Seen[];
  /** Rows that leave their names. */
  readonly leaving: readonly (IndexedInode | undefined)[];
  readonly by: SessionId | undefined;
  /** Inside the gate, before the transaction: whether it still makes sense. */
  readonly isPossible?: () => Promise<boolean>;
}

export class NameChanges {
  readonly #options: NameChangesOptions;

  constructor(options: NameChangesOptions) {
    this.#options = options;
  }

  /** @returns how many names the index knew that are gone @throws OriginError `not-empty` and others */
  async remove(path: string, { recursive }: { readonly recursive: boolean }): Promise<number> {
    const { tree } = this.#options;
    const { inode } = await locate(tree, path);
    const count = inode?.kind === 'directory' && recursive ? await this.#count(inode.inode) : 1;
    await this.#remove(() => locate(tree, path), { kind: 'any', recursive });
    return count;
  }

  /** As unlink(2) or rmdir(2). @returns what it was @throws OriginError */
  removeAt(place: Place, options: Omit<Removal, 'recursive'>): Promise<IndexedInode> {
    return this.#remove(() => locateAt(this.#options.tree, place), { ...options, recursive: false });
  }

  /** As rename(2). @throws OriginError */
  async rename(from: string, to: string, options: { readonly noReplace: boolean }): Promise<IndexedInode> {
    const { tree } = this.#options;
    const both = async (): Promise<[Located, Located]> => [await locate(tree, from), await locate(tree, to)];
    return (await this.#rename(both, { mode: options.noReplace ? 'keep' : 'replace' })).inode;
  }

  /** As renameat2(2). @throws OriginError */
  renameAt(from: Place, to: Place, options: Renaming): Promise<Renamed> {
    const { tree } = this.#options;
    return this.#rename(async () => [await locateAt(tree, from), await locateAt(tree, to)], options);
  }

  /** In the index alone: what the object carries stays as it is. @throws OriginError `not-found` */
  setAttributes(
    inode: number,
    change: (now: CarriedAttributes) => CarriedAttributes,
    { by }: { readonly by: SessionId | undefined },
  ): Promise<IndexedInode> {
    const { tree, gate, index, times, exportId } = this.#options;
    return attempt(async () => {
      const known = await tree.attributes(inode);
      return gate.run({ names: [attributesName(known)], by }, async () => {
        const now = await index.inode(exportId, inode);
        if (now?.parent !== known.parent || now.name !== known.name) return undefined;
        const attributes = { ...change(now), changedNs: times.nowNs, isOwn: true };
        index.changes.durably((rows) => rows.setAttributes(exportId, inode, attributes));
        tree.questions.changed(now.parent, [now.name]);
        return index.inode(exportId, inode);
      });
    });
  }

  async #remove(locateName: () => Promise<Located>, removal: Removal): Promise<IndexedInode> {
    const { kind, recursive, by } = removal;
    this.#options.leftovers.admit();
    const { was } = await attempt(async () => {
      const at = this.#see(await locateName(), by);
      const was = shownAs(at);
      if (was === undefined) throw noSuchPath(at.name);
      checkKind(at.name, { was, kind });
      const mustBeEmpty = was.kind === 'directory' && !recursive;
      if (mustBeEmpty) await this.#expectEmpty(at.name, was);
      return this.#inGate({ seen: [at], leaving: [at.inode], by }, (rows, left) => {
        if (mustBeEmpty && this.#hasChildren(rows, was)) throw notEmpty(at.name);
        if (at.pending !== undefined) this.#options.seats.drop(rows, at.pending);
        if (at.inode !== undefined) left.remove(at.inode);
        return { was };
      });
    });
    return was;
  }

  async #rename(
    locateNames: () => Promise<readonly [Located, Located]>,
    { mode, by }: Renaming,
  ): Promise<Renamed> {
    const { index, exportId, leftovers } = this.#options;
    leftovers.admit();
    return attempt(async () => {
      const [from, to] = (await locateNames()).map((one) => this.#see(one, by)) as [Seen, Seen];
      const source = shownAs(from);
      const target = shownAs(to);
      if (source === undefined) throw noSuchPath(from.name);
      if (from.directory === to.directory && from.name === to.name) {
        return { inode: source, replaced: undefined };
      }
      await this.#checkTarget({ from, to, source, target }, mode);
      const directories = [source, mode === 'exchange' ? target : undefined].filter(isDirectory);
      for (const one of directories) await this.#settleEarlier(one);
      const leavesTarget = from.pending === undefined || mode === 'exchange';
      const leaving = [from.inode, leavesTarget ? to.inode : undefined];
      const isPossible = async (): Promise<boolean> => {
        const isRing = await this.#isRing({ from, to, source, target }, mode);
        const movedFrom = await Promise.all(directories.map((one) => this.#movedFrom(one)));
        return !isRing && movedFrom.every((key) => key === undefined);
      };
      return this.#inGate({ seen: [from, to], leaving, by, isPossible }, (rows, left) => {
        if (mode === 'exchange') this.#exchange(rows, left, { from, to });
        else this.#replace(rows, left, { from, to });
        return { replaced: mode === 'exchange' ? undefined : target };
      }).then(async (renamed) => {
        if (renamed === undefined) return undefined;
        const place = { parent: to.directory, name: to.name };
        const now = from.pending === undefined ? await index.inode(exportId, source.inode) : undefined;
        return { ...renamed, inode: now ?? { ...source, ...place } };
      });
    });
  }

  // --- Inside the gate ---

  /**
   * One pass of the gate and one transaction, with the times of the directories, and what follows from it in memory.
   *
   * @returns undefined if the names are not what they were seen to be any more
   */
  async #inGate<T>(pass: Pass, work: (rows: ChangedRows, left: LeftKeys) => T): Promise<T | undefined> {
    const { gate, times } = this.#options;
    const { seen, leaving, by } = pass;
    const isVisible = leaving.some((row) => row !== undefined);
    const touched = await times.of(...(isVisible ? seen.map(({ directory }) => directory) : []));
    const names = [...seen.map(({ directory, name }) => ({ directory, name })), ...touched.names];
    // What satellites know below a directory goes with its name.
    const moved = leaving.filter(isDirectory).map(({ inode }) => inode);
    return gate.run({ names, moved, by }, async () => {
      const isStillSo = await Promise.all([...seen.map((one) => this.#isStillSo(one)), touched.isStillSo()]);
      if (!isStillSo.every(Boolean) || (await pass.isPossible?.()) === false) return undefined;
      return this.#apply(seen, (rows, left) => {
        const result = work(rows, left);
        touched.apply(rows);
        return result;
      });
    });
  }

  #apply<T>(seen: readonly Seen[], work: (rows: ChangedRows, left: LeftKeys) => T): T {
    const { index, tree, leftovers, seats, exportId } = this.#options;
    const { result, follow } = index.changes.durably((rows) => {
      const left = new LeftKeys({ exportId, rows, leftovers });
      const result = work(rows, left);
      return { result, follow: left.record() };
    });
    for (const { directory, name, pending } of seen) {
      tree.questions.changed(directory, [name]);
      const child = index.changes.quickly((rows) => rows.child({ exportId, directory }, name));
      if (child === undefined) tree.absences.remember(directory, name);
      else tree.absences.drop(directory, name);
      if (pending !== undefined) seats.ended(pending.write);
    }
    follow();
    return result;
  }

  #replace(
    rows: ChangedRows,
    left: LeftKeys,
    { from, to }: { readonly from: Seen; readonly to: Seen },
  ): void {
    const { seats } = this.#options;
    if (to.pending !== undefined) seats.drop(rows, to.pending);
    if (from.pending !== undefined) {
      // What stands at the target is replaced by the commit; what stood below this one is replaced already.
      if (from.inode !== undefined) left.remove(from.inode);
      rows.writes.setPlace(from.pending.write, to);
      return;
    }
    invariant(from.inode !== undefined, 'something is renamed');
    if (to.inode !== undefined) {
      if (to.inode.kind === 'directory' && this.#hasChildren(rows, to.inode)) throw notEmpty(to.name);
      left.remove(to.inode);
    }
    left.move(from.inode, to);
  }

  #exchange(
    rows: ChangedRows,
    left: LeftKeys,
    { from, to }: { readonly from: Seen; readonly to: Seen },
  ): void {
    const { exportId } = this.#options;
    if (from.pending !== undefined) rows.writes.setPlace(from.pending.write, to);
    if (to.pending !== undefined) rows.writes.setPlace(to.pending.write, from);
    if (from.pending !== undefined && to.pending !== undefined) return;
    // What stands below a file without a version is replaced by it.
    if (from.pending !== undefined && from.inode !== undefined) left.remove(from.inode);
    if (to.pending !== undefined && to.inode !== undefined) left.remove(to.inode);
    const source = from.pending === undefined ? from.inode : undefined;
    const target = to.pending === undefined ? to.inode : undefined;
    // Two names in one place are refused, also for a moment.
    if (source !== undefined && target !== undefined) {
      rows.move(exportId, target.inode, { parent: target.parent, name: NO_NAME });
    }
    if (source !== undefined) left.move(source, to);
    if (target !== undefined) left.move(target, from);
  }

  // --- What stands in the way ---

  #see(at: Located, by: SessionId | undefined): Seen {
    return { ...at, pending: this.#options.seats.own(at, by) };
  }

  #hasChildren(rows: ChangedRows, { inode }: IndexedInode): boolean {
    const { exportId, seats } = this.#options;
    return rows.hasChildren({ exportId, directory: inode }) || seats.areIn(inode);
  }

  async #isStillSo({ directory, name, inode, pending }: Seen): Promise<boolean> {
    const { index, exportId } = this.#options;
    const key = { exportId, directory };
    if ((await index.directory(key)) === undefined) return false;
    const now = await index.child(key, name);
    if (now?.inode !== inode?.inode) return false;
    // Its bytes may have been moved since: what is emptied follows from where they lie.
    if (now?.version?.objectKey !== inode?.version?.objectKey) return false;
    return pending === undefined || index.changes.writes.at(key, name)?.write === pending.write;
  }

  async #expectEmpty(name: string, { inode }: IndexedInode): Promise<void> {
    const { entries } = await this.#options.tree.list(inode, { after: '', entriesMax: 1 });
    if (entries.length > 0 || this.#options.seats.areIn(inode)) throw notEmpty(name);
  }

  /** @throws OriginError `exists`, `is-directory`, `not-directory`, `not-empty`, `invalid`, `not-found` */
  async #checkTarget(given: Ends, mode: RenameMode): Promise<void> {
    const { from, to, source, target } = given;
    if (await this.#isRing(given, mode)) {
      throw new OriginError(
        'invalid',
        `${quoted(to)} lies in ${quoted(from)} itself, or the other way round`,
      );
    }
    if (target === undefined) {
      if (mode === 'exchange') throw noSuchPath(to.name);
      // Another satellite is about to show a file there.
      if (source.kind === 'directory' && this.#options.seats.isTaken(to)) throw alreadyThere(to);
      return;
    }
    if (mode === 'keep') throw alreadyThere(to);
    if (mode === 'exchange') return;
    if (target.kind === 'directory' && source.kind !== 'directory') {
      throw new OriginError('is-directory', `${quoted(to)} is a directory`, {
        hint: 'name the new place in it',
      });
    }
    if (target.kind !== 'directory' && source.kind === 'directory') {
      throw new OriginError('not-directory', `${quoted(to)} is not a directory`);
    }
    if (target.kind === 'directory') await this.#expectEmpty(to.name, target);
  }

  /** A directory would lie in itself. */
  async #isRing({ from, to, source, target }: Ends, mode: RenameMode): Promise<boolean> {
    if (isDirectory(source) && (await this.#isInside(to.directory, source.inode))) return true;
    return mode === 'exchange' && isDirectory(target) && this.#isInside(from.directory, target.inode);
  }

  async #isInside(directory: number, ancestor: number): Promise<boolean> {
    for await (const at of this.#upwards(directory)) if (at === ancestor) return true;
    return false;
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
  async #movedFrom({ inode }: IndexedInode): Promise<string | undefined> {
    const { index, exportId, leftovers } = this.#options;
    for await (const at of this.#upwards(inode)) {
      const directory = await index.directory({ exportId, directory: at });
      if (directory !== undefined && leftovers.get(directory.keyPrefix) !== undefined)
        return directory.keyPrefix;
    }
    return undefined;
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

/** Of a rename. */
interface Ends {
  readonly from: Seen;
  readonly to: Seen;
  readonly source: IndexedInode;
  readonly target: IndexedInode | undefined;
}

/** Again while others keep changing the names. @throws OriginError `unavailable` */
async function attempt<T>(once: () => Promise<T | undefined>): Promise<T> {
  for (let attempts = 0; attempts < ATTEMPTS_MAX; attempts++) {
    const result = await once();
    if (result !== undefined) return result;
  }
  throw new OriginError('unavailable', 'others keep changing these names', { hint: 'try again' });
}

function shownAs({ inode, pending }: Seen): IndexedInode | undefined {
  return pending === undefined ? inode : pendingInode(pending);
}

function isDirectory(inode: IndexedInode | undefined): inode is IndexedInode {
  return inode?.kind === 'directory';
}

function checkKind(
  name: string,
  { was, kind }: { readonly was: IndexedInode; readonly kind: Removal['kind'] },
): void {
  if (kind === 'directory' && was.kind !== 'directory') {
    throw new OriginError('not-directory', `${JSON.stringify(name)} is not a directory`);
  }
  if (kind === 'other' && was.kind === 'directory') {
    throw new OriginError('is-directory', `${JSON.stringify(name)} is a directory`);
  }
}

function quoted({ name }: Located): string {
  return JSON.stringify(name);
}

function alreadyThere(at: Located): OriginError {
  return new OriginError('exists', `there is ${quoted(at)} already`);
}

function notEmpty(name: string): OriginError {
  return new OriginError('not-empty', `${JSON.stringify(name)} is not empty`, {
    hint: 'remove what is in it first, or all of it with --recursive',
  });
}
