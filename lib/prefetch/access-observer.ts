/**
 * The contract of what watches programs and says what they will read next.
 *
 * The file system tells it of every read that it answers itself; the answer is advice without obligation: what to
 * bring to NVMe before it is asked for. Advice never repeats a range to the same stream, is aligned for the cache, and
 * lies inside the file. An observer does no I/O and never fails.
 */
import type { InodeNumber, VersionId } from '../base/brand.ts';
import type { VersionSource } from '../tiers/tier.ts';

export interface ReadAccess {
  readonly version: VersionId;
  readonly sizeBytes: number;
  readonly offset: number;
  readonly length: number;
}

/**
 * - `fill`: these bytes will be asked for soon
 * - `complete`: the whole file is worth having; begin at `offset`, then do what lies before it
 */
export type AccessAdvice =
  | { readonly kind: 'fill'; readonly offset: number; readonly length: number }
  | { readonly kind: 'complete'; readonly offset: number };

export interface AccessObserver {
  /** Called when a read arrives, before its bytes are there. */
  read(access: ReadAccess): readonly AccessAdvice[];
  /** Nobody reads this version any more: what was learned about it may go. */
  closed(version: VersionId): void;
}

/** A file that a program opens. */
export interface OpenedFile {
  readonly inode: InodeNumber;
  readonly source: VersionSource;
  /** Where it was looked up; undefined where that is not known. */
  readonly directory: InodeNumber | undefined;
  readonly name: string;
  /** In the export. */
  readonly path: () => string;
  /** Bytes of it that the tier has now. */
  readonly cachedBytes: () => number;
}

/** A directory that a program begins to list. */
export interface ListedDirectory {
  readonly inode: InodeNumber;
  /** In the export; of the root empty. */
  readonly path: () => string;
}

/** Told of what programs do, before it is done for them. Does not fail, and does nothing that takes time. */
export interface UseListener {
  opened(file: OpenedFile): void;
  listed(directory: ListedDirectory): void;
}
