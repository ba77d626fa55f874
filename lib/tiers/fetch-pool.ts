/**
 * The pool of fetch workers: gives each request to the least busy worker and answers when that worker lets it go.
 *
 * Guarantees: a request into a descriptor settles only when nothing writes to the descriptor any more: on the worker's
 * answer, or when the worker has ended. That holds for cancelled and timed-out requests too, which is why
 * they settle a moment later; a worker that does not let go within `letGoMs` is ended. A worker that dies is replaced
 * when the next request needs it, and its requests start again on another, `workerLossesMax` times at most.
 *
 * States of a request: running → (letting go →) settled.
 */
import type { Clock } from '../base/clock.ts';
import { describeError } from '../base/errors.ts';
import type { Logger } from '../telemetry/log.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import type { FetchLimits } from './fetch-limits.ts';
import type { FetchCommand, FetchWorker, FetchWorkerFactory, FromFetchWorker } from './fetch-protocol.ts';
import { errorOf } from './tier-errors.ts';
import { TierError } from './tier.ts';

export type FetchAnswer = Extract<FromFetchWorker, { kind: 'filled' | 'bytes' }>;
export type PooledFetch = Omit<FetchCommand, 'kind' | 'id'>;

export interface FetchPoolOptions {
  readonly startWorker: FetchWorkerFactory;
  readonly workerCount: number;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly limits: FetchLimits;
}

export interface FetchOptions {
  readonly signal: AbortSignal | undefined;
  readonly onProgress: ((filledTo: number) => void) | undefined;
}

interface Running {
  readonly fetch: PooledFetch;
  readonly onProgress: ((filledTo: number) => void) | undefined;
  readonly resolve: (answer: FetchAnswer) => void;
  readonly reject: (error: unknown) => void;
  /** By then the worker must have answered. */
  deadlineMs: number;
  losses: number;
  /** Set once nobody wants the answer any more: what the request fails with when it is let go. */
  lettingGo: { readonly reason: unknown } | undefined;
}

interface Slot {
  worker: FetchWorker | undefined;
  readonly running: Map<number, Running>;
}

export class FetchPool {
  readonly #options: FetchPoolOptions;
  readonly #slots: readonly Slot[];
  readonly #stopSweep: () => void;
  #nextId = 1;
  #closed = false;
  #workerGone: () => void = () => undefined;

