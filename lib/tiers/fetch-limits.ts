/** Every limit of fetching from object stores. Measured on a Ceph gateway over loopback with two cores: `npm run bench -- read`. */
import { invariant } from '../base/errors.ts';
import { KIB, MIB, STORE_DEADLINE_MS } from '../base/limits.ts';

export interface FetchLimits {
  /** One GET asks for at most this much (but never for less than a block); larger fills are several GETs at once. */
  readonly getBytesMax: number;
  /** A version that is read from its beginning: so much of it is asked for by a GET of its own. */
  readonly leadBytes: number;
  /** The rest is asked for when the lead is answered, or after this time: a near store answers sooner. */
  readonly leadMs: number;
  /** An object that one GET covers is verified as a whole, up to this size, before anybody sees a byte of it. */
  readonly wholeObjectBytesMax: number;
  /** Somebody waits for so little: it is fetched on the thread that was asked, the way to another is dearer than the rest. */
  readonly quickBytesMax: number;
  /** Of these under way; more, and any beside large fills, go to workers. */
  readonly quickGetsMax: number;
  /** How to read a store without its client is asked anew after this time. */
  readonly accessMs: number;
  /** GETs under way in one worker that somebody waits for. */
  readonly demandGetsPerWorkerMax: number;
  /** GETs under way in one worker that read ahead or complete files: they leave room for the others. */
  readonly aheadGetsPerWorkerMax: number;
  /** So many bytes are reported first, so that a waiting reader gets them early; reports double from here up to `reportBytes`. */
  readonly firstReportBytes: number;
  readonly reportBytes: number;
  /** New GETs after a body broke off, each from where the last one ended. */
  readonly resumesMax: number;
  /** Times that a range is fetched anew because it turned out corrupt. */
  readonly corruptionsMax: number;
  readonly resumeBackoffMs: number;
  readonly resumeBackoffMsMax: number;
  /** For the first byte of one GET and again between its bytes. */
  readonly stallMs: number;
  /** For a whole request, resumes included; the wait in the queue counts where somebody waits. */
  readonly deadlineMs: number;
  /** Past its deadline, or cancelled, a request must be let go by its worker within this time, or the worker is ended. */
  readonly letGoMs: number;
  /** Times that one request is started again because its worker died. */
  readonly workerLossesMax: number;
  /** Workers that were ended but hang in the system, as behind a dead disk; beyond it nothing is fetched. */
  readonly hangingWorkersMax: number;
  /** How often deadlines are looked at. */
  readonly sweepMs: number;
}

export const FETCH_LIMITS: FetchLimits = {
  getBytesMax: 8 * MIB,
  leadBytes: 128 * KIB,
  leadMs: 3,
  wholeObjectBytesMax: 8 * MIB,
  quickBytesMax: 128 * KIB,
  quickGetsMax: 16,
  accessMs: 60_000,
  demandGetsPerWorkerMax: 16,
  aheadGetsPerWorkerMax: 8,
  firstReportBytes: 128 * KIB,
  reportBytes: 1 * MIB,
  resumesMax: 16,
  corruptionsMax: 3,
  resumeBackoffMs: 50,
  resumeBackoffMsMax: 2_000,
  stallMs: 15_000,
  deadlineMs: STORE_DEADLINE_MS,
  letGoMs: 5_000,
  workerLossesMax: 2,
  hangingWorkersMax: 4,
  sweepMs: 500,
};

/**
 * Ceiling of the heap of one worker thread. The heap has some 15 MiB; but V8 counts bodies of answers against the ceiling
 * too: a low one makes it mark the whole heap more often, a high one lets them pile up.
 */
export const WORKER_HEAP_MIB_MAX = 192;
/** Of it, for what lives short; the default is three times as much. */
export const WORKER_YOUNG_MIB_MAX = 16;

invariant(
  FETCH_LIMITS.getBytesMax <= FETCH_LIMITS.wholeObjectBytesMax,
  'whatever one GET of the usual size covers whole is verified',
);
invariant(FETCH_LIMITS.stallMs < FETCH_LIMITS.deadlineMs, 'a stalled body leaves time for another');
