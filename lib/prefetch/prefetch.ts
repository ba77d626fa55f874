/**
 * The contract of the prefetcher: what can be ordered, and how far it has come.
 *
 * An order is advice: it costs a reader nothing but what the budgets allow, it never makes one wait, and what it brings
 * is the version that was ordered or nothing. A job is a list of files that somebody asked for by hand or by policy.
 */
import type { InodeNumber } from '../base/brand.ts';
import { PerigeeError } from '../base/errors.ts';
import type { VersionSource } from '../tiers/tier.ts';

/**
 * - `no-such-job`: there is no job of that name, or it has been forgotten
 * - `too-many`: so many jobs are under way that another one is refused
 * - `manifest`: the list of paths cannot be read
 * - `closed`: the satellite is ending
 */
export type PrefetchErrorCode = 'no-such-job' | 'too-many' | 'manifest' | 'closed';

export class PrefetchError extends PerigeeError<PrefetchErrorCode> {
  override readonly layer = 'prefetch';
}

/** A version worth having. */
export interface WantedFile {
  readonly inode: InodeNumber;
  /** In the export. */
  readonly path: string;
  readonly source: VersionSource;
}

/** Orders with a budget of their own: those of one policy, or of one job by hand. */
export interface LaneSettings {
  /** More goes first. */
  readonly priority: number;
  /** Requests under way. */
  readonly concurrency: number;
  /** None: the satellite's own budget alone. */
  readonly bytesPerSecond: number | undefined;
}

/**
 * What became of bytes:
 * - `fetched`: brought by an order
 * - `used`: of these, opened by a program before they went
 * - `wasted`: of these, given up before anybody opened them
 * - `late`: ordered, but not there yet when a program came
 */
export const OUTCOMES = ['fetched', 'used', 'wasted', 'late'] as const;
export type Outcome = (typeof OUTCOMES)[number];
export type OutcomeBytes = Readonly<Record<Outcome, number>>;

/**
 * How an order ended:
 * - `there`: all of it is in the tier
 * - `declined`: there is no room for it within the share of the cache, or the tier does not take it
 * - `failed`: its bytes cannot be had
 * - `cancelled`: nobody wants it any more
 */
export type OrderResult = 'there' | 'declined' | 'failed' | 'cancelled';

/**
 * - `running`: files are being found or fetched
 * - `waiting`: the window ahead of its reader is there, or the share of the cache is taken by files that nobody read yet
 * - `done`: every file has ended; `cancelled` and `failed` (`error` says why): so has the job, before its end
 */
export type JobState = 'running' | 'waiting' | 'done' | 'cancelled' | 'failed';

export interface JobInfo {
  readonly id: string;
  /** For people. */
  readonly what: string;
  readonly policy?: string | undefined;
  readonly state: JobState;
  readonly error?: string | undefined;
  /** Milliseconds since 1970. */
  readonly startedMs: number;
  /** All files are known, so that what was found is the whole. */
  readonly isFound: boolean;
  readonly filesFound: number;
  readonly bytesFound: number;
  readonly filesThere: number;
  readonly bytesThere: number;
  /** Brought by this job, or by others while it waited for them. */
  readonly bytesFetched: number;
  readonly filesDeclined: number;
  readonly filesFailed: number;
  /** Paths of a manifest that stand for no file. */
  readonly pathsMissing: number;
}

/** What was opened between the start and the end of a recording. */
export interface Recording {
  /** In the order of the first opens. */
  readonly paths: readonly string[];
  /** There were more. */
  readonly isCut: boolean;
}

export interface JobRequest {
  /** Files and directories in the export; the root is the empty path. */
  readonly paths: readonly string[];
  /** A file of this host: paths in the order in which they will be read. */
  readonly manifest?: string | undefined;
  /** Of a manifest: files to be kept ahead of the reader; none: all that there is room for. */
  readonly ahead?: number | undefined;
  readonly bytesPerSecond?: number | undefined;
  readonly priority?: number | undefined;
}
