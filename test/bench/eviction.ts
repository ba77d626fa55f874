/**
 * Eviction policies over synthetic traces: `lru`, the default, and Belady's offline optimum (furthest next use,
 * with the freedom not to admit), in bytes of one size so that the optimum is known.
 *
 * The share of hits is counted after the first pass over the data, which no policy can hit.
 */
import { type EvictionPolicy, lruPolicy, reusePolicy } from '../../cache/eviction-policy.ts';
import { type Prng, seededPrng } from '../../lib/base/prng.ts';

export interface Trace {
  readonly name: string;
  readonly capacity: number;
  readonly accesses: readonly number[];
  /** Accesses before this one only warm up. */
  readonly from: number;
}

export interface EvictionRow {
  readonly trace: string;
  readonly lru: number;
  readonly reuse: number;
  readonly optimum: number;
}

/** Share of hits of an online policy. All blobs have one byte. */
export function hitRatio(policy: EvictionPolicy, trace: Trace): number {
  const here = new Set<string>();
  let hits = 0;
  const anybody = (): boolean => true;
  trace.accesses.forEach((item, at) => {
    const id = String(item);
    policy.touch(id, 1);
    if (here.has(id)) {
      if (at >= trace.from) hits++;
      return;
    }
    if (here.size === trace.capacity) {
      const victim = policy.victim(id, anybody);
      if (victim === undefined) return;
      policy.remove(victim);
      here.delete(victim);
    }
    policy.admit(id);
    here.add(id);
  });
  return hits / (trace.accesses.length - trace.from);
}

/** Share of hits of the offline optimum. */
export function optimalHitRatio(trace: Trace): number {
  const { accesses, capacity } = trace;
  const nextUse = new Array<number>(accesses.length);
  const seen = new Map<number, number>();
  for (let at = accesses.length - 1; at >= 0; at--) {
    nextUse[at] = seen.get(accesses[at]!) ?? Number.POSITIVE_INFINITY;
    seen.set(accesses[at]!, at);
  }
  const here = new Map<number, number>();
  const byNextUse = new FurthestFirst();
  let hits = 0;
  accesses.forEach((item, at) => {
    const next = nextUse[at]!;
    if (here.has(item)) {
      if (at >= trace.from) hits++;
    } else if (here.size === capacity) {
      const furthest = byNextUse.furthest((entry) => here.get(entry.item) === entry.next);
      if (furthest === undefined || furthest.next <= next) return;
      here.delete(furthest.item);
    }
    here.set(item, next);
    byNextUse.push({ item, next });
  });
  return hits / (accesses.length - trace.from);
}

interface NextUse {
  readonly item: number;
  readonly next: number;
}

/** A binary heap, furthest next use on top; entries that are no longer true are skipped. */
class FurthestFirst {
  readonly #heap: NextUse[] = [];

  push(entry: NextUse): void {
    const heap = this.#heap;
    let at = heap.push(entry) - 1;
    for (let up = (at - 1) >> 1; at > 0 && heap[up]!.next < entry.next; up = (at - 1) >> 1) {
      heap[at] = heap[up]!;
      at = up;
    }
    heap[at] = entry;
  }

