/**
 * The contract between a driver and a file system that can be written to: what `FileSystemOperations` leaves out.
 *
 * A driver that is given no `WriteOperations` answers every change by `FileSystemOperations.refuseChange`. The rules
 * of `operations.ts` hold: an operation fails by throwing `ErrnoError`, names are validated bytes, every entry that is
 * returned counts one lookup. What the kernel has done before it asks: permissions (`default_permissions`), the
 * sticky bit, the umask (a `mode` arrives masked), names that exist or do not as far as it has cached them, O_APPEND
 * (an offset is exact). What it leaves to the file system: all of that again where another host may have been faster,
 * the group and set-group-ID bit that a directory hands down, and every time stamp.
 *
 * ## Files that the kernel writes by itself
 * An open for write may carry `backing`, as one for read. The kernel opens the backing file anew with the flags of the
 * program, so `fd` may be read-only, O_APPEND works, and a mapping is one of the backing file. Of that the file
 * system hears nothing; the kernel's attributes of the node lose their validity with each write(2) and it asks
 * for them again. So:
 * - While a node is open for write in this way, `attributes` must show size and times of the backing file.
 * - Truncation (O_TRUNC, ftruncate), fallocate, SEEK_HOLE, copy_file_range and fsync still come here and must be
 *   done to the backing file.
 * - A set-user-ID or set-group-ID bit is not taken off by such a write: serve files that have one.
 * - `release` comes when the last descriptor is closed, even while a mapping of the file lives on, and that one can go
 *   on changing the backing file until it is unmapped. Whoever makes an immutable version out of the backing file must
 *   first be sure that nobody writes any more: a read lease (fcntl F_SETLEASE, F_RDLCK, through a read-only descriptor)
 *   is refused with EAGAIN as long as anybody can, this process included. Only handles with O_RDWR can be mapped for
 *   writing.
 */
import type { NodeId } from '../base/brand.ts';
import type { AttributesReply, EntryReply, OpenReply, RequestContext } from './operations.ts';

/** A name in a directory. */
export interface Place {
  readonly parent: NodeId;
  readonly name: Uint8Array;
}

export interface CreateReply {
  readonly entry: EntryReply;
  readonly open: OpenReply;
}

/** What shall change; what is absent stays as it is. */
export interface AttributeChanges {
  /** Permission, set-ID and sticky bits. */
  readonly mode?: number;
  /** A new owner or group of a file takes its set-ID bits off: `dropSetIds` says so too. */
  readonly uid?: number;
  readonly gid?: number;
  /** Longer: the new part reads as zeros. Also moves the times of change. */
  readonly sizeBytes?: number;
  readonly accessedNs?: bigint | 'now';
  readonly modifiedNs?: bigint | 'now';
  /** Take the set-user-ID bit off, and the set-group-ID bit where the group may execute. */
  readonly dropSetIds?: boolean;
}

/**
 * What happens to an existing target: it is replaced (a directory only by a directory, and only if empty), it makes
 * the rename fail with EEXIST, or both names swap what they stand for.
 */
export type RenameMode = 'replace' | 'keep' | 'exchange';

export interface WriteRange {
  readonly offset: number;
  /** Valid only until the promise settles: then the memory holds another request. */
  readonly bytes: Uint8Array;
  /** As in `AttributeChanges`. */
  readonly dropSetIds: boolean;
}

/**
 * - `reserve`: space for the range, whatever it holds; the file grows to its end
 * - `reserve-beyond`: the same, but the size stays
 * - `punch`: the range becomes a hole, the size stays
 * - `zero`: the range reads as zeros; the file grows to its end
 * - `zero-beyond`: the same, but the size stays
 */
export type AllocateMode = 'reserve' | 'reserve-beyond' | 'punch' | 'zero' | 'zero-beyond';

export interface WriteOperations {
  /**
   * Makes a regular file and opens it, whatever its mode allows. One that exists by now is EEXIST with O_EXCL, and
   * opened (and truncated with O_TRUNC) without. `flags` of open(2).
   */
  create(
    place: Place,
    how: { readonly mode: number; readonly flags: number },
    context: RequestContext,
  ): Promise<CreateReply>;
  /** mknod(2) of a regular file: makes one without opening it; EEXIST if there is something. */
  makeFile(place: Place, mode: number, context: RequestContext): Promise<EntryReply>;
  makeDirectory(place: Place, mode: number, context: RequestContext): Promise<EntryReply>;
  /** `target` is 1 to 4095 bytes without NUL. */
  makeSymlink(place: Place, target: Uint8Array, context: RequestContext): Promise<EntryReply>;
  /** Another name for a node that is no directory. Answers with the same node. */
  link(node: NodeId, place: Place, context: RequestContext): Promise<EntryReply>;
  /** Open handles of a file whose last name is gone go on working. EISDIR for a directory. */
  unlink(place: Place, context: RequestContext): Promise<void>;
  /** ENOTEMPTY, ENOTDIR. */
  removeDirectory(place: Place, context: RequestContext): Promise<void>;
  /** At one instant. EINVAL: a directory into itself. Two names of one file: nothing happens. */
  rename(from: Place, to: Place & { readonly mode: RenameMode }, context: RequestContext): Promise<void>;

