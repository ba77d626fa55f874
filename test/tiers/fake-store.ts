/** An object store in memory that fails as told, and fetch workers without threads. */
import { Readable } from 'node:stream';
import { createHash } from 'node:crypto';
import type { Clock } from '../../lib/base/clock.ts';
import { systemClock } from '../../lib/base/clock.ts';
import type { VersionId } from '../../lib/base/brand.ts';
import { seededPrng } from '../../lib/base/prng.ts';
import { createLogger } from '../../lib/telemetry/log.ts';
import { createMetrics } from '../../lib/telemetry/metrics.ts';
import { FETCH_LIMITS, type FetchLimits } from '../../lib/tiers/fetch-limits.ts';
import type { FetchWorkerFactory, FromFetchWorker, ToFetchWorker } from '../../lib/tiers/fetch-protocol.ts';
import { serveFetches, type FetchServerOptions } from '../../lib/tiers/fetch-server.ts';
import { createStoreTier } from '../../lib/tiers/store-tier.ts';
import type { QuickMeans } from '../../lib/tiers/quick-fetch.ts';
import type { VersionSource } from '../../lib/tiers/tier.ts';
import {
  StoreError,
  type CallOptions,
  type GetRequest,
  type GetResult,
  type ObjectStore,
  type StoreAccess,
} from '../../lib/store/object-store.ts';

/** What one GET does instead of answering well. */
export interface Fault {
  /** Refuses before any byte. */
  readonly refuse?: StoreError;
  /** Delivers this many bytes, then breaks with `error` (or just ends). */
  readonly breakAfter?: number;
  readonly error?: StoreError;
  /** Flips the byte at this offset of the object. */
  readonly flip?: number;
  /** Waits for this before the first byte. */
  readonly hold?: Promise<void>;
}

export class FakeStore {
  readonly bytes: Buffer;
  readonly entityTag: string;
  readonly gets: GetRequest[] = [];
  /** One for each GET to come, in order; undefined is a good answer. */
  readonly faults: (Fault | undefined)[] = [];
  contentMd5: string | undefined;
  chunkBytes = 64 * 1024;
  closed = false;
  /** What it tells others. */
  access: StoreAccess | undefined;
  onGet: (request: GetRequest) => void = () => undefined;

  constructor(sizeBytes: number, seed = 1) {
    const prng = seededPrng(seed);
    this.bytes = Buffer.from(Array.from({ length: sizeBytes }, () => prng.below(256)));
    this.entityTag = `tag-${seed}`;
  }

  vouchForMd5(): void {
    this.contentMd5 = createHash('md5').update(this.bytes).digest('hex');
  }

  get source(): VersionSource {
    return {
      version: '0123456789abcdef0123456789abcdef' as VersionId,
      exportName: 'data',
      objectKey: 'shard',
      objectVersion: undefined,
      entityTag: this.entityTag,
      sizeBytes: this.bytes.byteLength,
    };
  }

  /** Only what fetching uses. */
  get store(): ObjectStore {
    const store = {
      get: (request: GetRequest, options?: CallOptions) => this.#get(request, options),
      access: () => Promise.resolve(this.access),
      close: () => {
        this.closed = true;
        return Promise.resolve();
      },
    };
    return store as unknown as ObjectStore;
  }

  async #get(request: GetRequest, options: CallOptions = {}): Promise<GetResult> {
    this.gets.push(request);
    const fault = this.faults.shift() ?? {};
    this.onGet(request);
    if (fault.hold) await Promise.race([fault.hold, aborted(options.signal)]);
    if (fault.refuse) throw fault.refuse;
    if (request.ifMatch !== this.entityTag) {
      throw new StoreError('precondition-failed', 'another version');
    }
    const { offset, length } = request.range ?? { offset: 0, length: this.bytes.byteLength };
    const bytes = Buffer.from(this.bytes.subarray(offset, offset + length));
    if (fault.flip !== undefined) bytes[fault.flip - offset]! ^= 0xff;
    const head = {
      key: request.key,
      sizeBytes: this.bytes.byteLength,
      entityTag: this.entityTag,
      modifiedMs: 0,
      versionId: undefined,
      metadata: {},
      ...(this.contentMd5 === undefined ? {} : { contentMd5: this.contentMd5 }),
    };
    return {
      head,
      bodyBytes: bytes.byteLength,
      body: Readable.from(this.#pieces(bytes, fault), { objectMode: false }),
    };
  }

