/** The kernel's side of a connection, without a kernel: a session reads what a test sends and its replies are kept. */
import { nextTurn, systemClock } from '../../lib/base/clock.ts';
import type { ReceiveCallback, RequestChannel } from '../../lib/fuse/device.ts';
import { KernelSession } from '../../lib/fuse/kernel-session.ts';
import { Opcode } from '../../lib/fuse/opcodes.ts';
import type { DriverConnection, FileSystemOperations } from '../../lib/fuse/operations.ts';
import type { BackingRegistrar } from '../../lib/fuse/backing.ts';
import type { LockOperations, WriteOperations } from '../../lib/fuse/write-operations.ts';
import { createLogger, type Logger } from '../../lib/telemetry/log.ts';
import { createMetrics } from '../../lib/telemetry/metrics.ts';

export interface Reply {
  readonly unique: bigint;
  /** Positive; 0 for success. */
  readonly errno: number;
  readonly body: Buffer;
}

export interface RequestFields {
  readonly opcode: number;
  readonly unique?: bigint;
  readonly node?: bigint;
  readonly body?: Uint8Array;
}

/** One request as the kernel writes it. */
export function encodeRequest(fields: RequestFields): Buffer {
  const body = fields.body ?? Buffer.alloc(0);
  const bytes = Buffer.alloc(40 + body.length);
  bytes.writeUInt32LE(bytes.length, 0);
  bytes.writeUInt32LE(fields.opcode, 4);
  bytes.writeBigUInt64LE(fields.unique ?? 0n, 8);
  bytes.writeBigUInt64LE(fields.node ?? 1n, 16);
  bytes.writeUInt32LE(1000, 24);
  bytes.writeUInt32LE(1001, 28);
  bytes.writeUInt32LE(1002, 32);
  bytes.set(body, 40);
  return bytes;
}

export function initBody(
  fields: { major?: number; minor?: number; flags?: bigint; bytes?: number } = {},
): Buffer {
  const body = Buffer.alloc(64);
  const flags = fields.flags ?? 0xffff_ffff_ffff_ffffn;
  body.writeUInt32LE(fields.major ?? 7, 0);
  body.writeUInt32LE(fields.minor ?? 45, 4);
  body.writeUInt32LE(131_072, 8);
  body.writeUInt32LE(Number(flags & 0xffff_ffffn), 12);
  body.writeUInt32LE(Number(flags >> 32n), 16);
  return body.subarray(0, fields.bytes ?? 64);
}

export const name = (text: string): Buffer => Buffer.from(`${text}\0`);

export function words(...values: (number | bigint)[]): Buffer {
  return Buffer.concat(
    values.map((value) => {
      const bytes = Buffer.alloc(typeof value === 'bigint' ? 8 : 4);
      if (typeof value === 'bigint') bytes.writeBigUInt64LE(BigInt.asUintN(64, value));
      else bytes.writeUInt32LE(value >>> 0);
      return bytes;
    }),
  );
}

export const readBody = (handle: bigint, offset: bigint, length: number): Buffer =>
  words(handle, offset, length, 0, 0n, 0, 0);

export class FakeChannel implements RequestChannel {
  readonly replies: Reply[] = [];
  readonly notifications: { readonly message: Uint8Array; readonly done: (error: Error | null) => void }[] =
    [];
  readonly sent: Uint8Array[] = [];
  closed = false;
  /** Errno that the next message is refused with. */
  refuse = 0;
  #waiting: { into: Buffer; done: ReceiveCallback } | undefined;

  get reading(): boolean {
    return this.#waiting !== undefined;
  }

  receive(into: Buffer, done: ReceiveCallback): void {
    this.#waiting = { into, done };
  }

  tryReceive(): number {
    return 0;
  }

  send(header: Uint8Array, body: Uint8Array | undefined): number {
    const refused = this.refuse;
    this.refuse = 0;
    if (refused !== 0) return refused;
    const head = Buffer.from(header);
    this.sent.push(Buffer.concat([head, body ?? Buffer.alloc(0)]));
    this.replies.push({
      unique: head.readBigUInt64LE(8),
      errno: -head.readInt32LE(4),
      body: Buffer.from(body ?? Buffer.alloc(0)),
    });
    return 0;
  }

