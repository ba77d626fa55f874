/**
 * Which blob gives way, and whether one should give way at all.
 *
 * A policy does no I/O and knows no clock; its time is the number of bytes asked for so far, so it behaves the
 * same on fast and slow jobs. `reusePolicy` is the default; `lruPolicy` is the yardstick.
 *
 * `reusePolicy` does not replace during a scan. A training job reads every file once per epoch in a new order;
 * then each resident is worth exactly as much as each newcomer, and replacing one by the other only loses what
 * was about to be hit. So a newcomer must show that it is better, by its own record of reuse, which is kept for
 * residents and, within a bound, for what is not here (ghosts):
 *  1. a resident idle for clearly longer than the longest gap after which things are still reused is dead
 *     weight; anybody may have its place, a never-seen newcomer later than a proven one;
 *  2. a newcomer with at least 3 measured gaps whose mean gap is less than half of what the resident can
 *     expect (its own mean gap, or half its idle time) is better. In shuffled epochs of length D three gaps
 *     average at least 2/3 D and no idle time exceeds 2 D, so equals never replace equals;
 *  3. a newcomer with 2 gaps replaces what has never been reused and was idle for twice that gap.
 */
import { type Prng } from '../lib/base/prng.ts';

export interface Usage {
  readonly uses: number;
  /** Gaps between uses that were measured. */
  readonly gaps: number;
  /** Their mean; of later ones an average that forgets. */
  readonly gapBytes: number;
  /** When it was last used, on the policy's clock. */
  readonly usedAtBytes: number;
}

export interface EvictionPolicy {
  /** Somebody opened it, whether it is here or not. */
  touch(id: string, bytes: number): void;
  /** It has space here from now on. */
  admit(id: string): void;
  /** It has no space here any more. */
  remove(id: string): void;
  /**
   * Who should give way to `candidate`, or to nobody in particular when space must be freed; undefined when
   * nobody should.
   */
  victim(candidate: string | undefined, evictable: (id: string) => boolean): string | undefined;
  usage(id: string): Usage | undefined;
  restore(id: string, usage: Usage): void;
  /** What must outlive a restart besides the usages. */
  settings(): Readonly<Record<string, number>>;
}

interface Entry {
  readonly id: string;
  uses: number;
  gaps: number;
  gapBytes: number;
  usedAtBytes: number;
  /** Place in the array of residents. */
  index: number;
}

const NEVER_USED: Usage = { uses: 0, gaps: 0, gapBytes: 0, usedAtBytes: 0 };
/** Records of what is not here. About 150 bytes each. */
const GHOSTS_MAX = 200_000;
/** Residents that are looked at for one decision: at random, and from the longest idle on. */
const SAMPLES = 32;
const OLDEST_LOOKED_AT = 64;
/** After this many gaps the mean forgets, with this weight for the newest. */
const GAPS_AVERAGED = 4;
/** Idle for so many times the longest usual gap: dead. The factor of a newcomer without a record. */
const DEAD_FACTOR = 1.2;
const DEAD_FACTOR_UNSEEN = 2.4;
const BETTER_FACTOR = 2;
const PROVEN_GAPS = 3;
/** The longest usual gap is forgotten by half in so many times its own length. */
const LONGEST_GAP_HALF_LIFE = 6;
/** Before any reuse was seen: the longest usual gap in capacities. */
const LONGEST_GAP_PRIOR = 2;

class Records {
  /** Residents in the order of their last use, longest idle first. */
  readonly residents = new Map<string, Entry>();
  readonly sampled: Entry[] = [];
  readonly ghosts = new Map<string, Entry>();

  find(id: string): Entry | undefined {
    return this.residents.get(id) ?? this.ghosts.get(id);
  }

  ghost(entry: Entry): void {
    this.ghosts.delete(entry.id);
    this.ghosts.set(entry.id, entry);
    if (this.ghosts.size <= GHOSTS_MAX) return;
    for (const oldest of this.ghosts.keys()) {
      this.ghosts.delete(oldest);
      break;
    }
  }

  admit(id: string): void {
    if (this.residents.has(id)) return;
    const entry = this.ghosts.get(id) ?? { id, ...NEVER_USED, index: -1 };
    this.ghosts.delete(id);
    entry.index = this.sampled.push(entry) - 1;
    this.residents.set(id, entry);
  }

  remove(id: string): void {
    const entry = this.residents.get(id);
    if (entry === undefined) return;
    this.residents.delete(id);
    const last = this.sampled.pop()!;
    if (last !== entry) {
      this.sampled[entry.index] = last;
      last.index = entry.index;
    }
    entry.index = -1;
    this.ghost(entry);
  }

  newest(entry: Entry): void {
    if (entry.index < 0) return this.ghost(entry);
    this.residents.delete(entry.id);
    this.residents.set(entry.id, entry);
  }
}

