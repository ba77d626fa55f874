/** A runtime that records what it is asked, an output that keeps what is printed, a clock and signals moved by hand. */
import type { LeaseCalls } from '../../lib/cli/lease-calls.ts';
import { Readable } from 'node:stream';
import { type Clock } from '../../lib/base/clock.ts';
import { type CommandEnvironment } from '../../lib/cli/environment.ts';
import { FakeOutput } from './fake-output.ts';
import { FakePolicyCalls } from './fake-policy-calls.ts';
import type { PolicyExplanation, Unconverged } from '../../lib/control/control.ts';
import type { JobInfo, JobRequest } from '../../lib/prefetch/prefetch.ts';
import { runCli } from '../../lib/cli/program.ts';
import {
  type ChangesOptions,
  type ExportChanges,
  type Finding,
  type MountControl,
  type MountStatus,
  type PutFile,
  type Runtime,
  type SalvageReport,
  type UpRunning,
} from '../../lib/cli/runtime.ts';

export function fakeStatus(mountpoint: string, changes: Partial<MountStatus> = {}): MountStatus {
  return {
    mountpoint,
    pid: 4242,
    version: '1.2.3',
    origin: '127.0.0.1:7420',
    exportName: 'datasets',
    labels: { rack: 'a1', room: 'b 2' },
    driver: 'kernel',
    passthrough: true,
    readOnly: true,
    upSeconds: 120,
    originReachable: true,
    leases: {
      state: 'live',
      session: '0123abcd',
      termLeftMs: 17_000,
      leases: 2,
      names: 1234,
      directories: 1,
      directoriesComplete: 1,
    },
    store: 's3://bucket/prefix',
    openFiles: 1,
    nodes: 12,
    reads: { passthroughOpens: 5, servedOpens: 2, servedBytes: 3 * 1024 * 1024 },
    cache: {
      directory: '/nvme/perigee',
      health: 'normal',
      capacityBytes: 100 * 1024 ** 3,
      usedBytes: 25 * 1024 ** 3,
      reservedBytes: 0,
      pinnedBytes: 0,
      dirtyBytes: 0,
      blobs: 1234,
      completeBlobs: 1230,
      hits: 10,
      misses: 1,
      fetchedBytes: 8 * 1024 ** 2,
      evictedBytes: 0,
      checksumFailures: 0,
      bypassedReads: 0,
    },
    memoryBytes: 120 * 1024 ** 2,
    ...changes,
  };
}

export function fakeUnconverged(changes: Partial<Unconverged> = {}): Unconverged {
  return {
    ...{ files: 0, bytes: 0, sentBytes: 0, openFiles: 0, failing: 0, oldestMs: 0, list: [] },
    ...changes,
  };
}

export function fakeJob(changes: Partial<JobInfo> = {}): JobInfo {
  return {
    ...{ id: '7', what: 'train', state: 'running', startedMs: 0, isFound: false },
    ...{ filesFound: 2, bytesFound: 4096, filesThere: 0, bytesThere: 0, bytesFetched: 0 },
    ...{ filesDeclined: 0, filesFailed: 0, pathsMissing: 0 },
    ...changes,
  };
}

/** One mount; each call is noted as `name argument`. */
export class FakeControl implements MountControl {
  readonly calls: string[] = [];
  readonly #status: MountStatus;
  failure: Error | undefined;
  /** Set: `unmount` never ends by itself. */
  stuck = false;
  pinned = 3;
  badBlocks = 0;
  missingBlobs = 0;
  keptBlobs = 0;

  constructor(mountpoint: string, changes: Partial<MountStatus> = {}) {
    this.#status = fakeStatus(mountpoint, changes);
  }

  async status() {
    return this.#answer('status', this.#status);
  }

