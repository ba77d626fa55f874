/**
 * Writes rows of inodes, versions and directories, inside a transaction of the caller, and keeps the totals right.
 *
 * Numbers of inodes are reserved in spans that are made durable before use, because the transactions that use them
 * may be durable only against the death of the process: a restart begins behind the span.
 */
import { invariant } from '../../base/errors.ts';
import type { IndexDatabase } from './index-database.ts';
import { type Merge, sameContent } from './index-merge.ts';
import {
  attributeColumns,
  type BareInodeRow,
  type Evidence,
  type Found,
  type IndexedInode,
  type IndexedVersion,
  inodeOf,
  NO_VERSION,
} from './index-rows.ts';
import type { IndexStatements } from './index-statements.ts';

/** Inode numbers reserved by one durable write. */
const INODES_RESERVED_AT_ONCE = 1_000_000;

export interface ExportTotals {
  inodes: number;
  bytes: number;
  directoriesListed: number;
}

/** A directory whose rows are to be read or written. */
export interface DirectoryKey {
  readonly exportId: number;
  readonly directory: number;
}

/** Where a row is written. */
export interface NamePlace extends DirectoryKey {
  readonly keyPrefix: string;
  readonly name: string;
  readonly evidence: Evidence;
  /** A listing of the directory that has begun met the name, or it is as good as met. */
  readonly listed: boolean;
  /** The number that a new row gets; else the next one. */
  readonly inode?: number | undefined;
}

export class IndexWriter {
  readonly #database: IndexDatabase;
  readonly #statements: IndexStatements;
  readonly #totals = new Map<number, ExportTotals>();
  readonly #onRemovedDirectory: () => void;
  #nextInode: number;
  #reserved: number;

  constructor(options: {
    readonly database: IndexDatabase;
    readonly statements: IndexStatements;
    readonly inodesReserved: number;
    /** Rows below a directory that went are for the sweep. */
    readonly onRemovedDirectory: () => void;
  }) {
    this.#database = options.database;
    this.#statements = options.statements;
    this.#nextInode = this.#reserved = options.inodesReserved;
    this.#onRemovedDirectory = options.onRemovedDirectory;
  }

