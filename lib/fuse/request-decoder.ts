/**
 * Reads requests of the kernel out of a buffer. Nothing here trusts a length: what is too short, not terminated
 * or out of range throws `ErrnoError`, and the request is answered with that number.
 * Layouts: `struct fuse_in_header` and `struct fuse_*_in` of include/uapi/linux/fuse.h, little or big endian as
 * the host is; all hosts that run Node are little endian.
 */
import type { NodeId } from '../base/brand.ts';
import { NAME_BYTES_MAX } from '../base/limits.ts';
import { Errno } from './errno.ts';
import { ErrnoError } from './operations.ts';

export const IN_HEADER_BYTES = 40;
/** An extended attribute's name; XATTR_NAME_MAX. */
const ATTRIBUTE_NAME_BYTES_MAX = 255;

const NUL = 0;
const SLASH = 0x2f;
const DOT = 0x2e;

/** One received request: the buffer of its reader, and where the request ends in it. */
export interface RequestBytes {
  readonly bytes: Buffer;
  readonly view: DataView;
  /** End of the body; the body begins at `IN_HEADER_BYTES`. */
  readonly end: number;
}

export interface RequestHeader {
  readonly opcode: number;
  readonly unique: bigint;
  readonly node: NodeId;
  readonly uid: number;
  readonly gid: number;
  readonly pid: number;
  /** End of the body, without the extensions that follow it. */
  readonly end: number;
}

/** Undefined: these bytes are no request, so there is nobody to answer. */
export function decodeHeader(view: DataView, received: number): RequestHeader | undefined {
  if (received < IN_HEADER_BYTES || received > view.byteLength) return undefined;
  if (view.getUint32(0, true) !== received) return undefined;
  const end = received - view.getUint16(36, true) * 8;
  if (end < IN_HEADER_BYTES) return undefined;
  return {
    opcode: view.getUint32(4, true),
    unique: view.getBigUint64(8, true),
    node: view.getBigUint64(16, true) as NodeId,
    uid: view.getUint32(24, true),
    gid: view.getUint32(28, true),
    pid: view.getUint32(32, true),
    end,
  };
}

export function malformed(what: string): ErrnoError {
  return new ErrnoError(Errno.EINVAL, `malformed request: ${what}`);
}

export function requireBody(request: RequestBytes, bytes: number): void {
  if (request.end - IN_HEADER_BYTES < bytes) throw malformed('too short');
}

/** A 64-bit offset as a number. */
export function offsetAt(request: RequestBytes, at: number): number {
  const low = request.view.getUint32(at, true);
  const high = request.view.getUint32(at + 4, true);
  const offset = high * 2 ** 32 + low;
  if (offset > Number.MAX_SAFE_INTEGER) throw malformed('offset beyond 2^53');
  return offset;
}

/** The end of the NUL-terminated text that begins at `start`. */
export function textEnd(request: RequestBytes, start: number): number {
  const end = start < request.end ? request.bytes.indexOf(NUL, start) : -1;
  if (end === -1 || end >= request.end) throw malformed('text not terminated');
  return end;
}

/** The end of the NUL-terminated text that begins at `start` and fills the rest of the request. */
function lastTextEnd(request: RequestBytes, start: number): number {
  const end = textEnd(request, start);
  if (end !== request.end - 1) throw malformed('NUL in a name');
  return end;
}

/** What is between `start` and `end`, copied out of the buffer: 1 to 255 bytes, no `/`, neither `.` nor `..`. */
export function nameBetween(request: RequestBytes, start: number, end: number): Buffer {
  const length = end - start;
  if (length === 0) throw malformed('empty name');
  if (length > NAME_BYTES_MAX) throw new ErrnoError(Errno.ENAMETOOLONG, 'name longer than 255 bytes');
  const name = Buffer.allocUnsafe(length);
  request.bytes.copy(name, 0, start, end);
  if (name.includes(SLASH)) throw malformed('slash in a name');
  if (name[0] === DOT && (length === 1 || (length === 2 && name[1] === DOT))) throw malformed('dot name');
  return name;
}

/** The name in a directory that begins at `start` and fills the rest of the request. */
export function decodeName(request: RequestBytes, start = IN_HEADER_BYTES): Buffer {
  return nameBetween(request, start, lastTextEnd(request, start));
}

/** The name of an extended attribute. */
export function attributeNameBetween(request: RequestBytes, start: number, end: number): string {
  if (end === start) throw malformed('empty attribute name');
  if (end - start > ATTRIBUTE_NAME_BYTES_MAX) throw new ErrnoError(Errno.ERANGE, 'attribute name too long');
  return request.bytes.toString('utf8', start, end);
}

/** An attribute's name that fills the request from `start` on. */
export function decodeAttributeName(request: RequestBytes, start = IN_HEADER_BYTES): string {
  return attributeNameBetween(request, start, lastTextEnd(request, start));
}

export interface AttributesRequest {
  readonly flags: number;
  readonly handle: bigint;
}

export function decodeGetAttributes(request: RequestBytes): AttributesRequest {
  requireBody(request, 16);
  return {
    flags: request.view.getUint32(IN_HEADER_BYTES, true),
    handle: request.view.getBigUint64(IN_HEADER_BYTES + 8, true),
  };
}