  *#pieces(bytes: Buffer, fault: Fault): Generator<Buffer> {
    const end = Math.min(bytes.byteLength, fault.breakAfter ?? Infinity);
    for (let at = 0; at < end; at += this.chunkBytes) {
      yield bytes.subarray(at, Math.min(end, at + this.chunkBytes));
    }
    if (fault.error) throw fault.error;
  }
}

function aborted(signal: AbortSignal | undefined): Promise<never> {
  return new Promise((_, reject) => {
    signal?.addEventListener('abort', () => reject(signal.reason), { once: true });
  });
}

/** Workers that run on this thread; messages pass by structured clone, as between threads. */
export class LocalWorkers {
  started = 0;
  /** Commands in the order in which workers got them. */
  readonly commands: ToFetchWorker[] = [];
  readonly #options: Omit<FetchServerOptions, 'port'>;
  readonly #ends: ((cause: unknown) => void)[] = [];

  constructor(options: Omit<FetchServerOptions, 'port'>) {
    this.#options = options;
  }

  readonly start: FetchWorkerFactory = (events) => {
    this.started++;
    let listener: ((message: ToFetchWorker) => void) | undefined;
    let gone = false;
    const end = (cause: unknown): void => {
      if (gone) return;
      gone = true;
      events.onEnd(cause);
    };
    this.#ends.push(end);
    serveFetches({
      ...this.#options,
      port: {
        post: (message, transfer) => {
          const copy: FromFetchWorker = structuredClone(message, { transfer: [...(transfer ?? [])] });
          queueMicrotask(() => {
            if (!gone) events.onMessage(copy);
          });
        },
        onMessage: (on) => (listener = on),
        close: () => queueMicrotask(() => end(undefined)),
      },
    });
    return {
      post: (message) => {
        this.commands.push(message);
        const copy = structuredClone(message);
        queueMicrotask(() => {
          if (!gone) listener?.(copy);
        });
      },
      terminate: () => queueMicrotask(() => end(new Error('terminated'))),
    };
  };

  /** As if the thread that was started as number `index` had crashed. */
  crash(index: number): void {
    this.#ends[index]!(new Error('crashed'));
  }
}

export interface Harness {
  readonly fake: FakeStore;
  readonly sink: Buffer;
  readonly workers: LocalWorkers;
  readonly metrics: ReturnType<typeof createMetrics>;
  readonly tier: ReturnType<typeof createStoreTier>;
}

/** Without threads and sockets only timers keep a test alive while a fetch pauses. */
const waitedForClock: Clock = {
  ...systemClock,
  after(delayMs, run) {
    const timer = setTimeout(run, delayMs);
    return () => clearTimeout(timer);
  },
};

export interface HarnessOptions {
  readonly limits?: Partial<FetchLimits>;
  readonly workerCount?: number;
  readonly storeUrls?: readonly string[];
  readonly clock?: Clock;
  readonly writeAt?: FetchServerOptions['writeAt'];
  readonly quick?: (sink: Buffer) => QuickMeans;
}

/** A tier over a fake store; "descriptors" are ignored, all bytes go to `sink`. */
export function harness(fake: FakeStore, options: HarnessOptions = {}): Harness {
  const clock = options.clock ?? waitedForClock;
  // A lead only where a test asks for one: it doubles the GETs of a small object.
  const limits = {
    ...FETCH_LIMITS,
    leadBytes: 0,
    resumeBackoffMs: 1,
    resumeBackoffMsMax: 2,
    ...options.limits,
  };
  const sink = Buffer.alloc(fake.bytes.byteLength);
  const workers = new LocalWorkers({
    readAt: async () => 0,
    openStore: () => fake.store,
    writeAt: options.writeAt ?? ((_descriptor, piece, position) => void piece.copy(sink, position)),
    clock,
    prng: seededPrng(1),
    limits,
  });
  const metrics = createMetrics();
  const tier = createStoreTier({
    startWorker: workers.start,
    workerCount: options.workerCount ?? 1,
    storeUrlOf: (exportName) => (exportName === 'data' ? 's3://data' : undefined),
    ...(options.storeUrls === undefined ? {} : { storeUrls: options.storeUrls }),
    ...(options.quick === undefined ? {} : { quick: options.quick(sink) }),
    clock,
    logger: createLogger({ level: 'silent' }),
    metrics,
    limits,
  });
  return { fake, sink, workers, metrics, tier };
}
