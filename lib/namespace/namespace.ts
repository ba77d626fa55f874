/**
 * The contract of the satellite's view of names.
 *
 * Every answer says for how long it may be used (`validForMs`, by the satellite's clock, from when it is
 * returned); 0 means once. Without leases it is always 0: each call asks the origin, which is strict and slow.
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
 */
export type NamespaceErrorCode =
  'not-found' | 'not-directory' | 'denied' | 'timeout' | 'unavailable' | 'protocol';

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
}

export interface NamespaceOptions {
  readonly signal?: AbortSignal;
}

export interface LookupAnswer {
  /** Undefined: there is no such name. */
  readonly attributes: InodeAttributes | undefined;
  readonly validForMs: number;
}

export interface AttributesAnswer {
  readonly attributes: InodeAttributes;
  readonly validForMs: number;
}

export interface DirectoryEntry {
  readonly name: string;
  readonly attributes: InodeAttributes;
}

export interface ListAnswer {
  /** Ordered by the UTF-8 bytes of their names. */
  readonly entries: readonly DirectoryEntry[];
  /** Pass as `after` for the next page; undefined on the last one. */
  readonly next: string | undefined;
  readonly validForMs: number;
}

export interface ExportUsage {
  /** Unknown sizes of object stores are answered with large round numbers, never with the cache's. */
  readonly bytesTotal: bigint;
  readonly bytesUsed: bigint;
  readonly inodesTotal: bigint;
  readonly inodesUsed: bigint;
}

export interface Namespace {
  lookup(parent: InodeNumber, name: string, options?: NamespaceOptions): Promise<LookupAnswer>;
  attributes(inode: InodeNumber, options?: NamespaceOptions): Promise<AttributesAnswer>;
  list(
    directory: InodeNumber,
    page: { readonly after?: string; readonly entriesMax: number },
    options?: NamespaceOptions,
  ): Promise<ListAnswer>;
  usage(options?: NamespaceOptions): Promise<ExportUsage>;
  /** Tells the origin that a fetch of this version failed because the object has changed; resolves when the origin has looked again. */
  reportStale(inode: InodeNumber, source: VersionSource, options?: NamespaceOptions): Promise<void>;
  close(): Promise<void>;
}
