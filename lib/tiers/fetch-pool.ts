/**
 * The pool of workers that fetch and send: gives each request to the least busy worker and settles it when that worker answers.
 *
 * Guarantees: a request with a descriptor settles only when nothing uses the descriptor any more: on the worker's
 * answer, or when the worker has ended. That holds for cancelled and timed-out requests too, so they settle a
 * moment later; requests into memory settle at once. A worker that does not let go within `letGoMs` is ended. A worker
 * that died is replaced, and its requests start again, each `workerLossesMax` times at most.
 *
 * States of a request: running → (letting go →) settled; of a worker: working → (ended by us, hanging →) gone.
 */
import type { Clock } from '../base/clock.ts';
import { describeError, invariant } from '../base/errors.ts';
import type { Logger } from '../telemetry/log.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import type { StoreAccess } from '../store/object-store.ts';
import type { FetchLimits } from './fetch-limits.ts';
import type {
  FetchCommand,
  FetchWorker,
  FetchWorkerFactory,
  FromFetchWorker,
  SendCommand,
} from './fetch-protocol.ts';
import { errorOf } from './tier-errors.ts';
import { TierError } from './tier.ts';

export type FetchAnswer = Extract<FromFetchWorker, { kind: 'filled' | 'bytes' }>;
export type PooledFetch = Omit<FetchCommand, 'kind' | 'id'>;
export type SendAnswer = Extract<FromFetchWorker, { kind: 'sent' }>;
export type PooledSend = Omit<SendCommand, 'kind' | 'id'>;
type Command = Omit<FetchCommand, 'id'> | Omit<SendCommand, 'id'>;

export interface FetchPoolOptions {
  readonly startWorker: FetchWorkerFactory;
  readonly workerCount: number;
  /** Stores that each worker gets ready before anybody asks. */
  readonly storeUrls?: readonly string[] | undefined;
  readonly onAccess?: ((storeUrl: string, access: StoreAccess | undefined) => void) | undefined;
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
  readonly command: Command;
  readonly onProgress: ((filledTo: number) => void) | undefined;
  readonly settle: (
    outcome: { readonly answer: FetchAnswer | SendAnswer } | { readonly error: unknown },
  ) => void;
  /** Where it runs now. */
  hand: Hand | undefined;
  id: number;
  /** By then the worker must have answered. */
  deadlineMs: number;
  losses: number;
  /** Set once nobody wants the answer any more: what the request fails with when it is let go. */
  lettingGo: { readonly reason: unknown } | undefined;
}

/** A worker and what it is doing. */
interface Hand {
  readonly worker: FetchWorker;
  readonly running: Map<number, Running>;
}

export class FetchPool {
  readonly #options: FetchPoolOptions;
  readonly #working = new Set<Hand>();
  readonly #hanging = new Set<Hand>();
  readonly #stopSweep: () => void;
  #nextId = 1;
  #closed = false;
  #onGone: () => void = () => undefined;

  constructor(options: FetchPoolOptions) {
    this.#options = options;
    for (let count = 0; count < options.workerCount; count++) this.#hire();
    this.#stopSweep = options.clock.every(options.limits.sweepMs, () => this.#sweep());
  }

  async run(fetch: PooledFetch, options: FetchOptions): Promise<FetchAnswer> {
    const answer = await this.#submit({ kind: 'fetch', ...fetch }, options);
    invariant(answer.kind !== 'sent', 'a fetch is answered as one');
    return answer;
  }

  async send(send: PooledSend, options: Pick<FetchOptions, 'signal'>): Promise<SendAnswer> {
    const answer = await this.#submit({ kind: 'send', ...send }, { ...options, onProgress: undefined });
    invariant(answer.kind === 'sent', 'a part is answered as sent');
    return answer;
  }

