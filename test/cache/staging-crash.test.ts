/**
 * Staging against a model, with a crash between any two calls of the disk.
 *
 * "What `fsync` or `close` acknowledged survives the death of the process and of the host, in write-through in the
 * object store, in write-back on the host's NVMe until it has converged."
 *
 * The process dies: a copy of the directory at that instant is opened by a new cache. The host dies: the directory is
 * what the device had (`crash-device.ts`). In the middle of an operation the next life may find its beginning or its
 * end, and nothing else.
 */
import { execFileSync } from 'node:child_process';
import { isDeepStrictEqual } from 'node:util';
import { rmSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import fc from 'fast-check';
import t from 'tap';
import { CacheError } from '../../cache/block-cache.ts';
import type { NvmeBlockCache } from '../../cache/nvme-cache.ts';
import type { JournalEntry, SealOutcome, StagedFile } from '../../cache/staging/staging.ts';
import { KIB } from '../../lib/base/limits.ts';
import { CrashDevice, filesOf } from './crash-device.ts';
import { FakeTier, sourceOf, trueBytes } from './fake-tier.ts';
import { openFixture, openVersion, temporaryDirectory } from './fixture.ts';
import { ManualClock } from './manual-clock.ts';
import { entryOf, sealingOf, writeOf } from './staged.ts';

const BLOCK = 8 * KIB;
const CAPACITY = 512 * BLOCK;
const FILES = 4;

type Death = 'process' | 'names-lost' | 'names-kept';

type Step =
  | { readonly kind: 'write'; readonly file: number; readonly at: number; readonly length: number }
  | { readonly kind: 'truncate'; readonly file: number; readonly size: number; readonly die?: number }
  | {
      readonly kind: 'record';
      readonly file: number;
      readonly state: 'begun' | 'synced' | 'closed' | 'committed';
      readonly durable: boolean;
      readonly die?: number;
    }
  | { readonly kind: 'seal' | 'discard'; readonly file: number; readonly die?: number }
  | { readonly kind: 'die'; readonly how: Death };

const file = fc.nat({ max: FILES - 1 });
const size = fc.integer({ min: 0, max: 5 * BLOCK });
/** Before which call of the disk a copy is taken; more than an operation makes: none. */
const die = fc.integer({ min: 1, max: 10 });
const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    {
      weight: 4,
      arbitrary: fc.record({ kind: fc.constant('write' as const), file, at: size, length: size }),
    },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('truncate' as const), file, size, die }) },
    {
      weight: 4,
      arbitrary: fc.record({
        ...{ kind: fc.constant('record' as const), file, die, durable: fc.boolean() },
        state: fc.constantFrom('begun' as const, 'synced' as const, 'closed' as const, 'committed' as const),
      }),
    },
    {
      weight: 3,
      arbitrary: fc.record({ kind: fc.constantFrom('seal' as const, 'discard' as const), file, die }),
    },
    {
      weight: 2,
      arbitrary: fc.record({
        kind: fc.constant('die' as const),
        how: fc.constantFrom('process' as const, 'names-lost' as const, 'names-kept' as const),
      }),
    },
  ),
  { minLength: 4, maxLength: 25 },
);

/** What the model knows of a file. */
interface Known {
  readonly file: StagedFile;
  bytes: Buffer;
  /** What the next life of the process must find owed; undefined: nothing. */
  owed: JournalEntry | undefined;
  /** Bytes that were durable when it was said so; the next life of the host has at least as many, unless it was cut. */
  durableBytes: number | undefined;
}

/** What a life after a crash may find of each write: the entry that is owed and its bytes. */
type Findable = { readonly owed: JournalEntry | undefined; readonly bytes: Buffer };
type Allowed = Map<string, Findable[]>;

class World {
  readonly #t: { teardown(run: () => unknown): void };
  readonly clock = new ManualClock();
  directory!: string;
  device!: CrashDevice;
  cache!: NvmeBlockCache;
  tier = new FakeTier();
  files = new Map<number, Known>();
  sealed = new Map<number, number>();
  made = 0;

  constructor(t: { teardown(run: () => unknown): void }) {
    this.#t = t;
  }