  async cacheList(path: string | undefined) {
    return this.#answer(`list ${path}`, [
      {
        version: 'a'.repeat(32),
        exportName: 'datasets',
        path: 'train/große datei\n.bin',
        sizeBytes: 2048,
        cachedBytes: 1024,
        state: 'filling' as const,
        pinned: true,
        uses: 7,
        open: false,
      },
    ]);
  }

  async cachePin(path: string, pinned: boolean) {
    return this.#answer(`pin ${path} ${pinned}`, this.pinned);
  }

  async cacheEvict(path: string | undefined) {
    return this.#answer(`evict ${path}`, { freedBytes: 5 * 1024 ** 2, keptBlobs: this.keptBlobs });
  }

  /** Each look at what is left shows the next of these, and then the last one. */
  left: readonly Unconverged[] = [fakeUnconverged()];
  /** Flushing ends when this does. */
  flushed: Promise<void> = Promise.resolve();
  #leftLooks = 0;

  async unconverged(path: string | undefined) {
    return this.#answer(`unconverged ${path}`, this.left[Math.min(this.#leftLooks++, this.left.length - 1)]!);
  }

  async flush(path: string | undefined, { signal }: { readonly signal?: AbortSignal } = {}) {
    this.#answer(`flush ${path}`, null);
    const aborted = new Promise<never>((_, reject) => {
      signal?.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
    });
    await Promise.race([this.flushed, aborted]);
  }

  async cacheVerify(path: string | undefined) {
    return this.#answer(`verify ${path}`, {
      blobs: 2,
      bytes: 4096,
      badBlocks: this.badBlocks,
      missingBlobs: this.missingBlobs,
    });
  }

  /** Each look at the jobs shows the next of these, and then the last one. */
  jobs: readonly JobInfo[] = [fakeJob({ state: 'done', isFound: true, filesThere: 2, bytesThere: 4096 })];
  #looks = 0;

  async prefetchStart(request: JobRequest) {
    const { paths, ...others } = request;
    return this.#answer(
      `prefetch ${paths.join(',')} ${JSON.stringify(others)}`,
      fakeJob({ what: paths.join(' ') }),
    );
  }

  async prefetchList() {
    const at = Math.min(this.#looks++, this.jobs.length - 1);
    const outcomes = { imagenet: { fetched: 4096, used: 3072, wasted: 512, late: 256 } };
    return this.#answer('prefetchList', { jobs: this.jobs.slice(at, at + 1), outcomes });
  }

  async recordStart(path: string) {
    return this.#answer(`recordStart ${path}`, '4');
  }

  async recordStop(id: string) {
    return this.#answer(`recordStop ${id}`, { paths: ['train/b', 'train/a\nb', 'train/a'], isCut: false });
  }

  async prefetchCancel(id: string) {
    return this.#answer(`prefetchCancel ${id}`, fakeJob({ id, state: 'cancelled' }));
  }

  async policyExplain(path: string | undefined): Promise<PolicyExplanation> {
    return this.#answer(`explain ${path}`, {
      exportName: 'datasets',
      path: path ?? '',
      kind: 'file',
      sizeBytes: 2048,
      documentVersion: 3,
      host: 'gpu-1',
      labels: { pool: 'h200' },
      settings: [
        { name: 'prefetch.on', value: [], reason: 'default' },
        { name: 'cache.wholeOnOpen', value: 64 * 1024 ** 2, policy: 'train', reason: 'longer-prefix' },
        { name: 'cache.ttl', value: null, reason: 'default' },
        { name: 'cache.pin', value: true, policy: 'all', reason: 'only-one' },
      ],
      policies: [
        { name: 'train', outcome: 'decides' },
        { name: 'all', outcome: 'decides' },
        { name: 'other', outcome: 'other-prefix' },
      ],
      cachedBytes: 1024,
    });
  }

  async unmount({ force }: { readonly force: boolean }, { signal }: { readonly signal?: AbortSignal } = {}) {
    this.#answer(`unmount ${force}`, undefined);
    if (!this.stuck) return;
    await new Promise((_, reject) => signal?.addEventListener('abort', () => reject(signal.reason as Error)));
  }

  #answer<T>(call: string, value: T): T {
    this.calls.push(call);
    if (this.failure !== undefined) throw this.failure;
    return value;
  }
}

/** A process in the foreground that ends when it is told. */
export class FakeRunning implements UpRunning {
  readonly address = '127.0.0.1:7420';
  readonly mountpoint = '/mnt/up';
  readonly ended: Promise<void>;
  /** As if it had ended by itself. */
  end: () => void = () => undefined;
  fail: (error: Error) => void = () => undefined;
  stops = 0;
  /** Set: `stop` never ends. */
  stuck = false;
  statusAnswer: MountStatus = fakeStatus('/mnt/up');

