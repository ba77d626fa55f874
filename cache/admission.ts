/**
 * Is this miss worth a block? Pure.
 *
 * Reads of a few KiB from all over a huge file fetch only themselves until a pattern shows: a read at the
 * beginning, one that continues another, or a second touch of the same block brings the block to NVMe.
 */
import { SMALL_RANGE_BYTES_MAX, SMALL_RANGE_FILE_BYTES_MIN } from './limits.ts';

export interface Miss {
  readonly sizeBytes: number;
  readonly offset: number;
  readonly length: number;
  /** It begins at or close behind the end of an earlier read through the same handle. */
  readonly sequential: boolean;
  /** The block was touched before. */
  readonly touched: boolean;
}

export function fetchesOnlyItself(miss: Miss): boolean {
  return (
    miss.sizeBytes >= SMALL_RANGE_FILE_BYTES_MIN &&
    miss.length <= SMALL_RANGE_BYTES_MAX &&
    miss.offset > 0 &&
    !miss.sequential &&
    !miss.touched
  );
}
