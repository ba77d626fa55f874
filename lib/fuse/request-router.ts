/**
 * Turns decoded requests into operations and their results into replies.
 *
 * Invariants: an operation gets only nodes and handles that the kernel was given and has not given back; a node
 * or handle whose reply did not arrive is given back at once, so that counts stay exact; each request that wants
 * a reply is responded to exactly once. Everything needed of the reader's buffer is taken before the first
 * wait: the buffer is reused then.
 * What changes the file system is answered by `WriteRouter`, locks by `LockRouter`, where there are such operations.
 */
import type { NodeId } from '../base/brand.ts';
import { invariant } from '../base/errors.ts';
import { Errno } from './errno.ts';
import type { Holdings } from './holdings.ts';
import { LockRouter } from './lock-router.ts';
import { CHANGES, GETATTR_HANDLE, Opcode, operationName } from './opcodes.ts';
import { ErrnoError, type Answer, type EntryReply, type FileSystemOperations } from './operations.ts';
import { ReadBuffers } from './read-buffers.ts';
import { DirectoryPacker, type OpenAnswer, ReplyScratch } from './reply-encoder.ts';
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
import { decodeFlushOwner, decodeReleaseOwner } from './write-decoder.ts';
import type { LockOperations, WriteOperations } from './write-operations.ts';
import { type RequestInput, type Respond, WriteRouter } from './write-router.ts';

export interface RouterOptions {
  readonly operations: FileSystemOperations;
  readonly writes: WriteOperations | undefined;
  readonly locks: LockOperations | undefined;
  readonly holdings: Holdings;
  readonly respond: Respond;
  /** Longest read, and longest write. */
  readonly readBytesMax: number;
}

/** XATTR_SIZE_MAX and XATTR_LIST_MAX of the kernel. */
const ATTRIBUTE_BYTES_MAX = 65_536;
const NUL = Buffer.alloc(1);

export class RequestRouter {
  readonly #operations: FileSystemOperations;
  readonly #holdings: Holdings;
  readonly #respond: Respond;
  readonly #readBytesMax: number;
  readonly #buffers: ReadBuffers;
  readonly #scratch = new ReplyScratch();
  readonly #writeRouter: WriteRouter | undefined;
  readonly #lockRouter: LockRouter | undefined;
  readonly #writes: WriteOperations | undefined;

  constructor(options: RouterOptions) {
    const { operations, writes, locks, holdings, respond, readBytesMax } = options;
    const scratch = this.#scratch;
    this.#operations = operations;
    this.#writes = writes;
    this.#holdings = holdings;
    this.#respond = respond;
    this.#readBytesMax = readBytesMax;
    this.#buffers = new ReadBuffers(readBytesMax);
    this.#writeRouter =
      writes &&
      new WriteRouter({ operations, writes, holdings, respond, scratch, writeBytesMax: readBytesMax });
    this.#lockRouter = locks && new LockRouter({ locks, holdings, respond, scratch });
  }

  /** FORGET and BATCH_FORGET, which have no reply. What does not decode forgets nothing. */
  forget(opcode: number, node: NodeId, input: RequestBytes): void {
    if (opcode === Opcode.FORGET) this.#holdings.forget(node, decodeForget(input));
    else decodeBatchForget(input, (each, lookups) => this.#holdings.forget(each, lookups));
  }

  /** Answers everything else, at once if it can. A failure, thrown or rejected, means that no reply was sent. */
  route(request: Request, input: RequestInput): Answer<void> {
    if (request.opcode !== Opcode.STATFS) this.#holdings.requireNode(request.node);
    const routed = this.#writeRouter?.route(request, input) ?? this.#lockRouter?.route(request, input);
    if (routed !== undefined) return routed;
    switch (request.opcode) {
      case Opcode.LOOKUP:
        return this.#lookup(request, input);
      case Opcode.GETATTR:
        return this.#attributes(request, input);
      case Opcode.READLINK:
        return this.#readLink(request);
      case Opcode.ACCESS:
        return this.#access(request, input);
      case Opcode.OPEN:
        return this.#open(request, input);
      case Opcode.READ:
        return this.#read(request, input);
      case Opcode.FLUSH:
        return this.#flush(request, input);
      case Opcode.FSYNC:
        this.#holdings.file(decodeHandle(input));
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
        this.#holdings.directory(decodeHandle(input));
        return this.#done(request);
      case Opcode.RELEASEDIR:
        return this.#releaseDirectory(request, input);
      case Opcode.STATFS:
        return this.#statistics(request);
      case Opcode.GETXATTR:
        return this.#getExtendedAttribute(request, input);
      case Opcode.LISTXATTR:
        return this.#listExtendedAttributes(request, input);
      default:
        if (this.#writes === undefined && CHANGES.has(request.opcode))
          return this.#operations.refuseChange(operationName(request.opcode), request.node, request);
        // The kernel remembers this and does without: LSEEK (no holes), IOCTL, POLL, BMAP, STATX (no birth time).
        throw new ErrnoError(Errno.ENOSYS, 'no file system of ours has this operation');
    }
  }

  #done(request: Request): void {
    this.#respond(request, 0);
  }

  async #statistics(request: Request): Promise<void> {
    const statistics = await this.#operations.statistics(request);
    this.#respond(request, 0, this.#scratch.statistics(statistics));
  }

  #lookup(request: Request, input: RequestBytes): Answer<void> {
    const found = this.#operations.lookup(request.node, decodeName(input), request);
    return after(found, (entry) => this.#found(request, entry));
  }

  #found(request: Request, entry: EntryReply): void {
    if (entry.node !== 0n) {
      this.#holdings.holdNode(entry.node);
      if (!this.#respond(request, 0, this.#scratch.entry(entry))) this.#holdings.forget(entry.node, 1n);
    } else if (entry.entryValidForMs > 0) {
      this.#respond(request, 0, this.#scratch.absent(entry.entryValidForMs));
    } else {
      this.#respond(request, Errno.ENOENT);
    }
  }

