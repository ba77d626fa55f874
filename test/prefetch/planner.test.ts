/** Whatever happens in whatever order: budgets hold, readers come first, and every order ends. */
import fc from 'fast-check';
import t from 'tap';
import type { VersionId } from '../../lib/base/brand.ts';
import { MIB } from '../../lib/base/limits.ts';
import {
  HELD_MS_MAX,
  PAUSE_MS_MAX,
  type PlannerEffect,
  type PlannerEvent,
  PrefetchPlanner,
} from '../../lib/prefetch/planner.ts';

const BLOCK = 1 * MIB;
const SHARE = 24 * MIB;
const REQUESTS_MAX = 6;
const RATE = 20 * MIB;
const LANES = {
  one: { priority: 0, concurrency: 3, bytesPerSecond: undefined },
  two: { priority: 5, concurrency: 2, bytesPerSecond: 10 * MIB },
  three: { priority: 5, concurrency: 16, bytesPerSecond: undefined },
} as const;
type LaneName = keyof typeof LANES;

interface Fetch {
  readonly version: VersionId;
  readonly offset: number;
  readonly length: number;
  readonly lane: LaneName;
}

const versionOf = (number: number): VersionId => number.toString(16).padStart(32, '0') as VersionId;
const sizeOf = (version: VersionId): number => {
  const number = Number.parseInt(version, 16);
  return number === 11 ? SHARE + 1 : 100_000 + ((number * 7_919_113) % (18 * MIB));
};

/** Plays the driver and the tier, and checks each decision. */
class World {
  readonly planner: PrefetchPlanner;
  readonly rate: number;
  nowMs = 0;
  demand = 0;
  demandSinceMs = 0;
  readonly underWay: Fetch[] = [];
  /** Begun and not released, with what they have. */
  readonly open = new Map<VersionId, number>();
  readonly granted: { readonly atMs: number; readonly bytes: number; readonly lane: LaneName }[] = [];
  readonly arrived: { readonly atMs: number; readonly bytes: number }[] = [];
  /** Claims of versions that have not ended. */
  readonly waiting = new Map<string, number>();
  readonly claimed = new Map<VersionId, LaneName>();
  readonly lanes = new Map<VersionId, LaneName | 'any'>();
  readonly outcomes = { fetched: 0, used: 0, wasted: 0, late: 0 };
  readonly ranges = new Map<VersionId, { readonly offset: number; readonly length: number }[]>();
  readonly looks: number[] = [];
  readonly #events: PlannerEvent[] = [];

  constructor({ isPaced = true }: { readonly isPaced?: boolean } = {}) {
    const bytesPerSecond = isPaced ? RATE : undefined;
    this.rate = bytesPerSecond ?? Infinity;
    this.planner = new PrefetchPlanner({
      ...{ blockBytes: BLOCK, shareBytes: SHARE, requestsMax: REQUESTS_MAX, bytesPerSecond },
    });
  }

  tell(event: PlannerEvent): void {
    this.#events.push(event);
    if (this.#events.length > 1) return;
    for (let next = this.#events[0]; next !== undefined; next = this.#events[0]) {
      for (const effect of this.planner.handle(next, this.nowMs)) this.#perform(effect);
      this.#events.shift();
    }
    this.#check();
  }

  order(number: number, how: { lane: LaneName; isSoon: boolean; waitsForRoom: boolean; from: number }): void {
    const version = versionOf(number);
    const { lane, isSoon, waitsForRoom } = how;
    const key = `${version} ${lane}`;
    this.waiting.set(key, (this.waiting.get(key) ?? 0) + 1);
    this.claimed.set(version, lane);
    // A version that is ordered again may go by either lane.
    this.lanes.set(version, this.lanes.has(version) && this.lanes.get(version) !== lane ? 'any' : lane);
    this.tell({ kind: 'lane', lane, settings: LANES[lane] });
    const sizeBytes = sizeOf(version);
    const fromOffset = Math.floor(how.from * sizeBytes);
    this.tell({
      kind: 'order',
      version,
      sizeBytes,
      lane,
      claim: lane,
      isSoon,
      waitsForRoom,
      isOpened: false,
      fromOffset,
    });
  }

  /** One request is answered. */
  answer(at: number, result: 'there' | 'declined' | 'failed' | 'lost'): void {
    const [fetch] = this.underWay.splice(at % Math.max(1, this.underWay.length), 1);
    if (fetch === undefined) return;
    const { version, length } = fetch;
    const had = this.open.get(version)!;
    const cachedBytes = result === 'there' ? had + length : had;
    if (result === 'failed') this.ranges.delete(version);
    this.open.set(version, Math.min(cachedBytes, sizeOf(version)));
    this.arrived.push({ atMs: this.nowMs, bytes: length });
    this.tell({ kind: 'fetched', version, length, cachedBytes: this.open.get(version)!, result });
  }

  pass(ms: number): void {
    this.nowMs += ms;
    this.tell({ kind: 'time' });
  }

  setDemand(requests: number): void {
    if (this.demand === 0) this.demandSinceMs = this.nowMs;
    this.demand = requests;
    this.tell({ kind: 'demand', requests });
  }

  #perform(effect: PlannerEffect): void {
    switch (effect.kind) {
      case 'begin':
        check(!this.open.has(effect.version), 'a version is begun once');
        this.open.set(effect.version, 0);
        this.tell({ kind: 'begun', version: effect.version, cachedBytes: 0 });
        return;
      case 'fetch':
        return this.#fetch(effect);
      case 'release':
        this.open.delete(effect.version);
        this.ranges.delete(effect.version);
        for (let at = this.underWay.length - 1; at >= 0; at--) {
          if (this.underWay[at]!.version === effect.version) this.underWay.splice(at, 1);
        }
        return;
      case 'settled':
        for (const claim of effect.claims) {
          const key = `${effect.version} ${claim}`;
          check(this.waiting.has(key), 'only what was ordered ends');
          this.waiting.delete(key);
        }
        return;
      case 'outcome':
        this.outcomes[effect.outcome] += effect.bytes;
        return;
      case 'look':
        check(effect.atMs > this.nowMs, 'a look is later');
        this.looks.push(effect.atMs);
        return;
      case 'limit':
        return;
    }
  }

