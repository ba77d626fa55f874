/**
 * Writes replies into a scratch buffer that is reused: a reply is written and sent within one turn of the event
 * loop, so nothing else can be in the buffer. Directory listings have a buffer of their own, since they are
 * filled over several turns.
 * Layouts: `struct fuse_*_out` of include/uapi/linux/fuse.h.
 */
import type {
  AttributesReply,
  DirectoryRecord,
  EntryReply,
  FileSystemStatistics,
  NodeAttributes,
} from './operations.ts';
import type { HeldLock } from './write-operations.ts';

export const OUT_HEADER_BYTES = 16;
export const ENTRY_BYTES = 128;
const ATTRIBUTES_REPLY_BYTES = 104;
const OPEN_BYTES = 16;
const STATISTICS_BYTES = 80;
const LOCK_BYTES = 24;
const RECORD_HEADER_BYTES = 24;

/** `l_type` of a lock. */
const F_RDLCK = 0;
const F_WRLCK = 1;
const F_UNLCK = 2;

/** How an open is told to the kernel. */
export interface OpenAnswer {
  /** Of `OpenFlag`. */
  readonly flags: number;
  readonly backingId: number;
}

/** Longest time that the kernel is told to keep something: about a century; it is only kept from overflowing. */
const VALID_MS_MAX = 100 * 365 * 86_400_000;
const NS_PER_SECOND = 1_000_000_000n;
/** st_blocks counts units of 512 bytes, whatever st_blksize says. */
const STAT_BLOCK_BYTES = 512;

/** Header of a reply: `errno` is positive, 0 for success. */
export function encodeHeader(view: DataView, bytes: number, reply: { unique: bigint; errno: number }): void {
  view.setUint32(0, bytes, true);
  view.setInt32(4, -reply.errno, true);
  view.setBigUint64(8, reply.unique, true);
}

function clampValidity(ms: number): number {
  return ms > 0 ? Math.min(ms, VALID_MS_MAX) : 0;
}

function setValidity(view: DataView, ms: number, at: { seconds: number; nanoseconds: number }): void {
  const clamped = clampValidity(ms);
  const seconds = Math.floor(clamped / 1000);
  view.setUint32(at.seconds, seconds, true);
  view.setUint32(at.seconds + 4, 0, true);
  view.setUint32(at.nanoseconds, Math.floor((clamped - seconds * 1000) * 1_000_000), true);
}

function setTime(view: DataView, ns: bigint, at: { seconds: number; nanoseconds: number }): void {
  let seconds = ns / NS_PER_SECOND;
  let rest = Number(ns % NS_PER_SECOND);
  if (rest < 0) {
    rest += Number(NS_PER_SECOND);
    seconds -= 1n;
  }
  view.setBigInt64(at.seconds, seconds, true);
  view.setUint32(at.nanoseconds, rest, true);
}

function setNumber64(view: DataView, at: number, value: number): void {
  view.setUint32(at, value % 2 ** 32, true);
  view.setUint32(at + 4, Math.floor(value / 2 ** 32), true);
}

/** `struct fuse_attr`, 88 bytes. */
function setAttributes(view: DataView, at: number, attributes: NodeAttributes): void {
  view.setBigUint64(at, attributes.inode, true);
  setNumber64(view, at + 8, attributes.sizeBytes);
  setNumber64(view, at + 16, Math.ceil(attributes.sizeBytes / STAT_BLOCK_BYTES));
  setTime(view, attributes.accessedNs, { seconds: at + 24, nanoseconds: at + 48 });
  setTime(view, attributes.modifiedNs, { seconds: at + 32, nanoseconds: at + 52 });
  setTime(view, attributes.changedNs, { seconds: at + 40, nanoseconds: at + 56 });
  view.setUint32(at + 60, attributes.mode, true);
  view.setUint32(at + 64, attributes.links, true);
  view.setUint32(at + 68, attributes.uid, true);
  view.setUint32(at + 72, attributes.gid, true);
  view.setUint32(at + 76, attributes.device, true);
  view.setUint32(at + 80, attributes.blockBytes, true);
  view.setUint32(at + 84, 0, true);
}

/** `struct fuse_entry_out`. The generation is always 0: a node id is never used twice by one mount. */
function setEntry(view: DataView, at: number, entry: EntryReply): void {
  view.setBigUint64(at, entry.node, true);
  view.setBigUint64(at + 8, 0n, true);
  setValidity(view, entry.entryValidForMs, { seconds: at + 16, nanoseconds: at + 32 });
  setValidity(view, entry.validForMs, { seconds: at + 24, nanoseconds: at + 36 });
  setAttributes(view, at + 40, entry.attributes);
}

/** `struct fuse_open_out`. */
function setOpen(view: DataView, at: number, open: OpenAnswer & { readonly handle: bigint }): void {
  view.setBigUint64(at, open.handle, true);
  view.setUint32(at + 8, open.flags, true);
  view.setInt32(at + 12, open.backingId, true);
}