  constructor(options: FetchPoolOptions) {
    this.#options = options;
    this.#slots = Array.from({ length: options.workerCount }, () => ({
      worker: undefined,
      running: new Map<number, Running>(),
    }));
    for (const slot of this.#slots) this.#workerOf(slot);
    this.#stopSweep = options.clock.every(options.limits.sweepMs, () => this.#sweep());
  }

  run(fetch: PooledFetch, options: FetchOptions): Promise<FetchAnswer> {
    return new Promise((resolve, reject) => {
      const { signal, onProgress } = options;
      if (signal?.aborted) return reject(signal.reason);
      if (this.#closed) return reject(closedError());
      const abort = (): void => this.#letGo(running, signal?.reason);
      const running: Running = {
        fetch,
        onProgress,
        resolve: (answer) => {
          signal?.removeEventListener('abort', abort);
          resolve(answer);
        },
        reject: (error) => {
          signal?.removeEventListener('abort', abort);
          reject(error);
        },
        // The worker keeps the deadline itself; this one is for workers that do not.
        deadlineMs: this.#options.clock.nowMs() + fetch.deadlineMs + this.#options.limits.sweepMs,
        losses: 0,
        lettingGo: undefined,
      };
      signal?.addEventListener('abort', abort, { once: true });
      this.#dispatch(running);
    });
  }

  /** Cancels everything, waits until it is let go, and ends the workers. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    for (const running of this.#allRunning()) this.#letGo(running, closedError());
    const { clock, limits } = this.#options;
    const gone = new Promise<void>((resolve) => {
      this.#workerGone = () => {
        if (this.#slots.every((slot) => slot.worker === undefined)) resolve();
      };
    });
    for (const slot of this.#slots) slot.worker?.post({ kind: 'close' });
    const cancelPatience = clock.after(limits.letGoMs, () => {
      for (const slot of this.#slots) slot.worker?.terminate();
    });
    this.#workerGone();
    await gone;
    cancelPatience();
    this.#stopSweep();
  }

  #dispatch(running: Running): void {
    let least = this.#slots[0]!;
    for (const slot of this.#slots) if (slot.running.size < least.running.size) least = slot;
    const id = this.#nextId++;
    least.running.set(id, running);
    try {
      this.#workerOf(least).post({ kind: 'fetch', id, ...running.fetch });
    } catch (error) {
      least.running.delete(id);
      running.reject(new TierError('unavailable', 'no fetch worker could be started', { cause: error }));
    }
  }

  #workerOf(slot: Slot): FetchWorker {
    if (slot.worker !== undefined) return slot.worker;
    const worker = this.#options.startWorker({
      onMessage: (message) => this.#onMessage(slot, message),
      onEnd: (cause) => {
        if (slot.worker === worker) this.#onEnd(slot, cause);
      },
    });
    slot.worker = worker;
    return worker;
  }

  #onMessage(slot: Slot, message: FromFetchWorker): void {
    const running = slot.running.get(message.id);
    if (running === undefined) return;
    if (message.kind === 'progress') {
      if (running.lettingGo === undefined) running.onProgress?.(message.filledTo);
      return;
    }
    slot.running.delete(message.id);
    if (running.lettingGo !== undefined) running.reject(running.lettingGo.reason);
    else if (message.kind === 'failed') running.reject(errorOf(message.failure));
    else running.resolve(message);
  }

  #onEnd(slot: Slot, cause: unknown): void {
    slot.worker = undefined;
    const lost = Array.from(slot.running.values());
    slot.running.clear();
    if (!this.#closed) {
      this.#options.metrics.tierRequests.inc({ tier: 'store', result: 'worker-lost' });
      this.#options.logger.error(
        { cause: describeError(cause), requests: lost.length },
        'a fetch worker ended and will be replaced',
      );
    }
    for (const running of lost) {
      if (running.lettingGo !== undefined) running.reject(running.lettingGo.reason);
      else if (this.#closed) running.reject(closedError());
      else if (++running.losses > this.#options.limits.workerLossesMax) {
        running.reject(new TierError('unavailable', 'fetch workers keep ending', { cause }));
      } else this.#dispatch(running);
    }
    this.#workerGone();
  }

  /** The caller wants no answer any more; it gets `reason` as soon as nothing writes to its descriptor. */
  #letGo(running: Running, reason: unknown): void {
    if (running.lettingGo !== undefined) return;
    for (const slot of this.#slots) {
      for (const [id, other] of slot.running) {
        if (other !== running) continue;
        running.lettingGo = { reason };
        running.deadlineMs = this.#options.clock.nowMs() + this.#options.limits.letGoMs;
        slot.worker?.post({ kind: 'cancel', id });
        return;
      }
    }
  }

  #sweep(): void {
    const now = this.#options.clock.nowMs();
    for (const slot of this.#slots) {
      for (const running of slot.running.values()) {
        if (now < running.deadlineMs) continue;
        if (running.lettingGo !== undefined) {
          this.#options.metrics.limitReached.inc({ limit: 'tier.letGoMs' });
          slot.worker?.terminate();
          break;
        }
        this.#options.metrics.limitReached.inc({ limit: 'tier.deadlineMs' });
        this.#letGo(running, new TierError('timeout', `fetching ${running.fetch.source.objectKey}`));
      }
    }
  }

  *#allRunning(): Generator<Running> {
    for (const slot of this.#slots) yield* slot.running.values();
  }
}

function closedError(): TierError {
  return new TierError('closed', 'the tier is closed');
}
