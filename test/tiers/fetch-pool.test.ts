import t from 'tap';
import type { Clock } from '../../lib/base/clock.ts';
import { KIB } from '../../lib/base/limits.ts';
import type { FetchWorkerEvents, FetchWorkerFactory, ToFetchWorker } from '../../lib/tiers/fetch-protocol.ts';
import { FETCH_LIMITS } from '../../lib/tiers/fetch-limits.ts';
import { FetchPool } from '../../lib/tiers/fetch-pool.ts';
import { createLogger } from '../../lib/telemetry/log.ts';
import { createMetrics } from '../../lib/telemetry/metrics.ts';
import { TierError, type FillRequest } from '../../lib/tiers/tier.ts';
import { FakeStore, harness } from './fake-store.ts';

const BLOCK = 256 * KIB;

function request(fake: FakeStore): FillRequest {
  return {
    source: fake.source,
    offset: 0,
    length: fake.bytes.byteLength,
    blockBytes: BLOCK,
    priority: 'demand',
    sinkFd: 99,
  };
}

/** Time that moves when told. */
class ManualClock implements Clock {
  #now = 0;
  readonly #timers = new Set<{ at: number; every: number | undefined; run: () => void }>();
  nowMs = (): number => this.#now;
  wallMs = (): number => this.#now;
  after = (delayMs: number, run: () => void): (() => void) => this.#add(delayMs, undefined, run);
  every = (periodMs: number, run: () => void): (() => void) => this.#add(periodMs, periodMs, run);

