/**
 * Waits out an origin that cannot be reached: a call that fails for that reason is made again when the session is live
 * again, or after a while, until `waitMs` have passed since it first failed. Then its failure stands.
 *
 * Bounded: `WAITERS_MAX` calls wait at a time; beyond it a call fails at once, and that is counted.
 */
import { type Clock } from '../base/clock.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { NamespaceError } from './namespace.ts';

/** The kernel has at most so many requests under way. */
const WAITERS_MAX = 4096;
/** Between attempts when nothing tells that the origin is back. */
const RETRY_MS = 500;

export interface OriginWaitOptions {
  readonly clock: Clock;
  readonly metrics: Metrics;
  readonly waitMs: number;
}

export class OriginWait {
  readonly #options: OriginWaitOptions;
  readonly #waiters = new Set<() => void>();

  constructor(options: OriginWaitOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#waiters.size;
  }

  /** The origin answers again. */
  wake(): void {
    for (const resume of [...this.#waiters]) resume();
  }

  /** @throws what the last attempt threw, and the reason of the signal */
  async run<T>(attempt: () => Promise<T>, signal: AbortSignal | undefined): Promise<T> {
    const { clock, waitMs } = this.#options;
    const startedMs = clock.nowMs();
    for (;;) {
      try {
        return await attempt();
      } catch (error) {
        if (!isUnreachable(error)) throw error;
        const leftMs = startedMs + waitMs - clock.nowMs();
        if (leftMs <= 0 || !this.#hasRoom()) throw error;
        await this.#wait(Math.min(leftMs, RETRY_MS), signal);
      }
    }
  }

  #hasRoom(): boolean {
    if (this.#waiters.size < WAITERS_MAX) return true;
    this.#options.metrics.limitReached.inc({ limit: 'origin_waiters' });
    return false;
  }

  #wait(delayMs: number, signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason as Error);
      const end = (): void => {
        cancel();
        this.#waiters.delete(resume);
        signal?.removeEventListener('abort', abort);
      };
      const resume = (): void => {
        end();
        resolve();
      };
      const abort = (): void => {
        end();
        reject(signal?.reason as Error);
      };
      const cancel = this.#options.clock.after(delayMs, resume);
      this.#waiters.add(resume);
      signal?.addEventListener('abort', abort, { once: true });
    });
  }
}

function isUnreachable(error: unknown): boolean {
  return error instanceof NamespaceError && (error.code === 'unavailable' || error.code === 'timeout');
}
