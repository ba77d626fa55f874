/**
 * Reads the requests that change something, or lock, out of a buffer. As in `request-decoder.ts` nothing trusts a
 * length: what is too short, not terminated, out of range or unknown throws `ErrnoError`. Names and values are copied
 * out of the buffer; the bytes of a write are not.
 */
import type { NodeId } from '../base/brand.ts';
import { Errno } from './errno.ts';
import { ErrnoError } from './operations.ts';
import {
  attributeNameBetween,
  decodeAttributeName,
  decodeName,
  IN_HEADER_BYTES,
  malformed,
  nameBetween,
  offsetAt,
  requireBody,
  textEnd,
  type RequestBytes,
} from './request-decoder.ts';
import {
  LOCK_TO_END,
  type AllocateMode,
  type AttributeChanges,
  type LockFamily,
  type RenameMode,
  type WriteRange,
} from './write-operations.ts';

const BODY = IN_HEADER_BYTES;
/** Permission, set-ID and sticky bits. */
const MODE_BITS = 0o7777;
const TYPE_BITS = 0o170000;
const TYPE_FILE = 0o100000;
/** PATH_MAX less the NUL. */
const TARGET_BYTES_MAX = 4095;
/** XATTR_SIZE_MAX. */
const ATTRIBUTE_BYTES_MAX = 65_536;
/** MAX_RW_COUNT: no system call moves more. */
const COPY_BYTES_MAX = 0x7fff_f000;
const NS_PER_SECOND = 1_000_000_000n;

export interface CreateRequest {
  readonly name: Buffer;
  readonly flags: number;
  readonly mode: number;
}

/** `struct fuse_create_in` and the name. */
export function decodeCreate(request: RequestBytes): CreateRequest {
  requireBody(request, 16);
  return {
    flags: request.view.getUint32(BODY, true),
    mode: request.view.getUint32(BODY + 4, true) & MODE_BITS,
    name: decodeName(request, BODY + 16),
  };
}

export interface MakeRequest {
  readonly name: Buffer;
  readonly mode: number;
}

/** `struct fuse_mknod_in` and the name. EPERM: what is no regular file would be of no use to other hosts. */
export function decodeMakeNode(request: RequestBytes): MakeRequest {
  requireBody(request, 16);
  const mode = request.view.getUint32(BODY, true);
  const name = decodeName(request, BODY + 16);
  if ((mode & TYPE_BITS) !== TYPE_FILE && (mode & TYPE_BITS) !== 0)
    throw new ErrnoError(Errno.EPERM, 'only regular files can be made by mknod');
  return { mode: mode & MODE_BITS, name };
}

/** `struct fuse_mkdir_in` and the name. */
export function decodeMakeDirectory(request: RequestBytes): MakeRequest {
  requireBody(request, 8);
  return { mode: request.view.getUint32(BODY, true) & MODE_BITS, name: decodeName(request, BODY + 8) };
}

/** The name, and what it shall point to. */
export function decodeSymlink(request: RequestBytes): { readonly name: Buffer; readonly target: Buffer } {
  const nameEnd = textEnd(request, BODY);
  const target = nameEnd + 1;
  const end = textEnd(request, target);
  if (end !== request.end - 1) throw malformed('bytes after the target');
  if (end === target) throw new ErrnoError(Errno.ENOENT, 'empty link target');
  if (end - target > TARGET_BYTES_MAX)
    throw new ErrnoError(Errno.ENAMETOOLONG, 'link target longer than a path');
  return { name: nameBetween(request, BODY, nameEnd), target: copied(request, target, end) };
}

/** `struct fuse_link_in` and the new name: the node that gets it. */
export function decodeLink(request: RequestBytes): { readonly node: NodeId; readonly name: Buffer } {
  requireBody(request, 8);
  return { node: request.view.getBigUint64(BODY, true) as NodeId, name: decodeName(request, BODY + 8) };
}

export interface RenameRequest {
  readonly name: Buffer;
  readonly newParent: NodeId;
  readonly newName: Buffer;
  readonly mode: RenameMode;
}