  #fetch({ version, offset, length }: Extract<PlannerEffect, { kind: 'fetch' }>): void {
    const size = sizeOf(version);
    check(this.open.has(version), 'what is fetched was begun');
    check(length > 0 && offset >= 0 && offset + length <= size, 'a range lies inside the file');
    check(offset % BLOCK === 0, 'a range begins with a block');
    const ranges = this.ranges.get(version) ?? [];
    check(
      ranges.every((other) => offset + length <= other.offset || other.offset + other.length <= offset),
      'no byte is fetched twice',
    );
    this.ranges.set(version, [...ranges, { offset, length }]);
    if (this.demand > 0) {
      check(this.nowMs - this.demandSinceMs >= PAUSE_MS_MAX, 'nothing begins while a program waits');
      check(this.underWay.length === 0, 'and then one at a time');
    }
    const lane = this.claimed.get(version)!;
    this.underWay.push({ version, offset, length, lane });
    this.granted.push({ atMs: this.nowMs, bytes: length, lane });
  }

  #check(): void {
    check(this.underWay.length <= REQUESTS_MAX, 'requests are within the budget');
    const lowest = this.underWay.filter(({ version }) => this.lanes.get(version) === 'two');
    check(lowest.length <= LANES.two.concurrency, 'and within that of their lane');
    const taken = [...this.open.keys()].reduce((sum, version) => sum + sizeOf(version), 0);
    check(taken <= SHARE, 'what is fetched or held is within the share of the cache');
    check(this.planner.stat().takenBytes === taken, 'and known');
    const grantedBytes = this.granted
      .filter(({ atMs }) => atMs > this.nowMs - 1_000)
      .reduce((sum, { bytes }) => sum + bytes, 0);
    check(grantedBytes <= this.rate + BLOCK, `${grantedBytes} bytes were granted within a second`);
    const arrivedBytes = this.arrived
      .filter(({ atMs }) => atMs > this.nowMs - 1_000)
      .reduce((sum, { bytes }) => sum + bytes, 0);
    check(arrivedBytes <= this.rate * 1.05 + 2 * BLOCK, `${arrivedBytes} bytes arrived within a second`);
    const { fetched, used, wasted } = this.outcomes;
    check(used + wasted <= fetched, 'what is used or wasted was fetched');
  }
}

function check(condition: boolean, message: string): void {
  if (!condition) throw new Error(message);
}

type Step = (world: World) => void;

const laneName = fc.constantFrom<LaneName>('one', 'two', 'three');
const file = fc.integer({ min: 1, max: 12 });
const steps: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc
      .record({
        number: file,
        lane: laneName,
        isSoon: fc.boolean(),
        waitsForRoom: fc.boolean(),
        from: fc.double({ min: 0, max: 1, noNaN: true }),
      })
      .map(
        ({ number, ...how }): Step =>
          (world) =>
            world.order(number, how),
      ),
  },
  {
    weight: 6,
    arbitrary: fc
      .tuple(fc.nat(20), fc.constantFrom('there', 'there', 'there', 'there', 'declined', 'failed', 'lost'))
      .map(
        ([at, result]): Step =>
          (world) =>
            world.answer(at, result),
      ),
  },
  {
    weight: 5,
    arbitrary: fc.integer({ min: 1, max: 400 }).map(
      (ms): Step =>
        (world) =>
          world.pass(ms),
    ),
  },
  {
    weight: 2,
    arbitrary: file.map((number): Step => (world) => {
      const version = versionOf(number);
      world.tell({ kind: 'opened', version, cachedBytes: world.open.get(version) ?? 0 });
    }),
  },
  {
    weight: 1,
    arbitrary: fc.nat(2).map(
      (requests): Step =>
        (world) =>
          world.setDemand(requests),
    ),
  },
  {
    weight: 1,
    arbitrary: laneName.map(
      (claim): Step =>
        (world) =>
          world.tell({ kind: 'cancel', claim }),
    ),
  },
  {
    weight: 1,
    arbitrary: file.map(
      (number): Step =>
        (world) =>
          world.tell({ kind: 'useless', version: versionOf(number) }),
    ),
  },
  { weight: 1, arbitrary: fc.constant<Step>((world) => world.pass(HELD_MS_MAX)) },
);

