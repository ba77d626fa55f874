/**
 * The contract of staging: the files of working copies, and the journal that says what is owed of them.
 *
 * Guarantees: what `record` has answered for survives the death of the process at any instant, and with `durable` that
 * of the host; a start finds all of it or refuses in words; nothing that is owed is ever removed. Space is a promise:
 * what writers take, and some room ahead of them, counts as used, gives way to nobody, and makes blobs give way.
 *
 * A file lies in `<cache>/staging/<write>` from `create` or `copyUp` until `seal` or `discard`. It is a file like any
 * other: what the kernel writes into it by itself nobody is told.
 *
 * The journal has one row for each file of which `record` was called; a row is what the next life knows. States:
 * - `begun`: nothing was acknowledged; the next life gives the write back, and the bytes are gone
 * - `synced`: a writer has synced it while it was open: owed
 * - `closed`: a writer has published it, and it was acknowledged before the commit: owed
 * - `committed`: what was last published is a version; nothing is owed until the next record
 */
import type { CacheHandle, OpenVersion } from '../block-cache.ts';
import type { WorkingAttributes, WorkingStat, WriteGrant } from '../working-copy.ts';

export type StagedState = 'begun' | 'synced' | 'closed' | 'committed';

/** By which a change of a file's bytes is noticed. The granularity of the clock is that of the kernel's tick. */
export type FileStamp = Pick<WorkingStat, 'sizeBytes' | 'modifiedNs' | 'changedNs'>;

/** One row of the journal. Plain data. The size that the file has is added by `record`. */
export interface JournalEntry {
  /** May change: bytes go on to be another file when theirs was taken over. */
  readonly grant: WriteGrant;
  readonly path: string;
  readonly attributes: WorkingAttributes;
  /** False for a file that has no version yet. */
  readonly isCommitted: boolean;
  readonly state: StagedState;
  /** Grows with each publication. */
  readonly publication: number;
  /** Of the bytes that were committed last. */
  readonly committed: FileStamp | undefined;
  /** Wall time since when it is owed; the next life goes on with the oldest first. */
  readonly sinceMs: number;
}

/** As `AllocateMode` of lib/fuse/write-operations.ts: what becomes of a range, and whether the size may grow. */
export type StagedAllocation = 'reserve' | 'reserve-beyond' | 'punch' | 'zero' | 'zero-beyond';

/**
 * A file being written. Nothing here waits on the calling thread for the device.
 * Fails with `CacheError`: `no-space` (room that cannot be made, the file system, a quota), `disk`, `closed`.
 */
export interface StagedFile {
  /** Of its file in the directory: the write that it was begun with. */
  readonly name: string;
  /** Read and write; for us and for the kernel; another one after each `resume`, and none after `rest`. */
  readonly fd: number;
  /** To read by, for threads of this process too; valid until `park`, `discard`, or `seal` (unless it is `written`). */
  readonly readFd: number;

  stat(): WorkingStat;
  /** Short only at the end of the file. The bytes may lie in `into`, which has room for `length`. */
  read(offset: number, length: number, into?: Uint8Array): Promise<Uint8Array>;
  /** Writes all of it, or answers with how much of its beginning. `bytes` may be used again after that. */
  write(offset: number, bytes: Uint8Array): Promise<number>;
  /** A file that gets shorter than it was recorded is first recorded so, durably if it is owed. */
  truncate(sizeBytes: number): Promise<void>;
  /** @throws also `unsupported`, where the file system cannot do it */
  allocate(
    range: { readonly offset: number; readonly length: number },
    mode: StagedAllocation,
  ): Promise<void>;
  /** Where data, or a hole, begins at or after `offset`; the end counts as a hole. Undefined: there is none behind. */
  seek(offset: number, kind: 'data' | 'hole'): Promise<number | undefined>;
  /** From an open file of the same file system, which may be this one; answers with how many bytes it had. */
  copyFrom(
    fd: number,
    range: { readonly from: number; readonly to: number; readonly length: number },
  ): Promise<number>;
  setTimes(times: { readonly accessedNs: bigint; readonly modifiedNs: bigint }): void;

  /**
   * Keeps a row. Durable: the bytes written before the call are on the device, then the row; concurrent calls share the
   * syncs. Else it survives the process alone. Later calls win. Once the device has refused to sync this file, every
   * durable record of it fails: what the kernel says of it afterwards cannot be believed.
   */
  record(entry: JournalEntry, options: { readonly durable: boolean }): Promise<void>;

  /**
   * Somebody may write from now on, by the kernel or by `write`: opens `fd` and takes room ahead, more as the file
   * grows. A file that was created or copied up begins so; one of an earlier life rests. @throws `no-space`
   */
  resume(): Promise<void>;
  /** The last writer of ours is gone: closes `fd`; only what the file takes counts. */
  rest(): void;
  /** Nobody reads either, for a while: closes `readFd`, which is opened again when it is asked for. */
  park(): void;
}

/**
 * - `sealed`: the file is the version's complete blob now
 * - `dropped`: the cache has that version already, has no room or no wish for it, or the disk would not vouch for it;
 *   the file is gone
 * - `written`: somebody can still write to it or has, so nothing was done: publish again
 */
export type SealOutcome = 'sealed' | 'dropped' | 'written';

export interface SealOptions extends OpenVersion {
  /** CRC-32 of each block of `Staging.blockBytes`, as they were sent. */
  readonly blockChecksums: readonly number[];
  /** Of the file when the bytes that were sent had been read. */
  readonly committed: FileStamp;
}

/** What an earlier life left. */
export interface RecoveredFile {
  readonly file: StagedFile;
  readonly entry: JournalEntry;
}

export interface StagingStat {
  readonly files: number;
  /** Bytes of the device that they take now. */
  readonly usedBytes: number;
  /** Room that is kept ahead of writers. */
  readonly aheadBytes: number;
}

export interface Staging {
  /** Of blobs that are sealed: the checksums are for blocks of this size. */
  readonly blockBytes: number;
  /** Owed by earlier lives, the longest owed first. To be gone on with; each ends by `seal` or `discard`. */
  readonly recovered: readonly RecoveredFile[];
  /** Writes of earlier lives of which nothing is owed: to be given back, then `forget`. */
  readonly ended: readonly JournalEntry[];
  forget(entry: JournalEntry): void;

  /** An empty file. @throws CacheError `no-space`, `disk`, `closed` */
  create(write: string): Promise<StagedFile>;
  /**
   * A file with the bytes of a version, which are fetched if they are not here, and cost no room of their own where the
   * file system can share them. The handle stays the caller's.
   * @throws TierError, CacheError, the signal's reason
   */
  copyUp(write: string, from: CacheHandle, options?: { readonly signal?: AbortSignal }): Promise<StagedFile>;

  /**
   * Whether anybody can write to it: it does not rest, the kernel still has it as a backing file for writing, or a
   * mapping of it lives on. No version may be made of it then.
   */
  isWritten(file: StagedFile): boolean;
  /**
   * Makes the file the blob of its version, which must be recorded as `committed`. Unless the outcome is `written` the
   * file and its row are gone, and whoever reads by `readFd` must have ended. A crash leaves the file with its row, or
   * the blob.
   */
  seal(file: StagedFile, options: SealOptions): Promise<SealOutcome>;
  /** Drops the row, then the bytes. After a crash the next life has both, or finishes it. */
  discard(file: StagedFile): Promise<void>;

  stat(): StagingStat;
  /** Closes descriptors; files and rows stay for the next life. Called by the cache's `close`. */
  close(): Promise<void>;
}
