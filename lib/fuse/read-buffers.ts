/**
 * Memory for the replies of reads, used again: a fresh megabyte for each read makes the garbage collector mark the
 * whole heap many times a second.
 *
 * Invariant: a buffer is given back only by the one who knows that nobody writes to it any more. One that is not
 * given back (its read failed, and may still be under way) is left to the garbage collector.
 */
const KEPT_MAX = 16;

export class ReadBuffers {
  readonly #bytes: number;
  readonly #kept: Buffer[] = [];

  /** @param bytes of the longest read */
  constructor(bytes: number) {
    this.#bytes = bytes;
  }

  take(): Buffer {
    return this.#kept.pop() ?? Buffer.allocUnsafeSlow(this.#bytes);
  }

  giveBack(buffer: Buffer): void {
    if (this.#kept.length < KEPT_MAX) this.#kept.push(buffer);
  }
}
