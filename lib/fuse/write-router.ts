/**
 * Turns decoded requests that change something into operations of a file system that can be written to, and their
 * results into replies. The rules are those of `request-router.ts`; in addition the memory of a WRITE is kept from its
 * reader until the file system is done with the bytes, so that they are never copied.
 */
import type { NodeId } from '../base/brand.ts';
import { Errno } from './errno.ts';
import type { Holdings } from './holdings.ts';
import { Opcode } from './opcodes.ts';
import { ErrnoError, type EntryReply, type FileSystemOperations } from './operations.ts';
import type { ReplyScratch } from './reply-encoder.ts';
import { decodeName, type RequestBytes } from './request-decoder.ts';
import type { Request } from './request.ts';
import {
  decodeAllocate,
  decodeCopy,
  decodeCreate,
  decodeLink,
  decodeMakeDirectory,
  decodeMakeNode,
  decodeRemoveExtendedAttribute,
  decodeRename,
  decodeSeek,
  decodeSetAttributes,
  decodeSetExtendedAttribute,
  decodeSymlink,
  decodeSync,
  decodeWrite,
  type SeekRequest,
} from './write-decoder.ts';
import type { WriteOperations } from './write-operations.ts';

/** A request in the memory of its reader. */
export interface RequestInput extends RequestBytes {
  /** Keeps the memory from being used again; the function that it returns gives it back. */
  keep(): () => void;
}

/** Sends a reply: `errno` 0 for success. False: the kernel no longer wants it. */
export type Respond = (request: Request, errno: number, body?: Uint8Array) => boolean;

export interface WriteRouterOptions {
  readonly operations: FileSystemOperations;
  readonly writes: WriteOperations;
  readonly holdings: Holdings;
  readonly respond: Respond;
  readonly scratch: ReplyScratch;
  readonly writeBytesMax: number;
}

export class WriteRouter {
  readonly #operations: FileSystemOperations;
  readonly #writes: WriteOperations;
  readonly #holdings: Holdings;
  readonly #respond: Respond;
  readonly #scratch: ReplyScratch;
  readonly #writeBytesMax: number;

  constructor(options: WriteRouterOptions) {
    this.#operations = options.operations;
    this.#writes = options.writes;
    this.#holdings = options.holdings;
    this.#respond = options.respond;
    this.#scratch = options.scratch;
    this.#writeBytesMax = options.writeBytesMax;
  }

  /** Undefined: not a request that is answered here. */
  route(request: Request, input: RequestInput): Promise<void> | undefined {
    switch (request.opcode) {
      case Opcode.WRITE:
        return this.#write(request, input);
      case Opcode.CREATE:
        return this.#create(request, input);
      case Opcode.MKNOD: {
        const { name, mode } = decodeMakeNode(input);
        return this.#enter(request, this.#writes.makeFile(at(request, name), mode, request));
      }
      case Opcode.MKDIR: {
        const { name, mode } = decodeMakeDirectory(input);
        return this.#enter(request, this.#writes.makeDirectory(at(request, name), mode, request));
      }
      case Opcode.SYMLINK: {
        const { name, target } = decodeSymlink(input);
        return this.#enter(request, this.#writes.makeSymlink(at(request, name), target, request));
      }
      case Opcode.LINK: {
        const { node, name } = decodeLink(input);
        this.#holdings.requireNode(node);
        return this.#enter(request, this.#writes.link(node, at(request, name), request));
      }
      case Opcode.UNLINK:
        return this.#done(request, this.#writes.unlink(at(request, decodeName(input)), request));
      case Opcode.RMDIR:
        return this.#done(request, this.#writes.removeDirectory(at(request, decodeName(input)), request));
      case Opcode.RENAME:
      case Opcode.RENAME2:
        return this.#rename(request, input);
      case Opcode.SETATTR:
        return this.#setAttributes(request, input);
      case Opcode.SETXATTR: {
        const attribute = decodeSetExtendedAttribute(input);
        return this.#done(request, this.#writes.setExtendedAttribute(request.node, attribute, request));
      }
      case Opcode.REMOVEXATTR: {
        const name = decodeRemoveExtendedAttribute(input);
        return this.#done(request, this.#writes.removeExtendedAttribute(request.node, name, request));
      }
      default:
        return this.#routeOpenFile(request, input);
    }
  }