/** RENAME_NOREPLACE and RENAME_EXCHANGE; a whiteout is a device node, which nothing here can make. */
const RENAME_MODES: ReadonlyMap<number, RenameMode> = new Map([
  [0, 'replace'],
  [1, 'keep'],
  [2, 'exchange'],
]);

/** `struct fuse_rename_in`, or `fuse_rename2_in`, which has flags; the old name and the new one. */
export function decodeRename(request: RequestBytes, options: { readonly hasFlags: boolean }): RenameRequest {
  const names = BODY + (options.hasFlags ? 16 : 8);
  requireBody(request, names - BODY);
  const mode = RENAME_MODES.get(options.hasFlags ? request.view.getUint32(BODY + 8, true) : 0);
  if (mode === undefined) throw malformed('flags of rename');
  const nameEnd = textEnd(request, names);
  return {
    name: nameBetween(request, names, nameEnd),
    newParent: request.view.getBigUint64(BODY, true) as NodeId,
    newName: decodeName(request, nameEnd + 1),
    mode,
  };
}

/** Which fields of `struct fuse_setattr_in` count. */
const Valid = {
  MODE: 1,
  UID: 2,
  GID: 4,
  SIZE: 8,
  ATIME: 16,
  MTIME: 32,
  HANDLE: 64,
  ATIME_NOW: 128,
  MTIME_NOW: 256,
  LOCK_OWNER: 512,
  CTIME: 1024,
  KILL_SUIDGID: 2048,
} as const;
const VALID_ALL = 4095;

/** `struct fuse_setattr_in`. The time of change is the file system's own: the kernel's is that of the same moment. */
export function decodeSetAttributes(request: RequestBytes): AttributeChanges & { readonly handle?: bigint } {
  requireBody(request, 88);
  const { view } = request;
  const valid = view.getUint32(BODY, true);
  if ((valid & ~VALID_ALL) !== 0) throw malformed('unknown attribute to set');
  const has = (bit: number): boolean => (valid & bit) !== 0;
  return {
    ...(has(Valid.HANDLE) && { handle: view.getBigUint64(BODY + 8, true) }),
    ...(has(Valid.SIZE) && { sizeBytes: sizeAt(request, BODY + 16) }),
    ...(has(Valid.MODE) && { mode: view.getUint32(BODY + 68, true) & MODE_BITS }),
    ...(has(Valid.UID) && { uid: view.getUint32(BODY + 76, true) }),
    ...(has(Valid.GID) && { gid: view.getUint32(BODY + 80, true) }),
    ...(has(Valid.ATIME) && {
      accessedNs: has(Valid.ATIME_NOW) ? ('now' as const) : timeAt(request, BODY + 32, BODY + 56),
    }),
    ...(has(Valid.MTIME) && {
      modifiedNs: has(Valid.MTIME_NOW) ? ('now' as const) : timeAt(request, BODY + 40, BODY + 60),
    }),
    ...(has(Valid.KILL_SUIDGID) && { dropSetIds: true }),
  };
}

function timeAt(request: RequestBytes, seconds: number, nanoseconds: number): bigint {
  const rest = BigInt(request.view.getUint32(nanoseconds, true));
  if (rest >= NS_PER_SECOND) throw malformed('nanoseconds beyond a second');
  return request.view.getBigInt64(seconds, true) * NS_PER_SECOND + rest;
}

/** A size, or an end, that a file can have. */
function sizeAt(request: RequestBytes, at: number): number {
  const size = request.view.getBigUint64(at, true);
  if (size > BigInt(Number.MAX_SAFE_INTEGER)) throw new ErrnoError(Errno.EFBIG, 'size beyond 2^53');
  return Number(size);
}

export interface WriteRequest extends WriteRange {
  readonly handle: bigint;
}

/** FUSE_WRITE_KILL_SUIDGID in `write_flags`; the others say where the bytes come from, which makes no difference. */
const WRITE_KILL_SUIDGID = 4;

