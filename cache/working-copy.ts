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
import type { CacheHandle } from './block-cache.ts';

/** The right to make the next version of a file, as the namespace granted it (lib/namespace/changes.ts). */
export interface WriteGrant {
  readonly write: string;
  readonly token: bigint;
  readonly exportName: string;
  readonly inode: InodeNumber;
}

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
  setAttributes(changes: Partial<WorkingAttributes>): void;
  setTimes(times: { readonly accessedNs?: bigint; readonly modifiedNs?: bigint }): void;

  read(offset: number, length: number, into?: Uint8Array): Promise<Uint8Array>;
  write(offset: number, bytes: Uint8Array): Promise<number>;
  truncate(sizeBytes: number): Promise<void>;
  /** Bytes of this copy are on the device, and the journal knows of them. */
  sync(options: { readonly dataOnly: boolean }): Promise<void>;

  /**
   * A close(2) of a writer, or what asks for a version now. Nothing if it is not dirty. Publishing again before the
   * last one has ended is one publication of the newer bytes.
   * @throws StoreError, TierError, NamespaceError (through), CacheError
   */
  publish(mode: WriteMode, options?: { readonly signal?: AbortSignal }): Promise<void>;
  /**
   * The last handle of this host is gone. What is dirty and was never published is published behind, in `mode`; once
   * nothing is dirty and nobody writes any more the copy becomes its version's blob, and the write is given back.
   */
  release(mode: WriteMode): void;
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
   * they are not here.
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
