/**
 * How blobs are kept by policy, on top of what their use says: what is let in, what stays, what gives way first.
 *
 * Somebody who knows policies says how the file of a path is to be kept; a blob has that from its opening on, and gets
 * it anew when policies have changed. Then, before the eviction policy is asked:
 *  1. a blob that was not used for longer than its `ttlMs` gives way, to anybody;
 *  2. blobs of a lower rank give way to a newcomer of a higher one, the longest idle first; and when room must be made
 *     for nobody in particular, those of the lowest rank. Never the other way round;
 *  3. within a rank, a newcomer that somebody will read soon has the place of whoever is worth least;
 *  4. pinned ones never give way. Pins of policies are granted as long as all pins together leave room for the rest.
 * Times of use begin with the process: after a restart nothing expires before its whole `ttlMs`.
 *
 * Blobs that are kept as usual are not even noted here, so whoever has no policies pays nothing.
 */
import type { Clock } from '../lib/base/clock.ts';
import type { Blob } from './blob.ts';
import type { EvictionPolicy } from './eviction-policy.ts';
import { KEEP_AS_USUAL, type Keeping, type KeepingOf, type KeptFile } from './keeping.ts';
import { PINNED_FRACTION_MAX } from './limits.ts';

/** Uses that a version must have before `second-miss` lets it in, the one under way among them. */
const SECOND_MISS_USES = 2;
/** Of one way to keep, so many of the longest idle are looked at for one that can give way. */
const LOOKED_AT_MAX = 256;

export interface KeepingsOptions {
  /** None: all as usual. */
  readonly keepingOf: KeepingOf | undefined;
  readonly policy: EvictionPolicy;
  readonly capacityBytes: number;
  readonly clock: Clock;
  readonly blobOf: (version: string) => Blob | undefined;
}

export class Keepings {
  readonly #options: KeepingsOptions;
  /** Blobs that are not kept as usual, by the way they are, in the order of their last use, with its time. */
  readonly #ways = new Map<Keeping, Map<Blob, number>>();
  #pinnedBytes = 0;

  constructor(options: KeepingsOptions) {
    this.#options = options;
  }

  /** Of what policies pin. */
  get pinnedBytes(): number {
    return this.#pinnedBytes;
  }

  /** Asks how the blob is to be kept now. @param otherPinsBytes of pins that people made */
  judge(blob: Blob, file: KeptFile, otherPinsBytes: number): void {
    const { keepingOf } = this.#options;
    if (keepingOf === undefined) return;
    const keeping = keepingOf(file);
    if (keeping !== blob.keeping) {
      const usedAtMs = this.#ways.get(blob.keeping)?.get(blob) ?? this.#options.clock.nowMs();
      this.#forgetWay(blob);
      blob.keeping = keeping;
      if (keeping !== KEEP_AS_USUAL) this.#wayOf(keeping).set(blob, usedAtMs);
    }
    this.#pin(blob, keeping.pinned && this.#mayPin(blob, otherPinsBytes));
  }

  used(blob: Blob): void {
    const way = this.#ways.get(blob.keeping);
    if (way === undefined) return;
    way.delete(blob);
    way.set(blob, this.#options.clock.nowMs());
  }

  /** The blob is gone. */
  forget(blob: Blob): void {
    this.#forgetWay(blob);
    this.#pin(blob, false);
    blob.keeping = KEEP_AS_USUAL;
  }

  /** Whether a miss may bring blocks of it to NVMe. */
  admits(blob: Blob): boolean {
    switch (blob.keeping.admit) {
      case 'first-miss':
        return true;
      case 'second-miss':
        if (blob.expectations > 0) return true;
        return (this.#options.policy.usage(blob.version)?.uses ?? 0) >= SECOND_MISS_USES;
      case 'never':
        return false;
    }
  }

  /** Who gives way to `candidate`, or to nobody in particular. */
  victim(candidate: Blob | undefined, evictable: (version: string) => boolean): string | undefined {
    const { policy } = this.#options;
    // Who is expected need not be better than anybody, and others give way in their usual order.
    const rival = candidate === undefined || candidate.expectations > 0 ? undefined : candidate.version;
    if (this.#ways.size === 0) return policy.victim(rival, evictable);
    const first = this.#expired(evictable) ?? this.#ofLowerRank(candidate?.keeping.rank, evictable);
    if (first !== undefined || candidate === undefined) return first;
    const { rank } = candidate.keeping;
    return policy.victim(
      rival,
      (version) => (this.#options.blobOf(version)?.keeping.rank ?? 0) === rank && evictable(version),
    );
  }

  #expired(evictable: (version: string) => boolean): string | undefined {
    const nowMs = this.#options.clock.nowMs();
    for (const [{ ttlMs }, blobs] of this.#ways) {
      if (ttlMs === undefined) continue;
      let looked = 0;
      for (const [{ version }, usedAtMs] of blobs) {
        if (nowMs - usedAtMs < ttlMs || ++looked > LOOKED_AT_MAX) break;
        if (evictable(version)) return version;
      }
    }
    return undefined;
  }

  /** Undefined as rank: lower than none in particular, so the lowest that there is. */
  #ofLowerRank(rank: number | undefined, evictable: (version: string) => boolean): string | undefined {
    const ways = [KEEP_AS_USUAL, ...this.#ways.keys()]
      .filter((way) => rank === undefined || way.rank < rank)
      .sort((a, b) => a.rank - b.rank);
    for (const way of ways) {
      const blobs = this.#ways.get(way);
      const found = blobs === undefined ? this.#usual(evictable) : longestIdle(blobs, evictable);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  #usual(evictable: (version: string) => boolean): string | undefined {
    const { policy, blobOf } = this.#options;
    return policy.victim(
      undefined,
      (version) => blobOf(version)?.keeping === KEEP_AS_USUAL && evictable(version),
    );
  }

  #mayPin({ sizeBytes, pinnedByPolicy }: Blob, otherPinsBytes: number): boolean {
    const { capacityBytes } = this.#options;
    const others = this.#pinnedBytes - (pinnedByPolicy ? sizeBytes : 0) + otherPinsBytes;
    return others + sizeBytes <= capacityBytes * PINNED_FRACTION_MAX;
  }

  #pin(blob: Blob, pinned: boolean): void {
    if (blob.pinnedByPolicy === pinned) return;
    blob.pinnedByPolicy = pinned;
    this.#pinnedBytes += pinned ? blob.sizeBytes : -blob.sizeBytes;
  }

  #wayOf(keeping: Keeping): Map<Blob, number> {
    let way = this.#ways.get(keeping);
    if (way === undefined) this.#ways.set(keeping, (way = new Map<Blob, number>()));
    return way;
  }

  #forgetWay(blob: Blob): void {
    const way = this.#ways.get(blob.keeping);
    if (way?.delete(blob) === true && way.size === 0) this.#ways.delete(blob.keeping);
  }
}

function longestIdle(
  blobs: ReadonlyMap<Blob, number>,
  evictable: (version: string) => boolean,
): string | undefined {
  let looked = 0;
  for (const { version } of blobs.keys()) {
    if (evictable(version)) return version;
    if (++looked === LOOKED_AT_MAX) return undefined;
  }
  return undefined;
}