/** `struct fuse_write_in` and the bytes, which stay in the buffer. */
export function decodeWrite(request: RequestBytes, lengthMax: number): WriteRequest {
  requireBody(request, 40);
  const { view } = request;
  const offset = sizeAt(request, BODY + 8);
  const length = view.getUint32(BODY + 16, true);
  if (length > lengthMax) throw malformed('write longer than agreed');
  if (length !== request.end - BODY - 40) throw malformed('length of a write');
  requireEnd(offset, length);
  return {
    handle: view.getBigUint64(BODY, true),
    offset,
    bytes: request.bytes.subarray(BODY + 40, request.end),
    dropSetIds: (view.getUint32(BODY + 20, true) & WRITE_KILL_SUIDGID) !== 0,
  };
}

function requireEnd(offset: number, length: number): void {
  if (offset + length > Number.MAX_SAFE_INTEGER) throw new ErrnoError(Errno.EFBIG, 'end beyond 2^53');
}

/** FUSE_FSYNC_FDATASYNC. */
const DATA_ONLY = 1;

/** `struct fuse_fsync_in`. */
export function decodeSync(request: RequestBytes): { readonly handle: bigint; readonly dataOnly: boolean } {
  requireBody(request, 16);
  return {
    handle: request.view.getBigUint64(BODY, true),
    dataOnly: (request.view.getUint32(BODY + 8, true) & DATA_ONLY) !== 0,
  };
}

/** FALLOC_FL_KEEP_SIZE 1, PUNCH_HOLE 2, ZERO_RANGE 16. */
const ALLOCATE_MODES: ReadonlyMap<number, AllocateMode> = new Map([
  [0, 'reserve'],
  [1, 'reserve-beyond'],
  [3, 'punch'],
  [16, 'zero'],
  [17, 'zero-beyond'],
]);

export interface AllocateRequest {
  readonly handle: bigint;
  readonly offset: number;
  readonly length: number;
  readonly mode: AllocateMode;
}

/** `struct fuse_fallocate_in`. */
export function decodeAllocate(request: RequestBytes): AllocateRequest {
  requireBody(request, 32);
  const mode = ALLOCATE_MODES.get(request.view.getUint32(BODY + 24, true));
  if (mode === undefined) throw new ErrnoError(Errno.EOPNOTSUPP, 'mode of fallocate');
  const offset = sizeAt(request, BODY + 8);
  const length = sizeAt(request, BODY + 16);
  if (length === 0) throw malformed('nothing to allocate');
  requireEnd(offset, length);
  return { handle: request.view.getBigUint64(BODY, true), offset, length, mode };
}

/** SEEK_DATA 3 and SEEK_HOLE 4; the others the kernel does by itself. */
const SEEK_KINDS: ReadonlyMap<number, 'data' | 'hole'> = new Map([
  [3, 'data'],
  [4, 'hole'],
]);

export interface SeekRequest {
  readonly handle: bigint;
  readonly offset: number;
  readonly kind: 'data' | 'hole';
}

/** `struct fuse_lseek_in`. */
export function decodeSeek(request: RequestBytes): SeekRequest {
  requireBody(request, 24);
  const kind = SEEK_KINDS.get(request.view.getUint32(BODY + 16, true));
  if (kind === undefined) throw malformed('kind of seek');
  return { handle: request.view.getBigUint64(BODY, true), offset: offsetAt(request, BODY + 8), kind };
}

export interface CopyRequest {
  readonly from: { readonly handle: bigint; readonly offset: number };
  readonly to: { readonly handle: bigint; readonly offset: number; readonly length: number };
}

/** `struct fuse_copy_file_range_in`; the node of the target is known by its handle. */
export function decodeCopy(request: RequestBytes): CopyRequest {
  requireBody(request, 56);
  const { view } = request;
  if (view.getBigUint64(BODY + 48, true) !== 0n) throw malformed('flags of copy_file_range');
  const from = { handle: view.getBigUint64(BODY, true), offset: offsetAt(request, BODY + 8) };
  const asked = view.getBigUint64(BODY + 40, true);
  const length = asked > COPY_BYTES_MAX ? COPY_BYTES_MAX : Number(asked);
  const to = { handle: view.getBigUint64(BODY + 24, true), offset: offsetAt(request, BODY + 32), length };
  requireEnd(from.offset, length);
  requireEnd(to.offset, length);
  return { from, to };
}

