/**
 * One job: finds its files one after the other, orders them, and counts what becomes of the orders.
 *
 * Finding goes no further ahead of fetching than `OUTSTANDING_MAX` files, so that a job over millions of files is as small
 * as any; with a manifest, no further ahead of the reader than its window. What is found in whole in the tier counts as
 * there, like what is brought.
 */
import type { VersionId } from '../base/brand.ts';
import { describeError } from '../base/errors.ts';
import { laneOfJob } from './outcomes.ts';
import type { Prefetcher, Settled } from './prefetcher.ts';
import type { JobInfo, JobState, LaneSettings, WantedFile } from './prefetch.ts';
import { ReadingWindow } from './reading-window.ts';

/** Orders of one job that have not ended. */
const OUTSTANDING_MAX = 1_024;

/** A path of a manifest for which there is no file is `missing`. */
export type Found = WantedFile | { readonly missing: string };

export interface JobPlan {
  readonly id: string;
  readonly what: string;
  readonly policy?: string | undefined;
  readonly startedMs: number;
  readonly lane: string;
  readonly settings: LaneSettings;
  /** Of what has an order in which it will be read. */
  readonly window?: { readonly ahead: number | undefined } | undefined;
  files(signal: AbortSignal): AsyncIterable<Found>;
}

export class Job {
  readonly plan: JobPlan;
  /** Resolves when the job has ended, in whichever way. */
  readonly ended: Promise<void>;
  readonly #prefetcher: Prefetcher;
  readonly #abort = new AbortController();
  readonly #window: ReadingWindow | undefined;
  readonly #versions = new Map<string, VersionId>();
  readonly #end = Promise.withResolvers<void>();
  readonly #counts = {
    ...{ filesFound: 0, bytesFound: 0, filesThere: 0, bytesThere: 0 },
    ...{ bytesFetched: 0, filesDeclined: 0, filesFailed: 0, pathsMissing: 0 },
  };
  #state: JobState = 'running';
  #error: string | undefined;
  #isFound = false;
  #outstanding = 0;
  #wake: () => void = () => undefined;

  constructor(plan: JobPlan, prefetcher: Prefetcher) {
    this.plan = plan;
    this.#prefetcher = prefetcher;
    this.#window = plan.window && new ReadingWindow(plan.window.ahead);
    this.ended = this.#end.promise;
  }

  get claim(): string {
    return laneOfJob(this.plan.id);
  }

  get hasWindow(): boolean {
    return this.#window !== undefined;
  }

  get isOver(): boolean {
    return this.#state === 'done' || this.#state === 'cancelled' || this.#state === 'failed';
  }

  info(): JobInfo {
    const { id, what, policy, startedMs } = this.plan;
    const waitsForReader =
      this.#outstanding === 0 ? this.#window?.hasRoom === false : this.#prefetcher.stat().requests === 0;
    return {
      ...{ id, what, policy, startedMs, error: this.#error, isFound: this.#isFound },
      ...this.#counts,
      state:
        this.#state === 'running' && this.#window !== undefined && waitsForReader ? 'waiting' : this.#state,
    };
  }

  async run(): Promise<void> {
    const { signal } = this.#abort;
    try {
      for await (const found of this.plan.files(signal)) {
        if (!(await this.#mayGoOn())) return;
        this.#take(found);
      }
      this.#isFound = true;
      this.#endIfDone();
    } catch (error) {
      if (!signal.aborted) this.#finish('failed', describeError(error));
    }
  }

  settled({ result, sizeBytes, fetchedBytes }: Settled): void {
    const counts = this.#counts;
    this.#outstanding -= 1;
    counts.bytesFetched += fetchedBytes;
    switch (result) {
      case 'there':
        counts.filesThere += 1;
        counts.bytesThere += sizeBytes;
        break;
      case 'declined':
        counts.filesDeclined += 1;
        break;
      case 'failed':
        counts.filesFailed += 1;
        break;
      case 'cancelled':
        // Nobody needs it any more: it has another version, or the reader is beyond it.
        counts.filesFound -= 1;
        counts.bytesFound -= sizeBytes;
        break;
    }
    this.#wake();
    this.#endIfDone();
  }

  opened(path: string): void {
    if (this.#window === undefined) return;
    for (const passed of this.#window.opened(path) ?? []) {
      const version = this.#versions.get(passed);
      this.#versions.delete(passed);
      if (version !== undefined) this.#prefetcher.disclaim(version, this.claim);
    }
    this.#versions.delete(path);
    this.#wake();
  }

  cancel(): void {
    if (!this.isOver) this.#finish('cancelled');
  }

  #take(found: Found): void {
    if ('missing' in found) {
      this.#counts.pathsMissing += 1;
      this.#window?.add(found.missing);
      return;
    }
    this.#counts.filesFound += 1;
    this.#counts.bytesFound += found.source.sizeBytes;
    this.#outstanding += 1;
    if (this.#window !== undefined) {
      this.#window.add(found.path);
      this.#versions.set(found.path, found.source.version);
    }
    const { lane, settings } = this.plan;
    const waitsForRoom = this.#window !== undefined;
    this.#prefetcher.want(found, { lane, settings, claim: this.claim, waitsForRoom });
  }

  async #mayGoOn(): Promise<boolean> {
    while (!this.isOver && (this.#outstanding >= OUTSTANDING_MAX || this.#window?.hasRoom === false)) {
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
    return !this.isOver;
  }

  #endIfDone(): void {
    if (this.#isFound && this.#outstanding === 0 && !this.isOver) this.#finish('done');
  }

  #finish(state: JobState, error?: string): void {
    this.#state = state;
    this.#error = error;
    this.#abort.abort();
    this.#wake();
    this.#prefetcher.cancel(this.claim);
    this.#end.resolve();
  }
}