  notify(message: Uint8Array, done: (error: NodeJS.ErrnoException | null) => void): void {
    this.notifications.push({ message, done: done });
  }

  close(): void {
    this.closed = true;
  }

  /** Hands bytes to the session, as a read(2) that returns. */
  deliver(bytes: Uint8Array): void {
    const waiting = this.#waiting;
    if (waiting === undefined) throw new Error('the session is not reading');
    this.#waiting = undefined;
    waiting.into.set(bytes);
    waiting.done(null, bytes.length);
  }

  fail(code: string): void {
    const waiting = this.#waiting;
    this.#waiting = undefined;
    waiting?.done(Object.assign(new Error(code), { code }), 0);
  }
}

/** A session over a fake channel. */
export class FakeKernel {
  readonly channel = new FakeChannel();
  readonly metrics = createMetrics();
  readonly session: KernelSession;
  readonly log: string[] = [];
  #nextUnique = 2n;

  constructor(
    operations: FileSystemOperations,
    options: {
      readonly registrar?: BackingRegistrar;
      readonly connection?: DriverConnection;
      readonly writes?: WriteOperations | undefined;
      readonly locks?: LockOperations | undefined;
    } = {},
  ) {
    const logger = createLogger({ level: 'silent' });
    const record = (_fields: unknown, text: string): void => void this.log.push(text);
    this.session = new KernelSession({
      operations,
      writes: options.writes,
      locks: options.locks,
      metrics: this.metrics,
      clock: systemClock,
      nextTurn,
      logger: Object.assign(Object.create(logger) as Logger, { error: record, warn: record }),
      connect: (agreement) => ({
        registrar: options.registrar,
        connection: options.connection ?? {
          abilities: {
            passthrough: options.registrar !== undefined,
            readBytesMax: agreement.readBytesMax,
            notifications: 'all',
          },
          invalidateAttributes: () => true,
          invalidateListing: () => true,
          invalidateEntry: () => Promise.resolve(),
          invalidateAllEntries: () => true,
        },
      }),
    });
    this.session.read(this.channel);
  }

  /** Sends a request and leaves it at that. */
  post(fields: RequestFields): bigint {
    const unique = fields.unique ?? this.#nextUnique;
    this.#nextUnique += 2n;
    this.channel.deliver(encodeRequest({ ...fields, unique }));
    return unique;
  }

  replyTo(unique: bigint): Reply | undefined {
    return this.channel.replies.find((reply) => reply.unique === unique);
  }

  /** Sends a request and waits for its reply: a file system in memory answers within a few turns. */
  async ask(fields: RequestFields): Promise<Reply> {
    const unique = this.post(fields);
    for (let turns = 0; turns < 100; turns++) {
      const reply = this.replyTo(unique);
      if (reply !== undefined) return reply;
      await new Promise(setImmediate);
    }
    throw new Error(`no reply to opcode ${fields.opcode}`);
  }

  async init(fields?: Parameters<typeof initBody>[0]): Promise<Reply> {
    return this.ask({ opcode: Opcode.INIT, node: 0n, body: initBody(fields) });
  }

  async lookup(path: string, parent = 1n): Promise<bigint> {
    const reply = await this.ask({ opcode: Opcode.LOOKUP, node: parent, body: name(path) });
    if (reply.errno !== 0) throw new Error(`lookup of ${path}: ${reply.errno}`);
    return reply.body.readBigUInt64LE(0);
  }

  async open(node: bigint): Promise<{ handle: bigint; flags: number; backingId: number }> {
    const { body } = await this.ask({ opcode: Opcode.OPEN, node, body: words(0, 0) });
    return { handle: body.readBigUInt64LE(0), flags: body.readUInt32LE(8), backingId: body.readInt32LE(12) };
  }
}