/** XATTR_CREATE and XATTR_REPLACE. */
const SET_MODES: ReadonlyMap<number, 'either' | 'create' | 'replace'> = new Map([
  [0, 'either'],
  [1, 'create'],
  [2, 'replace'],
]);

export interface SetExtendedAttributeRequest {
  readonly name: string;
  readonly value: Buffer;
  readonly mode: 'either' | 'create' | 'replace';
}

/** `struct fuse_setxattr_in` of 8 bytes, the name and the value. */
export function decodeSetExtendedAttribute(request: RequestBytes): SetExtendedAttributeRequest {
  requireBody(request, 10);
  const size = request.view.getUint32(BODY, true);
  const mode = SET_MODES.get(request.view.getUint32(BODY + 4, true));
  if (mode === undefined) throw malformed('flags of setxattr');
  if (size > ATTRIBUTE_BYTES_MAX) throw new ErrnoError(Errno.E2BIG, 'extended attribute longer than 64 KiB');
  const nameEnd = textEnd(request, BODY + 8);
  if (request.end - nameEnd - 1 !== size) throw malformed('length of an extended attribute');
  return {
    name: attributeNameBetween(request, BODY + 8, nameEnd),
    value: copied(request, nameEnd + 1, request.end),
    mode,
  };
}

/** The name of an extended attribute that is to go. */
export function decodeRemoveExtendedAttribute(request: RequestBytes): string {
  return decodeAttributeName(request);
}

function copied(request: RequestBytes, start: number, end: number): Buffer {
  return Buffer.from(request.bytes.subarray(start, end));
}

/** F_RDLCK, F_WRLCK, F_UNLCK. */
const LOCK_KINDS = ['read', 'write', 'none'] as const;
/** FUSE_LK_FLOCK. */
const LOCK_FLOCK = 1;

export interface LockBody {
  readonly handle: bigint;
  readonly owner: bigint;
  readonly family: LockFamily;
  readonly start: bigint;
  readonly end: bigint;
  readonly kind: 'read' | 'write' | 'none';
  readonly pid: number;
}

/** `struct fuse_lk_in`. */
export function decodeLock(request: RequestBytes): LockBody {
  requireBody(request, 48);
  const { view } = request;
  const [start, end] = [view.getBigUint64(BODY + 16, true), view.getBigUint64(BODY + 24, true)];
  const kind = LOCK_KINDS[view.getUint32(BODY + 32, true)];
  const flags = view.getUint32(BODY + 40, true);
  if (start > end || end > LOCK_TO_END) throw malformed('range of a lock');
  if (kind === undefined || (flags & ~LOCK_FLOCK) !== 0) throw malformed('kind of lock');
  return {
    handle: view.getBigUint64(BODY, true),
    owner: view.getBigUint64(BODY + 8, true),
    family: flags === LOCK_FLOCK ? 'flock' : 'posix',
    start,
    end,
    kind,
    pid: view.getUint32(BODY + 36, true),
  };
}

/** Whose fcntl locks end with this close: `struct fuse_flush_in`. */
export function decodeFlushOwner(request: RequestBytes): bigint {
  requireBody(request, 24);
  return request.view.getBigUint64(BODY + 16, true);
}

/** FUSE_RELEASE_FLOCK_UNLOCK. */
const RELEASE_FLOCK = 2;

/** Whose flock ends with this release: `struct fuse_release_in`. Undefined: it never locked. */
export function decodeReleaseOwner(request: RequestBytes): bigint | undefined {
  requireBody(request, 24);
  const locked = (request.view.getUint32(BODY + 12, true) & RELEASE_FLOCK) !== 0;
  return locked ? request.view.getBigUint64(BODY + 16, true) : undefined;
}
