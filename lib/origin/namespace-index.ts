/**
 * The index: inodes, versions and directories of every export, in one SQLite file.
 *
 * Guarantees: each method is one transaction; a number of an inode stands for one file for ever, also over restarts
 * and the death of the host; an inode keeps its number while its name and kind stay, and a name that changes its
 * kind gets a new number. Methods return promises although SQLite answers at once, so that a database across a
 * network can stand here.
 *
 * Numbers are reserved in spans that are made durable before use, because the transactions that use them are durable
 * only against the death of the process: a restart begins behind the span.
 */
import { ROOT_INODE } from '../base/brand.ts';
import type { Clock } from '../base/clock.ts';
import { invariant, UsageError } from '../base/errors.ts';
import { randomId } from '../base/prng.ts';
import { IndexDatabase } from './index-database.ts';
import {
  attributeColumns,
  type BareInodeRow,
  type CarriedAttributes,
  type Evidence,
  type Found,
  type IndexedDirectory,
  type IndexedExport,
  type IndexedInode,
  inodeOf,
  type InodeRow,
  NO_VERSION,
  type Placement,
} from './index-rows.ts';
import type { DirectoryState } from './index-schema.ts';
import { type IndexStatements, prepareStatements } from './index-statements.ts';

const ROOT = Number(ROOT_INODE);
/** Inode numbers reserved by one durable write. */
const INODES_RESERVED_AT_ONCE = 1_000_000;
/** Rows that one transaction of the sweep removes. */
const SWEEP_ROWS_MAX = 1_000;
const PUBLIC_ID_BYTES = 16;
const NS_PER_S = 1_000_000_000n;

export interface ExportTotals {
  readonly inodes: number;
  readonly bytes: number;
  readonly directoriesListed: number;
}

/** A directory whose rows are to be read or written. */
export interface DirectoryKey {
  readonly exportId: number;
  readonly directory: number;
}

export class NamespaceIndex {
  readonly epoch: number;
  readonly #database: IndexDatabase;
  readonly #statements: IndexStatements;
  readonly #totals = new Map<number, { inodes: number; bytes: number; directoriesListed: number }>();
  readonly #clock: Clock;
  #nextInode: number;
  #reserved: number;
  /** Cancels the next step of the sweep. */
  #cancelSweep: (() => void) | undefined;

  /** Opens or creates the index and begins a new epoch, which is durable when this returns. @throws OriginError */
  constructor(options: { readonly file: string; readonly clock: Clock }) {
    this.#clock = options.clock;
    this.#database = new IndexDatabase(options.file);
    this.#statements = prepareStatements(this.#database);
    const meta = this.#statements.meta.get({});
    invariant(meta !== undefined, 'an index has one row of meta');
    this.epoch = meta.epoch + 1;
    this.#nextInode = this.#reserved = meta.inodes_reserved;
    this.#database.durably(() => this.#statements.setEpoch.run({ epoch: this.epoch }));
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
    return this.#database.durably(() => {
      const known = s.exportByName.get({ name });
      if (known !== undefined) this.#count(known.export_id);
      if (known?.identity === options.identity) {
        return { exportId: known.export_id, publicId: known.public_id };
      }
      const last = Math.max(s.lastExport.get({})?.last ?? 0, s.lastRemoval.get({})?.last ?? 0);
      if (known !== undefined) {
        if (this.#totalsOf(known.export_id).inodes > 1) throw liesElsewhere(name, known.identity, options);
        s.deleteExport.run({ export: known.export_id });
        this.#removeRow(known.export_id, { inode: ROOT, kind: 'directory' });
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
      this.#count(created.exportId);
      return created;
    });
  }

  async inode(exportId: number, inode: number): Promise<IndexedInode | undefined> {
    const row = this.#inodeRow(exportId, inode);
    return row === undefined ? undefined : inodeOf(row);
  }

  async directory({ exportId, directory }: DirectoryKey): Promise<IndexedDirectory | undefined> {
    const row = this.#statements.directory.get({ export: exportId, inode: directory });
    if (row === undefined) return undefined;
    const { inode, key_prefix: keyPrefix, state, listed_through } = row;
    return { inode, keyPrefix, state, listedThrough: listed_through ?? undefined };
  }

