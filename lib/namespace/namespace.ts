/**
 * The contract of the satellite's view of names.
 *
 * What is held under leases is answered at once by `knownName` and `knownAttributes`, with the time for which it may be
 * used, by the satellite's clock. It is right in the turn of the event loop in which it is asked for: whoever passes it
 * on with that time does so before another turn, since messages of the origin are applied in turns of their own.
 * Everything else asks the origin, and such an answer is for the one operation that asked.
 */
import type { InodeNumber } from '../base/brand.ts';
import { PerigeeError } from '../base/errors.ts';
import type { VersionSource } from '../tiers/tier.ts';

/**
 * - `not-found`: no such name, inode or export
 * - `not-directory`: a child of something that has none
 * - `denied`: the origin refuses this satellite, or the store refuses the origin
 * - `timeout`: no answer within the bound
 * - `unavailable`: the origin or its store cannot be reached
 * - `protocol`: the answer makes no sense; a fault of ours or another release
 * - `exists`, `not-empty`, `is-directory`, `busy`, `fenced`, `upload-gone`, `invalid`, `no-space`, `read-only`: of
 *   changes, see `changes.ts`
 */
export type NamespaceErrorCode =
  | 'not-found'
  | 'not-directory'
  | 'denied'
  | 'timeout'
  | 'unavailable'
  | 'protocol'
  | 'exists'
  | 'not-empty'
  | 'is-directory'
  | 'busy'
  | 'fenced'
  | 'upload-gone'
  | 'invalid'
  | 'no-space'
  | 'read-only';

export class NamespaceError extends PerigeeError<NamespaceErrorCode> {
  override readonly layer = 'namespace';
}

export type InodeKind = 'file' | 'directory' | 'symlink';

export interface InodeAttributes {
  readonly inode: InodeNumber;
  readonly kind: InodeKind;
  /** Permission bits only, 0o7777. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly links: number;
  readonly sizeBytes: number;
  readonly modifiedNs: bigint;
  readonly changedNs: bigint;
  /** Files only. */
  readonly source: VersionSource | undefined;
  /** Symlinks only. */
  readonly target: string | undefined;
  /** Extended attributes by name, with the prefix `user.`; absent: none. */
  readonly extended?: Readonly<Record<string, Uint8Array>>;
}

export interface NamespaceOptions {
  readonly signal?: AbortSignal;
}

export interface KnownName {
  /** Undefined: there is no such name. */
  readonly attributes: InodeAttributes | undefined;
  readonly validForMs: number;
}

export interface KnownAttributes {
  readonly attributes: InodeAttributes;
  readonly validForMs: number;
}

export interface DirectoryEntry {
  readonly name: string;
  readonly attributes: InodeAttributes;
}

export interface ListPage {
  /** Ordered by the UTF-8 bytes of their names. */
  readonly entries: readonly DirectoryEntry[];
  /** Pass as `after` for the next page; undefined on the last one. */
  readonly next: string | undefined;
  /** All of it is held: it stays right until a name of the directory is dropped. */
  readonly isHeld: boolean;
}

export interface ExportUsage {
  /** Unknown sizes of object stores are answered with large round numbers, never with the cache's. */
  readonly bytesTotal: bigint;
  readonly bytesUsed: bigint;
  readonly inodesTotal: bigint;
  readonly inodesUsed: bigint;
}

/** A name that must not be served any more from what was known of it. */
export interface DroppedName {
  readonly directory: InodeNumber;
  /** The root is the empty name in itself. */
  readonly name: string;
  /** What it stood for; undefined: it was known to be absent. */
  readonly inode: InodeNumber | undefined;
  /** It stands for the same inode; only the attributes are old. */
  readonly attributesOnly: boolean;
  /** False: nobody asked for it, so that only a listing can have shown that it is absent. */
  readonly wasAsked: boolean;
}

/** Whoever keeps answers beyond the turn in which they were given: the kernel, in the end. */
export interface NamesListener {
  /** Resolves when none of these is served any more. Never rejects. */
  drop(names: readonly DroppedName[]): Promise<void>;
  /** All names and attributes. */
  dropAll(): Promise<void>;
  /** Those in these directories, about which nothing was asked for a while. */
  dropDirectories(directories: readonly InodeNumber[]): Promise<void>;
}

export interface Namespace {
  /** Whether answers are being kept. */
  readonly isLeased: boolean;
  /** Undefined: the origin must be asked. */
  knownName(parent: InodeNumber, name: string): KnownName | undefined;
  knownAttributes(inode: InodeNumber): KnownAttributes | undefined;
  /** Whether every name of a directory is held. */
  isListingHeld(directory: InodeNumber): boolean;
  /** Undefined: there is no such name. */
  lookup(parent: InodeNumber, name: string, options?: NamespaceOptions): Promise<InodeAttributes | undefined>;
  attributes(inode: InodeNumber, options?: NamespaceOptions): Promise<InodeAttributes>;
  list(
    directory: InodeNumber,
    page: { readonly after?: string; readonly entriesMax: number },
    options?: NamespaceOptions,
  ): Promise<ListPage>;
  /** What covers the names of a directory, for people: `directory`, `subtree:/path` or `none`. */
  leaseText(directory: InodeNumber): string;
  /** At most one listens. */
  listen(listener: NamesListener): void;
  usage(options?: NamespaceOptions): Promise<ExportUsage>;
  /** Tells the origin that a fetch of this version failed because the object has changed; resolves when the origin has looked again. */
  reportStale(inode: InodeNumber, source: VersionSource, options?: NamespaceOptions): Promise<void>;
  close(): Promise<void>;
}