export interface OpenRequest {
  /** Of open(2). */
  readonly flags: number;
  /** It truncates, and who opens may not keep set-ID bits. */
  readonly dropSetIds: boolean;
}

/** FUSE_OPEN_KILL_SUIDGID in `open_flags`. */
const OPEN_KILL_SUIDGID = 1;

export function decodeOpen(request: RequestBytes): OpenRequest {
  requireBody(request, 8);
  return {
    flags: request.view.getUint32(IN_HEADER_BYTES, true),
    dropSetIds: (request.view.getUint32(IN_HEADER_BYTES + 4, true) & OPEN_KILL_SUIDGID) !== 0,
  };
}

/** The handle that a request begins with: release, flush, fsync. */
export function decodeHandle(request: RequestBytes): bigint {
  requireBody(request, 16);
  return request.view.getBigUint64(IN_HEADER_BYTES, true);
}

export interface ReadRequest {
  readonly handle: bigint;
  readonly offset: number;
  readonly length: number;
}

export function decodeRead(request: RequestBytes, lengthMax: number): ReadRequest {
  requireBody(request, 40);
  const length = request.view.getUint32(IN_HEADER_BYTES + 16, true);
  if (length > lengthMax) throw malformed('read longer than agreed');
  return {
    handle: request.view.getBigUint64(IN_HEADER_BYTES, true),
    offset: offsetAt(request, IN_HEADER_BYTES + 8),
    length,
  };
}

export interface ReadDirectoryRequest {
  readonly handle: bigint;
  readonly offset: bigint;
  readonly length: number;
}

export function decodeReadDirectory(request: RequestBytes, lengthMax: number): ReadDirectoryRequest {
  requireBody(request, 40);
  const offset = request.view.getBigInt64(IN_HEADER_BYTES + 8, true);
  if (offset < 0n) throw malformed('negative directory offset');
  const length = request.view.getUint32(IN_HEADER_BYTES + 16, true);
  if (length > lengthMax) throw malformed('listing longer than agreed');
  return { handle: request.view.getBigUint64(IN_HEADER_BYTES, true), offset, length };
}

/** The mask of access(2). */
export function decodeAccess(request: RequestBytes): number {
  requireBody(request, 8);
  return request.view.getUint32(IN_HEADER_BYTES, true);
}

export interface ExtendedAttributeRequest {
  readonly sizeMax: number;
  readonly name: string;
}

export function decodeGetExtendedAttribute(request: RequestBytes): ExtendedAttributeRequest {
  requireBody(request, 9);
  return {
    sizeMax: request.view.getUint32(IN_HEADER_BYTES, true),
    name: decodeAttributeName(request, IN_HEADER_BYTES + 8),
  };
}

/** Room that the caller has for the list; 0 asks for its size. */
export function decodeListExtendedAttributes(request: RequestBytes): number {
  requireBody(request, 8);
  return request.view.getUint32(IN_HEADER_BYTES, true);
}

export function decodeForget(request: RequestBytes): bigint {
  requireBody(request, 8);
  return request.view.getBigUint64(IN_HEADER_BYTES, true);
}

/** Calls `forget` for each pair that is really there, whatever the count says. */
export function decodeBatchForget(
  request: RequestBytes,
  forget: (node: NodeId, lookups: bigint) => void,
): void {
  requireBody(request, 8);
  const count = request.view.getUint32(IN_HEADER_BYTES, true);
  const room = Math.floor((request.end - IN_HEADER_BYTES - 8) / 16);
  for (let index = 0; index < Math.min(count, room); index++) {
    const at = IN_HEADER_BYTES + 8 + index * 16;
    forget(request.view.getBigUint64(at, true) as NodeId, request.view.getBigUint64(at + 8, true));
  }
}

/** The request that is to be given up. */
export function decodeInterrupt(request: RequestBytes): bigint {
  requireBody(request, 8);
  return request.view.getBigUint64(IN_HEADER_BYTES, true);
}

export interface InitRequest {
  readonly major: number;
  readonly minor: number;
  readonly readAheadBytesMax: number;
  /** `flags` in the low, `flags2` in the high 32 bits. */
  readonly flags: bigint;
}

/** Bit 30 of INIT's flags: a second word of flags follows. */
export const INIT_EXT = 1n << 30n;

export function decodeInit(request: RequestBytes): InitRequest {
  requireBody(request, 8);
  const { view } = request;
  const major = view.getUint32(IN_HEADER_BYTES, true);
  const minor = view.getUint32(IN_HEADER_BYTES + 4, true);
  const bodyBytes = request.end - IN_HEADER_BYTES;
  if (major !== 7 || bodyBytes < 16) return { major, minor, readAheadBytesMax: 0, flags: 0n };
  let flags = BigInt(view.getUint32(IN_HEADER_BYTES + 12, true));
  if ((flags & INIT_EXT) !== 0n && bodyBytes >= 20)
    flags |= BigInt(view.getUint32(IN_HEADER_BYTES + 16, true)) << 32n;
  return { major, minor, readAheadBytesMax: view.getUint32(IN_HEADER_BYTES + 8, true), flags };
}