  async start(directory: string): Promise<void> {
    this.directory = directory;
    this.device = new CrashDevice(directory);
    this.cache = await this.open(directory, this.device);
  }

  async open(directory: string, device: CrashDevice): Promise<NvmeBlockCache> {
    this.tier = new FakeTier();
    const { cache } = await openFixture(this.#t, {
      ...{ directory, disk: device.disk, tier: this.tier, clock: this.clock },
      ...{ capacityBytes: CAPACITY, blockBytes: BLOCK },
    });
    return cache;
  }

  copy(): string {
    const copy = temporaryDirectory(this.#t);
    execFileSync('cp', ['-r', `${this.directory}/.`, copy]);
    rmSync(join(copy, 'lock.db'));
    return copy;
  }

  empty(): string {
    return temporaryDirectory(this.#t);
  }

  async known(number: number): Promise<Known> {
    const there = this.files.get(number);
    if (there !== undefined) {
      await there.file.resume();
      return there;
    }
    const file = await this.cache.staging.create(writeOf(++this.made));
    const known: Known = { file, bytes: Buffer.alloc(0), owed: undefined, durableBytes: undefined };
    this.files.set(number, known);
    return known;
  }

  /** Runs an operation, and looks at a copy that is taken before one of its calls of the disk. */
  async dying(
    at: number | undefined,
    file: Known,
    run: () => Promise<Findable[]>,
    check?: (next: NvmeBlockCache) => void,
  ): Promise<void> {
    const before: Findable = { owed: file.owed, bytes: Buffer.from(file.bytes) };
    let copy: string | undefined;
    let calls = 0;
    this.device.onCall = (name) => {
      if (name === 'fileStat' || ++calls !== at) return;
      copy = this.copy();
    };
    const after = await run();
    this.device.onCall = () => undefined;
    if (copy === undefined) return;
    const allowed = this.allowed();
    allowed.set(file.file.name, [before, ...after]);
    await this.look(copy, allowed, check);
  }

  allowed(): Allowed {
    return new Map([...this.files.values()].map(({ file, owed, bytes }) => [file.name, [{ owed, bytes }]]));
  }

  /** Opens a copy as the next life would, compares, and leaves it. */
  async look(copy: string, allowed: Allowed, check?: (next: NvmeBlockCache) => void): Promise<void> {
    const cache = await this.open(copy, new CrashDevice(copy));
    await compare(cache, allowed);
    checkSpace(cache, copy);
    check?.(cache);
    await cache.close();
  }

  async dieNow(how: Death): Promise<'on' | 'refused'> {
    let next: string;
    if (how === 'process') next = this.copy();
    else this.device.after(how, (next = this.empty()));
    const dead = this.cache;
    const allowed = this.allowed();
    const before = this.files;
    try {
      await this.start(next);
    } catch (error) {
      await dead.close();
      // Rows that were not durable may have been brought to the device with others, and their bytes not.
      const mayLack = [...before.values()].some(
        ({ owed, bytes, durableBytes }) => owed !== undefined && bytes.length > (durableBytes ?? 0),
      );
      if (how !== 'process' && mayLack && error instanceof CacheError && error.code === 'journal')
        return 'refused';
      throw error;
    }
    await dead.close();
    if (how === 'process') {
      await compare(this.cache, allowed);
      await this.checkSealed();
    } else await compareDurable(this.cache, before);
    await this.goOn(before);
    return 'on';
  }

  /** Files that are owed are the world's again; nothing else is there. */
  async goOn(before: ReadonlyMap<number, Known>): Promise<void> {
    const recovered = new Map(this.cache.staging.recovered.map((found) => [found.file.name, found]));
    this.files = new Map();
    for (const [number, { file }] of before) {
      const found = recovered.get(file.name);
      if (found === undefined) continue;
      const { sizeBytes } = found.file.stat();
      this.files.set(number, {
        file: found.file,
        bytes: Buffer.from(await found.file.read(0, sizeBytes)),
        owed: found.entry,
        // It was read from the device, or the process alone died.
        durableBytes: before.get(number)!.durableBytes,
      });
    }
    for (const entry of this.cache.staging.ended) this.cache.staging.forget(entry);
    this.sealed.clear();
  }

  /** "Today's blob": versions that were sealed are served without the tier. */
  async checkSealed(): Promise<void> {
    for (const [number, sizeBytes] of this.sealed) {
      const source = sourceOf(number, sizeBytes);
      const handle = openVersion(this.cache, source);
      const bytes = await handle.read(0, sizeBytes);
      handle.close();
      if (!trueBytes(source, 0, sizeBytes).equals(bytes))
        throw new Error(`version ${number} has wrong bytes`);
      if (this.tier.fills.length + this.tier.reads.length > 0)
        throw new Error(`version ${number} was fetched`);
    }
  }
}

async function compare(cache: NvmeBlockCache, allowed: Allowed): Promise<void> {
  const { recovered, ended } = cache.staging;
  const found = new Map(recovered.map((each) => [each.file.name, each]));
  for (const [name, candidates] of allowed) {
    const there = found.get(name);
    found.delete(name);
    const bytes = there === undefined ? undefined : Buffer.from(await there.file.read(0, 1024 * KIB));
    const fits = candidates.some(
      ({ owed, bytes: expected }) =>
        isDeepStrictEqual(owed, there?.entry) && (bytes === undefined || bytes.equals(expected)),
    );
    if (!fits)
      throw new Error(`${name} came back as ${String(there?.entry.state)} with ${bytes?.length} bytes`);
  }
  if (found.size > 0) throw new Error(`${[...found.keys()].join()} should be gone`);
  for (const { state } of ended) if (state !== 'begun' && state !== 'committed') throw new Error(state);
}

async function compareDurable(cache: NvmeBlockCache, before: ReadonlyMap<number, Known>): Promise<void> {
  const found = new Map(cache.staging.recovered.map((each) => [each.file.name, each]));
  for (const { file, owed, durableBytes } of before.values()) {
    if (durableBytes === undefined || owed === undefined) continue;
    const there = found.get(file.name);
    if (there === undefined) throw new Error(`${file.name} was durable and is gone`);
    const { sizeBytes } = there.file.stat();
    if (sizeBytes < durableBytes)
      throw new Error(`${file.name} has ${sizeBytes} of ${durableBytes} bytes that were durable`);
  }
}

function checkSpace(cache: NvmeBlockCache, directory: string): void {
  const { usedBytes, reservedBytes, dirtyBytes } = cache.stat();
  const taken = { blobs: 0, staging: 0 };
  for (const path of filesOf(directory)) {
    taken[path.startsWith(join(directory, 'blobs')) ? 'blobs' : 'staging'] += statSync(path).blocks * 512;
  }
  if (usedBytes + reservedBytes > CAPACITY) throw new Error(`${usedBytes} + ${reservedBytes} is too much`);
  if (taken.staging !== dirtyBytes) throw new Error(`writers take ${taken.staging}, not ${dirtyBytes}`);
  if (taken.blobs + taken.staging > usedBytes) throw new Error(`${usedBytes} bytes are used, more are taken`);
}

function written(bytes: Buffer, at: number, piece: Buffer): Buffer {
  const next = Buffer.alloc(Math.max(bytes.length, at + piece.length));
  bytes.copy(next);
  piece.copy(next, at);
  return next;
}

async function perform(world: World, step: Step): Promise<'on' | 'refused'> {
  if (step.kind === 'die') return world.dieNow(step.how);
  const known = await world.known(step.file);
  const { file } = known;
  const { staging } = world.cache;
  switch (step.kind) {
    case 'write': {
      const piece = Buffer.alloc(step.length, 1 + (step.at % 255));
      await file.write(step.at, piece);
      if (piece.length > 0) known.bytes = written(known.bytes, step.at, piece);
      return 'on';
    }
    case 'truncate':
      await world.dying(step.die, known, async () => {
        await file.truncate(step.size);
        known.bytes = Buffer.concat([known.bytes.subarray(0, step.size)], step.size);
        if (known.durableBytes !== undefined) known.durableBytes = Math.min(known.durableBytes, step.size);
        return [{ owed: known.owed, bytes: known.bytes }];
      });
      return 'on';
    case 'record': {
      const { state, durable } = step;
      const entry = entryOf(world.made, { state, publication: world.made });
      await world.dying(step.die, known, async () => {
        await file.record(entry, { durable });
        known.owed = state === 'synced' || state === 'closed' ? entry : undefined;
        if (known.owed === undefined) known.durableBytes = undefined;
        else if (durable) known.durableBytes = known.bytes.length;
        return [{ owed: known.owed, bytes: known.bytes }];
      });
      return 'on';
    }
    case 'discard':
      await world.dying(step.die, known, async () => {
        await staging.discard(file);
        world.files.delete(step.file);
        return [{ owed: undefined, bytes: known.bytes }];
      });
      return 'on';
    case 'seal':
      await seal(world, known, step);
      return 'on';
  }
}

/** Committed as the version of its number, whose bytes it gets for that. */
async function seal(world: World, known: Known, step: { file: number; die?: number }): Promise<void> {
  const number = ++world.made;
  const { file } = known;
  const bytes = trueBytes(sourceOf(number, BLOCK * (1 + (number % 4)) + 7), 0, 1024 * KIB);
  await file.truncate(0);
  await file.write(0, bytes);
  known.bytes = Buffer.from(bytes);
  await file.record(entryOf(number, { state: 'committed' }), { durable: false });
  known.owed = undefined;
  known.durableBytes = undefined;
  file.rest();
  const sealing = sealingOf(file, { number, bytes, blockBytes: BLOCK });
  let outcome: SealOutcome | undefined;
  const run = async (): Promise<Findable[]> => {
    outcome = await world.cache.staging.seal(file, sealing);
    if (outcome === 'written') throw new Error('nobody writes to it');
    world.files.delete(step.file);
    if (outcome === 'sealed') world.sealed.set(number, bytes.length);
    return [{ owed: undefined, bytes }];
  };
  await world.dying(step.die, known, run, (next) => {
    const isKnown = next.staging.ended.some(({ grant }) => grant.write === writeOf(number));
    const isBlob = next.list({}).some(({ version }) => version === sealing.source.version);
    if (outcome === 'sealed' && !isKnown && !isBlob) throw new Error('neither the row is there nor the blob');
  });
}

/** What a life has made durable is so for the next ones too. */
const durableBeforeTwoDeaths: Step[] = [
  { kind: 'record', file: 0, durable: true, state: 'synced' },
  { kind: 'die', how: 'process' },
  { kind: 'die', how: 'names-kept' },
  { kind: 'die', how: 'names-lost' },
];

t.test('staging loses nothing that it acknowledged, whatever crashes between any two calls', async (t) => {
  const numRuns = Number(process.env['PERIGEE_ROUNDS'] ?? 15);
  await fc.assert(
    fc.asyncProperty(steps, async (commands) => {
      const ends: (() => unknown)[] = [];
      const world = new World({ teardown: (run) => ends.unshift(run) });
      try {
        await world.start(world.empty());
        for (const command of commands) {
          const evictedBytes = world.cache.stat().evictedBytes;
          if ((await perform(world, command)) === 'refused') return;
          if (world.cache.stat().evictedBytes > evictedBytes) world.sealed.clear();
          checkSpace(world.cache, world.directory);
        }
        await world.dieNow('process');
      } finally {
        for (const end of ends) await end();
      }
    }),
    { numRuns, examples: [[durableBeforeTwoDeaths]] },
  );
  t.pass(`${numRuns} runs`);
});

t.test('the device that crashes are played with holds what was synced, and no more', async (t) => {
  const directory = temporaryDirectory(t);
  await (await openFixture(t, { directory })).cache.close();
  const device = new CrashDevice(directory);
  const { disk } = device;
  const staged = (name: string): string => join(directory, 'staging', name);
  const fd = disk.create(staged('a'));
  await disk.write(fd, Buffer.from('synced'), 0);
  await disk.datasyncOpen(fd);
  await disk.syncDirectory(join(directory, 'staging'));
  await disk.write(fd, Buffer.from('SYNCED, not'), 0);
  disk.close(disk.create(staged('b')));
  const images = (['names-lost', 'names-kept'] as const).map((death) => {
    const image = temporaryDirectory(t);
    device.after(death, image);
    return filesOf(image).map((path) => `${basename(path)} ${statSync(path).size}`);
  });
  t.same(images, [['a 6'], ['a 6', 'b 0']]);
  disk.close(fd);
});