t.test('planner', async (t) => {
  t.test('keeps its budgets, lets readers go first, fetches nothing twice', async () => {
    fc.assert(
      fc.property(fc.array(steps, { maxLength: 120 }), fc.boolean(), (script, isPaced) => {
        const world = new World({ isPaced });
        for (const step of script) step(world);
      }),
      { numRuns: 1_500 },
    );
  });

  t.test('ends every order when requests are answered and files are read', async () => {
    fc.assert(
      fc.property(fc.array(steps, { maxLength: 80 }), fc.boolean(), fc.nat(1), (script, isPaced, demand) => {
        const world = new World({ isPaced });
        for (const step of script) step(world);
        // A program that always waits slows it down, and does not end it.
        world.setDemand(demand);
        for (let round = 0; world.waiting.size > 0; round++) {
          check(round < 5_000, `orders that never end: ${[...world.waiting.keys()].join(', ')}`);
          const before = world.granted.length;
          while (world.underWay.length > 0) world.answer(0, 'there');
          for (const version of [...world.open.keys()]) {
            if (world.open.get(version) === sizeOf(version)) {
              world.tell({ kind: 'opened', version, cachedBytes: sizeOf(version) });
            }
          }
          if (world.granted.length > before || world.waiting.size === 0) continue;
          // The driver looks when it was asked to, and only then.
          const next = Math.min(...world.looks.filter((atMs) => atMs > world.nowMs));
          check(Number.isFinite(next) || world.waiting.size === 0, 'nobody will look again');
          if (Number.isFinite(next)) world.pass(next - world.nowMs);
        }
      }),
      { numRuns: 500 },
    );
  });

  t.test('counts what a reader finds and what it waits for', async (t) => {
    const world = new World();
    world.order(1, { lane: 'three', isSoon: false, waitsForRoom: false, from: 0 });
    const size = sizeOf(versionOf(1));
    world.answer(0, 'there');
    const cachedBytes = world.open.get(versionOf(1))!;
    world.tell({ kind: 'opened', version: versionOf(1), cachedBytes });
    t.same(world.outcomes, { fetched: cachedBytes, used: cachedBytes, wasted: 0, late: size - cachedBytes });
  });

  t.test('lets go of what nobody came for', async (t) => {
    const world = new World();
    world.order(12, { lane: 'three', isSoon: false, waitsForRoom: false, from: 0 });
    for (let round = 0; world.waiting.size > 0 && round < 100; round++) {
      world.answer(0, 'there');
      world.pass(1_000);
    }
    t.equal(world.planner.stat().held, 1);
    world.pass(HELD_MS_MAX);
    t.equal(world.planner.stat().held, 0);
    t.equal(world.outcomes.wasted, sizeOf(versionOf(12)));
    t.equal(world.open.size, 0);
  });

  t.test('one order serves all who want a version, until the last of them gives up', async (t) => {
    const world = new World();
    world.setDemand(1);
    for (const lane of ['one', 'two'] as const) {
      world.order(3, { lane, isSoon: false, waitsForRoom: true, from: 0 });
    }
    world.tell({ kind: 'cancel', claim: 'one' });
    t.same([...world.waiting.keys()], [`${versionOf(3)} two`]);
    world.setDemand(0);
    t.equal(world.open.size, 1);
    world.tell({ kind: 'disclaim', claim: 'two', version: versionOf(3) });
    t.equal(world.open.size, 0);
    t.equal(world.waiting.size, 0);
  });

  t.test('begins where the reader is and ends before it', async (t) => {
    const world = new World();
    world.order(2, { lane: 'three', isSoon: true, waitsForRoom: false, from: 0.5 });
    const offsets: number[] = [];
    for (let round = 0; world.waiting.size > 0 && round < 100; round++) {
      offsets.push(
        ...(world.ranges.get(versionOf(2)) ?? []).slice(offsets.length).map(({ offset }) => offset),
      );
      world.answer(0, 'there');
      world.pass(1_000);
    }
    const size = sizeOf(versionOf(2));
    const begin = Math.floor(size / 2 / BLOCK) * BLOCK;
    t.equal(offsets[0], begin);
    const turn = offsets.indexOf(0);
    t.same(offsets, [
      ...offsets.slice(0, turn).sort((a, b) => a - b),
      ...offsets.slice(turn).sort((a, b) => a - b),
    ]);
    t.ok(offsets.slice(turn).every((offset) => offset < begin));
  });
});
