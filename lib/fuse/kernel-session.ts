/**
 * One connection to the kernel: has its requests answered and sends the replies, until the mount ends.
 *
 * Requests are brought by the pump, one at a time; each lies in the memory of its reader, which is used again as soon as it
 * has been dispatched, unless that keeps it. A request is answered through the channel by which it came. INIT is dispatched
 * before the next request is read, and nothing else is dispatched before INIT is agreed.
 *
 * States: reading → (no request will come any more) → ended. Once ended nothing is sent and no operation is called;
 * requests that are still being worked on have their signals aborted.
 */
import { describeError } from '../base/errors.ts';
import type { Clock } from '../base/clock.ts';
import { FUSE_READ_BYTES_MAX } from '../base/limits.ts';
import type { Logger } from '../telemetry/log.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { BackingTable, type BackingRegistrar } from './backing.ts';
import { isBeingKilled, type RequestChannel } from './device.ts';
import { Errno, errnoName } from './errno.ts';
import { Holdings } from './holdings.ts';
import { Interruptions } from './interruptions.ts';
import { encodeAgreement, encodeRetry, negotiate, type Agreement } from './negotiation.ts';
import { Opcode, OPCODE_MAX, operationName } from './opcodes.ts';
import { ErrnoError, FuseError, type DriverConnection, type FileSystemOperations } from './operations.ts';
import { encodeHeader, OUT_HEADER_BYTES } from './reply-encoder.ts';
import { decodeHeader, decodeInit, decodeInterrupt, type RequestBytes } from './request-decoder.ts';
import { RequestPump } from './request-pump.ts';
import { RequestMemory, type RequestReader } from './request-reader.ts';
import { RequestRouter } from './request-router.ts';
import { Request, RequestTable } from './request.ts';
import type { LockOperations, WriteOperations } from './write-operations.ts';

/** Largest request: a write of `max_write` bytes with its headers. */
export const REQUEST_BYTES_MAX = FUSE_READ_BYTES_MAX + 4096;
/** Requests being answered at a time; at the limit no more are read until one is done. */
const REQUESTS_MAX = 4096;
/** Writes among them: each keeps the memory of a largest request. */
const WRITES_MAX = 256;
/** The kernel refuses error numbers from here on. */
const ERRNO_LIMIT = 512;

export type SessionEnd = { readonly reason: 'unmounted' | 'aborted'; readonly error?: unknown };

export interface SessionOptions {
  readonly operations: FileSystemOperations;
  /** Absent: see `DriverOptions`. */
  readonly writes?: WriteOperations | undefined;
  readonly locks?: LockOperations | undefined;
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly clock: Clock;
  readonly nextTurn: (run: () => void) => void;
  /** Called once INIT is answered, before any other request is read. */
  readonly connect: (agreement: Agreement) => {
    readonly connection: DriverConnection;
    readonly registrar: BackingRegistrar | undefined;
  };
}