  #attributes(request: Request, input: RequestBytes): Answer<void> {
    const { flags, handle } = decodeGetAttributes(input);
    const known = (flags & GETATTR_HANDLE) !== 0 && this.#holdings.hasFile(handle) ? handle : undefined;
    return after(this.#operations.attributes(request.node, known, request), (reply) => {
      this.#respond(request, 0, this.#scratch.attributes(reply));
    });
  }

  async #readLink(request: Request): Promise<void> {
    const target = await this.#operations.readLink(request.node, request);
    if (target.length >= 4096) throw new ErrnoError(Errno.ENAMETOOLONG, 'link target longer than a path');
    this.#respond(request, 0, target);
  }

  async #access(request: Request, input: RequestBytes): Promise<void> {
    await this.#operations.access(request.node, decodeAccess(input), request);
    this.#done(request);
  }

  #open(request: Request, input: RequestBytes): Answer<void> {
    const { flags, dropSetIds } = decodeOpen(input);
    this.#holdings.requireRoom();
    return after(this.#operations.open(request.node, flags, request), (reply) => {
      if (this.#holdings.ended) return undefined;
      const answer = this.#holdings.openFile(request.node, { reply, flags });
      return dropSetIds
        ? this.#openWithoutSetIds(request, reply.handle, answer)
        : this.#opened(request, reply.handle, answer);
    });
  }

  async #openWithoutSetIds(request: Request, handle: bigint, answer: OpenAnswer): Promise<void> {
    try {
      await this.#writes?.setAttributes(request.node, { dropSetIds: true, handle }, request);
    } catch (error) {
      this.#holdings.closeFile(handle);
      throw error;
    }
    this.#opened(request, handle, answer);
  }

  #opened(request: Request, handle: bigint, answer: OpenAnswer): void {
    if (!this.#respond(request, 0, this.#scratch.open(handle, answer))) this.#holdings.closeFile(handle);
  }

  async #read(request: Request, input: RequestBytes): Promise<void> {
    const range = decodeRead(input, this.#readBytesMax);
    const handle = this.#holdings.file(range.handle);
    const buffer = this.#buffers.take();
    const { offset, length } = range;
    const into = buffer.subarray(0, length);
    const bytes = await this.#operations.read(handle, { offset, length, into }, request);
    invariant(bytes.length <= length, 'a read returns at most what was asked for');
    this.#respond(request, 0, bytes);
    this.#buffers.giveBack(buffer);
  }

  async #flush(request: Request, input: RequestBytes): Promise<void> {
    const handle = this.#holdings.file(decodeHandle(input));
    const owner = decodeFlushOwner(input);
    try {
      await this.#operations.flush(handle, request);
    } finally {
      this.#lockRouter?.flushed(request.node, owner);
    }
    this.#done(request);
  }

  #release(request: Request, input: RequestBytes): void {
    const handle = this.#holdings.file(decodeHandle(input));
    const flockOwner = decodeReleaseOwner(input);
    this.#holdings.closeFile(handle);
    this.#lockRouter?.released(request.node, handle, { flockOwner });
    this.#done(request);
  }

  #openDirectory(request: Request): Answer<void> {
    this.#holdings.requireRoom();
    return after(this.#operations.openDirectory(request.node, request), (reply) => {
      if (this.#holdings.ended) return;
      const answer = this.#holdings.openDirectory(request.node, reply);
      const body = this.#scratch.open(reply.handle, answer);
      if (!this.#respond(request, 0, body)) this.#holdings.closeDirectory(reply.handle);
    });
  }

  async #readDirectory(request: Request, input: RequestBytes): Promise<void> {
    const { handle, offset, length } = decodeReadDirectory(input, this.#readBytesMax);
    const packer = new DirectoryPacker(length);
    const sink = packer.add.bind(packer);
    await this.#operations.readDirectory(this.#holdings.directory(handle), offset, sink, request);
    if (packer.tooSmall) throw new ErrnoError(Errno.EINVAL, 'no room for one record');
    this.#respond(request, 0, packer.packed);
  }

  async #readDirectoryPlus(request: Request, input: RequestBytes): Promise<void> {
    const { handle, offset, length } = decodeReadDirectory(input, this.#readBytesMax);
    const packer = new DirectoryPacker(length);
    const given: NodeId[] = [];
    const counted = (entry: EntryReply | undefined): EntryReply | undefined => {
      if (entry === undefined || entry.node === 0n) return entry;
      this.#holdings.holdNode(entry.node);
      given.push(entry.node);
      return entry;
    };
    let delivered = false;
    try {
      await this.#operations.readDirectoryPlus(
        this.#holdings.directory(handle),
        offset,
        (record) => packer.addPlus(record, () => counted(record.entry())),
        request,
      );
      if (packer.tooSmall) throw new ErrnoError(Errno.EINVAL, 'no room for one record');
      delivered = this.#respond(request, 0, packer.packed);
    } finally {
      if (!delivered) for (const node of given) this.#holdings.forget(node, 1n);
    }
  }

  #releaseDirectory(request: Request, input: RequestBytes): void {
    this.#holdings.closeDirectory(this.#holdings.directory(decodeHandle(input)));
    this.#done(request);
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
    this.#respond(request, 0, sizeMax === 0 ? this.#scratch.count(value.length) : value);
  }
}

/** Goes on with what is known at once, or else when it is. */
function after<T>(answer: Answer<T>, next: (value: T) => Answer<void>): Answer<void> {
  return answer instanceof Promise ? answer.then(next) : next(answer);
}
