/**
 * The ledger of space: what blobs and working copies take, and what is promised to fills and writers that have not
 * written yet.
 *
 * Invariant: used + reserved <= capacity after every grant. A reservation is settled exactly once: what was
 * written becomes used, the rest is given back.
 */
import { invariant } from '../lib/base/errors.ts';

export interface Reservation {
  readonly bytes: number;
  /** Ends it; `usedBytes` of it were taken. */
  settle(usedBytes: number): void;
}

export class SpaceLedger {
  readonly capacityBytes: number;
  #usedBytes = 0;
  #reservedBytes = 0;

  constructor(capacityBytes: number) {
    this.capacityBytes = capacityBytes;
  }

  get usedBytes(): number {
    return this.#usedBytes;
  }

  get reservedBytes(): number {
    return this.#reservedBytes;
  }

  /** Negative after a restart with a smaller capacity, until blobs are evicted. */
  get freeBytes(): number {
    return this.capacityBytes - this.#usedBytes - this.#reservedBytes;
  }

  tryReserve(bytes: number): Reservation | undefined {
    invariant(bytes >= 0, 'a reservation is not negative');
    if (bytes > this.freeBytes && bytes > 0) return undefined;
    this.#reservedBytes += bytes;
    let open = true;
    return {
      bytes,
      settle: (usedBytes) => {
        invariant(
          open && usedBytes >= 0 && usedBytes <= bytes,
          'a reservation is settled once, within its size',
        );
        open = false;
        this.#reservedBytes -= bytes;
        this.#usedBytes += usedBytes;
      },
    };
  }

  /** Space that is taken already: by an earlier run, or by a writer that nobody asks first. */
  adopt(bytes: number): void {
    this.#usedBytes += bytes;
  }

  free(bytes: number): void {
    invariant(bytes <= this.#usedBytes, 'only used space is freed');
    this.#usedBytes -= bytes;
  }
}
