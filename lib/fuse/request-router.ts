/**
 * Turns decoded requests into operations and their results into replies.
 *
 * Invariants: an operation gets only nodes and handles that the kernel was given and has not given back; a node
 * or handle whose reply did not arrive is given back at once, so that counts stay exact; each request that wants
 * a reply is responded to exactly once. Everything needed of the reader's buffer is taken before the first
 * `await`: the buffer is reused then.
 */
import type { NodeId } from '../base/brand.ts';
import { describeError, invariant } from '../base/errors.ts';
import type { Logger } from '../telemetry/log.ts';
import { type BackingTable, NO_BACKING } from './backing.ts';
import { Errno } from './errno.ts';
import { NodeTable } from './node-table.ts';
import { CHANGES, GETATTR_HANDLE, Opcode, OpenFlag, operationName } from './opcodes.ts';
import { ErrnoError, type EntryReply, type FileSystemOperations, type OpenReply } from './operations.ts';
import { ReadBuffers } from './read-buffers.ts';
import { DirectoryPacker, ReplyScratch } from './reply-encoder.ts';
import {
  decodeAccess,
  decodeBatchForget,
  decodeForget,
  decodeGetAttributes,
  decodeGetExtendedAttribute,
  decodeHandle,
  decodeListExtendedAttributes,
  decodeName,
  decodeOpen,
  decodeRead,
  decodeReadDirectory,
  type RequestBytes,
} from './request-decoder.ts';
import type { Request } from './request.ts';

/** Sends a reply: `errno` 0 for success. False: the kernel no longer wants it. */
export type Respond = (request: Request, errno: number, body?: Uint8Array) => boolean;

export interface RouterOptions {
  readonly operations: FileSystemOperations;
  readonly respond: Respond;
  readonly logger: Logger;
  readonly backing: BackingTable;
  readonly readBytesMax: number;
  /** Handles that may be open at a time; the number is counted when it is reached. */
  readonly handlesMax?: number;
  readonly limitReached: (limit: string) => void;
}

/** Open files and directories of one mount; the kernel's own limits on descriptors are far lower. */
const HANDLES_MAX = 1_048_576;
/** XATTR_SIZE_MAX and XATTR_LIST_MAX of the kernel. */
const ATTRIBUTE_BYTES_MAX = 65_536;
const NUL = Buffer.alloc(1);

export class RequestRouter {
  readonly nodes = new NodeTable();
  readonly #operations: FileSystemOperations;
  readonly #respond: Respond;
  readonly #logger: Logger;
  readonly #backing: BackingTable;
  readonly #readBytesMax: number;
  readonly #buffers: ReadBuffers;
  readonly #handlesMax: number;
  readonly #limitReached: (limit: string) => void;
  readonly #files = new Map<bigint, NodeId>();
  readonly #directories = new Map<bigint, NodeId>();
  readonly #scratch = new ReplyScratch();
  #ended = false;

  constructor(options: RouterOptions) {
    this.#operations = options.operations;
    this.#respond = options.respond;
    this.#logger = options.logger;
    this.#backing = options.backing;
    this.#readBytesMax = options.readBytesMax;
    this.#buffers = new ReadBuffers(options.readBytesMax);
    this.#handlesMax = options.handlesMax ?? HANDLES_MAX;
    this.#limitReached = options.limitReached;
  }

  get openHandles(): number {
    return this.#files.size + this.#directories.size;
  }

  /** No operation is called from here on. */
  end(): void {
    this.#ended = true;
  }