  constructor() {
    this.ended = new Promise((resolve, reject) => {
      this.end = resolve;
      this.fail = reject;
    });
  }

  async stop(): Promise<void> {
    this.stops++;
    if (this.stuck) return new Promise(() => undefined);
    this.end();
  }

  async status() {
    return this.statusAnswer;
  }
}

/** Notes each call; what is put is read whole. */
class FakeChanges implements ExportChanges {
  readonly #note: (name: string, options: unknown) => void;

  constructor(note: (name: string, options: unknown) => void) {
    this.#note = note;
  }

  async put(path: string, { content, attributes, onSent }: PutFile) {
    const pieces: Uint8Array[] = [];
    for await (const piece of content ?? []) pieces.push(piece);
    const text = Buffer.concat(pieces).toString();
    onSent(text.length);
    this.#note('put', { path, text, attributes });
    return { path, sizeBytes: text.length, version: 'v' };
  }

  async remove(path: string, options: unknown) {
    this.#note('remove', [path, options]);
    return 3;
  }

  async rename(from: string, to: string, options: unknown) {
    this.#note('rename', [from, to, options]);
  }

  async makeDirectory(path: string, options: unknown) {
    this.#note('makeDirectory', [path, options]);
  }

  async *refresh(path: string, options: unknown) {
    this.#note('refresh', [path, options]);
    yield { directories: 1, names: 10, added: 0, changed: 0, gone: 0 };
    yield { directories: 2, names: 1_500, added: 3, changed: 2, gone: 1 };
  }

  async close() {
    this.#note('close', undefined);
  }
}

class FakeLeaseCalls implements LeaseCalls {
  readonly #note: (name: string, options: unknown) => void;

  constructor(note: (name: string, options: unknown) => void) {
    this.#note = note;
  }

  async sessions(exportName: string | undefined) {
    this.#note('sessions', exportName);
    const session = {
      ...{ session: '0123abcd', export: 'datasets', host: 'gpu-1', tenant: 'local', address: '10.0.0.7' },
      ...{ labels: { rack: '7' }, connected: false, ageMs: 65_000, expiresInMs: 12_000 },
      ...{ leases: 3, acknowledgementsOwed: 1, sequence: 9 },
    };
    return { sessions: [session], sessionsAwaited: 2, graceLeftMs: 9_000 };
  }

  async leases(of: unknown) {
    this.#note('leases', of);
    return {
      leases: [{ path: 'train/a', subtree: true, session: '0123abcd', host: 'gpu-1', ageMs: 1_000 }],
      more: true,
    };
  }

  async close() {
    this.#note('close', undefined);
  }
}

export class FakeRuntime implements Runtime {
  readonly version = '1.2.3';
  /** What was asked, in order: the method and its options. */
  readonly asked: [string, unknown][] = [];
  readonly controls = new Map<string, FakeControl>();
  readonly running = new FakeRunning();
  findings: Finding[] = [];
  failure: Error | undefined;
  /** Set: a start waits for it. */
  starting: Promise<void> | undefined;

  async origin(options: unknown) {
    return this.#start('origin', options);
  }

  async issueCertificates(options: unknown) {
    this.asked.push(['issueCertificates', options]);
    return ['/made'];
  }

  async mountForeground(options: unknown) {
    return this.#start('mountForeground', options);
  }

  async mountBackground(options: unknown) {
    await this.#start('mountBackground', options);
    return { pid: 4242 };
  }

  async up(options: unknown) {
    return this.#start('up', options);
  }

  readonly policyCalls = new FakePolicyCalls();

  async policies(options: unknown) {
    this.asked.push(['policies', options]);
    return this.policyCalls;
  }

  async leases(options: unknown): Promise<LeaseCalls> {
    this.asked.push(['leases', options]);
    return new FakeLeaseCalls((name, of) => this.asked.push([name, of]));
  }

  salvaged: SalvageReport = { files: 3, bytes: 5 * 1024 ** 2, losses: 0, problems: [], list: '/s/list.txt' };

