/**
 * The contract between a driver (kernel or portable) and a file system.
 *
 * A driver decodes and validates requests, calls these operations, and answers with what they return. An
 * operation fails by throwing `ErrnoError`; anything else thrown is EIO, a log line and a metric, never a dead mount.
 * Names arrive as validated bytes: 1 to 255, no NUL, no `/`. A driver never calls an operation on a node that it
 * does not hold, and `forget` balances every entry it was given exactly.
 */
import type { NodeId } from '../base/brand.ts';
import { PerigeeError } from '../base/errors.ts';

/**
 * - `mountpoint-missing`, `mountpoint-not-directory`, `mountpoint-not-empty`: nothing can be mounted there
 * - `mountpoint-busy`: another file system is mounted there
 * - `already-mounted`: a live mount of ours is there
 * - `device-missing`: the host has no `/dev/fuse`
 * - `permission`: mounting needs a capability that this process lacks
 * - `kernel-too-old`: the kernel's protocol is older than what the driver needs
 * - `fuse-native-missing`, `libfuse-missing`: the portable driver lacks what it is built on
 * - `mount-failed`, `unmount-failed`: the system refused; the message has the reason
 * - `protocol`: the kernel said what makes no sense
 * - `notification`: the kernel refused to drop what it has cached
 */
export type FuseErrorCode =
  | 'mountpoint-missing'
  | 'mountpoint-not-directory'
  | 'mountpoint-not-empty'
  | 'mountpoint-busy'
  | 'already-mounted'
  | 'device-missing'
  | 'permission'
  | 'kernel-too-old'
  | 'fuse-native-missing'
  | 'libfuse-missing'
  | 'mount-failed'
  | 'unmount-failed'
  | 'protocol'
  | 'notification';

/** A mount that cannot be made, or does not do what it must. */
export class FuseError extends PerigeeError<FuseErrorCode> {
  override readonly layer = 'fuse';
}

/** Thrown by operations; `errno` is positive, from `errno.ts`. */
export class ErrnoError extends Error {
  readonly errno: number;
  constructor(errno: number, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = 'ErrnoError';
    this.errno = errno;
  }
}

/**
 * A value that is known at once is given as it is: a promise would cost its request a turn of the microtasks and, with
 * what else hangs on it, about as much time again as the request itself. A failure rejects.
 */
export type Answer<T> = T | Promise<T>;

export interface RequestContext {
  readonly uid: number;
  readonly gid: number;
  readonly pid: number;
  /** Aborted when the kernel sends INTERRUPT for this request, and when the mount ends. */
  readonly signal: AbortSignal;
}

/** What stat shows. `inode` is st_ino; several nodes may share it. */
export interface NodeAttributes {
  readonly inode: bigint;
  readonly sizeBytes: number;
  readonly modifiedNs: bigint;
  readonly accessedNs: bigint;
  readonly changedNs: bigint;
  /** Type and permission bits, as in st_mode. */
  readonly mode: number;
  readonly links: number;
  readonly uid: number;
  readonly gid: number;
  readonly device: number;
  /** st_blksize. */
  readonly blockBytes: number;
}

export interface AttributesReply {
  readonly attributes: NodeAttributes;
  /** For how long the kernel may use them. */
  readonly validForMs: number;
}

export interface EntryReply extends AttributesReply {
  /** 0n: there is no such name, and the kernel may remember that for `entryValidForMs`. */
  readonly node: NodeId;
  readonly entryValidForMs: number;
}

/** A descriptor to be registered with the kernel, once per node and shared by the opens of that node. */
export interface BackingFile {
  readonly fd: number;
}

export interface OpenReply {
  /** Chosen by the file system; comes back in every call on this handle. */
  readonly handle: bigint;
  /** The kernel may keep its page cache of this node from earlier opens; never after writes that went past it. */
  readonly keepCache?: boolean;
  /** Bypass the page cache. */
  readonly directIo?: boolean;
  /** close(2) need not tell us: saves a round trip for handles that cannot be dirty. */
  readonly noFlush?: boolean;
  /**
   * Let the kernel read, and write, this file itself. Used only if the driver's `abilities.passthrough`, and if the
   * node is not open in the other way already: `read` and `write` must work all the same.
   */
  readonly backing?: BackingFile;
}

export interface DirectoryRecord {
  readonly name: Uint8Array;
  readonly inode: bigint;
  /** File type bits as in st_mode >> 12 (DT_*). */
  readonly type: number;
  /** Where the listing goes on after this record; positive, stable for the life of the handle. */
  readonly nextOffset: bigint;
}

/** For readdirplus. `entry` counts one lookup when it is called, and is called only for a record that fits; undefined for `.` and `..`. */
export interface DirectoryPlusRecord extends DirectoryRecord {
  readonly entry: () => EntryReply | undefined;
}

