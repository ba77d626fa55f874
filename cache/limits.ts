/** Every limit of the cache in one place; what a number comes from stands beside it. */
import { KIB, MIB, STORE_DEADLINE_MS } from '../lib/base/limits.ts';

/** One request to a tier: two default blocks, so that a window of some tens of MiB is several parallel requests. */
export const FILL_BYTES_MAX = 8 * MIB;
/** Fills on their way at one time, by priority; what waits behind them can still be overtaken by a reader. */
export const FILLS_MAX = { demand: 64, readahead: 16, background: 4 } as const;
/**
 * A wait for a fill that makes no progress. The tier's own deadline is the same; this one is for its failure to
 * keep it. What nobody waits for may queue for longer.
 */
export const FILL_WAIT_MS = STORE_DEADLINE_MS + 5_000;
export const FILL_WAIT_AHEAD_MS = 10 * STORE_DEADLINE_MS;

/** Reads around the blob that are on their way at one time, and the memory that they may take together. */
export const BYPASS_READS_MAX = 8;
/** A sequential reader that must bypass gets its bytes in pieces of this size, of which so many are kept. */
export const BYPASS_WINDOW_BYTES = 4 * MIB;
export const BYPASS_WINDOWS_MAX = 8;

/** A first small read somewhere inside a file of at least this size fetches only itself. */
export const SMALL_RANGE_FILE_BYTES_MIN = 64 * MIB;
export const SMALL_RANGE_BYTES_MAX = 128 * KIB;
/** Blocks of one blob of which such a touch is remembered. */
export const TOUCHED_BLOCKS_MAX = 4096;

/** Changes are committed to the catalog in groups, this far apart. */
export const COMMIT_INTERVAL_MS = 500;
/** Counters of use alone are not urgent. */
export const USAGE_COMMIT_INTERVAL_MS = 30_000;
/** Blobs in one transaction: keeps the event loop free (about 10 us each). */
export const COMMIT_BLOBS_MAX = 500;
/** A complete blob is synced so long after it was filled: by then the kernel has mostly written it by itself. */
export const SYNC_DELAY_MS = 2_000;
export const SYNCS_MAX = 2;
/**
 * From so many blobs on the whole file system is synced instead of each file: each file would be a commit of the file
 * system's journal (syncing all at once saved 0.13 ms of CPU for each small file).
 */
export const SYNC_WHOLE_BLOBS_MIN = 16;
/** When the cache closes: in parallel, and for so long; what is not durable by then is checked block by block later. */
export const CLOSE_SYNCS_MAX = 16;
export const CLOSE_SYNC_MS = 30_000;
export const CLOSE_FILLS_MS = 5_000;

/** Of the file system's space the cache leaves so much to others: the fraction, at most the bytes. */
export const FREE_SPACE_FRACTION = 0.02;
export const FREE_SPACE_BYTES_MAX = 2048 * MIB;
/** The file system is asked again after so much time; until then promises are subtracted from what it said. */
export const FREE_SPACE_AGE_MS = 200;
/** The file system's free space is looked at this often; below the reserve blobs give way until it is exceeded by this factor. */
export const FREE_SPACE_CHECK_MS = 1_000;
export const FREE_SPACE_RELIEF_FACTOR = 1.25;
/**
 * Room that is kept ahead of a writer whose bytes do not come by us: at first, and then twice what it took since the
 * last look, within bounds. What it takes beyond that is noticed at the next look.
 */
export const WRITER_AHEAD_BYTES_MIN = 4 * MIB;
export const WRITER_AHEAD_BYTES_MAX = 1024 * MIB;
export const WRITER_LOOK_MS = 250;
/** Near the end of the room a writer begins with less, down to this; below that it is refused. */
export const WRITER_BEGIN_BYTES_MIN = 256 * KIB;
/** Before blobs give way for more than this at once it is summed up whether they can give enough (0.1 us for each). */
export const WRITER_LEAP_BYTES = 64 * MIB;

/** Pins may take this fraction of the capacity. */
export const PINNED_FRACTION_MAX = 0.9;
/** A file up to this size is unlinked on the spot (tens of microseconds). */
export const UNLINK_NOW_BYTES_MAX = 8 * MIB;

/** After a change of policies blobs are asked about in groups of this size, a turn of the event loop each (about 2 us a blob). */
export const RECONSIDERED_AT_ONCE = 500;

/** Pieces in which a file is copied by us, or by the system within one call. */
export const COPY_PIECE_BYTES = 4 * MIB;
export const COPY_CALL_BYTES = 64 * MIB;

/** The gauges of the metrics are set this often. */
export const PUBLISH_INTERVAL_MS = 5_000;

/** Blobs of an earlier run that are verified in the background at one time. */
export const VERIFICATIONS_MAX = 1;
export const VERIFICATIONS_QUEUED_MAX = 256;
/** One block is scrubbed in each interval: 4 MiB/s with the default block. */
export const SCRUB_INTERVAL_MS = 1_000;
