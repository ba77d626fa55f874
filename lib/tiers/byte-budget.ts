/**
 * Bounds bytes: those in memory at one time, and those that go out in one second. First come, first served; whoever
 * asks for more than there ever is goes alone.
 */
import { sleep, type Clock } from '../base/clock.ts';

export class ByteBudget {
  readonly #bytesMax: number;
  readonly #waiting: (() => boolean)[] = [];
  #heldBytes = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  /** Runs while the bytes are counted. */
  async hold<T>(bytes: number, run: () => Promise<T>): Promise<T> {
    await this.#take(bytes);
    try {
      return await run();
    } finally {
      this.#heldBytes -= bytes;
      while (this.#waiting[0]?.()) this.#waiting.shift();
    }
  }

  #take(bytes: number): Promise<void> {
    const take = (): boolean => {
      if (this.#heldBytes > 0 && this.#heldBytes + bytes > this.#bytesMax) return false;
      this.#heldBytes += bytes;
      return true;
    };
    if (this.#waiting.length === 0 && take()) return Promise.resolve();
    return new Promise((resolve) => {
      this.#waiting.push(() => {
        if (!take()) return false;
        resolve();
        return true;
      });
    });
  }
}

/** Lets bytes go at a rate. What was not used is not saved up. */
export class BytePace {
  readonly #clock: Clock;
  readonly #bytesPerSecond: number;
  /** When all that was let go has had its time. */
  #freeAtMs = 0;

  constructor(clock: Clock, bytesPerSecond: number) {
    this.#clock = clock;
    this.#bytesPerSecond = bytesPerSecond;
  }

  /** Resolves when these bytes may go; rejects with the signal's reason. */
  async take(bytes: number, signal?: AbortSignal): Promise<void> {
    const nowMs = this.#clock.nowMs();
    const startMs = Math.max(nowMs, this.#freeAtMs);
    this.#freeAtMs = startMs + (bytes * 1000) / this.#bytesPerSecond;
    if (startMs > nowMs) await sleep(this.#clock, startMs - nowMs, signal);
  }
}
