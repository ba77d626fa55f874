/**
 * What the origin is asked about names: one call each, nothing is kept. A call that names a session is answered with a
 * grant if a lease covers the answer; without one the answer is for one use.
 */
import type { InodeNumber, SessionId } from '../base/brand.ts';
import type { Grant } from '../lease/lease.ts';
import type { VersionSource } from '../tiers/tier.ts';
import type { ExportUsage, InodeAttributes, ListPage, NamespaceOptions } from './namespace.ts';

export interface RemoteOptions extends NamespaceOptions {
  readonly session?: SessionId | undefined;
}

export interface RemoteName {
  /** Undefined: there is no such name. */
  readonly attributes: InodeAttributes | undefined;
  readonly grant: Grant | undefined;
}

export interface RemoteAttributes {
  readonly attributes: InodeAttributes;
  /** Where the inode lies; the root is the empty name in itself. */
  readonly parent: InodeNumber;
  readonly name: string;
  readonly grant: Grant | undefined;
}

export interface RemotePage extends Omit<ListPage, 'isHeld'> {
  /** Names of the page's span that are under change: not covered by the grant. */
  readonly withdrawn: readonly string[];
  readonly grant: Grant | undefined;
}

/** Every call ends within its own deadline, with an answer or a `NamespaceError`, or with the reason of the signal. */
export interface RemoteNames {
  lookup(parent: InodeNumber, name: string, options?: RemoteOptions): Promise<RemoteName>;
  attributes(inode: InodeNumber, options?: RemoteOptions): Promise<RemoteAttributes>;
  list(
    directory: InodeNumber,
    page: { readonly after?: string; readonly entriesMax: number },
    options?: RemoteOptions,
  ): Promise<RemotePage>;
  usage(options?: NamespaceOptions): Promise<ExportUsage>;
  reportStale(inode: InodeNumber, source: VersionSource, options?: NamespaceOptions): Promise<void>;
  close(): Promise<void>;
}
