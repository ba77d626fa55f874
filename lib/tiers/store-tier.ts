/**
 * The tier of object stores: worker threads fetch with conditional ranged GETs and write straight into the sink.
 *
 * How: two queues in front of the pool. What somebody waits for has one of its own, so it never waits behind
 * background work; `readahead` goes before `background` in the other. A large fill is several GETs at once.
 *
 * Guarantees: those of `tier.ts`; and a fill settles only when nothing writes to its descriptor any more, so the
 * caller may close it. Cancelled requests fail with the reason of their signal.
 */
import PQueue from 'p-queue';
import { nextTurn, sleep, type Clock } from '../base/clock.ts';
import { invariant } from '../base/errors.ts';
import type { Logger } from '../telemetry/log.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { FETCH_LIMITS, type FetchLimits } from './fetch-limits.ts';
import { FetchPool, type FetchAnswer, type PooledFetch } from './fetch-pool.ts';
import type { FetchWorkerFactory } from './fetch-protocol.ts';
import { FillWatermark, splitFill } from './fill-parts.ts';
import { QuickFetch, type QuickMeans } from './quick-fetch.ts';
import {
  TierError,
  type FetchPriority,
  type FillOptions,
  type FillRequest,
  type FillResult,
  type Tier,
  type VersionSource,
} from './tier.ts';

export interface StoreTierOptions {
  readonly startWorker: FetchWorkerFactory;
  readonly workerCount: number;
  /** Undefined: there is no such export. Credentials are the worker's own. */
  readonly storeUrlOf: (exportName: string) => string | undefined;
  /** Stores that each worker gets ready at its start, so that the first reader need not wait for that. */
  readonly storeUrls?: readonly string[];
  /** Absent: all goes to workers. */
  readonly quick?: QuickMeans;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly limits?: Partial<FetchLimits>;
}

/** For p-queue: higher goes first. */
const PRIORITIES: Readonly<Record<FetchPriority, number>> = { demand: 2, readahead: 1, background: 0 };

export function createStoreTier(options: StoreTierOptions): Tier {
  return new StoreTier(options);
}

type Range = Parameters<Tier['read']>[0];

interface Queued extends Omit<PooledFetch, 'storeUrl' | 'deadlineMs'> {
  readonly priority: FetchPriority;
}

class StoreTier implements Tier {
  readonly name = 'store';
  readonly #options: StoreTierOptions;
  readonly #limits: FetchLimits;
  readonly #pool: FetchPool;
  readonly #demand: PQueue;
  readonly #ahead: PQueue;
  readonly #quick: QuickFetch | undefined;
  /** Fills by workers that take long enough to keep a disk busy. */
  #largeFills = 0;

