/**
 * Brings the rest of files that are being read to NVMe in the background, so that their next open is passthrough.
 *
 * At most `FILES_MAX` files at once, the others wait in the order of their patterns; of each file a few ranges are under
 * way. It holds a handle of its own, so the blob is not evicted meanwhile. When the last reader leaves, a file that is
 * mostly there is finished (throwing away is dearer than the rest), any other is given up; what was fetched stays.
 */
import PQueue from 'p-queue';
import type { BlockCache, CacheHandle, OpenVersion } from '../../cache/block-cache.ts';
import type { VersionId } from '../base/brand.ts';
import { describeError } from '../base/errors.ts';
import { MIB } from '../base/limits.ts';
import type { Logger } from '../telemetry/log.ts';
import type { Metrics } from '../telemetry/metrics.ts';

export const FILES_MAX = 4;
/** Files that wait for their turn; beyond it a file is left to its next reader. */
const FILES_WAITING_MAX = 1024;
const RANGE_BYTES = 16 * MIB;
/** Ranges of one file under way. */
const RANGES_MAX = 4;
/** A file of which so much is there is finished without readers. */
const KEEP_FRACTION = 0.75;

export interface FileCompleterOptions {
  readonly cache: BlockCache;
  readonly logger: Logger;
  readonly metrics: Metrics;
}

interface Job {
  readonly controller: AbortController;
  readonly sizeBytes: number;
  handle: CacheHandle | undefined;
}

export class FileCompleter {
  readonly #options: FileCompleterOptions;
  readonly #queue = new PQueue({ concurrency: FILES_MAX });
  readonly #jobs = new Map<VersionId, Job>();

  constructor(options: FileCompleterOptions) {
    this.#options = options;
  }

  /** Files under way or waiting. */
  get files(): number {
    return this.#jobs.size;
  }

  /** @param fromOffset where to begin; what lies before it comes last. */
  complete(file: OpenVersion, fromOffset: number): void {
    const { version, sizeBytes } = file.source;
    if (this.#jobs.has(version)) return;
    if (this.#queue.size >= FILES_WAITING_MAX) {
      this.#options.metrics.limitReached.inc({ limit: 'completer_files_waiting' });
      return;
    }
    const job: Job = { controller: new AbortController(), sizeBytes, handle: undefined };
    this.#jobs.set(version, job);
    void this.#queue.add(() => this.#run(file, job, fromOffset));
  }

  /** The last handle of this version was closed. */
  readerLeft(version: VersionId): void {
    const job = this.#jobs.get(version);
    if (job === undefined) return;
    const cachedBytes = job.handle?.cachedBytes ?? 0;
    if (cachedBytes < KEEP_FRACTION * job.sizeBytes) this.#end(version, job);
  }

  close(): void {
    for (const [version, job] of this.#jobs) this.#end(version, job);
    this.#queue.clear();
  }

  #end(version: VersionId, job: Job): void {
    job.controller.abort();
    this.#jobs.delete(version);
  }

  async #run(file: OpenVersion, job: Job, fromOffset: number): Promise<void> {
    const { signal } = job.controller;
    const { version, sizeBytes } = file.source;
    if (signal.aborted) return;
    try {
      const handle = (job.handle = this.#options.cache.open({ ...file, isUse: false }));
      const ranges = [...rangesOf(fromOffset, sizeBytes), ...rangesOf(0, fromOffset)];
      const lane = async (): Promise<void> => {
        for (let range = ranges.shift(); range !== undefined; range = ranges.shift()) {
          if (signal.aborted || handle.cachedBytes >= sizeBytes) return;
          await handle.fill(range.offset, range.length, { priority: 'background', signal });
        }
      };
      await Promise.all(Array.from({ length: RANGES_MAX }, lane));
    } catch (error) {
      // A reader that needs these bytes will ask for them, and see why they cannot be had.
      if (!signal.aborted) {
        this.#options.logger.debug(
          { version, cause: describeError(error) },
          'the rest of a file was not fetched',
        );
      }
    } finally {
      job.controller.abort();
      job.handle?.close();
      job.handle = undefined;
      if (this.#jobs.get(version) === job) this.#jobs.delete(version);
    }
  }
}

function rangesOf(from: number, to: number): { readonly offset: number; readonly length: number }[] {
  const ranges = [];
  for (let offset = from; offset < to; offset += RANGE_BYTES) {
    ranges.push({ offset, length: Math.min(RANGE_BYTES, to - offset) });
  }
  return ranges;
}
