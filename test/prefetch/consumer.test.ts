/**
 * What a program waits that reads files one after the other and works on each, over a store with a rate and latency, in
 * simulated time: whatever else the machine does, the figures are those of the decisions.
 */
import { pino } from 'pino';
import t from 'tap';
import type { BlockCache, CacheHandle, OpenVersion } from '../../cache/block-cache.ts';
import type { InodeNumber, VersionId } from '../../lib/base/brand.ts';
import { MIB } from '../../lib/base/limits.ts';
import { Job } from '../../lib/prefetch/job.ts';
import { NameSequences } from '../../lib/prefetch/name-sequences.ts';
import { Outcomes } from '../../lib/prefetch/outcomes.ts';
import { Prefetcher, type Settled } from '../../lib/prefetch/prefetcher.ts';
import type { LaneSettings, WantedFile } from '../../lib/prefetch/prefetch.ts';
import { createMetrics } from '../../lib/telemetry/metrics.ts';
import { ManualClock } from '../cache/manual-clock.ts';

const BLOCK = 4 * MIB;
const TICK_MS = 5;
const LATENCY_MS = 20;
const BYTES_PER_SECOND = 150 * MIB;
const FILE_BYTES = 20_000_000;
const CONSUMED = 0.8;
const FILES = 200;
const SETTINGS: LaneSettings = { priority: 0, concurrency: 16, bytesPerSecond: undefined };

interface Transfer {
  readonly beginsMs: number;
  leftBytes: number;
  readonly done: () => void;
}

/** A store whose rate all transfers share, and a tier in front of it that fetches no block twice. */
class World {
  readonly clock = new ManualClock();
  readonly prefetcher: Prefetcher;
  readonly present = new Map<VersionId, Set<number>>();
  readonly #underWay = new Map<string, Promise<void>>();
  readonly #transfers = new Set<Transfer>();
  #demand = 0;
  fetchedBytes = 0;

  constructor(onSettled: (claim: string, settled: Settled) => void = () => undefined) {
    const metrics = createMetrics();
    this.prefetcher = new Prefetcher({
      ...{ blockBytes: BLOCK, shareBytes: 1024 * MIB, requestsMax: 16, bytesPerSecond: undefined },
      cache: { open: (version: OpenVersion) => this.#open(version) } as unknown as BlockCache,
      outcomes: new Outcomes(metrics),
      ...{ clock: this.clock, logger: pino({ level: 'silent' }), metrics, onSettled },
    });
  }

  async tick(): Promise<void> {
    const active = [...this.#transfers].filter(({ beginsMs }) => beginsMs <= this.clock.nowMs());
    for (const transfer of active) {
      transfer.leftBytes -= (BYTES_PER_SECOND * TICK_MS) / 1_000 / active.length;
      if (transfer.leftBytes > 0) continue;
      this.#transfers.delete(transfer);
      transfer.done();
    }
    for (let turn = 0; turn < 30; turn++) await Promise.resolve();
    this.clock.advance(TICK_MS);
  }

  isThere(file: WantedFile): boolean {
    return this.bytesOf(file.source.version) >= FILE_BYTES;
  }

  bytesOf(version: VersionId): number {
    let bytes = 0;
    for (const block of this.present.get(version) ?? []) bytes += Math.min(BLOCK, FILE_BYTES - block * BLOCK);
    return bytes;
  }

  /** As a program's open, which waits for all of it. */
  demand({ source }: WantedFile): void {
    void this.#fill(source.version, { offset: 0, length: FILE_BYTES, isDemand: true });
  }

  #open({ source }: OpenVersion): CacheHandle {
    const { version } = source;
    const bytesOf = (of: VersionId): number => this.bytesOf(of);
    return {
      source,
      fill: (offset: number, length: number) => this.#fill(version, { offset, length, isDemand: false }),
      close: () => undefined,
      get cachedBytes() {
        return bytesOf(version);
      },
    } as unknown as CacheHandle;
  }

  async #fill(
    version: VersionId,
    how: { readonly offset: number; readonly length: number; readonly isDemand: boolean },
  ): Promise<void> {
    const waits: Promise<void>[] = [];
    const end = Math.min(FILE_BYTES, how.offset + how.length);
    for (let block = Math.floor(how.offset / BLOCK); block * BLOCK < end; block++) {
      if (this.present.get(version)?.has(block) === true) continue;
      const key = `${version} ${block}`;
      let transfer = this.#underWay.get(key);
      if (transfer === undefined) {
        transfer = this.#transfer(version, block, how.isDemand).finally(() => this.#underWay.delete(key));
        this.#underWay.set(key, transfer);
      }
      waits.push(transfer);
    }
    await Promise.all(waits);
  }