  /** Before a transaction that may give `count` numbers. */
  reserve(count: number): void {
    if (this.#nextInode + count <= this.#reserved) return;
    const reserved = this.#nextInode + count + INODES_RESERVED_AT_ONCE;
    this.#database.durably(() => this.#statements.setReserved.run({ reserved }));
    this.#reserved = reserved;
  }

  inode(exportId: number, inode: number): IndexedInode | undefined {
    return this.#withVersion(exportId, this.#statements.inode.get({ export: exportId, inode }));
  }

  child({ exportId, directory }: DirectoryKey, name: string): IndexedInode | undefined {
    const row = this.#statements.child.get({ export: exportId, parent: directory, name });
    return this.#withVersion(exportId, row);
  }

  /** Does to the row what `merge` says. */
  write(at: NamePlace, existing: IndexedInode | undefined, merge: Merge): void {
    const { exportId } = at;
    switch (merge.kind) {
      case 'none':
        return;
      case 'insert':
        return this.#insert(at, merge.found);
      case 'keep':
        if (existing === undefined) return;
        if (merge.met) this.#statements.setListed.run({ export: exportId, inode: existing.inode });
        if (merge.storedS !== undefined && existing.version !== undefined) {
          this.insertVersion(exportId, existing.inode, { ...existing.version, storedS: merge.storedS });
        }
        return;
      case 'update':
        invariant(existing !== undefined, 'only a row is updated');
        return this.#update(at, existing, merge);
      case 'replace':
        invariant(existing !== undefined, 'only a row is replaced');
        this.remove(exportId, existing);
        return this.#insert(at, merge.found);
      case 'remove':
        if (existing !== undefined) this.remove(exportId, existing);
        return;
    }
  }

  /** Rows below a directory are left to the sweep; nothing leads to them any more. */
  remove(exportId: number, row: Pick<IndexedInode, 'inode' | 'kind' | 'version'>): void {
    const s = this.#statements;
    const { inode } = row;
    const totals = this.totalsOf(exportId);
    totals.inodes -= s.deleteInode.run({ export: exportId, inode });
    if (row.kind === 'directory') {
      const before = s.directory.get({ export: exportId, inode });
      if (before?.state === 'listed') totals.directoriesListed -= 1;
      s.deleteDirectory.run({ export: exportId, inode });
      s.insertRemoval.run({ export: exportId, inode });
      this.#onRemovedDirectory();
    } else {
      s.deleteVersions.run({ export: exportId, inode });
      totals.bytes -= row.version?.sizeBytes ?? 0;
    }
  }

  count(exportId: number): void {
    const totals = this.#statements.totals.get({ export: exportId });
    const directories = this.#statements.listedDirectories.get({ export: exportId });
    this.#totals.set(exportId, {
      inodes: totals?.inodes ?? 0,
      bytes: totals?.bytes ?? 0,
      directoriesListed: directories?.listed ?? 0,
    });
  }

  totalsOf(exportId: number): ExportTotals {
    let totals = this.#totals.get(exportId);
    if (totals === undefined)
      this.#totals.set(exportId, (totals = { inodes: 0, bytes: 0, directoriesListed: 0 }));
    return totals;
  }

  #withVersion(exportId: number, row: BareInodeRow | undefined): IndexedInode | undefined {
    if (row === undefined) return undefined;
    const { inode, version_id: version } = row;
    const columns =
      version === null ? undefined : this.#statements.version.get({ export: exportId, inode, version });
    return inodeOf({ ...row, ...(columns ?? NO_VERSION) });
  }

  newInode(): number {
    invariant(this.#nextInode < this.#reserved, 'inode numbers are reserved before they are given');
    return this.#nextInode++;
  }

  #insert(at: NamePlace, found: Found): void {
    const { exportId } = at;
    const inode = at.inode ?? this.newInode();
    this.#statements.insertInode.run({
      export: exportId,
      inode,
      parent: at.directory,
      name: at.name,
      kind: found.kind,
      ...attributeColumns(found.attributes),
      version_id: found.kind === 'directory' ? null : found.version.id,
      target: found.kind === 'directory' ? null : (found.target ?? null),
      resolved: at.evidence === 'listing' ? 0 : 1,
      listed: at.listed ? 1 : 0,
    });
    this.totalsOf(exportId).inodes += 1;
    if (found.kind === 'directory') {
      const key_prefix = `${at.keyPrefix}${at.name}/`;
      this.#statements.insertDirectory.run({ export: exportId, inode, key_prefix });
    } else {
      this.insertVersion(exportId, inode, found.version);
      this.totalsOf(exportId).bytes += found.version.sizeBytes;
    }
  }

  #update(at: NamePlace, existing: IndexedInode, merge: Merge & { readonly kind: 'update' }): void {
    const { exportId } = at;
    const { inode } = existing;
    const { found } = merge;
    const version = found.kind === 'directory' ? undefined : versionOver(existing.version, found.version);
    this.#statements.updateInode.run({
      export: exportId,
      inode,
      kind: found.kind,
      ...attributeColumns(merge.attributes),
      version_id: version?.id ?? null,
      target: found.kind === 'directory' ? null : (found.target ?? null),
      resolved: at.evidence === 'listing' ? 0 : 1,
      listed: at.listed ? 1 : 0,
    });
    if (version === undefined || version === existing.version) return;
    if (version.id !== existing.version?.id) this.#statements.deleteVersions.run({ export: exportId, inode });
    this.insertVersion(exportId, inode, version);
    this.totalsOf(exportId).bytes += version.sizeBytes - (existing.version?.sizeBytes ?? 0);
  }

  insertVersion(exportId: number, inode: number, version: IndexedVersion): void {
    this.#statements.insertVersion.run({
      export: exportId,
      inode,
      version_id: version.id,
      object_key: version.objectKey,
      object_version: version.objectVersion ?? null,
      entity_tag: version.entityTag,
      size_bytes: version.sizeBytes,
      stored_s: version.storedS ?? null,
    });
  }
}

/** The same content keeps its identity, also where the object has got another key since. */
function versionOver(before: IndexedVersion | undefined, now: IndexedVersion): IndexedVersion {
  if (before === undefined || !sameContent(before, now)) return now;
  const objectVersion = now.objectVersion ?? before.objectVersion;
  if (objectVersion === before.objectVersion && now.storedS === before.storedS) return before;
  return { ...before, objectVersion, storedS: now.storedS };
}