  constructor(options: StoreTierOptions) {
    invariant(options.workerCount >= 1, 'a tier has a worker');
    this.#options = options;
    this.#limits = { ...FETCH_LIMITS, ...options.limits };
    const { quick } = options;
    this.#quick =
      quick &&
      new QuickFetch({
        ...options,
        ...quick,
        limits: this.#limits,
        askAccess: (url) => this.#pool.prepare(url),
      });
    this.#pool = new FetchPool({
      ...options,
      limits: this.#limits,
      onAccess: (url, access) => this.#quick?.take(url, access),
    });
    const { demandGetsPerWorkerMax, aheadGetsPerWorkerMax } = this.#limits;
    this.#demand = new PQueue({ concurrency: demandGetsPerWorkerMax * options.workerCount });
    this.#ahead = new PQueue({ concurrency: aheadGetsPerWorkerMax * options.workerCount });
  }

  async fill(request: FillRequest, options: FillOptions = {}): Promise<FillResult> {
    checkRange(request);
    const { offset, length, blockBytes } = request;
    invariant(offset % blockBytes === 0, 'a fill begins at a block boundary');
    if (length === 0) return { blockChecksums: [] };
    if (length <= this.#limits.quickBytesMax) {
      const quick = this.#fillQuickly(request, options.signal);
      return (quick && (await quick)) ?? this.#fillByWorkers(request, options);
    }
    this.#largeFills++;
    try {
      return await this.#fillByWorkers(request, options);
    } finally {
      this.#largeFills--;
    }
  }

  async read(range: Range, options: { readonly signal?: AbortSignal } = {}): Promise<Uint8Array> {
    checkRange(range);
    if (range.length === 0) return new Uint8Array(0);
    const { source, offset, length, priority } = range;
    const quick = priority === 'demand' ? this.#readQuickly(range) : undefined;
    const bytes = quick && (await quick);
    if (bytes !== undefined) return bytes;
    const answer = await this.#fetch(
      { source, offset, length, sink: undefined, leadBytes: 0, priority },
      { signal: options.signal, onProgress: undefined },
    );
    invariant(answer.kind === 'bytes', 'a read is answered with bytes');
    return answer.bytes;
  }

  async close(): Promise<void> {
    this.#quick?.close();
    await this.#pool.close();
    // What still waits in a queue finds the pool closed. Only a worker that hangs in the system holds its queue up.
    const patience = new AbortController();
    const patienceEnds = sleep(this.#options.clock, this.#limits.letGoMs, patience.signal);
    const idle = Promise.all([this.#demand.onIdle(), this.#ahead.onIdle()]);
    await Promise.race([idle, patienceEnds]);
    patienceEnds.catch(() => undefined);
    patience.abort();
  }

  /** Undefined: to be done by a worker. */
  #fillQuickly(
    request: FillRequest,
    signal: AbortSignal | undefined,
  ): Promise<FillResult | undefined> | undefined {
    const { source, length, priority } = request;
    // A thread that answers programs must not wait for a disk that others keep busy.
    if (length < source.sizeBytes || priority !== 'demand' || this.#largeFills > 0) return undefined;
    const storeUrl = this.#options.storeUrlOf(source.exportName);
    return storeUrl === undefined ? undefined : this.#quick?.fill(storeUrl, request, signal);
  }

  #readQuickly(range: Omit<Range, 'priority'>): Promise<Uint8Array | undefined> | undefined {
    const storeUrl = this.#options.storeUrlOf(range.source.exportName);
    return storeUrl === undefined ? undefined : this.#quick?.read(storeUrl, range);
  }

  /**
   * The first bytes of a version that somebody waits for, from this thread. Resolves when they are told or late, so that
   * nothing competes with them. False or undefined: no use, a worker should hurry.
   */
  #lead({ source }: FillRequest, { onLead }: FillOptions): Promise<boolean> | undefined {
    const { leadBytes, leadMs } = this.#limits;
    const lead =
      leadBytes > 0 && onLead ? this.#readQuickly({ source, offset: 0, length: leadBytes }) : undefined;
    if (lead === undefined) return undefined;
    return new Promise((resolve) => {
      const cancel = this.#options.clock.after(leadMs, () => resolve(true));
      void lead.then((bytes) => {
        cancel();
        if (bytes !== undefined) onLead?.(bytes);
        // Whoever waits for them is answered first.
        nextTurn(() => resolve(bytes !== undefined));
      });
    });
  }

  async #fillByWorkers(request: FillRequest, options: FillOptions): Promise<FillResult> {
    const { source, offset, length, blockBytes, priority } = request;
    const { getBytesMax, wholeObjectBytesMax } = this.#limits;
    // Of what is verified as a whole nothing is shown before its end.
    const isWhole = length === source.sizeBytes && length <= wholeObjectBytesMax;
    const isLed = priority === 'demand' && offset === 0 && !isWhole;
    const lead = isLed ? this.#lead(request, options) : undefined;
    const leadBytes = isLed && !(lead && (await lead)) ? this.#limits.leadBytes : 0;
    // To make a file can take as long as a GET, and the answer to that should not wait for it.
    const sink = { descriptor: request.sinkFd, blockBytes };
    const parts = splitFill({ offset, length }, { blockBytes, getBytesMax });
    const watermark = new FillWatermark(parts);
    const advance = (index: number, filledTo: number): void => {
      const value = watermark.advance(index, filledTo);
      if (value !== undefined) options.onProgress?.(value);
    };
    const fillPart = async (index: number, signal: AbortSignal | undefined): Promise<readonly number[]> => {
      const part = parts[index]!;
      const onProgress = options.onProgress && ((filledTo: number) => advance(index, filledTo));
      const led = { leadBytes: index === 0 ? leadBytes : 0 };
      const answer = await this.#fetch({ source, ...part, ...led, sink, priority }, { signal, onProgress });
      invariant(answer.kind === 'filled', 'a fill is answered with checksums');
      advance(index, part.offset + part.length);
      return answer.blockChecksums;
    };
    if (parts.length === 1) return { blockChecksums: await fillPart(0, options.signal) };
    return { blockChecksums: await this.#allOrNone(parts.length, fillPart, options.signal) };
  }

  /** Runs all parts; when one fails the others are cancelled, and all are let go before the failure is told. */
  async #allOrNone(
    count: number,
    fillPart: (index: number, signal: AbortSignal) => Promise<readonly number[]>,
    signal: AbortSignal | undefined,
  ): Promise<readonly number[]> {
    const others = new AbortController();
    const abort = (): void => others.abort(signal?.reason);
    if (signal?.aborted) abort();
    signal?.addEventListener('abort', abort, { once: true });
    let failure: { readonly error: unknown } | undefined;
    const running = Array.from({ length: count }, async (_, index) => {
      try {
        return await fillPart(index, others.signal);
      } catch (error) {
        failure ??= { error };
        others.abort(error);
        return [];
      }
    });
    const checksums = await Promise.all(running);
    signal?.removeEventListener('abort', abort);
    if (failure !== undefined) throw failure.error;
    return checksums.flat();
  }

  async #fetch(
    queued: Queued,
    options: {
      readonly signal: AbortSignal | undefined;
      readonly onProgress: ((filledTo: number) => void) | undefined;
    },
  ): Promise<FetchAnswer> {
    const { priority, ...fetch } = queued;
    const { metrics, storeUrlOf, clock } = this.#options;
    const storeUrl = storeUrlOf(fetch.source.exportName);
    try {
      if (storeUrl === undefined) {
        throw new TierError('unavailable', `no store is known for export ${fetch.source.exportName}`);
      }
      const queue = priority === 'demand' ? this.#demand : this.#ahead;
      const submittedMs = clock.nowMs();
      if (queue.pending >= queue.concurrency) {
        metrics.limitReached.inc({ limit: priority === 'demand' ? 'tier.demandGets' : 'tier.aheadGets' });
      }
      const answer = await queue.add(
        () => {
          const waitedMs = priority === 'demand' ? clock.nowMs() - submittedMs : 0;
          const deadlineMs = this.#limits.deadlineMs - waitedMs;
          if (deadlineMs <= 0) throw new TierError('timeout', 'too many requests were waiting');
          return this.#pool.run({ ...fetch, storeUrl, deadlineMs }, options);
        },
        { priority: PRIORITIES[priority] },
      );
      metrics.tierRequests.inc({ tier: this.name, result: 'ok' });
      metrics.tierBytes.inc({ tier: this.name, direction: 'in' }, fetch.length);
      return answer;
    } catch (error) {
      const result = error instanceof TierError ? error.code : 'cancelled';
      metrics.tierRequests.inc({ tier: this.name, result });
      throw error;
    }
  }
}

function checkRange(range: {
  readonly source: VersionSource;
  readonly offset: number;
  readonly length: number;
}): void {
  const { source, offset, length } = range;
  invariant(
    offset >= 0 && length >= 0 && offset + length <= source.sizeBytes,
    'a range lies inside its version',
  );
}
