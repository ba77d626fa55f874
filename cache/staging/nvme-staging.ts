/**
 * Staging in a cache directory: makes, finds again, seals and drops the files of working copies.
 *
 * How a file becomes a blob, and what a crash behind each step leaves:
 *  1. that its row owes nothing is on the device       the file and its row
 *  2. the catalog has the blob (`BlobTable.seal`)      the same, and a blob without a file
 *  3. the file moves                                   the blob, and a row without a file
 *  4. the row goes                                     the blob
 * Neither a blob nor a row that owes nothing need have a file at a start, so that each of these is a good one. The bytes
 * are brought to the device later, like those of any blob.
 */
import type { Clock } from '../../lib/base/clock.ts';
import { invariant } from '../../lib/base/errors.ts';
import { CacheError, type CacheHandle, type OpenVersion } from '../block-cache.ts';
import type { Blob } from '../blob.ts';
import type { BlobTable } from '../blob-table.ts';
import { BlockGeometry } from '../block-map.ts';
import { type Disk } from '../disk.ts';
import type { CachePaths } from '../format.ts';
import { COPY_CALL_BYTES, COPY_PIECE_BYTES, WRITER_LOOK_MS } from '../limits.ts';
import type { SpaceLedger } from '../reservation.ts';
import type { Space } from '../space.ts';
import type { Journal, JournalRow } from './journal.ts';
import { leftoversOf } from './leftovers.ts';
import { SharedRun } from './shared-run.ts';
import { FileInStaging, isOwed } from './staged-file.ts';
import type {
  FileStamp,
  JournalEntry,
  RecoveredFile,
  SealOptions,
  SealOutcome,
  StagedFile,
  Staging,
  StagingStat,
} from './staging.ts';

export interface NvmeStagingOptions {
  readonly paths: CachePaths;
  readonly disk: Disk;
  readonly journal: Journal;
  readonly ledger: SpaceLedger;
  readonly space: Space;
  readonly table: BlobTable;
  readonly blockBytes: number;
  readonly clock: Clock;
  /** A written version has become a blob: whether it is to stay. */
  readonly onSealed: (blob: Blob, version: OpenVersion) => boolean;
  readonly onFailure: (error: unknown) => void;
}

/** Identities of writes are names of files. */
const NAME = /^[\w-]{1,128}$/;

export class NvmeStaging implements Staging {
  readonly #options: NvmeStagingOptions;
  readonly #files = new Set<FileInStaging>();
  readonly #namesSynced: SharedRun;
  readonly #stop: () => void;
  readonly #endedNames = new Map<JournalEntry, string>();
  #recovered: readonly RecoveredFile[] = [];
  #isClosed = false;

