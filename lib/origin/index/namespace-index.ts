/**
 * The index: inodes, versions and directories of every export, in one SQLite file.
 *
 * Guarantees: each method is one transaction; a number of an inode stands for one file for ever, also over restarts
 * and the death of the host; an inode keeps its number while its kind stays, also over a rename, and a name that
 * changes its kind gets a new number. Methods return promises although SQLite answers at once, so that a database
 * across a network can stand here. What the origin itself changes is in `index-changes.ts`.
 */
import { ROOT_INODE } from '../../base/brand.ts';
import type { Clock } from '../../base/clock.ts';
import { invariant, UsageError } from '../../base/errors.ts';
import { randomId } from '../../base/prng.ts';
import { IndexChanges } from './index-changes.ts';
import { IndexDatabase } from './index-database.ts';
import { type Merge, merge } from './index-merge.ts';
import {
  attributeColumns,
  type Evidence,
  type Found,
  type IndexedDirectory,
  type IndexedExport,
  type IndexedInode,
  inodeOf,
  type Placement,
} from './index-rows.ts';
import type { DirectoryState } from './index-schema.ts';
import { type IndexStatements, prepareStatements } from './index-statements.ts';
import { type DirectoryKey, type ExportTotals, IndexWriter } from './index-writer.ts';

export type { DirectoryKey, ExportTotals };

const ROOT = Number(ROOT_INODE);
/** Rows that one transaction of the sweep removes. */
const SWEEP_ROWS_MAX = 1_000;
const PUBLIC_ID_BYTES = 16;

/** What placing a finding does. */
export interface Effect {
  readonly name: string;
  readonly found: Found | undefined;
  readonly existing: IndexedInode | undefined;
  readonly kind: 'none' | 'insert' | 'quiet' | 'visible';
}

export class NamespaceIndex {
  readonly epoch: number;
  /** For tables that other files of this folder own. */
  readonly database: IndexDatabase;
  /** What the origin changes by itself. */
  readonly changes: IndexChanges;
  readonly #statements: IndexStatements;
  readonly #writer: IndexWriter;
  readonly #clock: Clock;
  /** Cancels the next step of the sweep. */
  #cancelSweep: (() => void) | undefined;