  advance(byMs: number): void {
    for (const end = this.#now + byMs; this.#now < end; this.#now += 1) {
      for (const timer of this.#timers) {
        if (timer.at > this.#now + 1) continue;
        if (timer.every === undefined) this.#timers.delete(timer);
        else timer.at += timer.every;
        timer.run();
      }
    }
  }

  #add(delayMs: number, every: number | undefined, run: () => void): () => void {
    const timer = { at: this.#now + delayMs, every, run };
    this.#timers.add(timer);
    return () => this.#timers.delete(timer);
  }
}

/** Workers that do nothing but note what they are told. */
class SilentWorkers {
  readonly all: { events: FetchWorkerEvents; told: ToFetchWorker[]; terminated: boolean }[] = [];
  readonly start: FetchWorkerFactory = (events) => {
    const worker = { events, told: [] as ToFetchWorker[], terminated: false };
    this.all.push(worker);
    return {
      post: (message) => worker.told.push(message),
      terminate: () => {
        worker.terminated = true;
      },
    };
  };
}

function silentPool(workerCount: number) {
  const workers = new SilentWorkers();
  const clock = new ManualClock();
  const pool = new FetchPool({
    startWorker: workers.start,
    workerCount,
    clock,
    logger: createLogger({ level: 'silent' }),
    metrics: createMetrics(),
    limits: FETCH_LIMITS,
  });
  const { source } = new FakeStore(10);
  const run = (descriptor: number | undefined, signal?: AbortSignal) => {
    const outcome = { settled: false, error: undefined as unknown };
    const sink = descriptor === undefined ? undefined : { descriptor, blockBytes: BLOCK };
    const fetch = {
      storeUrl: 's3://data',
      source,
      offset: 0,
      length: 10,
      sink,
      leadBytes: 0,
      deadlineMs: 1000,
    };
    const done = pool.run(fetch, { signal, onProgress: undefined }).then(
      () => (outcome.settled = true),
      (error: unknown) => Object.assign(outcome, { settled: true, error }),
    );
    return { outcome, done };
  };
  return { workers, clock, pool, run };
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

t.test('fetch pool starts the requests of a dead worker again on another', async (t) => {
  const fake = new FakeStore(2 * BLOCK);
  const h = harness(fake, { workerCount: 2 });
  const { promise: hold } = Promise.withResolvers<void>();
  fake.faults.push({ hold });
  fake.onGet = () => {
    fake.onGet = () => undefined;
    h.workers.crash(0);
  };
  await h.tier.fill(request(fake));
  t.ok(h.sink.equals(fake.bytes));
  t.equal(fake.gets.length, 2);
  t.equal(h.workers.started, 3, 'it is replaced');
  await h.tier.close();
});

t.test('fetch pool gives up on a request whose workers keep dying', async (t) => {
  const fake = new FakeStore(BLOCK);
  const h = harness(fake);
  let crashes = 0;
  for (let count = 0; count < 9; count++) fake.faults.push({ hold: new Promise(() => undefined) });
  fake.onGet = () => h.workers.crash(crashes++);
  await t.rejects(h.tier.fill(request(fake)), { code: 'unavailable' });
  t.equal(crashes, FETCH_LIMITS.workerLossesMax + 1);
  fake.onGet = () => undefined;
  fake.faults.length = 0;
  await h.tier.fill(request(fake));
  await h.tier.close();
});

t.test('fetch pool keeps a cancelled fill until its worker has let the descriptor go', async (t) => {
  const { workers, pool, run } = silentPool(1);
  const cancel = new AbortController();
  const fill = run(7, cancel.signal);
  const read = run(undefined, cancel.signal);
  cancel.abort(new Error('enough'));
  await read.done;
  t.match(read.outcome.error, { message: 'enough' }, 'a read has no descriptor');
  await turn();
  t.notOk(fill.outcome.settled);
  t.match(workers.all[0]!.told.at(-2), { kind: 'cancel', id: 1 });
  const failure = { code: 'unavailable', message: '', hint: undefined, cause: undefined } as const;
  workers.all[0]!.events.onMessage({ kind: 'failed', id: 1, failure });
  await fill.done;
  t.match(fill.outcome.error, { message: 'enough' });
  const closed = pool.close();
  workers.all[0]!.events.onEnd(undefined);
  await closed;
});

t.test('fetch pool ends a worker that does not answer in time, and settles when it is gone', async (t) => {
  const { workers, clock, pool, run } = silentPool(1);
  const fill = run(7);
  clock.advance(1000 + 2 * FETCH_LIMITS.sweepMs);
  await turn();
  t.match(workers.all[0]!.told.at(-1), { kind: 'cancel', id: 1 });
  t.notOk(workers.all[0]!.terminated);
  clock.advance(FETCH_LIMITS.letGoMs + FETCH_LIMITS.sweepMs);
  await turn();
  t.ok(workers.all[0]!.terminated);
  t.notOk(fill.outcome.settled, 'the thread may still write');
  const next = run(8);
  t.equal(workers.all.length, 2, 'others are served by a new one');
  workers.all[0]!.events.onEnd(new Error('terminated'));
  await fill.done;
  t.match(fill.outcome.error, { code: 'timeout' });
  workers.all[1]!.events.onMessage({ kind: 'filled', id: 2, blockChecksums: [1] });
  await next.done;
  t.equal(next.outcome.error, undefined);
  const closed = pool.close();
  workers.all[1]!.events.onEnd(undefined);
  await closed;
});

t.test('fetch pool stops to hire when too many workers hang in the system', async (t) => {
  const { workers, clock, run } = silentPool(1);
  let last: ReturnType<typeof run> | undefined;
  for (let count = 0; count <= FETCH_LIMITS.hangingWorkersMax + 1; count++) {
    last = run(count + 1);
    clock.advance(1000 + FETCH_LIMITS.letGoMs + 4 * FETCH_LIMITS.sweepMs);
    await turn();
  }
  t.equal(workers.all.length, FETCH_LIMITS.hangingWorkersMax + 1);
  t.ok(last?.outcome.error instanceof TierError);
});

t.test('fetch pool closes in bounded time even if a thread cannot be ended', async (t) => {
  const { workers, clock, pool, run } = silentPool(2);
  run(7);
  const closed = pool.close();
  clock.advance(2 * FETCH_LIMITS.letGoMs + 1);
  await closed;
  t.ok(workers.all.every((worker) => worker.terminated));
});
