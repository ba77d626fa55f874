/**
 * What the kernel holds of a file system: nodes by lookups, open files and open directories.
 *
 * Invariants: an operation gets only what is held here; everything is given back to the file system exactly once,
 * also when the reply that would have handed it out did not arrive. Once ended nothing is given back any more: the
 * file system has been told that the mount is gone.
 */
import type { NodeId } from '../base/brand.ts';
import { describeError, invariant } from '../base/errors.ts';
import type { Logger } from '../telemetry/log.ts';
import { type BackingTable, NO_BACKING } from './backing.ts';
import { Errno } from './errno.ts';
import { NodeTable } from './node-table.ts';
import { OpenFlag } from './opcodes.ts';
import { ErrnoError, type FileSystemOperations, type OpenReply } from './operations.ts';
import type { OpenAnswer } from './reply-encoder.ts';

/** Of open(2), from include/uapi/asm-generic/fcntl.h. */
const O_ACCMODE = 3;
const O_RDWR = 2;
/** Open files and directories of one mount; the kernel's own limits on descriptors are far lower. */
const HANDLES_MAX = 1_048_576;

export interface HoldingsOptions {
  readonly operations: FileSystemOperations;
  readonly logger: Logger;
  readonly backing: BackingTable;
  /** Handles that may be open at a time; the number is counted when it is reached. */
  readonly handlesMax?: number;
  readonly limitReached: (limit: string) => void;
}

interface OpenFile {
  readonly node: NodeId;
  readonly isMappable: boolean;
}

export class Holdings {
  readonly #operations: FileSystemOperations;
  readonly #logger: Logger;
  readonly #backing: BackingTable;
  readonly #handlesMax: number;
  readonly #limitReached: (limit: string) => void;
  readonly #nodes = new NodeTable();
  readonly #files = new Map<bigint, OpenFile>();
  /** Handles of each node through which a mapping can change pages that we have not been sent yet. */
  readonly #mappable = new Map<NodeId, number>();
  readonly #directories = new Map<bigint, NodeId>();
  #ended = false;

  constructor(options: HoldingsOptions) {
    this.#operations = options.operations;
    this.#logger = options.logger;
    this.#backing = options.backing;
    this.#handlesMax = options.handlesMax ?? HANDLES_MAX;
    this.#limitReached = options.limitReached;
  }

  /** Nodes, the root apart. */
  get nodes(): number {
    return this.#nodes.size;
  }

  get openHandles(): number {
    return this.#files.size + this.#directories.size;
  }

  get ended(): boolean {
    return this.#ended;
  }

  end(): void {
    this.#ended = true;
  }

  /** @throws ErrnoError ESTALE */
  requireNode(node: NodeId): NodeId {
    if (!this.#nodes.holds(node)) throw new ErrnoError(Errno.ESTALE, 'a node that the kernel does not hold');
    return node;
  }

  /** Counts one lookup that the kernel is about to be given. */
  holdNode(node: NodeId): void {
    this.#nodes.hold(node);
  }

  forget(node: NodeId, count: bigint): void {
    const held = this.#nodes.giveBack(node, count);
    if (held < count) this.#logger.warn({ node: String(node) }, 'the kernel forgot more than it held');
    if (held > 0n) this.#quietly('forget', () => this.#operations.forget(node, held));
  }

  hasFile(handle: bigint): boolean {
    return this.#files.has(handle);
  }

  /** @throws ErrnoError EBADF */
  file(handle: bigint): bigint {
    if (!this.#files.has(handle)) throw new ErrnoError(Errno.EBADF, 'unknown file handle');
    return handle;
  }

  /** @throws ErrnoError EBADF */
  directory(handle: bigint): bigint {
    if (!this.#directories.has(handle)) throw new ErrnoError(Errno.EBADF, 'unknown directory handle');
    return handle;
  }

  /** To be asked before the file system opens anything. @throws ErrnoError ENOMEM */
  requireRoom(): void {
    if (this.openHandles < this.#handlesMax) return;
    this.#limitReached('fuse_handles');
    throw new ErrnoError(Errno.ENOMEM, 'too many open handles');
  }

  /** @param open.flags of open(2) */
  openFile(node: NodeId, open: { readonly reply: OpenReply; readonly flags: number }): OpenAnswer {
    const { reply, flags } = open;
    invariant(!this.#files.has(reply.handle), 'a file system gives each open its own handle');
    const backingId = this.#backing.open(node, reply.backing?.fd);
    const isMappable = backingId === NO_BACKING && (flags & O_ACCMODE) === O_RDWR;
    this.#files.set(reply.handle, { node, isMappable });
    if (isMappable) this.#mappable.set(node, (this.#mappable.get(node) ?? 0) + 1);
    return { flags: openFlags(reply, backingId), backingId };
  }

  /** The kernel may have pages of it that a mapping changed, and that it has not sent us. */
  mayHaveUnsent(node: NodeId): boolean {
    return this.#mappable.has(node);
  }

  closeFile(handle: bigint): void {
    const file = this.#files.get(handle);
    if (file === undefined || this.#ended) return;
    this.#files.delete(handle);
    this.#backing.close(file.node);
    if (file.isMappable) this.#unmappable(file.node);
    this.#quietly('release', () => this.#operations.release(handle));
  }

  openDirectory(node: NodeId, reply: OpenReply): OpenAnswer {
    invariant(!this.#directories.has(reply.handle), 'a file system gives each open its own handle');
    this.#directories.set(reply.handle, node);
    const flags = reply.keepCache === true ? OpenFlag.CACHE_DIR | OpenFlag.KEEP_CACHE : 0;
    return { flags, backingId: NO_BACKING };
  }

  closeDirectory(handle: bigint): void {
    if (this.#directories.delete(handle))
      this.#quietly('releasedir', () => this.#operations.releaseDirectory(handle));
  }

  #unmappable(node: NodeId): void {
    const left = (this.#mappable.get(node) ?? 1) - 1;
    if (left > 0) this.#mappable.set(node, left);
    else this.#mappable.delete(node);
  }

  /** For operations that cannot fail: if one does, nobody is waiting for the error. */
  #quietly(op: string, run: () => void): void {
    if (this.#ended) return;
    try {
      run();
    } catch (error) {
      this.#logger.error({ op, error: describeError(error) }, 'operation failed');
    }
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