  /**
   * Answers with the attributes after the change. `handle`: the change comes by way of an open file. No change at all
   * is what the kernel asks before it writes to a file with set-ID bits: nothing happens.
   */
  setAttributes(
    node: NodeId,
    changes: AttributeChanges & { readonly handle?: bigint },
    context: RequestContext,
  ): Promise<AttributesReply>;
  /** `create`: EEXIST if there is one. `replace`: ENODATA if there is none. */
  setExtendedAttribute(
    node: NodeId,
    attribute: {
      readonly name: string;
      readonly value: Uint8Array;
      readonly mode: 'either' | 'create' | 'replace';
    },
    context: RequestContext,
  ): Promise<void>;
  /** ENODATA if there is none. */
  removeExtendedAttribute(node: NodeId, name: string, context: RequestContext): Promise<void>;

  /**
   * Writes all of it, or answers with how many bytes of its beginning. Also what a shared mapping changed: that comes
   * through any handle of the node that is open for write, at msync, munmap, close, or when memory is short.
   */
  write(handle: bigint, range: WriteRange, context: RequestContext): Promise<number>;
  /** fsync(2), or with `dataOnly` fdatasync(2). All writes that were answered before are durable after. */
  sync(handle: bigint, what: { readonly dataOnly: boolean }, context: RequestContext): Promise<void>;
  /** fsync(2) of a directory: its names are durable after. */
  syncDirectory(handle: bigint, what: { readonly dataOnly: boolean }, context: RequestContext): Promise<void>;
  /** EOPNOTSUPP for what cannot be done. */
  allocate(
    handle: bigint,
    range: { readonly offset: number; readonly length: number; readonly mode: AllocateMode },
    context: RequestContext,
  ): Promise<void>;
  /** Where data, or a hole, begins at or after `offset`; the end counts as a hole. ENXIO: beyond the end. */
  seek(
    handle: bigint,
    to: { readonly offset: number; readonly kind: 'data' | 'hole' },
    context: RequestContext,
  ): Promise<number>;
  /** Answers with how many bytes were copied: less at the end of the source. EXDEV: the program copies by itself. */
  copyRange(
    from: { readonly handle: bigint; readonly offset: number },
    to: { readonly handle: bigint; readonly offset: number; readonly length: number },
    context: RequestContext,
  ): Promise<number>;
}

/** `posix`: fcntl(2), by ranges, owned by a process. `flock`: flock(2), of the whole file, owned by an open file. */
export type LockFamily = 'posix' | 'flock';

/** The last byte of a lock that reaches to the end of the file, wherever that will be. */
export const LOCK_TO_END = 0x7fff_ffff_ffff_ffffn;

export interface LockRange {
  readonly start: bigint;
  /** The last byte; at most `LOCK_TO_END`. */
  readonly end: bigint;
}

export interface HeldLock extends LockRange {
  readonly kind: 'read' | 'write';
  readonly pid: number;
}

export interface LockRequest extends LockRange {
  readonly family: LockFamily;
  /** The kernel's number of the owner. */
  readonly owner: bigint;
  readonly kind: 'read' | 'write';
  readonly pid: number;
}

/**
 * Locks that programs of this host take on files. A driver that is given none leaves them to the kernel, which keeps
 * them by node: enough as long as a file has only one node at a time. Of a handle that was opened with `noFlush` the
 * kernel does not tell each close: fcntl locks that were taken through it last until its release.
 */
export interface LockOperations {
  /** A lock of another owner that is in the way of this one; undefined if it could be had. */
  test(node: NodeId, lock: LockRequest, context: RequestContext): Promise<HeldLock | undefined>;
  /**
   * Takes a lock; what the owner held of the range becomes of this kind. EAGAIN: another owner is in the way; with
   * `wait` only once the request's signal aborts (EINTR), and EDEADLK if owners would wait for each other for ever.
   */
  take(node: NodeId, lock: LockRequest & { readonly wait: boolean }, context: RequestContext): Promise<void>;
  /** Gives back what the owner holds of a range; of the whole file when a descriptor of its is closed. */
  giveBack(node: NodeId, range: LockRange & { readonly family: LockFamily; readonly owner: bigint }): void;
}
