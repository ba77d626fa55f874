/**
 * Room for fills and writers: the ledger's capacity, the file system's free space, and evictions to make both.
 *
 * Space is a promise: nothing is written to NVMe without a reservation, and a reservation is only given when
 * ledger and file system both have the room. Who gives way is the policy's decision; blobs that are open,
 * pinned, or being worked on never do. Below the file system's reserve (somebody else fills the disk) blobs
 * give way whether a newcomer deserves it or not; and so they do for a writer, whose bytes are nowhere else.
 */
import type { Clock } from '../lib/base/clock.ts';
import type { Blob } from './blob.ts';
import type { BlobTable } from './blob-table.ts';
import type { Counters } from './counters.ts';
import type { Disk } from './disk.ts';
import type { EvictionPolicy } from './eviction-policy.ts';
import {
  FREE_SPACE_AGE_MS,
  FREE_SPACE_BYTES_MAX,
  FREE_SPACE_CHECK_MS,
  FREE_SPACE_FRACTION,
  FREE_SPACE_RELIEF_FACTOR,
  WRITER_LEAP_BYTES,
} from './limits.ts';
import type { Keepings } from './keepings.ts';
import type { Reservation, SpaceLedger } from './reservation.ts';

export interface SpaceOptions {
  readonly directory: string;
  readonly disk: Disk;
  readonly ledger: SpaceLedger;
  readonly policy: EvictionPolicy;
  readonly keepings: Keepings;
  readonly table: BlobTable;
  readonly counters: Counters;
  readonly clock: Clock;
  readonly onFailure: (error: unknown) => void;
}

export class Space {
  readonly #options: SpaceOptions;
  readonly #stop: () => void;
  readonly #evictable: (version: string) => boolean;
  #turn: Promise<unknown> = Promise.resolve();
  #relieving = false;
  /** What the file system said last. */
  #availableBytes = 0;
  #reserveBytes = 0;
  #askedAtMs = Number.NEGATIVE_INFINITY;
  /** Of it, what may still be promised. */
  #roomBytes = 0;

  constructor(options: SpaceOptions) {
    this.#options = options;
    this.#evictable = (version) => {
      const blob = options.table.get(version);
      return blob !== undefined && isIdle(blob) && !blob.pinned && !blob.pinnedByPolicy;
    };
    this.#stop = options.clock.every(FREE_SPACE_CHECK_MS, () => void this.relieve());
  }

  close(): Promise<unknown> {
    this.#stop();
    return this.#turn;
  }

  /** Room for `bytes` more of a blob; undefined when nothing may give way for it. */
  reserve(blob: Blob, bytes: number): Reservation | undefined | Promise<Reservation | undefined> {
    const { keepings, ledger } = this.#options;
    if (this.#hasRoom(bytes)) return this.#grant(blob, bytes);
    if (bytes > ledger.capacityBytes) return undefined;
    if (keepings.victim(candidateOf(blob), this.#evictable) === undefined) return undefined;
    return this.#inTurn(() => this.#makeRoom(blob, bytes));
  }

  /** Room for `bytes` more of a file being written; undefined when nothing is left that can give way. */
  reserveForWriter(bytes: number): Reservation | undefined | Promise<Reservation | undefined> {
    if (this.#hasRoom(bytes)) return this.#take(bytes);
    if (bytes > WRITER_LEAP_BYTES && bytes > this.#mostBytes()) return undefined;
    return this.#inTurn(async () => {
      while (!this.#hasRoom(bytes)) if (!(await this.#evictOne(undefined))) return undefined;
      return this.#take(bytes);
    });
  }

  /** Evicts one blob that is not in use; returns its bytes when they are free. */
  async evict(blob: Blob): Promise<number> {
    const bytes = blob.chargedBytes;
    const freed = this.#options.table.remove(blob);
    this.#options.counters.evicted(bytes);
    if (freed !== undefined) await freed;
    this.freed();
    return bytes;
  }

  /** The file system has room back: it is asked anew. */
  freed(): void {
    this.#askedAtMs = Number.NEGATIVE_INFINITY;
  }

  canEvict(blob: Blob): boolean {
    return this.#evictable(blob.version);
  }

  /** Frees what the capacity or the file system's reserve lacks, if it lacks anything. */
  async relieve(): Promise<void> {
    if (this.#relieving || !this.#short(1)) return;
    this.#relieving = true;
    try {
      await this.#inTurn(async () => {
        while (this.#short(FREE_SPACE_RELIEF_FACTOR) && (await this.#evictOne(undefined)));
      });
    } finally {
      this.#relieving = false;
    }
  }

  #inTurn<T>(run: () => Promise<T>): Promise<T> {
    const turn = this.#turn.then(run);
    this.#turn = turn.catch(() => undefined);
    return turn;
  }

  async #makeRoom(blob: Blob, bytes: number): Promise<Reservation | undefined> {
    while (!this.#hasRoom(bytes)) {
      if (blob.state.kind === 'evicting') return undefined;
      if (!(await this.#evictOne(candidateOf(blob)))) return undefined;
    }
    return this.#grant(blob, bytes);
  }

  async #evictOne(candidate: Blob | undefined): Promise<boolean> {
    const { keepings, table } = this.#options;
    const version = keepings.victim(candidate, this.#evictable);
    const victim = version === undefined ? undefined : table.get(version);
    if (victim === undefined) return false;
    await this.evict(victim);
    return true;
  }

  #grant(blob: Blob, bytes: number): Reservation | undefined {
    this.#options.policy.admit(blob.version);
    return this.#take(bytes);
  }

  /** Room that there would be if everything gave way that can. */
  #mostBytes(): number {
    const { ledger, table } = this.#options;
    this.#ask();
    let bytes = Math.min(ledger.freeBytes, this.#roomBytes);
    for (const blob of table.values()) if (this.#evictable(blob.version)) bytes += blob.chargedBytes;
    return bytes;
  }

  #take(bytes: number): Reservation | undefined {
    this.#roomBytes -= bytes;
    return this.#options.ledger.tryReserve(bytes);
  }

  #hasRoom(bytes: number): boolean {
    const { ledger } = this.#options;
    if (bytes === 0) return true;
    if (bytes > ledger.freeBytes) return false;
    this.#ask();
    return this.#roomBytes >= bytes;
  }

  #short(factor: number): boolean {
    if (this.#options.ledger.freeBytes < 0) return true;
    this.#ask();
    return this.#availableBytes < this.#reserveBytes * factor;
  }

  #ask(): void {
    const { clock, disk, directory, ledger } = this.#options;
    if (clock.nowMs() - this.#askedAtMs < FREE_SPACE_AGE_MS) return;
    try {
      const { totalBytes, availableBytes } = disk.space(directory);
      this.#availableBytes = availableBytes;
      this.#reserveBytes = Math.min(totalBytes * FREE_SPACE_FRACTION, FREE_SPACE_BYTES_MAX);
    } catch (error) {
      this.#options.onFailure(error);
    }
    this.#roomBytes = this.#availableBytes - this.#reserveBytes - ledger.reservedBytes;
    this.#askedAtMs = clock.nowMs();
  }
}

/** A pinned blob need not deserve its place. */
function candidateOf(blob: Blob): Blob | undefined {
  return blob.pinned || blob.pinnedByPolicy ? undefined : blob;
}

/** Does nobody hold the blob or work on it? */
export function isIdle(blob: Blob): boolean {
  return (
    blob.handles === 0 &&
    blob.holds === 0 &&
    blob.state.kind !== 'evicting' &&
    (blob.body === undefined || blob.body.fills.size === 0)
  );
}
