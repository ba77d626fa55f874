/**
 * One file being written: calls of the disk, in front of which room is promised, and its row in the journal.
 *
 * Order keeps the promise of the journal: a durable row is put only after the bytes of the size that it names are on
 * the device, and a file that is owed gets shorter only after its row says so, durably. Both take turns.
 */
import { CacheError } from '../block-cache.ts';
import { type Disk, diskFault } from '../disk.ts';
import { COPY_CALL_BYTES, COPY_PIECE_BYTES } from '../limits.ts';
import type { SpaceLedger } from '../reservation.ts';
import type { Space } from '../space.ts';
import type { WorkingStat } from '../working-copy.ts';
import { Descriptor } from './descriptor.ts';
import type { Journal, JournalRow } from './journal.ts';
import type { JournalEntry, StagedAllocation, StagedFile, StagedState } from './staging.ts';
import { WriterRoom } from './writer-room.ts';

export interface StagedFileOptions {
  readonly name: string;
  readonly path: string;
  readonly disk: Disk;
  readonly journal: Journal;
  readonly ledger: SpaceLedger;
  readonly space: Space;
  /** Absent: it rests. */
  readonly fd?: number;
  /** Of an earlier life. */
  readonly row?: JournalRow;
  /** Resolves when the name of the file is on the device. */
  readonly nameSynced: () => Promise<void>;
  readonly onFailure: (error: unknown) => void;
  /** See `WriterRoom`. */
  readonly yieldAhead: () => void;
}

/** Where one file system cannot copy by itself. */
const CANNOT_COPY = new Set(['EXDEV', 'ENOSYS', 'EOPNOTSUPP', 'ENOTSUP']);
const ERROR_CODES: Readonly<Record<string, CacheError['code']>> = {
  EFBIG: 'too-large',
  EOPNOTSUPP: 'unsupported',
  ENOTSUP: 'unsupported',
};

export function isOwed(state: StagedState): boolean {
  return state === 'synced' || state === 'closed';
}

export class FileInStaging implements StagedFile {
  readonly #options: StagedFileOptions;
  readonly room: WriterRoom;
  #reader: Descriptor | undefined;
  #writer: Descriptor | undefined;
  #row: JournalRow | undefined;
  /** A row that owes something may be on the device. */
  #mayBeOwed: boolean;
  /** Records are numbered by their calls; the last that was put. */
  #records = 0;
  #recordPut = 0;
  #isNameSynced: boolean;
  #syncFailure: { readonly error: unknown } | undefined;
  #turn: Promise<unknown> = Promise.resolve();
  #isGone = false;