  /** FORGET and BATCH_FORGET, which have no reply. What does not decode forgets nothing. */
  forget(opcode: number, node: NodeId, input: RequestBytes): void {
    if (opcode === Opcode.FORGET) this.#forget(node, decodeForget(input));
    else decodeBatchForget(input, (each, lookups) => this.#forget(each, lookups));
  }

  /** Answers everything else. A rejection means that no reply was sent. */
  async route(request: Request, input: RequestBytes): Promise<void> {
    if (!this.nodes.holds(request.node) && request.opcode !== Opcode.STATFS)
      throw new ErrnoError(Errno.ESTALE, 'a node that the kernel does not hold');
    switch (request.opcode) {
      case Opcode.LOOKUP:
        return this.#lookup(request, input);
      case Opcode.GETATTR:
        return this.#attributes(request, input);
      case Opcode.READLINK:
        return this.#readLink(request);
      case Opcode.ACCESS:
        await this.#operations.access(request.node, decodeAccess(input), request);
        return this.#done(request);
      case Opcode.OPEN:
        return this.#open(request, input);
      case Opcode.READ:
        return this.#read(request, input);
      case Opcode.FLUSH:
        await this.#operations.flush(this.#file(decodeHandle(input)), request);
        return this.#done(request);
      case Opcode.FSYNC:
        this.#file(decodeHandle(input));
        return this.#done(request);
      case Opcode.RELEASE:
        return this.#release(request, input);
      case Opcode.OPENDIR:
        return this.#openDirectory(request);
      case Opcode.READDIR:
        return this.#readDirectory(request, input);
      case Opcode.READDIRPLUS:
        return this.#readDirectoryPlus(request, input);
      case Opcode.FSYNCDIR:
        this.#directory(decodeHandle(input));
        return this.#done(request);
      case Opcode.RELEASEDIR:
        return this.#releaseDirectory(request, input);
      case Opcode.STATFS: {
        const statistics = await this.#operations.statistics(request);
        this.#respond(request, 0, this.#scratch.statistics(statistics));
        return;
      }
      case Opcode.GETXATTR:
        return this.#getExtendedAttribute(request, input);
      case Opcode.LISTXATTR:
        return this.#listExtendedAttributes(request, input);
      default:
        if (CHANGES.has(request.opcode))
          return this.#operations.refuseChange(operationName(request.opcode), request.node, request);
        // The kernel remembers this and does without: LSEEK, IOCTL, POLL, BMAP, STATX (there is no birth time).
        throw new ErrnoError(Errno.ENOSYS, 'not implemented');
    }
  }

  #done(request: Request): void {
    this.#respond(request, 0);
  }

  #file(handle: bigint): bigint {
    if (!this.#files.has(handle)) throw new ErrnoError(Errno.EBADF, 'unknown file handle');
    return handle;
  }

  #directory(handle: bigint): bigint {
    if (!this.#directories.has(handle)) throw new ErrnoError(Errno.EBADF, 'unknown directory handle');
    return handle;
  }

  #forget(node: NodeId, count: bigint): void {
    const held = this.nodes.giveBack(node, count);
    if (held < count) this.#logger.warn({ node: String(node) }, 'the kernel forgot more than it held');
    if (held === 0n || this.#ended) return;
    this.#quietly('forget', () => this.#operations.forget(node, held));
  }