  async child({ exportId, directory }: DirectoryKey, name: string): Promise<IndexedInode | undefined> {
    const row = this.#childRow({ exportId, directory }, name);
    return row === undefined ? undefined : inodeOf(row);
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
   * @returns what each name is now, in the order of the placements
   */
  async place(
    key: DirectoryKey,
    placements: readonly Placement[],
    options: { readonly evidence: Evidence; readonly listedThrough?: string | undefined },
  ): Promise<(IndexedInode | undefined)[]> {
    const { exportId, directory } = key;
    this.#reserve(placements.length);
    return this.#database.transaction(() => {
      const parent = this.#statements.directory.get({ export: exportId, inode: directory });
      // The directory has gone while its store was asked: what was found under it has no place any more.
      if (parent === undefined) return placements.map(() => undefined);
      const listed = options.evidence === 'listing' || parent.state !== 'unlisted';
      const placed = placements.map(({ name, found }) => {
        const existing = this.#childRow(key, name);
        const row = this.#placeOne(
          { key, keyPrefix: parent.key_prefix, name, existing, listed },
          found,
          options.evidence,
        );
        return row === undefined ? undefined : inodeOf(row);
      });
      if (options.evidence === 'listing') {
        this.#statements.setDirectory.run({
          export: exportId,
          inode: directory,
          state: 'listing' satisfies DirectoryState,
          listed_through: options.listedThrough ?? null,
        });
      }
      return placed;
    });
  }

  /** The listing of a directory has come to its end. */
  async finishListing({ exportId, directory }: DirectoryKey): Promise<void> {
    this.#database.transaction(() => {
      const changed = this.#statements.setDirectory.run({
        export: exportId,
        inode: directory,
        state: 'listed' satisfies DirectoryState,
        listed_through: null,
      });
      this.#totalsOf(exportId).directoriesListed += changed;
    });
  }

  totals(exportId: number): ExportTotals {
    return { ...this.#totalsOf(exportId) };
  }

  close(): void {
    this.#cancelSweep?.();
    this.#database.close();
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
    return this.#database.transaction(() => {
      const removal = s.nextRemoval.get({});
      if (removal === undefined) return false;
      const { export_id: exportId, inode } = removal;
      const rows = s.children.all({ export: exportId, parent: inode, after: '', limit: SWEEP_ROWS_MAX });
      for (const row of rows) this.#removeRow(exportId, row);
      if (rows.length < SWEEP_ROWS_MAX) s.deleteRemoval.run({ export: exportId, inode });
      return s.nextRemoval.get({}) !== undefined;
    });
  }

  #inodeRow(exportId: number, inode: number): InodeRow | undefined {
    return this.#withVersion(exportId, this.#statements.inode.get({ export: exportId, inode }));
  }

  #childRow({ exportId, directory }: DirectoryKey, name: string): InodeRow | undefined {
    return this.#withVersion(
      exportId,
      this.#statements.child.get({ export: exportId, parent: directory, name }),
    );
  }

  #withVersion(exportId: number, row: BareInodeRow | undefined): InodeRow | undefined {
    if (row === undefined) return undefined;
    const { inode, version_id: version } = row;
    const columns =
      version === null ? undefined : this.#statements.version.get({ export: exportId, inode, version });
    return { ...row, ...(columns ?? NO_VERSION) };
  }

  #placeOne(
    at: {
      readonly key: DirectoryKey;
      readonly keyPrefix: string;
      readonly name: string;
      readonly existing: InodeRow | undefined;
      readonly listed: boolean;
    },
    found: Found | undefined,
    evidence: Evidence,
  ): InodeRow | undefined {
    const { existing, name } = at;
    const { exportId } = at.key;
    if (found === undefined) {
      if (existing !== undefined) this.#removeRow(exportId, existing);
      return undefined;
    }
    if (existing === undefined) return this.#insert(at, found, evidence);
    if (evidence === 'listing' && this.#isKnown(existing, found)) {
      // An object beside a directory of its name is hidden, and no evidence for the directory.
      if (existing.listed === 0 && (found.kind === 'directory' || existing.kind !== 'directory')) {
        this.#statements.setListed.run({ export: exportId, inode: existing.inode });
      }
      return existing;
    }
    const sameKind =
      existing.kind === found.kind ||
      // Until its object was asked, nobody was told whether this is a symlink.
      (existing.kind !== 'directory' && found.kind !== 'directory' && existing.resolved === 0);
    if (!sameKind) {
      this.#removeRow(exportId, existing);
      return this.#insert(at, found, evidence);
    }
    const values = {
      export: exportId,
      inode: existing.inode,
      kind: found.kind,
      ...attributeColumns(this.#attributesOver(existing, found)),
      version_id: found.kind === 'directory' ? null : found.version.id,
      target: found.kind === 'directory' ? null : (found.target ?? null),
      resolved: evidence === 'object' ? 1 : 0,
      listed: at.listed || existing.listed === 1 ? 1 : 0,
    };
    this.#statements.updateInode.run(values);
    this.#setVersion(exportId, existing, found);
    return this.#childRow(at.key, name);
  }

  /** A listing tells nothing new about this row. */
  #isKnown(existing: InodeRow, found: Found): boolean {
    if (existing.kind === 'directory') return true;
    return found.kind !== 'directory' && existing.version_id === found.version.id;
  }

  /** Stores tell times in different precision by listing and by object: while the version stays, the finer one does. */
  #attributesOver(existing: InodeRow, found: Found): CarriedAttributes {
    const before = inodeOf(existing);
    if (found.kind === 'directory') return found.marked ? found.attributes : before;
    if (existing.version_id !== found.version.id) return found.attributes;
    return {
      ...found.attributes,
      modifiedNs: finer(before.modifiedNs, found.attributes.modifiedNs),
      changedNs: finer(before.changedNs, found.attributes.changedNs),
    };
  }

  #insert(
    at: {
      readonly key: DirectoryKey;
      readonly keyPrefix: string;
      readonly name: string;
      readonly listed: boolean;
    },
    found: Found,
    evidence: Evidence,
  ): InodeRow | undefined {
    const { exportId, directory } = at.key;
    const inode = this.#allocate();
    this.#statements.insertInode.run({
      export: exportId,
      inode,
      parent: directory,
      name: at.name,
      kind: found.kind,
      ...attributeColumns(found.attributes),
      version_id: found.kind === 'directory' ? null : found.version.id,
      target: found.kind === 'directory' ? null : (found.target ?? null),
      resolved: evidence === 'object' ? 1 : 0,
      listed: at.listed ? 1 : 0,
    });
    this.#totalsOf(exportId).inodes += 1;
    if (found.kind === 'directory') {
      this.#statements.insertDirectory.run({
        export: exportId,
        inode,
        key_prefix: `${at.keyPrefix}${at.name}/`,
      });
    } else {
      this.#setVersion(exportId, { inode, version_id: null, size_bytes: null, object_version: null }, found);
    }
    return evidence === 'object' ? this.#inodeRow(exportId, inode) : undefined;
  }

  #setVersion(
    exportId: number,
    existing: Pick<InodeRow, 'inode' | 'version_id' | 'size_bytes' | 'object_version'>,
    found: Found,
  ): void {
    if (found.kind === 'directory') return;
    const { version } = found;
    const same = existing.version_id === version.id;
    const objectVersion = version.objectVersion ?? (same ? existing.object_version : null);
    if (same && objectVersion === existing.object_version) return;
    if (!same) this.#statements.deleteVersions.run({ export: exportId, inode: existing.inode });
    this.#statements.insertVersion.run({
      export: exportId,
      inode: existing.inode,
      version_id: version.id,
      object_key: version.objectKey,
      object_version: objectVersion,
      entity_tag: version.entityTag,
      size_bytes: version.sizeBytes,
    });
    this.#totalsOf(exportId).bytes += version.sizeBytes - (existing.size_bytes ?? 0);
  }

  /** Rows below a directory are left to the sweep; nothing leads to them any more. */
  #removeRow(
    exportId: number,
    row: Pick<InodeRow, 'inode' | 'kind'> & { readonly size_bytes?: number | null },
  ): void {
    const s = this.#statements;
    const { inode } = row;
    const totals = this.#totalsOf(exportId);
    totals.inodes -= s.deleteInode.run({ export: exportId, inode });
    if (row.kind === 'directory') {
      const before = s.directory.get({ export: exportId, inode });
      if (before?.state === 'listed') totals.directoriesListed -= 1;
      s.deleteDirectory.run({ export: exportId, inode });
      s.insertRemoval.run({ export: exportId, inode });
      this.#sweepSoon();
    } else {
      s.deleteVersions.run({ export: exportId, inode });
      totals.bytes -= row.size_bytes ?? 0;
    }
  }

  #allocate(): number {
    invariant(this.#nextInode < this.#reserved, 'inode numbers are reserved before they are given');
    return this.#nextInode++;
  }

  /** Before a transaction that may give `count` numbers. */
  #reserve(count: number): void {
    if (this.#nextInode + count <= this.#reserved) return;
    const reserved = this.#nextInode + count + INODES_RESERVED_AT_ONCE;
    this.#database.durably(() => this.#statements.setReserved.run({ reserved }));
    this.#reserved = reserved;
  }

  #count(exportId: number): void {
    const totals = this.#statements.totals.get({ export: exportId });
    const directories = this.#statements.listedDirectories.get({ export: exportId });
    this.#totals.set(exportId, {
      inodes: totals?.inodes ?? 0,
      bytes: totals?.bytes ?? 0,
      directoriesListed: directories?.listed ?? 0,
    });
  }

  #totalsOf(exportId: number): { inodes: number; bytes: number; directoriesListed: number } {
    let totals = this.#totals.get(exportId);
    if (totals === undefined)
      this.#totals.set(exportId, (totals = { inodes: 0, bytes: 0, directoriesListed: 0 }));
    return totals;
  }
}

function liesElsewhere(name: string, known: string, { identity }: { readonly identity: string }): UsageError {
  return new UsageError(`export "${name}" of this data directory lies at ${known}, not at ${identity}`, {
    hint: 'give the new place another name, or delete the data directory to begin anew',
  });
}

function finer(before: bigint, now: bigint): bigint {
  const isSameSecond = before / NS_PER_S === now / NS_PER_S;
  return isSameSecond && now % NS_PER_S === 0n ? before : now;
}
