/**
 * One request of the kernel while it is being answered, and the table of them.
 *
 * INTERRUPT may be read before the request that it is about, by another reader: such early ones are remembered, the oldest
 * forgotten first. What comes of it is decided by `interruptions.ts`. A signal is made only for those who ask.
 */
import type { NodeId } from '../base/brand.ts';
import type { RequestChannel } from './device.ts';
import { Errno } from './errno.ts';
import { Opcode } from './opcodes.ts';
import { ErrnoError, type RequestContext } from './operations.ts';
import type { RequestHeader } from './request-decoder.ts';

/** INTERRUPTs remembered for requests that have not been seen. Most are for requests answered a moment ago. */
const EARLY_INTERRUPTS_MAX = 256;

export class Request implements RequestContext {
  readonly unique: bigint;
  readonly opcode: number;
  readonly node: NodeId;
  readonly uid: number;
  readonly gid: number;
  readonly pid: number;
  readonly channel: RequestChannel;
  readonly startedMs: number;
  #controller: AbortController | undefined;
  #aborted: ErrnoError | undefined;

  constructor(header: RequestHeader, channel: RequestChannel, startedMs: number) {
    this.unique = header.unique;
    this.opcode = header.opcode;
    this.node = header.node;
    this.uid = header.uid;
    this.gid = header.gid;
    this.pid = header.pid;
    this.channel = channel;
    this.startedMs = startedMs;
  }

  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.#aborted !== undefined) this.#controller.abort(this.#aborted);
    }
    return this.#controller.signal;
  }

  get aborted(): boolean {
    return this.#aborted !== undefined;
  }

  abort(message: string): void {
    this.#aborted ??= new ErrnoError(Errno.EINTR, message);
    this.#controller?.abort(this.#aborted);
  }
}

/** The requests that wait for an answer. */
export class RequestTable {
  readonly #live = new Map<bigint, Request>();
  #writes = 0;
  readonly #early = new Set<bigint>();

  get size(): number {
    return this.#live.size;
  }

  /** WRITEs among them. */
  get writes(): number {
    return this.#writes;
  }

  has(request: Request): boolean {
    return this.#live.has(request.unique);
  }

  /** True: it was interrupted already. */
  add(request: Request): boolean {
    this.#live.set(request.unique, request);
    if (request.opcode === Opcode.WRITE) this.#writes++;
    return this.#early.size > 0 && this.#early.delete(request.unique);
  }

  /** False: it was not there, so it has been answered. */
  remove(request: Request): boolean {
    const wasLive = this.#live.delete(request.unique);
    if (wasLive && request.opcode === Opcode.WRITE) this.#writes--;
    return wasLive;
  }

  /** The request that an INTERRUPT is about; undefined: it was not seen yet, or is answered. */
  interrupted(unique: bigint): Request | undefined {
    const request = this.#live.get(unique);
    if (request !== undefined) return request;
    this.#early.add(unique);
    if (this.#early.size > EARLY_INTERRUPTS_MAX) {
      const [oldest] = this.#early;
      if (oldest !== undefined) this.#early.delete(oldest);
    }
    return undefined;
  }

  abortAll(message: string): void {
    for (const request of this.#live.values()) request.abort(message);
  }
}