  /** For operations that cannot fail: if one does, nobody is waiting for the error. */
  #quietly(op: string, run: () => void): void {
    try {
      run();
    } catch (error) {
      this.#logger.error({ op, error: describeError(error) }, 'operation failed');
    }
  }

  async #lookup(request: Request, input: RequestBytes): Promise<void> {
    const name = decodeName(input);
    const entry = await this.#operations.lookup(request.node, name, request);
    if (entry.node !== 0n) {
      this.nodes.hold(entry.node);
      if (!this.#respond(request, 0, this.#scratch.entry(entry))) this.#forget(entry.node, 1n);
    } else if (entry.entryValidForMs > 0) {
      this.#respond(request, 0, this.#scratch.absent(entry.entryValidForMs));
    } else {
      this.#respond(request, Errno.ENOENT);
    }
  }

  async #attributes(request: Request, input: RequestBytes): Promise<void> {
    const { flags, handle } = decodeGetAttributes(input);
    const known = (flags & GETATTR_HANDLE) !== 0 && this.#files.has(handle) ? handle : undefined;
    const reply = await this.#operations.attributes(request.node, known, request);
    this.#respond(request, 0, this.#scratch.attributes(reply));
  }

  async #readLink(request: Request): Promise<void> {
    const target = await this.#operations.readLink(request.node, request);
    if (target.length >= 4096) throw new ErrnoError(Errno.ENAMETOOLONG, 'link target longer than a path');
    this.#respond(request, 0, target);
  }

  async #open(request: Request, input: RequestBytes): Promise<void> {
    const flags = decodeOpen(input);
    this.#roomForHandle();
    const reply = await this.#operations.open(request.node, flags, request);
    if (this.#ended) return;
    invariant(!this.#files.has(reply.handle), 'a file system gives each open its own handle');
    this.#files.set(reply.handle, request.node);
    const backingId = this.#backing.open(request.node, reply.backing?.fd);
    const body = this.#scratch.open(reply.handle, openFlags(reply, backingId), backingId);
    if (!this.#respond(request, 0, body)) this.#closeFile(reply.handle);
  }

  async #read(request: Request, input: RequestBytes): Promise<void> {
    const range = decodeRead(input, this.#readBytesMax);
    const handle = this.#file(range.handle);
    const buffer = this.#buffers.take();
    const { offset, length } = range;
    const into = buffer.subarray(0, length);
    const bytes = await this.#operations.read(handle, { offset, length, into }, request);
    invariant(bytes.length <= length, 'a read returns at most what was asked for');
    this.#respond(request, 0, bytes);
    this.#buffers.giveBack(buffer);
  }

  #release(request: Request, input: RequestBytes): void {
    this.#closeFile(this.#file(decodeHandle(input)));
    this.#done(request);
  }

  #closeFile(handle: bigint): void {
    const node = this.#files.get(handle);
    if (node === undefined || this.#ended) return;
    this.#files.delete(handle);
    this.#backing.close(node);
    this.#quietly('release', () => this.#operations.release(handle));
  }

  async #openDirectory(request: Request): Promise<void> {
    this.#roomForHandle();
    const reply = await this.#operations.openDirectory(request.node, request);
    if (this.#ended) return;
    invariant(!this.#directories.has(reply.handle), 'a file system gives each open its own handle');
    this.#directories.set(reply.handle, request.node);
    const flags = reply.keepCache === true ? OpenFlag.CACHE_DIR | OpenFlag.KEEP_CACHE : 0;
    const body = this.#scratch.open(reply.handle, flags, NO_BACKING);
    if (!this.#respond(request, 0, body)) this.#closeDirectory(reply.handle);
  }

  async #readDirectory(request: Request, input: RequestBytes): Promise<void> {
    const { handle, offset, length } = decodeReadDirectory(input, this.#readBytesMax);
    const packer = new DirectoryPacker(length);
    const sink = packer.add.bind(packer);
    await this.#operations.readDirectory(this.#directory(handle), offset, sink, request);
    if (packer.tooSmall) throw new ErrnoError(Errno.EINVAL, 'no room for one record');
    this.#respond(request, 0, packer.packed);
  }

  async #readDirectoryPlus(request: Request, input: RequestBytes): Promise<void> {
    const { handle, offset, length } = decodeReadDirectory(input, this.#readBytesMax);
    const packer = new DirectoryPacker(length);
    const given: NodeId[] = [];
    const counted = (entry: EntryReply | undefined): EntryReply | undefined => {
      if (entry === undefined || entry.node === 0n) return entry;
      this.nodes.hold(entry.node);
      given.push(entry.node);
      return entry;
    };
    let delivered = false;
    try {
      await this.#operations.readDirectoryPlus(
        this.#directory(handle),
        offset,
        (record) => packer.addPlus(record, () => counted(record.entry())),
        request,
      );
      if (packer.tooSmall) throw new ErrnoError(Errno.EINVAL, 'no room for one record');
      delivered = this.#respond(request, 0, packer.packed);
    } finally {
      if (!delivered) for (const node of given) this.#forget(node, 1n);
    }
  }

  #releaseDirectory(request: Request, input: RequestBytes): void {
    this.#closeDirectory(this.#directory(decodeHandle(input)));
    this.#done(request);
  }

  #closeDirectory(handle: bigint): void {
    if (!this.#directories.delete(handle) || this.#ended) return;
    this.#quietly('releasedir', () => this.#operations.releaseDirectory(handle));
  }

  async #getExtendedAttribute(request: Request, input: RequestBytes): Promise<void> {
    const { sizeMax, name } = decodeGetExtendedAttribute(input);
    const value = await this.#operations.getExtendedAttribute(request.node, name, request);
    this.#sized(request, value, sizeMax);
  }

  async #listExtendedAttributes(request: Request, input: RequestBytes): Promise<void> {
    const sizeMax = decodeListExtendedAttributes(input);
    const names = await this.#operations.listExtendedAttributes(request.node, request);
    this.#sized(request, Buffer.concat(names.flatMap((name) => [Buffer.from(name), NUL])), sizeMax);
  }

  /** A caller that has no room asks for the size. */
  #sized(request: Request, value: Uint8Array, sizeMax: number): void {
    if (value.length > ATTRIBUTE_BYTES_MAX || (sizeMax > 0 && value.length > sizeMax))
      throw new ErrnoError(Errno.ERANGE, 'extended attribute larger than the room for it');
    this.#respond(request, 0, sizeMax === 0 ? this.#scratch.size(value.length) : value);
  }

  #roomForHandle(): void {
    if (this.openHandles < this.#handlesMax) return;
    this.#limitReached('fuse_handles');
    throw new ErrnoError(Errno.ENOMEM, 'too many open handles');
  }
}

/** With passthrough the kernel accepts no flag that is about its page cache. */
function openFlags(reply: OpenReply, backingId: number): number {
  let flags = reply.noFlush === true ? OpenFlag.NOFLUSH : 0;
  if (backingId !== NO_BACKING) return flags | OpenFlag.PASSTHROUGH;
  if (reply.directIo === true) flags |= OpenFlag.DIRECT_IO;
  if (reply.keepCache === true) flags |= OpenFlag.KEEP_CACHE;
  return flags;
}
