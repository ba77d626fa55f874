/**
 * Turns the requests that are about locks into operations, and sees to it that locks end with what they belong to.
 *
 * fcntl locks of a process end when it closes any descriptor of the file, which FLUSH tells; of a handle that the kernel
 * does not flush, they end with the handle. A flock ends with its open file, which RELEASE tells.
 */
import type { NodeId } from '../base/brand.ts';
import { Errno } from './errno.ts';
import type { Holdings } from './holdings.ts';
import { Opcode } from './opcodes.ts';
import { ErrnoError } from './operations.ts';
import type { ReplyScratch } from './reply-encoder.ts';
import type { RequestBytes } from './request-decoder.ts';
import type { Request } from './request.ts';
import { decodeLock } from './write-decoder.ts';
import { LOCK_TO_END, type LockOperations } from './write-operations.ts';
import type { Respond } from './write-router.ts';

const WHOLE_FILE = { start: 0n, end: LOCK_TO_END } as const;

export interface LockRouterOptions {
  readonly locks: LockOperations;
  readonly holdings: Holdings;
  readonly respond: Respond;
  readonly scratch: ReplyScratch;
}

export class LockRouter {
  readonly #locks: LockOperations;
  readonly #holdings: Holdings;
  readonly #respond: Respond;
  readonly #scratch: ReplyScratch;
  /** Processes that took fcntl locks through a handle. */
  readonly #owners = new Map<bigint, Set<bigint>>();

  constructor(options: LockRouterOptions) {
    this.#locks = options.locks;
    this.#holdings = options.holdings;
    this.#respond = options.respond;
    this.#scratch = options.scratch;
  }

  /** Undefined: not a request that is answered here. */
  route(request: Request, input: RequestBytes): Promise<void> | undefined {
    switch (request.opcode) {
      case Opcode.GETLK:
        return this.#test(request, input);
      case Opcode.SETLK:
      case Opcode.SETLKW:
        return this.#set(request, input);
      default:
        return undefined;
    }
  }

  /** After FLUSH of a handle has been answered by the file system, or has failed. */
  flushed(node: NodeId, owner: bigint): void {
    this.#giveBackAll(node, 'posix', owner);
  }

  /** After RELEASE. `flockOwner` if the open file ever had a flock. */
  released(node: NodeId, handle: bigint, options: { readonly flockOwner: bigint | undefined }): void {
    const { flockOwner } = options;
    if (flockOwner !== undefined) this.#giveBackAll(node, 'flock', flockOwner);
    for (const owner of this.#owners.get(handle) ?? []) this.#giveBackAll(node, 'posix', owner);
    this.#owners.delete(handle);
  }

  async #test(request: Request, input: RequestBytes): Promise<void> {
    const { handle, kind, ...lock } = decodeLock(input);
    this.#holdings.file(handle);
    if (kind === 'none') throw new ErrnoError(Errno.EINVAL, 'a test for no lock');
    const held = await this.#locks.test(request.node, { ...lock, kind }, request);
    this.#respond(request, 0, this.#scratch.lock(held));
  }

  async #set(request: Request, input: RequestBytes): Promise<void> {
    const { handle, kind, ...lock } = decodeLock(input);
    this.#holdings.file(handle);
    if (kind === 'none') {
      this.#locks.giveBack(request.node, lock);
    } else {
      if (lock.family === 'posix') this.#remember(handle, lock.owner);
      const wait = request.opcode === Opcode.SETLKW;
      await this.#locks.take(request.node, { ...lock, kind, wait }, request);
    }
    this.#respond(request, 0);
  }

  #remember(handle: bigint, owner: bigint): void {
    const owners = this.#owners.get(handle);
    if (owners === undefined) this.#owners.set(handle, new Set([owner]));
    else owners.add(owner);
  }

  #giveBackAll(node: NodeId, family: 'posix' | 'flock', owner: bigint): void {
    if (!this.#holdings.ended) this.#locks.giveBack(node, { ...WHOLE_FILE, family, owner });
  }
}