  /** Opens or creates the index and begins a new epoch, which is durable when this returns. @throws OriginError */
  constructor(options: { readonly file: string; readonly clock: Clock }) {
    this.#clock = options.clock;
    this.database = new IndexDatabase(options.file);
    this.#statements = prepareStatements(this.database);
    const meta = this.#statements.meta.get({});
    invariant(meta !== undefined, 'an index has one row of meta');
    this.epoch = meta.epoch + 1;
    this.#writer = new IndexWriter({
      database: this.database,
      statements: this.#statements,
      inodesReserved: meta.inodes_reserved,
      onRemovedDirectory: () => this.#sweepSoon(),
    });
    this.changes = new IndexChanges({
      database: this.database,
      statements: this.#statements,
      writer: this.#writer,
    });
    this.database.durably(() => this.#statements.setEpoch.run({ epoch: this.epoch }));
    this.#sweepSoon();
  }

  /**
   * The export of that name. One that lies elsewhere now is refused, because the index of the old place took long to
   * make and a wrong URL is soon written; only if nothing but the root was ever found in it, it begins anew.
   *
   * @throws UsageError
   */
  async openExport(
    name: string,
    options: { readonly identity: string; readonly nowMs: number },
  ): Promise<IndexedExport> {
    const s = this.#statements;
    return this.database.durably(() => {
      const known = s.exportByName.get({ name });
      if (known !== undefined) this.#writer.count(known.export_id);
      if (known?.identity === options.identity) {
        return { exportId: known.export_id, publicId: known.public_id };
      }
      const last = Math.max(s.lastExport.get({})?.last ?? 0, s.lastRemoval.get({})?.last ?? 0);
      if (known !== undefined) {
        if (this.#writer.totalsOf(known.export_id).inodes > 1)
          throw liesElsewhere(name, known.identity, options);
        s.deleteExport.run({ export: known.export_id });
        this.#writer.remove(known.export_id, { inode: ROOT, kind: 'directory', version: undefined });
      }
      const created = { exportId: last + 1, publicId: randomId(PUBLIC_ID_BYTES) };
      s.insertExport.run({
        export: created.exportId,
        public_id: created.publicId,
        name,
        identity: options.identity,
        created_ms: Math.round(options.nowMs),
      });
      const now = BigInt(Math.round(options.nowMs)) * 1_000_000n;
      s.insertInode.run({
        export: created.exportId,
        inode: ROOT,
        parent: 0,
        name: '',
        kind: 'directory',
        ...attributeColumns({ modifiedNs: now, changedNs: now }),
        version_id: null,
        target: null,
        resolved: 1,
        listed: 1,
      });
      s.insertDirectory.run({ export: created.exportId, inode: ROOT, key_prefix: '' });
      this.#writer.count(created.exportId);
      return created;
    });
  }

  async inode(exportId: number, inode: number): Promise<IndexedInode | undefined> {
    return this.#writer.inode(exportId, inode);
  }

  async directory({ exportId, directory }: DirectoryKey): Promise<IndexedDirectory | undefined> {
    const row = this.#statements.directory.get({ export: exportId, inode: directory });
    if (row === undefined) return undefined;
    const { inode, key_prefix: keyPrefix, state, listed_through } = row;
    return { inode, keyPrefix, state, listedThrough: listed_through ?? undefined };
  }

  async child(key: DirectoryKey, name: string): Promise<IndexedInode | undefined> {
    return this.#writer.child(key, name);
  }

  /** Children with names above `after` and below `below`, in the order of names. */
  async children(
    { exportId, directory }: DirectoryKey,
    page: { readonly after: string; readonly below: string | undefined; readonly limit: number },
  ): Promise<IndexedInode[]> {
    const values = { export: exportId, parent: directory, after: page.after, limit: page.limit };
    const rows =
      page.below === undefined
        ? this.#statements.children.all(values)
        : this.#statements.childrenBelow.all({ ...values, below: page.below });
    return rows.map(inodeOf);
  }

  /** Children that a listing which has come to its end did not meet. */
  async unlistedNames({ exportId, directory }: DirectoryKey, limit: number): Promise<string[]> {
    return this.#statements.unlisted
      .all({ export: exportId, parent: directory, limit })
      .map(({ name }) => name);
  }

  /**
   * Records what was found under names of one directory, and how far its listing has come.
   *
   * @param options.listedThrough given: the findings are a page of a listing that has come so far
   * @param options.admit decides, in the same transaction, whether an effect may happen; without it all may
   * @returns what happened, and what was not admitted, in the order of the placements; nothing if the directory is gone
   */
  async place(
    key: DirectoryKey,
    placements: readonly Placement[],
    options: {
      readonly evidence: Evidence;
      readonly listedThrough?: string | undefined;
      readonly admit?: (effect: Effect, state: DirectoryState) => boolean;
    },
  ): Promise<{ readonly done: readonly Effect[]; readonly refused: readonly Effect[] }> {
    const { exportId, directory } = key;
    const { evidence, admit } = options;
    const done: Effect[] = [];
    const refused: Effect[] = [];
    this.#writer.reserve(placements.length);
    this.database.transaction(() => {
      const parent = this.#statements.directory.get({ export: exportId, inode: directory });
      // The directory has gone while its store was asked: what was found under it has no place any more.
      if (parent === undefined) return;
      const listed = evidence === 'listing' || parent.state !== 'unlisted';
      const keyPrefix = parent.key_prefix;
      for (const { name, found } of placements) {
        const existing = this.#writer.child(key, name);
        const merged = merge(existing, found, { evidence, naturalKey: keyPrefix + name });
        const effect = { name, found, existing, kind: effectOf(merged) };
        if (admit?.(effect, parent.state) === false) {
          refused.push(effect);
          continue;
        }
        done.push(effect);
        // A row of a listed directory that is met again has nothing to be noted.
        const isNoted = parent.state === 'listed' && merged.kind === 'keep' && merged.storedS === undefined;
        if (isNoted) continue;
        this.#writer.write({ ...key, keyPrefix, name, evidence, listed }, existing, merged);
      }
      if (options.listedThrough !== undefined && parent.state !== 'listed') {
        this.#statements.setDirectory.run({
          export: exportId,
          inode: directory,
          state: 'listing' satisfies DirectoryState,
          listed_through: options.listedThrough,
        });
      }
    });
    return { done, refused };
  }

  /** The listing of a directory has come to its end. */
  async finishListing({ exportId, directory }: DirectoryKey): Promise<void> {
    this.database.transaction(() => {
      const changed = this.#statements.setDirectory.run({
        export: exportId,
        inode: directory,
        state: 'listed' satisfies DirectoryState,
        listed_through: null,
      });
      this.#writer.totalsOf(exportId).directoriesListed += changed;
    });
  }

  totals(exportId: number): ExportTotals {
    return { ...this.#writer.totalsOf(exportId) };
  }

  close(): void {
    this.#cancelSweep?.();
    this.database.close();
  }

  /** Rows below directories that are gone are removed in steps, with turns for requests between; a restart goes on. */
  #sweepSoon(): void {
    this.#cancelSweep ??= this.#clock.after(0, () => {
      this.#cancelSweep = undefined;
      if (this.#sweep()) this.#sweepSoon();
    });
  }

  /** @returns whether there is more to remove */
  #sweep(): boolean {
    const s = this.#statements;
    return this.database.transaction(() => {
      const removal = s.nextRemoval.get({});
      if (removal === undefined) return false;
      const { export_id: exportId, inode } = removal;
      const rows = s.children.all({ export: exportId, parent: inode, after: '', limit: SWEEP_ROWS_MAX });
      for (const row of rows) this.#writer.remove(exportId, inodeOf(row));
      if (rows.length < SWEEP_ROWS_MAX) s.deleteRemoval.run({ export: exportId, inode });
      return s.nextRemoval.get({}) !== undefined;
    });
  }
}

function effectOf(merged: Merge): Effect['kind'] {
  switch (merged.kind) {
    case 'none':
      return 'none';
    case 'insert':
      return 'insert';
    case 'keep':
      return 'quiet';
    case 'update':
      return merged.visible ? 'visible' : 'quiet';
    case 'replace':
    case 'remove':
      return 'visible';
  }
}

function liesElsewhere(name: string, known: string, { identity }: { readonly identity: string }): UsageError {
  return new UsageError(`export "${name}" of this data directory lies at ${known}, not at ${identity}`, {
    hint: 'give the new place another name, or delete the data directory to begin anew',
  });
}
