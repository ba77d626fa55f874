/**
 * Decides what the two sides agree on in INIT, in one function. Everything is asked for only if the kernel
 * offers it; what it does not offer has its fallback beside it. Pure.
 */
import { FUSE_READ_BYTES_MAX } from '../base/limits.ts';
import { INIT_EXT, type InitRequest } from './request-decoder.ts';
import { INC_EPOCH_MINOR } from './opcodes.ts';

/** The version whose layouts we speak; the kernel lowers itself to it. */
export const PROTOCOL = { major: 7, minor: 45 } as const;
/** Linux 5.10. Below that the portable driver serves. */
export const PROTOCOL_MINOR_MIN = 31;
/** Kernels before `MAX_PAGES` (4.20) read at most this much at a time. */
const READ_BYTES_WITHOUT_MAX_PAGES = 128 * 1024;
/** The smallest page of the hosts that we know; on larger ones the kernel's own limit on pages applies. */
const PAGE_BYTES = 4096;
/** Readahead requests that the kernel may have in flight; its default of 12 starves a sequential reader over a network. */
const BACKGROUND_MAX = 64;
const BACKGROUND_CONGESTED = 48;
export const INIT_REPLY_BYTES = 64;

export const InitFlag = {
  /** Several reads of one file at a time. Fallback: none, the kernel then reads one by one. */
  ASYNC_READ: 1n << 0n,
  /** fcntl locks are asked of us: they belong to a file, which can have several nodes. Fallback: the kernel's own. */
  POSIX_LOCKS: 1n << 1n,
  /** O_TRUNC comes with the open, so that an open and its truncation are one. Fallback: a SETATTR after the open. */
  ATOMIC_O_TRUNC: 1n << 3n,
  /** Writes larger than a page; always on in kernels that we accept, asked for in the protocol's own interest. */
  BIG_WRITES: 1n << 5n,
  /** flock locks are asked of us, as fcntl locks are, and for the same reason. Fallback: the kernel's own. */
  FLOCK_LOCKS: 1n << 10n,
  /**
   * A listing that the kernel keeps is used only while the attributes of its directory are valid; every kernel that we
   * accept has it. Before a read(2) from the page cache it asks for attributes too, if those it has are not valid.
   */
  AUTO_INVAL_DATA: 1n << 12n,
  /** List and look up in one request. Fallback: a lookup for each name. */
  DO_READDIRPLUS: 1n << 13n,
  /** The kernel chooses: only listings whose entries are looked at pay for the attributes. */
  READDIRPLUS_AUTO: 1n << 14n,
  /** Lookups and listings of one directory in parallel. Fallback: one by one. */
  PARALLEL_DIROPS: 1n << 18n,
  /** An aborted connection reads as ECONNABORTED, an unmounted one as ENODEV. Fallback: both look unmounted. */
  ABORT_ERROR: 1n << 21n,
  /** Reads and writes of `max_pages` pages. Fallback: 128 KiB. */
  MAX_PAGES: 1n << 22n,
  /**
   * Who writes without the right to keep set-ID bits is told to us with the write. Fallback: the kernel asks for the
   * attribute `security.capability` before every write.
   */
  HANDLE_KILLPRIV_V2: 1n << 28n,
  /** A second word of flags. Fallback: no passthrough. */
  INIT_EXT,
  /** The kernel reads complete blobs itself. Fallback: every read is answered by us. */
  PASSTHROUGH: 1n << 37n,
  /** No file handles of NFS: node ids do not outlive a mount. Fallback: such a handle is ESTALE. */
  NO_EXPORT_SUPPORT: 1n << 38n,
} as const;

/*
 * Left off on purpose:
 * - ASYNC_DIO: a program that waits in such a read can be neither interrupted nor killed until we answer
 * - CACHE_SYMLINKS: the kernel keeps targets without any timeout, beyond every lease
 * - WRITEBACK_CACHE: cannot be combined with passthrough
 * - NO_OPEN_SUPPORT: a handle pins its version, so every open must be seen
 * - EXPLICIT_INVAL_DATA: when a size changes other than by the kernel's own write, its pages shall go
 * - HANDLE_KILLPRIV: takes set-ID bits off whoever writes; the second version knows who may keep them
 * - POSIX_ACL: objects have no place for them; modes are checked by the kernel
 * - DONT_MASK: only of use with access control lists; the kernel applies the umask
 * - SETXATTR_EXT, SECURITY_CTX, CREATE_SUPP_GROUP: only of use with labels and access control lists
 * - DIRECT_IO_ALLOW_MMAP, and the open flag for parallel direct writes: files are written by passthrough or through
 *   the page cache, which a mapping shares
 */