export function reusePolicy(options: {
  readonly capacityBytes: number;
  readonly prng: Prng;
  readonly settings?: Readonly<Record<string, number>>;
}): EvictionPolicy {
  const { prng } = options;
  const records = new Records();
  let nowBytes = options.settings?.['policy.nowBytes'] ?? 0;
  let longestGapBytes = options.settings?.['policy.longestGapBytes'] ?? 0;

  const measureGap = (entry: Entry): void => {
    const gapBytes = nowBytes - entry.usedAtBytes;
    entry.gaps++;
    entry.gapBytes += (gapBytes - entry.gapBytes) / Math.min(entry.gaps, GAPS_AVERAGED);
    if (gapBytes > longestGapBytes) longestGapBytes = gapBytes;
  };
  const forget = (bytes: number): void => {
    if (longestGapBytes > 0) longestGapBytes *= 2 ** (-bytes / (longestGapBytes * LONGEST_GAP_HALF_LIFE));
  };
  /** After how many bytes it may be used again; more is worse. */
  const expectedBytes = (entry: Entry): number => {
    const idle = (nowBytes - entry.usedAtBytes) / 2;
    return entry.gaps >= PROVEN_GAPS ? Math.max(entry.gapBytes, idle) : idle;
  };
  const givesWay = (resident: Entry, candidate: Entry | undefined): boolean => {
    const gaps = candidate?.gaps ?? 0;
    const idle = nowBytes - resident.usedAtBytes;
    const longest = longestGapBytes > 0 ? longestGapBytes : LONGEST_GAP_PRIOR * options.capacityBytes;
    if (idle > longest * (gaps > 0 ? DEAD_FACTOR : DEAD_FACTOR_UNSEEN)) return true;
    if (candidate === undefined) return false;
    if (gaps >= PROVEN_GAPS && candidate.gapBytes * BETTER_FACTOR < expectedBytes(resident)) return true;
    return gaps >= 2 && resident.gaps === 0 && idle > candidate.gapBytes * BETTER_FACTOR;
  };
  const worst = (evictable: (id: string) => boolean): Entry | undefined => {
    let found: Entry | undefined;
    let foundExpected = -1;
    const look = (entry: Entry): void => {
      const expected = expectedBytes(entry);
      if (expected > foundExpected && evictable(entry.id)) [found, foundExpected] = [entry, expected];
    };
    let looked = 0;
    for (const entry of records.residents.values()) {
      look(entry);
      if (found !== undefined || ++looked === OLDEST_LOOKED_AT) break;
    }
    const count = records.sampled.length;
    for (let sample = 0; sample < SAMPLES && count > 0; sample++) look(records.sampled[prng.below(count)]!);
    return found;
  };

  return {
    touch(id, bytes) {
      nowBytes += bytes;
      forget(bytes);
      const entry = records.find(id) ?? { id, ...NEVER_USED, index: -1 };
      if (entry.uses > 0) measureGap(entry);
      entry.uses++;
      entry.usedAtBytes = nowBytes;
      records.newest(entry);
    },
    admit: (id) => records.admit(id),
    remove: (id) => records.remove(id),
    victim(candidate, evictable) {
      const found = worst(evictable);
      if (candidate !== undefined) {
        const giving = found !== undefined && givesWay(found, records.find(candidate));
        return giving ? found.id : undefined;
      }
      return found?.id ?? firstOf(records.residents.keys(), evictable);
    },
    usage: (id) => records.find(id),
    restore(id, usage) {
      records.admit(id);
      Object.assign(records.find(id)!, {
        uses: usage.uses,
        gaps: usage.gaps,
        gapBytes: usage.gapBytes,
        usedAtBytes: Math.min(usage.usedAtBytes, nowBytes),
      });
    },
    settings: () => ({ 'policy.nowBytes': nowBytes, 'policy.longestGapBytes': longestGapBytes }),
  };
}

function firstOf(ids: Iterable<string>, evictable: (id: string) => boolean): string | undefined {
  for (const id of ids) if (evictable(id)) return id;
  return undefined;
}

/** Evicts what was not used for the longest time, for anybody. The yardstick of the benchmark. */
export function lruPolicy(): EvictionPolicy {
  const records = new Records();
  let nowBytes = 0;
  return {
    touch(id, bytes) {
      nowBytes += bytes;
      const entry = records.find(id) ?? { id, ...NEVER_USED, index: -1 };
      entry.uses++;
      entry.usedAtBytes = nowBytes;
      records.newest(entry);
    },
    admit: (id) => records.admit(id),
    remove: (id) => records.remove(id),
    victim: (_candidate, evictable) => firstOf(records.residents.keys(), evictable),
    usage: (id) => records.find(id),
    restore: (id, usage) => {
      records.admit(id);
      Object.assign(records.find(id)!, usage);
    },
    settings: () => ({}),
  };
}
