/**
 * The contract of what watches reads and says what will be read next.
 *
 * The file system tells it of every read that it answers itself; the answer is advice without obligation: what to
 * bring to NVMe before it is asked for. Advice never repeats a range to the same stream, is aligned for the cache, and
 * lies inside the file. An observer does no I/O and never fails.
 */
import type { VersionId } from '../base/brand.ts';

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