export class KernelSession {
  /** Rejects if the kernel cannot be talked to. */
  readonly negotiated: Promise<Agreement>;
  readonly ended: Promise<SessionEnd>;
  readonly #options: SessionOptions;
  readonly #requests = new RequestTable();
  readonly #interruptions: Interruptions;
  readonly #pump: RequestPump;
  readonly #header = Buffer.alloc(OUT_HEADER_BYTES);
  readonly #headerView = new DataView(this.#header.buffer, this.#header.byteOffset, OUT_HEADER_BYTES);
  readonly #counters = new Map<number, { inc(): void }>();
  readonly #timers: { observe(seconds: number): void }[] = [];
  #router: RequestRouter | undefined;
  #holdings: Holdings | undefined;
  #closed = false;
  readonly #settle: {
    agreed: (agreement: Agreement) => void;
    failed: (error: unknown) => void;
    ended: (end: SessionEnd) => void;
  };

  constructor(options: SessionOptions) {
    this.#options = options;
    this.#interruptions = new Interruptions({
      clock: options.clock,
      isDying: isBeingKilled,
      isWaiting: (request) => this.#requests.has(request),
    });
    this.#pump = new RequestPump({
      memory: new RequestMemory(REQUEST_BYTES_MAX),
      clock: options.clock,
      nextTurn: options.nextTurn,
      take: (reader, received) => this.#take(reader, received),
      limit: () => this.#limit(),
      limitReached: (limit) => this.#limitReached(limit),
      ended: (error) => this.#readingEnded(error),
    });
    const negotiated = Promise.withResolvers<Agreement>();
    const ended = Promise.withResolvers<SessionEnd>();
    this.negotiated = negotiated.promise;
    this.ended = ended.promise;
    // Whoever waits for it sees the failure; nobody has to.
    this.negotiated.catch(() => undefined);
    this.#settle = { agreed: negotiated.resolve, failed: negotiated.reject, ended: ended.resolve };
  }

  /** Nodes that the kernel holds, the root apart. */
  get nodes(): number {
    return this.#holdings?.nodes ?? 0;
  }

  get openHandles(): number {
    return this.#holdings?.openHandles ?? 0;
  }

  /** Starts to read requests from a channel; closes it at the end. */
  read(channel: RequestChannel): void {
    this.#pump.park(channel);
  }

  /** A channel that never waits, from which requests in a row are taken; see `RequestPump`. */
  poll(channel: RequestChannel): void {
    this.#pump.poll(channel);
  }

  /** The limit that is reached, if one is. */
  #limit(): string | undefined {
    if (this.#requests.size >= REQUESTS_MAX) return 'fuse_requests';
    return this.#requests.writes >= WRITES_MAX ? 'fuse_writes' : undefined;
  }

  /** True: nothing is left to be answered. */
  #take(reader: RequestReader, received: number): boolean {
    try {
      return this.#dispatch(reader, received);
    } catch (error) {
      // Only requests without a reply get here: what wants one is answered with an errno.
      this.#options.logger.error({ error: describeError(error) }, 'a message from the kernel was dropped');
      return true;
    }
  }

  #dispatch(reader: RequestReader, received: number): boolean {
    const header = decodeHeader(reader.view, received);
    if (header === undefined) throw new ErrnoError(Errno.EPROTO, 'malformed header');
    reader.end = header.end;
    const { opcode } = header;
    if (opcode === Opcode.FORGET || opcode === Opcode.BATCH_FORGET) {
      this.#count(opcode, 0);
      this.#router?.forget(opcode, header.node, reader);
      return true;
    }
    if (opcode === Opcode.INTERRUPT) {
      this.#count(opcode, 0);
      const interrupted = this.#requests.interrupted(decodeInterrupt(reader));
      if (interrupted !== undefined) this.#interruptions.interrupt(interrupted);
      return true;
    }
    const request = new Request(header, reader.channel, this.#options.clock.nowMs());
    if (this.#requests.add(request)) this.#interruptions.interrupt(request);
    if (opcode === Opcode.INIT) this.#init(request, reader);
    else if (opcode === Opcode.DESTROY) this.#respond(request, 0);
    else if (this.#router === undefined) this.#respond(request, Errno.EIO);
    else this.#route(this.#router, request, reader);
    return !this.#requests.has(request);
  }

  #route(router: RequestRouter, request: Request, reader: RequestReader): void {
    try {
      const answered = router.route(request, reader);
      if (answered instanceof Promise) answered.catch((error: unknown) => this.#fail(request, error));
    } catch (error) {
      this.#fail(request, error);
    }
  }

  #init(request: Request, input: RequestBytes): void {
    try {
      if (this.#router !== undefined) throw new ErrnoError(Errno.EINVAL, 'INIT twice');
      const negotiation = negotiate(decodeInit(input), { locks: this.#options.locks !== undefined });
      if (negotiation.state === 'retry') {
        this.#respond(request, 0, encodeRetry());
      } else if (negotiation.state === 'too-old') {
        this.#respond(request, Errno.EPROTO);
        this.#settle.failed(
          new FuseError('kernel-too-old', "this kernel's FUSE protocol is too old", {
            hint: 'use Linux 5.10 or later, or mount with --driver portable',
          }),
        );
      } else {
        this.#agree(request, negotiation.agreement);
      }
    } catch (error) {
      this.#fail(request, error);
      this.#settle.failed(error);
    }
  }

  #agree(request: Request, agreement: Agreement): void {
    const { operations, writes, locks, logger, connect } = this.#options;
    if (!this.#respond(request, 0, encodeAgreement(agreement)))
      throw new FuseError('protocol', 'the kernel did not accept the answer to INIT');
    const { connection, registrar } = connect(agreement);
    operations.connected(connection);
    const holdings = new Holdings({
      operations,
      logger,
      backing: new BackingTable({ registrar, logger }),
      limitReached: (limit) => this.#limitReached(limit),
    });
    this.#holdings = holdings;
    this.#router = new RequestRouter({
      operations,
      writes,
      locks,
      holdings,
      respond: (answered, errno, body) => this.#respond(answered, errno, body),
      readBytesMax: agreement.readBytesMax,
    });
    this.#settle.agreed(agreement);
  }

  /** The only place that sends replies. False: the kernel no longer wants this one. */
  #respond(request: Request, errno: number, body?: Uint8Array): boolean {
    if (!this.#requests.remove(request) || this.#closed) return false;
    const sent = this.#send(request, errno, body);
    const answered = sent === Errno.EINVAL ? Errno.EIO : errno;
    this.#count(request.opcode, answered);
    this.#observe(request);
    this.#pump.resume();
    return sent === 0;
  }

  /** ENOENT: the request was given up meanwhile. Anything else is a reply that the kernel did not understand. */
  #send(request: Request, errno: number, body: Uint8Array | undefined): number {
    const content = errno === 0 && body !== undefined && body.length > 0 ? body : undefined;
    encodeHeader(this.#headerView, OUT_HEADER_BYTES + (content?.length ?? 0), {
      unique: request.unique,
      errno,
    });
    const failed = request.channel.send(this.#header, content);
    if (failed !== Errno.EINVAL) return failed;
    this.#options.logger.error(
      { op: operationName(request.opcode), errno, bytes: content?.length ?? 0 },
      'the kernel refused a reply',
    );
    encodeHeader(this.#headerView, OUT_HEADER_BYTES, { unique: request.unique, errno: Errno.EIO });
    request.channel.send(this.#header, undefined);
    return failed;
  }

  #fail(request: Request, error: unknown): void {
    this.#respond(request, this.#errnoOf(request, error));
  }

  #errnoOf(request: Request, error: unknown): number {
    if (error instanceof ErrnoError) {
      const { errno } = error;
      if (Number.isInteger(errno) && errno > 0 && errno < ERRNO_LIMIT) return errno;
    } else if (request.aborted) {
      return Errno.EINTR;
    }
    this.#options.logger.error(
      { op: operationName(request.opcode), node: String(request.node), error: describeError(error) },
      'operation failed',
    );
    return Errno.EIO;
  }

  #readingEnded(error: NodeJS.ErrnoException): void {
    this.#closed = true;
    this.#holdings?.end();
    this.#interruptions.close();
    this.#requests.abortAll('the mount has ended');
    this.#settle.failed(new FuseError('mount-failed', 'the mount ended before it answered'));
    try {
      if (this.#router !== undefined) this.#options.operations.disconnected();
    } catch (failure) {
      this.#options.logger.error({ error: describeError(failure) }, 'disconnected failed');
    }
    this.#pump.close();
    this.#settle.ended(error.code === 'ENODEV' ? { reason: 'unmounted' } : { reason: 'aborted', error });
  }

  #limitReached(limit: string): void {
    this.#options.metrics.limitReached.labels({ limit }).inc();
  }

  /** Label children are looked up once for each pair of operation and result. */
  #count(opcode: number, errno: number): void {
    const known = opcode <= OPCODE_MAX ? opcode : 0;
    const key = known * ERRNO_LIMIT + errno;
    let counter = this.#counters.get(key);
    if (counter === undefined) {
      const label = errno === 0 ? 'OK' : errnoName(errno);
      counter = this.#options.metrics.fuseRequests.labels({ op: operationName(known), errno: label });
      this.#counters.set(key, counter);
    }
    counter.inc();
  }

  #observe(request: Request): void {
    const known = request.opcode <= OPCODE_MAX ? request.opcode : 0;
    const timer = (this.#timers[known] ??= this.#options.metrics.fuseRequestSeconds.labels({
      op: operationName(known),
    }));
    timer.observe((this.#options.clock.nowMs() - request.startedMs) / 1000);
  }
}