  constructor(options: StagedFileOptions) {
    this.#options = options;
    const { disk, path, fd, row, ledger, space, yieldAhead } = options;
    const allocatedBytes = (): number => disk.allocatedBytes(this.#reader?.number ?? path);
    this.room = new WriterRoom({ ledger, space, allocatedBytes, yieldAhead });
    if (fd !== undefined) this.#writer = new Descriptor(fd, disk);
    this.#row = row;
    this.#mayBeOwed = row !== undefined;
    this.#isNameSynced = row !== undefined;
  }

  get name(): string {
    return this.#options.name;
  }

  get path(): string {
    return this.#options.path;
  }

  get row(): JournalRow | undefined {
    return this.#row;
  }

  get isResting(): boolean {
    return this.#writer === undefined;
  }

  get fd(): number {
    return this.#write().number;
  }

  get readFd(): number {
    return this.#read().number;
  }

  /** Whether the device is to be believed of it. */
  get isSound(): boolean {
    return this.#syncFailure === undefined;
  }

  stat(): WorkingStat {
    this.#refuseGone();
    return this.#options.disk.fileStat(this.readFd);
  }

  async read(offset: number, length: number, into?: Uint8Array): Promise<Uint8Array> {
    const { disk } = this.#options;
    const bytes = into?.subarray(0, length) ?? Buffer.allocUnsafeSlow(length);
    return this.#try('read', () =>
      this.#read().use(async (fd) => {
        // What was written a moment ago is in memory, and the way through another thread dearer than the copy.
        if (disk.readNow(fd, bytes, offset)) return bytes;
        const count = await disk.read(fd, bytes, offset);
        return count === length ? bytes : bytes.subarray(0, count);
      }),
    );
  }

  write(offset: number, bytes: Uint8Array): Promise<number> {
    return this.#change('write', bytes.length, (fd) => this.#options.disk.write(fd, bytes, offset));
  }

  truncate(sizeBytes: number): Promise<void> {
    const { disk, journal } = this.#options;
    return this.#inTurn(async () => {
      this.#refuseGone();
      const row = this.#row;
      if (row !== undefined && isOwed(row.entry.state) && sizeBytes < row.sizeBytes) {
        this.#put({ ...row, sizeBytes });
        await this.#try('journal', () => journal.sync());
      }
      await this.#change('truncate', 0, (fd) => disk.truncate(fd, sizeBytes));
    });
  }

  allocate(
    range: { readonly offset: number; readonly length: number },
    mode: StagedAllocation,
  ): Promise<void> {
    const takenBytes = mode === 'punch' ? 0 : range.length;
    return this.#change('allocate', takenBytes, (fd) => this.#options.disk.allocate(fd, range, mode));
  }

  seek(offset: number, kind: 'data' | 'hole'): Promise<number | undefined> {
    const { disk } = this.#options;
    return this.#try('seek', () => this.#read().use((fd) => disk.seek(fd, offset, kind)));
  }

  async copyFrom(
    fromFd: number,
    { from, to, length }: { readonly from: number; readonly to: number; readonly length: number },
  ): Promise<number> {
    const { disk } = this.#options;
    let copied = 0;
    while (copied < length) {
      const part = {
        from: from + copied,
        to: to + copied,
        length: Math.min(length - copied, COPY_CALL_BYTES),
      };
      const count = await this.#change('copy', part.length, async (fd) => {
        try {
          const target = { fd, offset: part.to, length: part.length };
          return await disk.copyRange({ fd: fromFd, offset: part.from }, target);
        } catch (error) {
          if (!CANNOT_COPY.has((error as NodeJS.ErrnoException).code ?? '')) throw error;
          return copyPiece(disk, { ...part, fromFd, toFd: fd });
        }
      });
      if (count === 0) break;
      copied += count;
    }
    return copied;
  }

  setTimes(times: { readonly accessedNs: bigint; readonly modifiedNs: bigint }): void {
    this.#refuseGone();
    try {
      this.#options.disk.setTimes(this.readFd, times);
    } catch (error) {
      throw this.#failure('set times', error);
    }
  }

  async record(entry: JournalEntry, { durable }: { readonly durable: boolean }): Promise<void> {
    this.#refuseGone();
    const { name, journal } = this.#options;
    const number = ++this.#records;
    const before = this.stat().sizeBytes;
    if (durable) await this.datasync();
    await this.#inTurn(async () => {
      this.#refuseGone();
      if (number < this.#recordPut) return;
      this.#recordPut = number;
      this.#put({ name, entry, sizeBytes: Math.min(before, this.stat().sizeBytes) });
    });
    if (durable) await this.#try('journal', () => journal.sync());
  }

  async resume(): Promise<void> {
    this.#refuseGone();
    if (this.#writer !== undefined) return;
    const { disk, path } = this.#options;
    await this.room.open();
    // Somebody else may have been faster while room was made.
    if (this.#writer !== undefined) return;
    try {
      this.#refuseGone();
      this.#writer = new Descriptor(disk.open(path, { create: false }), disk);
    } catch (error) {
      this.room.close();
      throw this.#failure('open', error);
    }
  }

  rest(): void {
    this.#writer?.close();
    this.#writer = undefined;
    if (!this.#isGone) this.room.close();
  }

  park(): void {
    this.#reader?.close();
    this.#reader = undefined;
  }

  /** Resolves when the bytes that were written before, and the file's name, are on the device. */
  async datasync(): Promise<void> {
    const { disk, nameSynced } = this.#options;
    if (this.#syncFailure !== undefined) throw this.#failure('sync', this.#syncFailure.error);
    try {
      await this.#read().use((fd) => disk.datasyncOpen(fd));
      if (!this.#isNameSynced) await nameSynced();
      this.#isNameSynced = true;
    } catch (error) {
      if (!(error instanceof CacheError) && diskFault(error) !== 'exhausted') this.#syncFailure = { error };
      throw this.#failure('sync', error);
    }
  }

  /** Resolves when the device has no row of it any more that owes something. To be called when none was put last. */
  async owesNothing(): Promise<void> {
    if (this.#mayBeOwed) await this.#try('journal', () => this.#options.journal.sync());
    this.#mayBeOwed = false;
  }

  /** Gives back descriptors; the file and its row stay. */
  close(): void {
    this.room.stop();
    this.#isGone = true;
    this.#writer?.close();
    this.#writer = undefined;
    this.park();
  }

  /** What was begun before has ended. */
  settled(): Promise<unknown> {
    return this.#turn;
  }

  #put(row: JournalRow): void {
    try {
      this.#options.journal.put(row);
    } catch (error) {
      throw this.#failure('journal', error);
    }
    this.#row = row;
    if (isOwed(row.entry.state)) this.#mayBeOwed = true;
  }

  #inTurn<T>(run: () => Promise<T>): Promise<T> {
    const turn = this.#turn.then(run);
    this.#turn = turn.catch(() => undefined);
    return turn;
  }

  /** Runs what may take so many bytes more. */
  #change<T>(what: string, bytes: number, run: (fd: number) => Promise<T>): Promise<T> {
    return this.#try(what, async () => {
      const writer = this.#write();
      return this.room.during(bytes, () => writer.use(run));
    });
  }

  async #try<T>(what: string, run: () => Promise<T>): Promise<T> {
    try {
      return await run();
    } catch (error) {
      throw this.#failure(what, error);
    }
  }

  #write(): Descriptor {
    if (this.#writer === undefined) throw new CacheError('closed', 'nobody has the file open for writing');
    return this.#writer;
  }

  #read(): Descriptor {
    this.#refuseGone();
    const { disk, path } = this.#options;
    return (this.#reader ??= new Descriptor(disk.openToRead(path), disk));
  }

  #refuseGone(): void {
    if (this.#isGone) throw new CacheError('closed', 'the file that was written is gone');
  }

  #failure(what: string, error: unknown): CacheError {
    if (error instanceof CacheError) return error;
    const fault = diskFault(error);
    if (fault === 'no-space')
      return new CacheError('no-space', `no space: ${what} of ${this.#options.path}`, { cause: error });
    if (fault === 'device') this.#options.onFailure(error);
    const code = ERROR_CODES[(error as NodeJS.ErrnoException).code ?? ''] ?? 'disk';
    return new CacheError(code, `the disk failed to ${what} ${this.#options.path}`, { cause: error });
  }
}

async function copyPiece(
  disk: Disk,
  part: {
    readonly fromFd: number;
    readonly toFd: number;
    readonly from: number;
    readonly to: number;
    readonly length: number;
  },
): Promise<number> {
  const bytes = Buffer.allocUnsafe(Math.min(part.length, COPY_PIECE_BYTES));
  const count = await disk.read(part.fromFd, bytes, part.from);
  return count === 0 ? 0 : disk.write(part.toFd, bytes.subarray(0, count), part.to);
}