  async salvageCache(options: unknown) {
    this.asked.push(['salvageCache', options]);
    if (this.failure !== undefined) throw this.failure;
    return this.salvaged;
  }

  async mounts() {
    return [...this.controls.keys()];
  }

  async control(mountpoint: string) {
    const control = this.controls.get(mountpoint);
    if (control === undefined) throw this.failure ?? new Error(`nothing at ${mountpoint}`);
    return control;
  }

  async forceUnmount(mountpoint: string) {
    this.asked.push(['forceUnmount', mountpoint]);
  }

  async changes({ origin, exportName }: ChangesOptions) {
    this.asked.push(['changes', { origin, exportName }]);
    return new FakeChanges((name, options) => {
      this.asked.push([name, options]);
      if (this.failure !== undefined) throw this.failure;
    });
  }

  async *doctor(options: unknown) {
    this.asked.push(['doctor', options]);
    yield* this.findings;
  }

  async #start(name: string, options: unknown): Promise<FakeRunning> {
    this.asked.push([name, options]);
    await this.starting;
    if (this.failure !== undefined) throw this.failure;
    return this.running;
  }
}

/** Time that passes only when a test says so. */
export class FakeClock implements Clock {
  #nowMs = 0;
  #timers: { atMs: number; readonly everyMs: number | undefined; readonly run: () => void }[] = [];

  nowMs = (): number => this.#nowMs;
  wallMs = (): number => this.#nowMs;
  after = (delayMs: number, run: () => void) => this.#add(delayMs, run, undefined);
  every = (periodMs: number, run: () => void) => this.#add(periodMs, run, periodMs);

  pass(durationMs: number): void {
    const untilMs = this.#nowMs + durationMs;
    for (;;) {
      const due = this.#timers.filter(({ atMs }) => atMs <= untilMs).sort((a, b) => a.atMs - b.atMs)[0];
      if (due === undefined) break;
      this.#nowMs = due.atMs;
      if (due.everyMs === undefined) this.#timers = this.#timers.filter((timer) => timer !== due);
      else due.atMs += due.everyMs;
      due.run();
    }
    this.#nowMs = untilMs;
  }

  #add(delayMs: number, run: () => void, everyMs: number | undefined): () => void {
    const timer = { atMs: this.#nowMs + delayMs, everyMs, run };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((other) => other !== timer);
    };
  }
}

export interface FakeWorld extends CommandEnvironment {
  readonly runtime: FakeRuntime;
  readonly out: FakeOutput;
  readonly clock: FakeClock;
  /** Sends a signal. */
  readonly signal: () => void;
  readonly run: (...words: string[]) => Promise<number>;
  /** Words of the first line on standard error, and of its hint. */
  readonly complaint: () => { readonly error: string | undefined; readonly hint: string | undefined };
}

export function fakeWorld(
  options: {
    readonly env?: Readonly<Record<string, string>>;
    readonly configFile?: string;
    readonly terminal?: boolean;
    readonly stdin?: Uint8Array;
  } = {},
): FakeWorld {
  const listeners = new Set<() => void>();
  const out = new FakeOutput(options.terminal === undefined ? {} : { terminal: options.terminal });
  const environment = {
    runtime: new FakeRuntime(),
    out,
    stdin: Readable.from([options.stdin ?? Buffer.from('piped')]),
    clock: new FakeClock(),
    env: options.env ?? {},
    workingDirectory: '/work dir',
    configFile: options.configFile ?? '/nonexistent/perigee.yaml',
    signals(ask: () => void) {
      listeners.add(ask);
      return () => void listeners.delete(ask);
    },
  };
  return {
    ...environment,
    signal: () => listeners.forEach((ask) => ask()),
    run: (...words) => runCli(words, environment),
    complaint: () => ({
      error: out.stderr.find((line) => line.startsWith('perigee: ')),
      hint: out.stderr.find((line) => line.startsWith('hint: ')),
    }),
  };
}

/** What a mount must be given besides its two names. */
export const CACHE_FLAGS = ['--cache', '/nvme/p', '--cache-size', '100GiB'] as const;