  #transfer(version: VersionId, block: number, isDemand: boolean): Promise<void> {
    const bytes = Math.min(BLOCK, FILE_BYTES - block * BLOCK);
    this.fetchedBytes += bytes;
    if (isDemand) this.prefetcher.demand(++this.#demand);
    return new Promise((resolve) => {
      const done = (): void => {
        const blocks = this.present.get(version) ?? new Set<number>();
        this.present.set(version, blocks.add(block));
        if (isDemand) this.prefetcher.demand(--this.#demand);
        resolve();
      };
      const beginsMs = this.clock.nowMs() + LATENCY_MS;
      this.#transfers.add({ beginsMs, leftBytes: bytes, done });
    });
  }
}

function fileOf(number: number): WantedFile {
  const version = number.toString(16).padStart(32, '0') as VersionId;
  const source = { version, exportName: 'data', objectKey: '', objectVersion: undefined, entityTag: '' };
  return {
    inode: BigInt(number + 2) as InodeNumber,
    path: `f-${number}`,
    source: { ...source, sizeBytes: FILE_BYTES },
  };
}

/** @returns the share of its time that the program waits, from the file at `from` on */
async function consume(
  world: World,
  {
    files,
    from = 0,
    onOpen,
  }: {
    readonly files: readonly WantedFile[];
    readonly from?: number;
    readonly onOpen: (file: WantedFile) => void;
  },
): Promise<number> {
  const workMs = (1_000 * FILE_BYTES) / (CONSUMED * BYTES_PER_SECOND);
  let waitedMs = 0;
  for (const [at, file] of files.entries()) {
    const { source } = file;
    world.prefetcher.opened({ source, cachedBytes: () => world.bytesOf(source.version) });
    onOpen(file);
    const beganMs = world.clock.nowMs();
    if (!world.isThere(file)) world.demand(file);
    while (!world.isThere(file)) await world.tick();
    if (at >= from) waitedMs += world.clock.nowMs() - beganMs;
    for (const readyMs = world.clock.nowMs() + workMs; world.clock.nowMs() < readyMs;) await world.tick();
  }
  return waitedMs / (waitedMs + workMs * (files.length - from));
}

const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;

t.test(
  'who reads in the order of a manifest at 80 % of the store waits 3 % of the time at most',
  async (t) => {
    const files = Array.from({ length: FILES }, (_, at) => fileOf((at * 77) % FILES));
    const bare = await consume(new World(), { files, onOpen: () => undefined });
    const world = new World((_, settled) => job.settled(settled));
    const job: Job = new Job(
      {
        ...{ id: '1', what: '', startedMs: 0, lane: '#1', settings: SETTINGS, window: { ahead: 8 } },
        files: async function* () {
          yield* files;
        },
      },
      world.prefetcher,
    );
    void job.run();
    const share = await consume(world, { files, onOpen: ({ path }) => job.opened(path) });
    t.comment(`${percent(share)}, without ${percent(bare)}`);
    t.ok(share <= 0.03, percent(share));
    t.ok(bare > 0.4, 'it is the prefetching that does it');
    t.equal(world.fetchedBytes, FILES * FILE_BYTES, 'nothing is fetched twice');
    t.match(job.info(), { state: 'done', filesThere: FILES });
  },
);

t.test('who reads by numbers waits 10 % at most from the fourth file on', async (t) => {
  const files = Array.from({ length: FILES }, (_, at) => fileOf(at));
  const world = new World();
  const sequences = new NameSequences();
  const share = await consume(world, {
    files,
    from: 3,
    onOpen({ path }) {
      for (const name of sequences.opened(1n as InodeNumber, path, 4)) {
        const number = Number(name.slice(2));
        if (number >= FILES) continue;
        world.prefetcher.want(fileOf(number), { lane: 'seq', settings: SETTINGS, isSoon: true });
      }
    },
  });
  t.comment(percent(share));
  t.ok(share <= 0.1, percent(share));
  t.equal(world.fetchedBytes, FILES * FILE_BYTES);
});