/**
 * Receives records in order until it answers false: the record that was refused was not taken.
 */
export type DirectorySink<R> = (record: R) => boolean;

export interface FileSystemStatistics {
  readonly blocks: bigint;
  readonly blocksFree: bigint;
  readonly blocksAvailable: bigint;
  readonly files: bigint;
  readonly filesFree: bigint;
  readonly blockBytes: number;
  readonly fragmentBytes: number;
  readonly nameBytesMax: number;
}

/** What a file system can ask of a mounted driver. */
export interface DriverConnection {
  readonly abilities: {
    /** Opens may carry `backing`. */
    readonly passthrough: boolean;
    /** Longest one read can be. */
    readonly readBytesMax: number;
    /** What the driver can make the kernel forget: nothing, one entry at a time, or all entries at once too. */
    readonly notifications: 'none' | 'entries' | 'all';
  };
  /** The kernel asks again before it uses a node's attributes. At once, takes no lock. False: refused. */
  invalidateAttributes(node: NodeId): boolean;
  /** The same for what the kernel keeps of a directory's listing. Of other nodes it would drop the pages. */
  invalidateListing(node: NodeId): boolean;
  /**
   * The kernel asks again before it uses an entry. Waits for the lock of the directory, which an operation that is
   * being answered may hold.
   * @throws FuseError `notification`
   */
  invalidateEntry(parent: NodeId, name: Uint8Array): Promise<void>;
  /** All entries of the mount; at once, takes no lock. False: refused. */
  invalidateAllEntries(): boolean;
}

export interface FileSystemOperations {
  /** Called once after negotiation, before any other operation. */
  connected(connection: DriverConnection): void;
  /** Called once when the mount is gone; no operation follows. Handles not yet released are to be closed. */
  disconnected(): void;

  lookup(parent: NodeId, name: Uint8Array, context: RequestContext): Answer<EntryReply>;
  /** The kernel gives back `count` lookups of a node. Synchronous, cannot fail. */
  forget(node: NodeId, count: bigint): void;
  attributes(node: NodeId, handle: bigint | undefined, context: RequestContext): Answer<AttributesReply>;
  readLink(node: NodeId, context: RequestContext): Promise<Uint8Array>;
  /** `mask` as in access(2). Called only without default_permissions. */
  access(node: NodeId, mask: number, context: RequestContext): Promise<void>;

  /** `flags` of open(2). With O_TRUNC the file is empty afterwards. */
  open(node: NodeId, flags: number, context: RequestContext): Answer<OpenReply>;
  /** Short only at the end of the file. The answer may lie in `into`; after a failure `into` may still be written to. */
  read(
    handle: bigint,
    range: { readonly offset: number; readonly length: number; readonly into?: Uint8Array },
    context: RequestContext,
  ): Promise<Uint8Array>;
  /** close(2) of one descriptor. */
  flush(handle: bigint, context: RequestContext): Promise<void>;
  /** The last descriptor is gone. Synchronous for the caller; failures are only logged. */
  release(handle: bigint): void;

  openDirectory(node: NodeId, context: RequestContext): Answer<OpenReply>;
  readDirectory(
    handle: bigint,
    offset: bigint,
    sink: DirectorySink<DirectoryRecord>,
    context: RequestContext,
  ): Promise<void>;
  readDirectoryPlus(
    handle: bigint,
    offset: bigint,
    sink: DirectorySink<DirectoryPlusRecord>,
    context: RequestContext,
  ): Promise<void>;
  releaseDirectory(handle: bigint): void;

  statistics(context: RequestContext): Promise<FileSystemStatistics>;
  getExtendedAttribute(node: NodeId, name: string, context: RequestContext): Promise<Uint8Array>;
  listExtendedAttributes(node: NodeId, context: RequestContext): Promise<readonly string[]>;
  /**
   * Every change, by its FUSE name in lower case (`setattr`, `mkdir`), of a file system whose driver was given no
   * `WriteOperations`: throws what the caller shall see.
   */
  refuseChange(operation: string, node: NodeId, context: RequestContext): Promise<never>;
}

/** What a driver's constructor promises. */
/** What an unmount does about programs that go on using the mount. */
export type WhenBusy = 'detach' | 'refuse';

export interface Driver {
  readonly mountpoint: string;
  /** Resolves with the reason when the mount ends: unmounted by us, by someone else, or the connection failed. */
  readonly ended: Promise<{ readonly reason: 'unmounted' | 'aborted'; readonly error?: unknown }>;
  /**
   * Unmounts. If something still uses the mount after `deadlineMs` it is detached, or, with `refuse`, stays as it is and
   * goes on serving. Never throws for a mount that is gone.
   * @throws FuseError `mountpoint-busy`, `unmount-failed`; only with `refuse`
   */
  unmount(options: { readonly deadlineMs: number; readonly whenBusy?: WhenBusy }): Promise<void>;
}
