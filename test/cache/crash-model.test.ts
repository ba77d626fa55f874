/**
 * The cache against a reference model, with crashes between any two steps.
 *
 * A crash is a copy of the directory at that instant, opened by a new cache. `process`: the process died, the
 * kernel still writes what it was given. `host`: the power failed; what was not synced may be lost, here files of
 * blobs (zeros instead of bytes, or a short file) or the catalog's write-ahead log.
 */
import { execFileSync } from 'node:child_process';
import { readdirSync, rmSync, statSync, truncateSync } from 'node:fs';
import { basename, join } from 'node:path';
import fc from 'fast-check';
import t from 'tap';
import { systemDisk } from '../../cache/disk.ts';
import type { BlockCache, CacheHandle } from '../../cache/block-cache.ts';
import { KIB } from '../../lib/base/limits.ts';
import type { VersionSource } from '../../lib/tiers/tier.ts';
import { openFixture, openVersion, temporaryDirectory } from './fixture.ts';
import { FakeTier, sourceOf, trueBytes } from './fake-tier.ts';
import { faultyDisk } from './faulty-disk.ts';
import { ManualClock } from './manual-clock.ts';

const BLOCK = 8 * KIB;
const CAPACITY = 30 * BLOCK;
/** Of one byte, of one block, of a few, of more than half the cache. */
const SIZES = [1, BLOCK, 3 * BLOCK + 5, 5 * BLOCK, 17 * BLOCK - 1];

type Step =
  | { readonly kind: 'open' | 'close' | 'evict' | 'pin'; readonly file: number }
  | {
      readonly kind: 'read' | 'fill' | 'hang';
      readonly file: number;
      readonly block: number;
      readonly blocks: number;
    }
  | { readonly kind: 'record' | 'time' | 'verify' }
  | { readonly kind: 'crash'; readonly how: 'process' | 'host-data' | 'host-catalog' | 'host-short' };

const file = fc.nat({ max: SIZES.length - 1 });
const range = { file, block: fc.nat({ max: 17 }), blocks: fc.integer({ min: 1, max: 6 }) };
const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    { weight: 3, arbitrary: fc.record({ kind: fc.constantFrom('open' as const, 'close' as const), file }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constantFrom('evict' as const, 'pin' as const), file }) },
    {
      weight: 6,
      arbitrary: fc.record({ kind: fc.constantFrom('read' as const, 'fill' as const), ...range }),
    },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('hang' as const), ...range }) },
    {
      weight: 3,
      arbitrary: fc.record({ kind: fc.constantFrom('record' as const, 'time' as const, 'verify' as const) }),
    },
    {
      weight: 2,
      arbitrary: fc.record({
        kind: fc.constant('crash' as const),
        how: fc.constantFrom(
          'process' as const,
          'host-data' as const,
          'host-catalog' as const,
          'host-short' as const,
        ),
      }),
    },
  ),
  { minLength: 5, maxLength: 24 },
);

class World {
  readonly #t: { teardown(run: () => unknown): void };
  readonly clock = new ManualClock();
  tier = new FakeTier();
  cache!: BlockCache;
  directory!: string;
  handles = new Map<number, CacheHandle>();
  synced = new Set<string>();
  /** Files of which every block was recorded, and which were not evicted since. */
  recorded = new Set<number>();
  /** The host died, so that what the catalog lists may be bad; found out when it is read. */
  suspect = false;

  constructor(t: { teardown(run: () => unknown): void }) {
    this.#t = t;
  }

  source(file: number): VersionSource {
    return sourceOf(file, SIZES[file]!);
  }