  #submit(command: Command, { signal, onProgress }: FetchOptions): Promise<FetchAnswer | SendAnswer> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      if (this.#closed) return reject(closedError());
      const abort = (): void => this.#letGo(running, signal?.reason);
      const { clock, limits } = this.#options;
      const running: Running = {
        command,
        onProgress,
        settle: (outcome) => {
          signal?.removeEventListener('abort', abort);
          if ('answer' in outcome) resolve(outcome.answer);
          else reject(outcome.error);
        },
        hand: undefined,
        id: 0,
        // The worker keeps the deadline itself; this one is for workers that do not.
        deadlineMs: clock.nowMs() + command.deadlineMs + limits.sweepMs,
        losses: 0,
        lettingGo: undefined,
      };
      signal?.addEventListener('abort', abort, { once: true });
      this.#dispatch(running);
    });
  }

  /** Has a worker get that store ready and tell of its access. */
  prepare(storeUrl: string): void {
    for (const { worker } of this.#working) return worker.post({ kind: 'prepare', storeUrl });
  }

  /** Cancels everything, waits until it is let go, and ends the workers. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    for (const hand of this.#hands()) {
      for (const running of hand.running.values()) this.#letGo(running, closedError());
    }
    for (const { worker } of this.#working) worker.post({ kind: 'close' });
    const { clock, limits } = this.#options;
    const { promise: gone, resolve } = Promise.withResolvers<void>();
    this.#onGone = () => {
      if (this.#working.size === 0) resolve();
    };
    const cancelPatience = clock.after(limits.letGoMs, () => {
      for (const { worker } of this.#working) worker.terminate();
    });
    // A thread that hangs in the system cannot be ended by anybody; it is not waited for any longer.
    const cancelWait = clock.after(2 * limits.letGoMs, resolve);
    this.#onGone();
    await gone;
    cancelPatience();
    cancelWait();
    this.#stopSweep();
  }

  #dispatch(running: Running): void {
    try {
      while (this.#working.size < this.#options.workerCount) this.#hire();
    } catch (error) {
      return running.settle({ error: error instanceof TierError ? error : noWorker(error) });
    }
    let least: Hand | undefined;
    for (const hand of this.#working) {
      if (least === undefined || hand.running.size < least.running.size) least = hand;
    }
    invariant(least !== undefined, 'a pool has workers');
    running.hand = least;
    running.id = this.#nextId++;
    least.running.set(running.id, running);
    least.worker.post({ id: running.id, ...running.command });
  }

  #hire(): void {
    const { startWorker, limits, metrics, storeUrls = [] } = this.#options;
    if (this.#hanging.size > limits.hangingWorkersMax) {
      metrics.limitReached.inc({ limit: 'tier.hangingWorkers' });
      throw noWorker(new Error(`${this.#hanging.size} hang in the system`));
    }
    const worker = startWorker({
      onMessage: (message) => this.#onMessage(hand, message),
      onEnd: (cause) => this.#onEnd(hand, cause),
    });
    const hand: Hand = { worker, running: new Map() };
    this.#working.add(hand);
    for (const storeUrl of storeUrls) worker.post({ kind: 'prepare', storeUrl });
  }

  #onMessage(hand: Hand, message: FromFetchWorker): void {
    if (message.kind === 'access') return this.#options.onAccess?.(message.storeUrl, message.access);
    const running = hand.running.get(message.id);
    if (running === undefined) return;
    if (message.kind === 'progress') {
      if (running.lettingGo === undefined) running.onProgress?.(message.filledTo);
      return;
    }
    hand.running.delete(message.id);
    if (running.lettingGo !== undefined) running.settle({ error: running.lettingGo.reason });
    else if (message.kind === 'failed') running.settle({ error: errorOf(message.failure) });
    else running.settle({ answer: message });
  }

  #onEnd(hand: Hand, cause: unknown): void {
    this.#working.delete(hand);
    this.#hanging.delete(hand);
    const { limits, logger, metrics } = this.#options;
    const lost = Array.from(hand.running.values());
    hand.running.clear();
    if (!this.#closed) {
      metrics.tierRequests.inc({ tier: 'store', result: 'worker-lost' });
      logger.error({ cause: describeError(cause), requests: lost.length }, 'a fetch worker ended');
    }
    for (const running of lost) {
      if (running.lettingGo !== undefined) running.settle({ error: running.lettingGo.reason });
      else if (++running.losses > limits.workerLossesMax) running.settle({ error: noWorker(cause) });
      else this.#dispatch(running);
    }
    this.#onGone();
  }

  /** The caller wants no answer any more. */
  #letGo(running: Running, reason: unknown): void {
    if (running.lettingGo !== undefined) return;
    running.lettingGo = { reason };
    running.deadlineMs = this.#options.clock.nowMs() + this.#options.limits.letGoMs;
    running.hand?.worker.post({ kind: 'cancel', id: running.id });
    if (holdsDescriptor(running.command)) return;
    running.hand?.running.delete(running.id);
    running.settle({ error: reason });
  }

  #sweep(): void {
    const { clock, metrics } = this.#options;
    const now = clock.nowMs();
    for (const hand of this.#hands()) {
      for (const running of hand.running.values()) {
        if (now < running.deadlineMs) continue;
        if (running.lettingGo === undefined) {
          metrics.limitReached.inc({ limit: 'tier.deadlineMs' });
          this.#letGo(running, new TierError('timeout', whatOf(running.command)));
        } else if (this.#working.delete(hand)) {
          metrics.limitReached.inc({ limit: 'tier.letGoMs' });
          this.#hanging.add(hand);
          hand.worker.terminate();
        }
      }
    }
  }

  #hands(): Hand[] {
    return [...this.#working, ...this.#hanging];
  }
}

function holdsDescriptor(command: Command): boolean {
  return command.kind === 'send' || command.sink !== undefined;
}

function whatOf(command: Command): string {
  return command.kind === 'send'
    ? `sending part ${command.part.number} of ${command.upload.key}`
    : `fetching ${command.source.objectKey}`;
}

function noWorker(cause: unknown): TierError {
  return new TierError('unavailable', 'no fetch worker is left to ask', { cause });
}

function closedError(): TierError {
  return new TierError('closed', 'the tier is closed');
}
