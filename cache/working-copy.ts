/**
 * The contract of files that are being written: working copies on NVMe, and how they become versions.
 *
 * Guarantees: bytes that `sync` has answered for, and files whose `publish` has answered, survive the death of the
 * process at any instant (and `sync`ed ones that of the host), and end up as a version at the origin, or beside it
 * under a name that says so if another host took the file over; a version holds the bytes of one instant.
 *
 * A version is immutable, a working copy is not: while any handle of this host has a file open for writing, local
 * readers share its working copy. The last close turns the working copy itself into the blob of its version.
 */
import type { InodeNumber } from '../lib/base/brand.ts';
import type { WriteGrant } from '../lib/namespace/changes.ts';
import type { CacheHandle } from './block-cache.ts';

export type { WriteGrant };

/** What a version is given besides bytes. */
export interface WorkingAttributes {
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Names with the prefix `user.`. */
  readonly extended: Readonly<Record<string, Uint8Array>>;
}

export interface WorkingStat {
  readonly sizeBytes: number;
  readonly modifiedNs: bigint;
  readonly changedNs: bigint;
  readonly accessedNs: bigint;
  /** Of 512 bytes, as st_blocks. */
  readonly blocks: number;
}

/**
 * - `through`: `publish` resolves when the version is committed
 * - `back`: `publish` resolves when bytes and journal are on NVMe; the version is committed behind
 */
export type WriteMode = 'through' | 'back';

/** Fails with `CacheError`: `disk`, `no-space` (also beyond the room that may be reserved), `closed`. */
export interface WorkingCopy {
  readonly grant: WriteGrant;
  /** Read and write; valid until `release`. For the kernel (passthrough) and for us alike. */
  readonly fd: number;
  readonly attributes: WorkingAttributes;
  /** Where it is in the export, for people and for policies. May be set at any time. */
  path: string;
  stat(): WorkingStat;
  /** Whether there is anything that no version has: bytes, times, attributes. A pending file is dirty. */
  readonly isDirty: boolean;
  /** `isCommitted`, of both: the inode has them already, so that they are no reason for another version. */
  setAttributes(changes: Partial<WorkingAttributes>, options?: { readonly isCommitted: boolean }): void;
  setTimes(
    times: { readonly accessedNs?: bigint; readonly modifiedNs?: bigint },
    options?: { readonly isCommitted: boolean },
  ): void;

  read(offset: number, length: number, into?: Uint8Array): Promise<Uint8Array>;
  write(offset: number, bytes: Uint8Array): Promise<number>;
  truncate(sizeBytes: number): Promise<void>;
  /** @throws also `unsupported`, where the file system of the cache cannot do it */
  allocate(
    range: { readonly offset: number; readonly length: number },
    mode: 'reserve' | 'reserve-beyond' | 'punch' | 'zero' | 'zero-beyond',
  ): Promise<void>;
  /** Where data, or a hole, begins at or after `offset`; the end counts as a hole. Undefined: there is none behind. */
  seek(offset: number, kind: 'data' | 'hole'): Promise<number | undefined>;
  /** From the descriptor of another working copy, or of this one; answers with how many bytes it had. */
  copyFrom(
    fd: number,
    range: { readonly from: number; readonly to: number; readonly length: number },
  ): Promise<number>;
  /** Bytes of this copy are on the device, and the journal knows of them. */
  sync(options: { readonly dataOnly: boolean }): Promise<void>;

  /**
   * A close(2) of a writer, or what asks for a version now. Nothing if it is not dirty. Publishing again before the
   * last one has ended is one publication of the newer bytes. If it fails the bytes are kept, and published behind.
   * While another descriptor goes on writing, there may be no instant whose bytes could be had: then it resolves with
   * the copy still dirty, and the next close is answered for.
   * @throws TierError, NamespaceError (through), CacheError, the signal's reason
   */
  publish(mode: WriteMode, options?: { readonly signal?: AbortSignal }): Promise<void>;
  /**
   * The last handle of this host is gone. What is dirty and was never published is published behind, in `mode`; once
   * nothing is dirty and nobody writes any more the copy becomes its version's blob, and the write is given back.
   */
  release(mode: WriteMode): void;
  /**
   * Somebody opens it again after `release`: true, and `release` will be called once more. False once it has become its
   * version's blob, or nothing, and its write was given back: only then may the namespace be asked for another write
   * of this inode. @throws CacheError `no-space`, the signal's reason
   */
  reopen(options?: { readonly signal?: AbortSignal }): Promise<boolean>;
  /** Its name was removed: the bytes stay for handles that are open, and are dropped with the last one. */
  unlinked(): void;
}

/** What is waiting to be converged, for people. */
export interface DirtyFile {
  readonly path: string;
  readonly inode: InodeNumber;
  readonly sizeBytes: number;
  /** Since the publication that it waits with. */
  readonly ageMs: number;
  readonly state: 'open' | 'waiting' | 'uploading' | 'committing' | 'failing';
  /** There is something that no version has. */
  readonly isDirty: boolean;
  readonly sentBytes: number;
  /** The last failure, in words. */
  readonly failure: string | undefined;
}

export interface WriteBackStat {
  readonly dirtyBytes: number;
  readonly dirtyFiles: number;
  readonly openFiles: number;
  readonly oldestMs: number;
  readonly convergedFiles: number;
  readonly convergedBytes: number;
  /** Files that were committed beside a newer version of somebody else. */
  readonly conflicts: readonly string[];
  readonly failing: number;
}

export interface WriteBack {
  /**
   * The working copy of a write that was just granted: empty, or with the bytes of a version, which are fetched if
   * they are not here. If that fails the write is given back. There must be no other copy of this inode: `of`, `reopen`.
   * @throws TierError, CacheError, the signal's reason
   */
  begin(
    grant: WriteGrant,
    file: {
      readonly path: string;
      readonly attributes: WorkingAttributes;
      /** False for a file that was just made: it is dirty from the beginning. */
      readonly isCommitted: boolean;
      /** Bytes to begin with; the handle stays the caller's. */
      readonly from?: CacheHandle;
      readonly modifiedNs?: bigint;
    },
    options?: { readonly signal?: AbortSignal },
  ): Promise<WorkingCopy>;
  /** The working copy of an inode: open, or still converging. */
  of(inode: InodeNumber): WorkingCopy | undefined;
  list(): readonly DirtyFile[];
  stat(): WriteBackStat;
  /** Resolves when all that was published below a path before the call is committed. */
  flush(
    path: string,
    options?: { readonly signal?: AbortSignal; readonly onProgress?: (left: WriteBackStat) => void },
  ): Promise<void>;
  /** Journals what is open; what is not converged by then is converged by the next life. */
  close(options: { readonly deadlineMs: number }): Promise<void>;
}