  async start(directory: string): Promise<void> {
    this.directory = directory;
    this.tier = new FakeTier();
    this.handles = new Map();
    const { disk } = faultyDisk({
      datasync: async (path) => {
        await systemDisk.datasync(path);
        this.synced.add(basename(path));
      },
    });
    const options = {
      directory,
      disk,
      tier: this.tier,
      clock: this.clock,
      capacityBytes: CAPACITY,
      blockBytes: BLOCK,
    };
    this.cache = (await openFixture(this.#t, options)).cache;
  }

  handle(file: number): CacheHandle {
    const known = this.handles.get(file);
    if (known !== undefined) return known;
    const made = openVersion(this.cache, this.source(file));
    this.handles.set(file, made);
    return made;
  }

  async crash(how: (Step & { kind: 'crash' })['how']): Promise<void> {
    const copy = temporaryDirectory(this.#t);
    execFileSync('cp', ['-r', `${this.directory}/.`, copy]);
    rmSync(join(copy, 'lock.db'));
    const dead = this.cache;
    if (how === 'host-catalog') rmSync(join(copy, 'catalog.db-wal'), { force: true });
    if (how === 'host-data' || how === 'host-short') {
      for (const path of blobFiles(copy)) {
        if (this.synced.has(basename(path))) continue;
        const { size } = statSync(path);
        truncateSync(path, Math.floor(size / 2));
        if (how === 'host-data') truncateSync(path, size);
      }
    }
    await this.start(copy);
    for (const held of this.tier.held) held.fail(new Error('the process is gone'));
    await dead.close();
    if (how === 'process') await this.checkRecorded();
    else this.suspect = true;
    this.recorded.clear();
  }

  /** What was recorded before a death of the process alone is served without the tier, byte for byte. */
  async checkRecorded(): Promise<void> {
    for (const file of this.recorded) {
      const before = this.tier.fills.length + this.tier.reads.length;
      await this.checkBytes(file);
      if (this.tier.fills.length + this.tier.reads.length !== before)
        throw new Error(`file ${file} was fetched again`);
    }
  }

  async checkBytes(file: number): Promise<void> {
    const source = this.source(file);
    const handle = openVersion(this.cache, source);
    const bytes = await handle.read(0, source.sizeBytes);
    handle.close();
    if (!trueBytes(source, 0, source.sizeBytes).equals(bytes))
      throw new Error(`file ${file} has wrong bytes`);
  }

  checkSpace(): void {
    const { usedBytes, reservedBytes } = this.cache.stat();
    const taken = blobFiles(this.directory).reduce((sum, path) => sum + statSync(path).blocks * 512, 0);
    if (usedBytes + reservedBytes > CAPACITY)
      throw new Error(`${usedBytes} + ${reservedBytes} bytes are too many`);
    if (taken > usedBytes + reservedBytes)
      throw new Error(`blobs take ${taken}, the ledger says ${usedBytes}`);
  }
}

function blobFiles(directory: string): string[] {
  const entries = readdirSync(join(directory, 'blobs'), { recursive: true, withFileTypes: true });
  return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
}

async function perform(world: World, step: Step): Promise<void> {
  switch (step.kind) {
    case 'open':
      world.handle(step.file);
      return;
    case 'close':
      world.handles.get(step.file)?.close();
      world.handles.delete(step.file);
      return;
    case 'read':
    case 'fill': {
      const source = world.source(step.file);
      const [offset, length] = [step.block * BLOCK + 3, step.blocks * BLOCK];
      const handle = world.handle(step.file);
      if (step.kind === 'fill') return handle.fill(offset, length, { priority: 'demand' });
      const bytes = await handle.read(offset, length);
      if (!trueBytes(source, offset, length).equals(bytes)) throw new Error('read other bytes');
      return;
    }
    case 'hang': {
      world.tier.hold = true;
      const handle = world.handle(step.file);
      handle.fill(step.block * BLOCK, step.blocks * BLOCK, { priority: 'background' }).catch(() => undefined);
      world.tier.hold = false;
      await new Promise((resolve) => setImmediate(resolve));
      const held = world.tier.held.at(-1);
      held?.give(held.request.offset + Math.floor(held.request.length / 2));
      held?.fail(new Error('connection lost'));
      world.tier.held.length = 0;
      return;
    }
    case 'evict':
      world.cache.evict({ version: world.source(step.file).version });
      world.recorded.delete(step.file);
      return;
    case 'pin':
      try {
        world.cache.pin(world.source(step.file).version, step.file % 2 === 0);
      } catch {
        // Not cached, or no room.
      }
      return;
    case 'verify':
      if ((await world.cache.verify({})).badBlocks > 0 && !world.suspect)
        throw new Error('a bad block without a flip');
      world.suspect = false;
      return;
    case 'time':
      world.clock.advance(3000);
      await new Promise((resolve) => setImmediate(resolve));
      world.clock.advance(3000);
      return;
    case 'record': {
      const listed = world.cache.list({});
      if (world.suspect) return;
      world.recorded = new Set(
        [...SIZES.keys()].filter((number) => {
          const { version, sizeBytes } = world.source(number);
          return listed.some((blob) => blob.version === version && blob.cachedBytes === sizeBytes);
        }),
      );
      return;
    }
    case 'crash':
      return world.crash(step.how);
  }
}

t.test('cache agrees with its model whatever crashes between any two steps', async (t) => {
  const numRuns = Number(process.env['PERIGEE_ROUNDS'] ?? 10);
  await fc.assert(
    fc.asyncProperty(steps, async (commands) => {
      const ends: (() => unknown)[] = [];
      const world = new World({ teardown: (run) => ends.unshift(run) });
      try {
        await world.start(temporaryDirectory({ teardown: (run) => ends.unshift(run) }));
        for (const command of commands) {
          const evictedBytes = world.cache.stat().evictedBytes;
          await perform(world, command);
          if (world.cache.stat().evictedBytes > evictedBytes) world.recorded.clear();
          world.checkSpace();
        }
        await world.crash('process');
        for (const number of SIZES.keys()) await world.checkBytes(number);
      } finally {
        for (const end of ends) await end();
      }
    }),
    { numRuns },
  );
  t.pass(`${numRuns} runs`);
});