/** Encodes small replies; each method returns the part of the scratch buffer to send, valid until the next call. */
export class ReplyScratch {
  readonly #bytes = Buffer.alloc(256);
  readonly #view = new DataView(this.#bytes.buffer, this.#bytes.byteOffset, this.#bytes.byteLength);
  readonly #entry = this.#bytes.subarray(0, ENTRY_BYTES);
  readonly #attributes = this.#bytes.subarray(0, ATTRIBUTES_REPLY_BYTES);
  readonly #open = this.#bytes.subarray(0, OPEN_BYTES);
  readonly #statistics = this.#bytes.subarray(0, STATISTICS_BYTES);
  readonly #created = this.#bytes.subarray(0, ENTRY_BYTES + OPEN_BYTES);
  readonly #lock = this.#bytes.subarray(0, LOCK_BYTES);
  readonly #size = this.#bytes.subarray(0, 8);

  entry(entry: EntryReply): Uint8Array {
    setEntry(this.#view, 0, entry);
    return this.#entry;
  }

  /** There is no such name, and that stays so for a while. */
  absent(validForMs: number): Uint8Array {
    this.#entry.fill(0);
    setValidity(this.#view, validForMs, { seconds: 16, nanoseconds: 32 });
    return this.#entry;
  }

  attributes(reply: AttributesReply): Uint8Array {
    setValidity(this.#view, reply.validForMs, { seconds: 0, nanoseconds: 8 });
    this.#view.setUint32(12, 0, true);
    setAttributes(this.#view, 16, reply.attributes);
    return this.#attributes;
  }

  open(handle: bigint, answer: OpenAnswer): Uint8Array {
    setOpen(this.#view, 0, { handle, ...answer });
    return this.#open;
  }

  /** A file that was made and opened at once. */
  created(entry: EntryReply, handle: bigint, answer: OpenAnswer): Uint8Array {
    setEntry(this.#view, 0, entry);
    setOpen(this.#view, ENTRY_BYTES, { handle, ...answer });
    return this.#created;
  }

  /** `struct fuse_file_lock`: the lock that is in the way, or that there is none. */
  lock(held: HeldLock | undefined): Uint8Array {
    this.#view.setBigUint64(0, held?.start ?? 0n, true);
    this.#view.setBigUint64(8, held?.end ?? 0n, true);
    this.#view.setUint32(16, held === undefined ? F_UNLCK : held.kind === 'read' ? F_RDLCK : F_WRLCK, true);
    this.#view.setUint32(20, held?.pid ?? 0, true);
    return this.#lock;
  }

  statistics(statistics: FileSystemStatistics): Uint8Array {
    const view = this.#view;
    this.#statistics.fill(0);
    view.setBigUint64(0, statistics.blocks, true);
    view.setBigUint64(8, statistics.blocksFree, true);
    view.setBigUint64(16, statistics.blocksAvailable, true);
    view.setBigUint64(24, statistics.files, true);
    view.setBigUint64(32, statistics.filesFree, true);
    view.setUint32(40, statistics.blockBytes, true);
    view.setUint32(44, statistics.nameBytesMax, true);
    view.setUint32(48, statistics.fragmentBytes, true);
    return this.#statistics;
  }

  /** How long an extended attribute or the list of them is, or how many bytes were written. */
  count(bytes: number): Uint8Array {
    setNumber64(this.#view, 0, bytes);
    return this.#size;
  }
}

/** Packs records of a directory into one reply. A record is taken whole or not at all. */
export class DirectoryPacker {
  readonly #bytes: Buffer;
  readonly #view: DataView;
  #used = 0;
  #refused = false;

  constructor(bytesMax: number) {
    this.#bytes = Buffer.allocUnsafe(bytesMax);
    this.#view = new DataView(this.#bytes.buffer, this.#bytes.byteOffset, this.#bytes.byteLength);
  }

  /** Not even the first record fitted: an empty reply would mean the end of the directory. */
  get tooSmall(): boolean {
    return this.#refused && this.#used === 0;
  }

  get packed(): Uint8Array {
    return this.#bytes.subarray(0, this.#used);
  }

  add(record: DirectoryRecord): boolean {
    if (!this.#fits(record, 0)) return false;
    this.#record(record);
    return true;
  }

  /** `entry` is called only when the record fits; undefined or node 0 tells the kernel nothing about the node. */
  addPlus(record: DirectoryRecord, entry: () => EntryReply | undefined): boolean {
    if (!this.#fits(record, ENTRY_BYTES)) return false;
    const known = entry();
    if (known === undefined || known.node === 0n) this.#bytes.fill(0, this.#used, this.#used + ENTRY_BYTES);
    else setEntry(this.#view, this.#used, known);
    this.#used += ENTRY_BYTES;
    this.#record(record);
    return true;
  }

  #fits(record: DirectoryRecord, extraBytes: number): boolean {
    const bytes = extraBytes + ((RECORD_HEADER_BYTES + record.name.length + 7) & ~7);
    if (!this.#refused && this.#used + bytes <= this.#bytes.length) return true;
    this.#refused = true;
    return false;
  }

  #record(record: DirectoryRecord): void {
    const at = this.#used;
    const nameEnd = at + RECORD_HEADER_BYTES + record.name.length;
    this.#view.setBigUint64(at, record.inode, true);
    this.#view.setBigUint64(at + 8, record.nextOffset, true);
    this.#view.setUint32(at + 16, record.name.length, true);
    this.#view.setUint32(at + 20, record.type, true);
    this.#bytes.set(record.name, at + RECORD_HEADER_BYTES);
    this.#used = (nameEnd + 7) & ~7;
    this.#bytes.fill(0, nameEnd, this.#used);
  }
}
