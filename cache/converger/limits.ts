/** Every limit of the converger in one place; what a number comes from stands beside it. */

/**
 * Two changes within one tick of the kernel's clock can leave the same time stamp. A tick is at most 10 ms (HZ of 100);
 * wall clocks of the kernel and of Node are read at slightly different instants.
 */
export const CLOCK_TICK_MS = 20;
/** Readings of a file that goes on changing, before it is left to the next close. */
export const PASSES_MAX = 5;
/** Parts of one file that are on their way at one time. */
export const PARTS_AT_ONCE = 8;
/** Times in a row that an upload is begun anew because the store does not know it any more. */
export const UPLOADS_LOST_MAX = 3;

/** Files on their way at one time: those that a program waits for, and those behind its back. */
export const THROUGH_FILES_MAX = 32;
export const BACK_FILES_MAX = 8;
/** The latter while programs write. */
export const BACK_FILES_WHILE_WRITING_MAX = 2;
/** Files that become blobs at one time. */
export const FINISHES_MAX = 8;

/** After a failure a file is tried again after so long, twice as long each time. */
export const RETRY_MS = 1_000;
export const RETRY_MS_MAX = 60_000;
/** A file that can be written to although every handle is gone (a mapping) is looked at again after so long. */
export const STILL_WRITTEN_MS = 1_000;

/** Files that are open are looked at this often. */
export const WATCH_INTERVAL_MS = 50;
/** Programs count as writing for so long after a change was seen. */
export const WRITING_MS = 1_000;

/** Conflicts that are remembered for people. */
export const CONFLICTS_MAX = 100;
/** Names that are tried for one conflict. */
export const CONFLICT_NAMES_MAX = 10;

/** The origin is asked for the writes of an earlier life this often until it answers. */
export const RECLAIM_RETRY_MS = 2_000;
/** The gauges of the metrics are set this often. */
export const METRICS_INTERVAL_MS = 5_000;
/** At the end attempts that were told to stop are waited for so long. */
export const CLOSE_ATTEMPTS_MS = 5_000;