const WANTED =
  InitFlag.ASYNC_READ |
  InitFlag.BIG_WRITES |
  InitFlag.DO_READDIRPLUS |
  InitFlag.READDIRPLUS_AUTO |
  InitFlag.PARALLEL_DIROPS |
  InitFlag.ABORT_ERROR |
  InitFlag.AUTO_INVAL_DATA |
  InitFlag.MAX_PAGES |
  InitFlag.ATOMIC_O_TRUNC |
  InitFlag.HANDLE_KILLPRIV_V2 |
  InitFlag.INIT_EXT |
  InitFlag.PASSTHROUGH |
  InitFlag.NO_EXPORT_SUPPORT;
const LOCKS = InitFlag.POSIX_LOCKS | InitFlag.FLOCK_LOCKS;

export interface Agreement {
  readonly minor: number;
  readonly flags: bigint;
  readonly passthrough: boolean;
  /** `INC_EPOCH` is understood. */
  readonly epoch: boolean;
  readonly readBytesMax: number;
  readonly readAheadBytesMax: number;
}

/**
 * - `agreed`: answer with `encodeAgreement`
 * - `retry`: the kernel is of a later major version; answer with ours and it asks again
 * - `too-old`: nothing we can serve
 */
export type Negotiation =
  | { readonly state: 'agreed'; readonly agreement: Agreement }
  | { readonly state: 'retry' }
  | { readonly state: 'too-old' };

/** @param able.locks locks can be asked of the file system */
export function negotiate(init: InitRequest, able: { readonly locks: boolean }): Negotiation {
  if (init.major > PROTOCOL.major) return { state: 'retry' };
  if (init.major < PROTOCOL.major || init.minor < PROTOCOL_MINOR_MIN) return { state: 'too-old' };
  let flags = (able.locks ? WANTED | LOCKS : WANTED) & init.flags;
  // The second word of flags counts only where both sides say that there is one.
  if ((flags & InitFlag.INIT_EXT) === 0n) flags &= 0xffff_ffffn;
  const minor = Math.min(init.minor, PROTOCOL.minor);
  return {
    state: 'agreed',
    agreement: {
      minor,
      flags,
      passthrough: (flags & InitFlag.PASSTHROUGH) !== 0n,
      epoch: minor >= INC_EPOCH_MINOR,
      readBytesMax: (flags & InitFlag.MAX_PAGES) === 0n ? READ_BYTES_WITHOUT_MAX_PAGES : FUSE_READ_BYTES_MAX,
      readAheadBytesMax: init.readAheadBytesMax,
    },
  };
}

/** `struct fuse_init_out`. */
export function encodeAgreement(agreement: Agreement): Uint8Array {
  const bytes = new Uint8Array(INIT_REPLY_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, PROTOCOL.major, true);
  view.setUint32(4, agreement.minor, true);
  view.setUint32(8, agreement.readAheadBytesMax, true);
  view.setUint32(12, Number(agreement.flags & 0xffff_ffffn), true);
  view.setUint16(16, BACKGROUND_MAX, true);
  view.setUint16(18, BACKGROUND_CONGESTED, true);
  view.setUint32(20, FUSE_READ_BYTES_MAX, true);
  // Times are exact to the nanosecond.
  view.setUint32(24, 1, true);
  view.setUint16(28, agreement.readBytesMax / PAGE_BYTES, true);
  view.setUint32(32, Number(agreement.flags >> 32n), true);
  // A blob's own file system must not be a stacked one; the least that allows passthrough.
  view.setUint32(36, agreement.passthrough ? 1 : 0, true);
  return bytes;
}

/** The answer to a kernel of a later major version. */
export function encodeRetry(): Uint8Array {
  const bytes = new Uint8Array(INIT_REPLY_BYTES);
  new DataView(bytes.buffer).setUint32(0, PROTOCOL.major, true);
  return bytes;
}