  constructor(options: NvmeStagingOptions) {
    this.#options = options;
    const { clock, disk, paths } = options;
    this.#namesSynced = new SharedRun(() => disk.syncDirectory(paths.staging));
    this.#stop = clock.every(WRITER_LOOK_MS, () => {
      for (const file of this.#files) file.room.look();
    });
  }

  /** Takes over what an earlier life left. @throws CacheError `journal`, `disk` */
  recover(): { readonly owedFiles: number; readonly endedWrites: number; readonly droppedFiles: number } {
    const { owed, ended, removedFiles } = leftoversOf(this.#options);
    this.#recovered = owed.map((row) => ({ file: this.#adopt({ name: row.name, row }), entry: row.entry }));
    for (const { entry, name } of ended) this.#endedNames.set(entry, name);
    return { owedFiles: owed.length, endedWrites: ended.length, droppedFiles: removedFiles };
  }

  get blockBytes(): number {
    return this.#options.blockBytes;
  }

  get recovered(): readonly RecoveredFile[] {
    return this.#recovered;
  }

  get ended(): readonly JournalEntry[] {
    return [...this.#endedNames.keys()];
  }

  forget(entry: JournalEntry): void {
    const name = this.#endedNames.get(entry);
    if (name === undefined) return;
    this.#endedNames.delete(entry);
    this.#removeRow(name);
  }

  async create(write: string): Promise<StagedFile> {
    return this.#create(write);
  }

  async copyUp(
    write: string,
    from: CacheHandle,
    { signal }: { readonly signal?: AbortSignal } = {},
  ): Promise<StagedFile> {
    const { sizeBytes } = from.source;
    await from.fill(0, sizeBytes, { priority: 'demand', ...(signal && { signal }) });
    const file = await this.#create(write);
    try {
      const fd = from.backingFd();
      if (fd === undefined) await this.#copyByReading(file, { from, signal });
      else if (!(await this.#shares(file, { fd, sizeBytes })))
        await this.#copyData(file, { fd, sizeBytes, signal });
      return file;
    } catch (error) {
      await this.discard(file);
      throw error;
    }
  }

  isWritten(file: StagedFile): boolean {
    const staged = this.#own(file);
    return !staged.isResting || this.#options.disk.isOpenForWriting(staged.readFd);
  }

  async seal(file: StagedFile, options: SealOptions): Promise<SealOutcome> {
    const staged = this.#own(file);
    const { row } = staged;
    invariant(row === undefined || !isOwed(row.entry.state), 'a file that is owed is no blob');
    invariant(options.committed.sizeBytes === options.source.sizeBytes, 'a version has the committed size');
    const isWritten = (): boolean => this.isWritten(staged) || !isSame(staged.stat(), options.committed);
    if (isWritten()) return 'written';
    await staged.owesNothing();
    // That took time; what follows takes none.
    if (isWritten()) return 'written';
    const blob = this.#turnIntoBlob(staged, options);
    if (blob === undefined) await this.discard(staged);
    else if (this.#options.onSealed(blob, options)) return 'sealed';
    return 'dropped';
  }

  async discard(file: StagedFile): Promise<void> {
    const staged = this.#own(file);
    const { disk, space, onFailure } = this.#options;
    staged.rest();
    await staged.settled();
    staged.close();
    this.#files.delete(staged);
    if (staged.row !== undefined) this.#removeRow(staged.name);
    await staged.owesNothing();
    try {
      await disk.remove(staged.path);
      staged.room.leave();
      space.freed();
    } catch (error) {
      onFailure(error);
    }
  }

  stat(): StagingStat {
    const figures = { files: this.#files.size, usedBytes: 0, aheadBytes: 0 };
    for (const { room } of this.#files) {
      figures.usedBytes += room.usedBytes;
      figures.aheadBytes += room.aheadBytes;
    }
    return figures;
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#stop();
    await Promise.all([...this.#files].map((file) => file.settled()));
    for (const file of this.#files) file.close();
    this.#options.journal.close();
  }

  async #create(write: string): Promise<FileInStaging> {
    if (this.#isClosed) throw new CacheError('closed', 'the cache is shutting down');
    if (!NAME.test(write))
      throw new CacheError('disk', `${JSON.stringify(write)} is no name for a staged file`);
    let fd: number;
    try {
      fd = this.#options.disk.create(this.#pathOf(write));
    } catch (error) {
      throw new CacheError('disk', `cannot make ${this.#pathOf(write)}`, { cause: error });
    }
    const file = this.#adopt({ name: write, fd });
    try {
      await file.room.open();
      return file;
    } catch (error) {
      await this.discard(file);
      throw error;
    }
  }

  #adopt(made: { readonly name: string; readonly fd?: number; readonly row?: JournalRow }): FileInStaging {
    const { disk, journal, ledger, space, onFailure } = this.#options;
    const path = this.#pathOf(made.name);
    const file = new FileInStaging({
      ...{ ...made, path, disk, journal, ledger, space, onFailure },
      nameSynced: () => this.#namesSynced.run(),
      yieldAhead: () => {
        for (const { room } of this.#files) room.giveAhead();
      },
    });
    this.#files.add(file);
    file.room.account();
    return file;
  }

  /** Undefined: the cache has the version, has no room for all of it, or the disk is not to be trusted. */
  #turnIntoBlob(file: FileInStaging, options: SealOptions): Blob | undefined {
    const { table, ledger, blockBytes } = this.#options;
    const { source, blockChecksums } = options;
    // An empty version has no file.
    if (source.sizeBytes === 0 || table.get(source.version) !== undefined || !file.isSound) return undefined;
    file.room.account();
    const { usedBytes } = file.room;
    const chargedBytes = Math.max(usedBytes, new BlockGeometry(source.sizeBytes, blockBytes).chargeAll());
    // A blob is charged for its holes too; nothing gives way for them.
    const holes = ledger.tryReserve(chargedBytes - usedBytes);
    if (holes === undefined) return undefined;
    const blob = table.seal(options, { path: file.path, blockChecksums, chargedBytes });
    holes.settle(0);
    if (blob === undefined) return undefined;
    file.close();
    this.#files.delete(file);
    file.room.leave();
    ledger.adopt(chargedBytes);
    if (file.row !== undefined) this.#removeRow(file.name);
    return blob;
  }

  #own(file: StagedFile): FileInStaging {
    invariant(file instanceof FileInStaging && this.#files.has(file), 'the file is staged here');
    return file;
  }

  #pathOf(name: string): string {
    return `${this.#options.paths.staging}/${name}`;
  }

  #removeRow(name: string): void {
    try {
      this.#options.journal.remove(name);
    } catch (error) {
      this.#options.onFailure(error);
      throw new CacheError('disk', 'the journal of files being written cannot be changed', { cause: error });
    }
  }

  #shares(file: FileInStaging, { fd, sizeBytes }: { fd: number; sizeBytes: number }): Promise<boolean> {
    const { disk } = this.#options;
    return sizeBytes === 0
      ? Promise.resolve(true)
      : file.room.during(sizeBytes, () => disk.clone(fd, file.fd));
  }

  /** What the source has of data; its holes stay holes. */
  async #copyData(
    file: FileInStaging,
    from: { readonly fd: number; readonly sizeBytes: number; readonly signal: AbortSignal | undefined },
  ): Promise<void> {
    const { disk } = this.#options;
    for (let at = 0; at < from.sizeBytes;) {
      from.signal?.throwIfAborted();
      const data = await disk.seek(from.fd, at, 'data');
      if (data === undefined) break;
      const hole = (await disk.seek(from.fd, data, 'hole')) ?? from.sizeBytes;
      const length = Math.min(hole - data, COPY_CALL_BYTES);
      const count = await file.copyFrom(from.fd, { from: data, to: data, length });
      if (count < length) throw new CacheError('disk', 'a blob is shorter than its version');
      at = data + length;
    }
    await file.truncate(from.sizeBytes);
  }

  async #copyByReading(
    file: FileInStaging,
    { from, signal }: { readonly from: CacheHandle; readonly signal: AbortSignal | undefined },
  ): Promise<void> {
    const { sizeBytes } = from.source;
    const into = Buffer.allocUnsafe(Math.min(COPY_PIECE_BYTES, sizeBytes));
    for (let at = 0; at < sizeBytes;) {
      const length = Math.min(into.length, sizeBytes - at);
      const bytes = await from.read(at, length, { into, ...(signal && { signal }) });
      const count = await file.write(at, bytes);
      if (count < bytes.length) throw new CacheError('no-space', 'there is no room for a copy of the file');
      at += count;
    }
  }
}

function isSame(now: FileStamp, then: FileStamp): boolean {
  return (
    now.sizeBytes === then.sizeBytes && now.modifiedNs === then.modifiedNs && now.changedNs === then.changedNs
  );
}
