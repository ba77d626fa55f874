/** What the index holds, as the rest of the origin sees it, and its conversion from and to rows. */
import type { VersionId } from '../../base/brand.ts';
import type { InodeKind } from '../../namespace/namespace.ts';
import type { DirectoryState } from './index-schema.ts';

const NS_PER_S = 1_000_000_000n;

export interface IndexedVersion {
  readonly id: VersionId;
  readonly objectKey: string;
  readonly objectVersion: string | undefined;
  readonly entityTag: string;
  readonly sizeBytes: number;
  /** When the store says that the object was put; undefined: the store was not asked since we put it. */
  readonly storedS: number | undefined;
}

/** Attributes that an object carries; absent ones are the export's defaults. */
export interface CarriedAttributes {
  readonly mode?: number | undefined;
  readonly uid?: number | undefined;
  readonly gid?: number | undefined;
  readonly modifiedNs: bigint;
  readonly changedNs: bigint;
  /** JSON, see extended-attributes.ts. */
  readonly extended?: string | undefined;
  /** They were given here: what the object carries is older. */
  readonly isOwn?: boolean;
}

export interface IndexedInode extends CarriedAttributes {
  readonly inode: number;
  readonly parent: number;
  readonly name: string;
  readonly kind: InodeKind;
  readonly target: string | undefined;
  readonly version: IndexedVersion | undefined;
  /** The object itself was asked, not only a listing. */
  readonly resolved: boolean;
}

export interface IndexedDirectory {
  readonly inode: number;
  readonly keyPrefix: string;
  readonly state: DirectoryState;
  readonly listedThrough: string | undefined;
}

export interface IndexedExport {
  readonly exportId: number;
  readonly publicId: string;
}

/** What a store was found to hold under a name. */
export type Found =
  | {
      readonly kind: 'file' | 'symlink';
      readonly version: IndexedVersion;
      readonly attributes: CarriedAttributes;
      readonly target: string | undefined;
    }
  | {
      readonly kind: 'directory';
      readonly attributes: CarriedAttributes;
      /** The attributes come from an object of its own, `name/`; else they are the time of the finding. */
      readonly marked: boolean;
    };

export interface Placement {
  readonly name: string;
  /** Undefined: there is no such name any more. */
  readonly found: Found | undefined;
}

/**
 * How sure a finding is: a listing tells neither metadata nor whether a directory of the same name follows; a commit is
 * what we have put ourselves just now, whatever was known before.
 */
export type Evidence = 'listing' | 'object' | 'commit';

/** An inode as its table has it. */
export interface BareInodeRow {
  readonly inode: number;
  readonly parent: number;
  readonly name: string;
  readonly kind: InodeKind;
  readonly mode: number | null;
  readonly uid: number | null;
  readonly gid: number | null;
  readonly modified_s: number;
  readonly modified_ns: number;
  readonly changed_s: number;
  readonly changed_ns: number;
  readonly version_id: string | null;
  readonly target: string | null;
  readonly resolved: number;
  readonly listed: number;
  readonly extended: string | null;
  readonly own_attributes: number;
}

/** What the table of versions adds; null for a directory. */
export interface VersionColumns {
  readonly object_key: string | null;
  readonly object_version: string | null;
  readonly entity_tag: string | null;
  readonly size_bytes: number | null;
  readonly stored_s: number | null;
}

export type InodeRow = BareInodeRow & VersionColumns;

export const NO_VERSION: VersionColumns = {
  object_key: null,
  object_version: null,
  entity_tag: null,
  size_bytes: null,
  stored_s: null,
};

export function inodeOf(row: InodeRow): IndexedInode {
  return {
    inode: row.inode,
    parent: row.parent,
    name: row.name,
    kind: row.kind,
    mode: row.mode ?? undefined,
    uid: row.uid ?? undefined,
    gid: row.gid ?? undefined,
    modifiedNs: joinNs(row.modified_s, row.modified_ns),
    changedNs: joinNs(row.changed_s, row.changed_ns),
    extended: row.extended ?? undefined,
    target: row.target ?? undefined,
    resolved: row.resolved === 1,
    isOwn: row.own_attributes === 1,
    version:
      row.version_id === null || row.object_key === null
        ? undefined
        : {
            id: row.version_id as VersionId,
            objectKey: row.object_key,
            objectVersion: row.object_version ?? undefined,
            entityTag: row.entity_tag ?? '',
            sizeBytes: row.size_bytes ?? 0,
            storedS: row.stored_s ?? undefined,
          },
  };
}

/** The columns of an inode that attributes fill. */
export function attributeColumns(attributes: CarriedAttributes) {
  const [modified_s, modified_ns] = splitNs(attributes.modifiedNs);
  const [changed_s, changed_ns] = splitNs(attributes.changedNs);
  return {
    mode: attributes.mode ?? null,
    uid: attributes.uid ?? null,
    gid: attributes.gid ?? null,
    modified_s,
    modified_ns,
    changed_s,
    changed_ns,
    extended: attributes.extended ?? null,
    own_attributes: attributes.isOwn === true ? 1 : 0,
  };
}

function joinNs(seconds: number, nanoseconds: number): bigint {
  return BigInt(seconds) * NS_PER_S + BigInt(nanoseconds);
}

/** The nanoseconds are never negative, so times before 1970 come back as they went. */
export function splitNs(ns: bigint): [number, number] {
  const rest = ((ns % NS_PER_S) + NS_PER_S) % NS_PER_S;
  return [Number((ns - rest) / NS_PER_S), Number(rest)];
}
