/** At most so many at one time; the rest wait in order. A wait ends with its signal; it is counted as a limit reached. */
import type { Metrics } from '../lib/telemetry/metrics.ts';

export class Slots {
  readonly #limit: number;
  readonly #name: string;
  readonly #metrics: Metrics;
  readonly #waiting = new Set<() => void>();
  #taken = 0;

  constructor(options: { readonly limit: number; readonly name: string; readonly metrics: Metrics }) {
    this.#limit = options.limit;
    this.#name = options.name;
    this.#metrics = options.metrics;
  }

  tryTake(): boolean {
    if (this.#taken >= this.#limit) return false;
    this.#taken++;
    return true;
  }

  async take(signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    if (this.tryTake()) return;
    this.#metrics.limitReached.inc({ limit: this.#name });
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#waiting.add(resolve);
    const onAbort = (): void => {
      if (this.#waiting.delete(resolve)) reject(signal?.reason);
    };
    signal?.addEventListener('abort', onAbort, { once: true });
    try {
      await promise;
    } finally {
      signal?.removeEventListener('abort', onAbort);
    }
  }

  /** The slot goes to who has waited longest. */
  give(): void {
    for (const next of this.#waiting) {
      this.#waiting.delete(next);
      return next();
    }
    this.#taken--;
  }
}