  #routeOpenFile(request: Request, input: RequestInput): Promise<void> | undefined {
    switch (request.opcode) {
      case Opcode.FSYNC: {
        const { handle, dataOnly } = decodeSync(input);
        return this.#done(request, this.#writes.sync(this.#holdings.file(handle), { dataOnly }, request));
      }
      case Opcode.FSYNCDIR: {
        const { handle, dataOnly } = decodeSync(input);
        const directory = this.#holdings.directory(handle);
        return this.#done(request, this.#writes.syncDirectory(directory, { dataOnly }, request));
      }
      case Opcode.FALLOCATE: {
        const { handle, ...range } = decodeAllocate(input);
        return this.#done(request, this.#writes.allocate(this.#holdings.file(handle), range, request));
      }
      case Opcode.LSEEK:
        return this.#seek(request, input);
      case Opcode.COPY_FILE_RANGE:
      case Opcode.COPY_FILE_RANGE_64:
        return this.#copy(request, input);
      default:
        // TMPFILE is not among them: a file without a name would be unknown to the origin. Programs do without.
        // SYNCFS neither: the kernel sends it only to file systems that it trusts to answer.
        return undefined;
    }
  }

  async #done(request: Request, change: Promise<void>): Promise<void> {
    await change;
    this.#respond(request, 0);
  }

  /** Answers with an entry; one that does not arrive is given back. */
  async #enter(request: Request, change: Promise<EntryReply>): Promise<void> {
    const entry = await change;
    this.#holdings.holdNode(entry.node);
    if (!this.#respond(request, 0, this.#scratch.entry(entry))) this.#holdings.forget(entry.node, 1n);
  }

  async #write(request: Request, input: RequestInput): Promise<void> {
    const { handle, ...range } = decodeWrite(input, this.#writeBytesMax);
    this.#holdings.file(handle);
    const giveBack = input.keep();
    const written = await this.#writes.write(handle, range, request);
    // Of a write that failed nobody knows whether it still reads the memory: that is left to the garbage collector.
    giveBack();
    this.#respond(request, 0, this.#scratch.count(written));
  }

  async #create(request: Request, input: RequestInput): Promise<void> {
    const { name, ...how } = decodeCreate(input);
    this.#holdings.requireRoom();
    const { entry, open } = await this.#writes.create(at(request, name), how, request);
    if (this.#holdings.ended) return;
    this.#holdings.holdNode(entry.node);
    const answer = this.#holdings.openFile(entry.node, { reply: open, flags: how.flags });
    if (this.#respond(request, 0, this.#scratch.created(entry, open.handle, answer))) return;
    this.#holdings.closeFile(open.handle);
    this.#holdings.forget(entry.node, 1n);
  }

  async #rename(request: Request, input: RequestInput): Promise<void> {
    const hasFlags = request.opcode === Opcode.RENAME2;
    const { name, newParent, newName, mode } = decodeRename(input, { hasFlags });
    this.#holdings.requireNode(newParent);
    const to = { parent: newParent, name: newName, mode };
    return this.#done(request, this.#writes.rename(at(request, name), to, request));
  }

  async #setAttributes(request: Request, input: RequestInput): Promise<void> {
    const { handle, ...changes } = decodeSetAttributes(input);
    const known = handle !== undefined && this.#holdings.hasFile(handle) ? { handle } : {};
    const reply = await this.#writes.setAttributes(request.node, { ...changes, ...known }, request);
    this.#respond(request, 0, this.#scratch.attributes(reply));
  }

  async #seek(request: Request, input: RequestInput): Promise<void> {
    const { handle, ...to } = decodeSeek(input);
    this.#holdings.file(handle);
    const found = this.#holdings.mayHaveUnsent(request.node)
      ? await this.#seekWithoutHoles(request, { handle, ...to })
      : await this.#writes.seek(handle, to, request);
    this.#respond(request, 0, this.#scratch.count(found));
  }

  /**
   * The kernel asks for holes without sending first what mappings have changed: one of our holes may hold bytes by now.
   * So the file has none as long as it may be mapped.
   */
  async #seekWithoutHoles(request: Request, { handle, offset, kind }: SeekRequest): Promise<number> {
    const { attributes } = await this.#operations.attributes(request.node, handle, request);
    if (offset >= attributes.sizeBytes) throw new ErrnoError(Errno.ENXIO, 'beyond the end');
    return kind === 'data' ? offset : attributes.sizeBytes;
  }

  async #copy(request: Request, input: RequestInput): Promise<void> {
    const { from, to } = decodeCopy(input);
    this.#holdings.file(from.handle);
    this.#holdings.file(to.handle);
    const copied = await this.#writes.copyRange(from, to, request);
    this.#respond(request, 0, this.#scratch.count(copied));
  }
}

/** A name in the directory that the request is about. */
function at(request: Request, name: Uint8Array): { readonly parent: NodeId; readonly name: Uint8Array } {
  return { parent: request.node, name };
}
