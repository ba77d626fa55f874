/**
 * The room that one file being written takes and may take.
 *
 * What it takes is what the file system says, looked at after each operation of ours and now and then besides: the
 * kernel's writes nobody tells us of. While somebody writes, room is kept ahead of them, so that blobs give way in
 * time; the faster they write, the more, and for who pauses none. What we do ourselves is promised to begin with, or
 * refused. When there is no room left but what is kept ahead of writers, it is there for whoever needs it now.
 *
 * Invariant: the ledger's used bytes contain what was seen last of this file, its reserved bytes what is kept ahead.
 */
import { CacheError } from '../block-cache.ts';
import { WRITER_AHEAD_BYTES_MAX, WRITER_AHEAD_BYTES_MIN, WRITER_BEGIN_BYTES_MIN } from '../limits.ts';
import type { Reservation, SpaceLedger } from '../reservation.ts';
import type { Space } from '../space.ts';

/** Of the capacity, what is kept ahead of one writer at most. */
const AHEAD_FRACTION_MAX = 1 / 32;

export interface WriterRoomOptions {
  readonly ledger: SpaceLedger;
  readonly space: Space;
  /** Bytes of the device that the file takes now. */
  readonly allocatedBytes: () => number;
  /** Has what is kept ahead of all writers given back. */
  readonly yieldAhead: () => void;
}

export class WriterRoom {
  readonly #options: WriterRoomOptions;
  #usedBytes = 0;
  #ahead: Reservation | undefined;
  #isOpen = false;
  #isTaking = false;
  /** Operations of ours under way: what they take is promised and may be there already. */
  #operations = 0;
  #isStopped = false;

  constructor(options: WriterRoomOptions) {
    this.#options = options;
  }

  get usedBytes(): number {
    return this.#usedBytes;
  }

  get aheadBytes(): number {
    return this.#ahead?.bytes ?? 0;
  }

  /** Somebody may write from now on. @throws CacheError `no-space` */
  async open(): Promise<void> {
    this.#isOpen = true;
    if (this.#ahead !== undefined) return;
    if (await this.#takeAhead(WRITER_AHEAD_BYTES_MIN)) return;
    this.#options.yieldAhead();
    if (await this.#takeAhead(WRITER_AHEAD_BYTES_MIN)) return;
    this.#isOpen = false;
    throw noSpace(WRITER_BEGIN_BYTES_MIN);
  }

  close(): void {
    this.#isOpen = false;
    this.giveAhead();
    this.account();
  }

  giveAhead(): void {
    this.#ahead?.settle(0);
    this.#ahead = undefined;
  }

  /** Runs what may take so many bytes more. @throws CacheError `no-space` before it has begun */
  async during<T>(bytes: number, run: () => Promise<T>): Promise<T> {
    const reservation = await this.#reserve(bytes);
    this.#operations++;
    try {
      return await run();
    } finally {
      this.#operations--;
      reservation.settle(0);
      this.account();
    }
  }

  /** Sees what the file takes now. Answers with how much more that is than before. */
  account(): number {
    if (this.#isStopped) return 0;
    const { ledger, allocatedBytes } = this.#options;
    const grownBytes = allocatedBytes() - this.#usedBytes;
    this.#usedBytes += grownBytes;
    if (grownBytes < 0) ledger.free(-grownBytes);
    else if (grownBytes > 0) {
      const ofAhead = Math.min(grownBytes, this.aheadBytes);
      this.#ahead?.settle(ofAhead);
      this.#ahead = undefined;
      ledger.adopt(grownBytes - ofAhead);
    }
    return grownBytes;
  }

  /** Now and then, as long as somebody writes: keeps as much ahead as the writer deserves by now. */
  look(): void {
    if (!this.#isOpen || this.#isTaking || this.#operations > 0) return;
    const grownBytes = this.account();
    const mostBytes = Math.min(
      WRITER_AHEAD_BYTES_MAX,
      this.#options.ledger.capacityBytes * AHEAD_FRACTION_MAX,
    );
    this.giveAhead();
    if (grownBytes <= 0) return;
    void this.#takeAhead(Math.max(WRITER_AHEAD_BYTES_MIN, Math.min(2 * grownBytes, mostBytes)));
  }

  /** The file is not looked at any more. */
  stop(): void {
    this.#isOpen = false;
    this.#isStopped = true;
    this.giveAhead();
  }

  /** The file is gone, or its room is accounted for elsewhere. */
  leave(): void {
    this.stop();
    this.#options.ledger.free(this.#usedBytes);
    this.#usedBytes = 0;
  }

  async #reserve(bytes: number): Promise<Reservation> {
    const { space, yieldAhead } = this.#options;
    const reservation = await space.reserveForWriter(bytes);
    if (reservation !== undefined) return reservation;
    yieldAhead();
    const second = await space.reserveForWriter(bytes);
    if (second === undefined) throw noSpace(bytes);
    return second;
  }

  /** As much as there is, between the wanted and the least. */
  async #takeAhead(wantedBytes: number): Promise<boolean> {
    this.#isTaking = true;
    try {
      for (let bytes = wantedBytes; bytes >= WRITER_BEGIN_BYTES_MIN; bytes = Math.floor(bytes / 2)) {
        const reservation = await this.#options.space.reserveForWriter(bytes);
        if (reservation === undefined) continue;
        if (this.#isOpen && this.#ahead === undefined) this.#ahead = reservation;
        else reservation.settle(0);
        return true;
      }
      return false;
    } finally {
      this.#isTaking = false;
    }
  }
}

function noSpace(bytes: number): CacheError {
  return new CacheError('no-space', `there is no room for ${bytes} more bytes of files being written`, {
    hint: 'give the cache more space, or wait until what was written has reached the object store',
  });
}