  furthest(isTrue: (entry: NextUse) => boolean): NextUse | undefined {
    while (this.#heap.length > 0 && !isTrue(this.#heap[0]!)) this.#pop();
    return this.#heap[0];
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop()!;
    if (heap.length === 0) return;
    let at = 0;
    for (;;) {
      let down = 2 * at + 1;
      if (down >= heap.length) break;
      if (down + 1 < heap.length && heap[down + 1]!.next > heap[down]!.next) down++;
      if (heap[down]!.next <= last.next) break;
      heap[at] = heap[down]!;
      at = down;
    }
    heap[at] = last;
  }
}

function shuffled(items: number, prng: Prng): number[] {
  const order = Array.from({ length: items }, (_, item) => item);
  for (let at = items - 1; at > 0; at--) {
    const other = prng.below(at + 1);
    [order[at], order[other]] = [order[other]!, order[at]!];
  }
  return order;
}

export function epochs(items: number, count: number, prng: Prng): number[] {
  return Array.from({ length: count }, () => shuffled(items, prng)).flat();
}

/** Independent draws; the item of rank r has a weight of r to the power of -`skew`. */
export function zipf(items: number, options: { count: number; skew: number; prng: Prng }): number[] {
  const sums: number[] = [];
  let sum = 0;
  for (let rank = 1; rank <= items; rank++) sums.push((sum += rank ** -options.skew));
  const names = shuffled(items, options.prng);
  return Array.from({ length: options.count }, () => {
    const draw = options.prng.next() * sum;
    let low = 0;
    for (let high = items - 1; low < high;) {
      const middle = (low + high) >> 1;
      if (sums[middle]! < draw) low = middle + 1;
      else high = middle;
    }
    return names[low]!;
  });
}

export function syntheticTraces(seed = 1): Trace[] {
  const prng = seededPrng(seed);
  const capacity = 1000;
  const loop = (items: number, count: number): number[] => {
    return Array.from({ length: items * count }, (_, at) => at % items);
  };
  const other = (accesses: number[]): number[] => accesses.map((item) => item + 1_000_000);
  const popular = zipf(20_000, { count: 60_000, skew: 0.9, prng });
  // One access of a scan that never comes back after each two popular ones.
  const mixed = popular.flatMap((item, at) => (at % 2 === 0 ? [item] : [item, 2_000_000 + at]));
  const change = [...epochs(2000, 8, prng), ...other(epochs(2000, 12, prng))];
  return [
    { name: 'epochs, D = 1.2 C', capacity, accesses: epochs(1200, 15, prng), from: 1200 },
    { name: 'epochs, D = 2 C', capacity, accesses: epochs(2000, 15, prng), from: 2000 },
    { name: 'epochs, D = 5 C', capacity, accesses: epochs(5000, 15, prng), from: 5000 },
    { name: 'sequential loop, D = 2 C', capacity, accesses: loop(2000, 15), from: 2000 },
    { name: 'zipf 0.9, 20 C', capacity, accesses: popular, from: 10_000 },
    {
      name: 'zipf 1.1, 20 C',
      capacity,
      accesses: zipf(20_000, { count: 60_000, skew: 1.1, prng }),
      from: 10_000,
    },
    { name: 'zipf 0.9 and a scan', capacity, accesses: mixed, from: 15_000 },
    { name: 'data set changes after 8 of 20 epochs, D = 2 C', capacity, accesses: change, from: 2000 },
    { name: 'fits: D = 0.9 C', capacity, accesses: epochs(900, 10, prng), from: 900 },
  ];
}

export function measureEviction(traces = syntheticTraces()): EvictionRow[] {
  return traces.map((trace) => ({
    trace: trace.name,
    lru: hitRatio(lruPolicy(), trace),
    reuse: hitRatio(reusePolicy({ capacityBytes: trace.capacity, prng: seededPrng(1) }), trace),
    optimum: optimalHitRatio(trace),
  }));
}

/** Prints the table of hit ratios. */
export function runEvictionBench(): Promise<EvictionRow[]> {
  const rows = measureEviction();
  const width = Math.max(...rows.map((row) => row.trace.length));
  const cell = (ratio: number): string => ratio.toFixed(3).padStart(9);
  console.log(
    `${'hits after the first pass'.padEnd(width)}${'lru'.padStart(9)}${'perigee'.padStart(9)}${'optimum'.padStart(9)}`,
  );
  for (const row of rows) {
    console.log(`${row.trace.padEnd(width)}${cell(row.lru)}${cell(row.reuse)}${cell(row.optimum)}`);
  }
  return Promise.resolve(rows);
}
