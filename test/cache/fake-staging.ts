/** Staging in memory: files whose times move in ticks of the kernel's clock, a journal, and the death of the process. */
import { CacheError, type CacheHandle } from '../../cache/block-cache.ts';
import type {
  JournalEntry,
  RecoveredFile,
  SealOptions,
  SealOutcome,
  StagedFile,
  Staging,
} from '../../cache/staging/staging.ts';
import type { WorkingStat } from '../../cache/working-copy.ts';
import type { Clock } from '../../lib/base/clock.ts';

const TICK_MS = 10;
const NS_PER_MS = 1_000_000n;

export class FakeFile implements StagedFile {
  readonly name: string;
  readonly fd: number;
  readFd: number;
  readonly #staging: FakeStaging;
  bytes: Buffer = Buffer.alloc(0);
  times: { accessedNs: bigint; modifiedNs: bigint; changedNs: bigint };
  isResting = false;
  isGone = false;
  row: JournalEntry | undefined;
  /** All that it ever held, the latest last. */
  readonly history: string[] = [''];

  constructor(name: string, staging: FakeStaging) {
    this.name = name;
    this.#staging = staging;
    this.fd = staging.nextFd();
    this.readFd = staging.nextFd();
    const now = staging.tickNs();
    this.times = { accessedNs: now, modifiedNs: now, changedNs: now };
  }

  stat(): WorkingStat {
    const { accessedNs, modifiedNs, changedNs } = this.times;
    return { sizeBytes: this.bytes.length, accessedNs, modifiedNs, changedNs, blocks: 0 };
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    await this.#staging.pause();
    return Buffer.from(this.bytes.subarray(offset, offset + length));
  }

  /** As the kernel does it: at once, and nobody is told. */
  poke(bytes: Buffer): void {
    this.bytes = bytes;
    this.history.push(bytes.toString('latin1'));
    this.times = { ...this.times, modifiedNs: this.#staging.tickNs(), changedNs: this.#staging.tickNs() };
  }

  async write(offset: number, bytes: Uint8Array): Promise<number> {
    const grown = Buffer.alloc(Math.max(this.bytes.length, offset + bytes.length));
    this.bytes.copy(grown);
    grown.set(bytes, offset);
    this.poke(grown);
    return bytes.length;
  }

  async truncate(sizeBytes: number): Promise<void> {
    const changed = Buffer.alloc(sizeBytes);
    this.bytes.copy(changed);
    this.poke(changed);
  }

  async allocate(): Promise<void> {
    throw new CacheError('unsupported', 'not here');
  }

  async seek(offset: number, kind: 'data' | 'hole'): Promise<number | undefined> {
    if (offset >= this.bytes.length) return undefined;
    return kind === 'data' ? offset : this.bytes.length;
  }

  async copyFrom(): Promise<number> {
    throw new CacheError('unsupported', 'not here');
  }

  setTimes({ accessedNs, modifiedNs }: { readonly accessedNs: bigint; readonly modifiedNs: bigint }): void {
    this.times = { accessedNs, modifiedNs, changedNs: this.#staging.tickNs() };
  }

  async record(entry: JournalEntry): Promise<void> {
    if (this.isGone) throw new CacheError('closed', `${this.name} is gone`);
    this.row = entry;
    await this.#staging.pause();
  }

  async resume(): Promise<void> {
    this.isResting = false;
  }

  rest(): void {
    this.isResting = true;
  }

  /** Whoever goes on reading by that number reads something else. */
  park(): void {
    this.readFd = this.#staging.nextFd();
  }
}

export interface SealedBlob {
  readonly bytes: Buffer;
  readonly options: SealOptions;
}

export class FakeStaging implements Staging {
  readonly blockBytes: number;
  readonly #clock: Clock;
  readonly #pause: () => Promise<void>;
  readonly files = new Set<FakeFile>();
  readonly sealed: SealedBlob[] = [];
  recovered: RecoveredFile[] = [];
  ended: JournalEntry[] = [];
  /** Files that somebody has mapped. */
  readonly mapped = new Set<StagedFile>();
  #fds = 100;

  constructor(options: {
    readonly clock: Clock;
    readonly blockBytes: number;
    /** Before answers of the disk. */
    readonly pause?: () => Promise<void>;
  }) {
    this.#clock = options.clock;
    this.blockBytes = options.blockBytes;
    this.#pause = options.pause ?? (() => Promise.resolve());
  }

  pause(): Promise<void> {
    return this.#pause();
  }

  nextFd(): number {
    return this.#fds++;
  }

  tickNs(): bigint {
    return BigInt(Math.floor(this.#clock.wallMs() / TICK_MS) * TICK_MS) * NS_PER_MS;
  }

  byFd(fd: number): FakeFile | undefined {
    for (const file of this.files) if (file.readFd === fd || file.fd === fd) return file;
    return undefined;
  }

  async create(write: string): Promise<FakeFile> {
    const file = new FakeFile(write, this);
    this.files.add(file);
    return file;
  }

  async copyUp(write: string, from: Pick<CacheHandle, 'read'>): Promise<FakeFile> {
    const file = new FakeFile(write, this);
    file.bytes = Buffer.from(await from.read(0, Infinity));
    this.files.add(file);
    return file;
  }

  isWritten(file: StagedFile): boolean {
    return !(file as FakeFile).isResting || this.mapped.has(file);
  }

  async seal(file: StagedFile, options: SealOptions): Promise<SealOutcome> {
    const { modifiedNs, changedNs, sizeBytes } = file.stat();
    const { committed } = options;
    await this.pause();
    const isSame =
      modifiedNs === committed.modifiedNs &&
      changedNs === committed.changedNs &&
      sizeBytes === committed.sizeBytes;
    if (this.isWritten(file) || !isSame) return 'written';
    const fake = file as FakeFile;
    if (fake.row?.state !== 'committed') throw new Error(`a file that is ${fake.row?.state} is no blob`);
    this.sealed.push({ bytes: fake.bytes, options });
    fake.isGone = true;
    this.files.delete(fake);
    return 'sealed';
  }

  async discard(file: StagedFile): Promise<void> {
    (file as FakeFile).isGone = true;
    this.files.delete(file as FakeFile);
    await this.pause();
  }

  forget(entry: JournalEntry): void {
    this.ended = this.ended.filter((other) => other !== entry);
  }

  /** What the next life finds after this one was killed. */
  die(next: FakeStaging): void {
    for (const { name, bytes, row, times, history } of this.files) {
      if (row === undefined) continue;
      if (row.state === 'synced' || row.state === 'closed') {
        const file = new FakeFile(name, next);
        Object.assign(file, { bytes, row, times, history, isResting: true });
        next.files.add(file);
        next.recovered.push({ file, entry: row });
      } else next.ended.push(row);
    }
    next.ended.push(...this.ended);
    next.recovered.sort((one, other) => one.entry.sinceMs - other.entry.sinceMs);
  }

  stat() {
    return { files: this.files.size, usedBytes: 0, aheadBytes: 0 };
  }

  async close(): Promise<void> {}
}
