/**
 * Memory of parts, used again: a fresh buffer of megabytes for each part costs more in the garbage collector and in page
 * faults than its hash. What is not needed any more for a while is let go.
 */
import type { Clock } from '../base/clock.ts';
import { PART_BYTES_FIRST } from './part-geometry.ts';

const IDLE_MS = 5_000;

export class PartBuffers {
  readonly #clock: Clock;
  #free: Buffer[] = [];
  #used = 0;
  #cancelIdle: (() => void) | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** @returns what `run` does. If it fails somebody may still read from the buffer, so it is not used again. */
  async lend<T>(length: number, run: (buffer: Buffer) => Promise<T>): Promise<T> {
    this.#cancelIdle?.();
    this.#used += 1;
    const isCommon = length <= PART_BYTES_FIRST;
    const buffer =
      (isCommon ? this.#free.pop() : undefined) ??
      Buffer.allocUnsafeSlow(isCommon ? PART_BYTES_FIRST : length);
    try {
      const result = await run(buffer.subarray(0, length));
      if (isCommon) this.#free.push(buffer);
      return result;
    } finally {
      this.#used -= 1;
      if (this.#used === 0) this.#cancelIdle = this.#clock.after(IDLE_MS, () => (this.#free = []));
    }
  }
}
