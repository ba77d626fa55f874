/**
 * Tells the kernel to ask again before it uses what it has cached.
 *
 * The notification of one entry may wait for a lock of the kernel that an unanswered request holds, so it is written by
 * a thread of the pool, and only one at a time, so that a stuck one costs one thread and never the answering of
 * requests. Those of attributes and of all entries (`INC_EPOCH`) take no lock: they are written at once by the calling
 * thread and overtake all others. What the kernel does not hold needs no notification.
 *
 * Entries are made to expire rather than removed: a working directory keeps its name, and kernels before 6.2, which do
 * not know that, remove them.
 */
import type { NodeId } from '../base/brand.ts';
import { NAME_BYTES_MAX } from '../base/limits.ts';
import type { RequestChannel } from './device.ts';
import { Errno } from './errno.ts';
import { Notification } from './opcodes.ts';
import { FuseError } from './operations.ts';
import { encodeHeader, OUT_HEADER_BYTES } from './reply-encoder.ts';

/** FUSE_EXPIRE_ONLY. */
const EXPIRE_ONLY = 1;
/** Notifications that wait behind one that is stuck. */
export const NOTIFICATIONS_MAX = 8192;

interface Waiting {
  readonly message: Uint8Array;
  readonly done: (error: NodeJS.ErrnoException | null) => void;
}

/** A message that answers no request: `unique` is 0 and the code stands where a reply has its error. */
function message(code: number, bodyBytes: number): { bytes: Buffer; view: DataView } {
  const bytes = Buffer.alloc(OUT_HEADER_BYTES + bodyBytes);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  encodeHeader(view, bytes.length, { unique: 0n, errno: -code });
  return { bytes, view };
}

/** `struct fuse_notify_inval_inode_out`: attributes, and pages from `offset` to the end, or none if it is negative. */
export function encodeInvalidateNode(node: NodeId, offset: -1n | 0n): Uint8Array {
  const { bytes, view } = message(Notification.INVAL_INODE, 24);
  view.setBigUint64(OUT_HEADER_BYTES, node, true);
  view.setBigInt64(OUT_HEADER_BYTES + 8, offset, true);
  return bytes;
}

/** `struct fuse_notify_inval_entry_out`, the name and a NUL. */
export function encodeInvalidateEntry(parent: NodeId, name: Uint8Array): Uint8Array {
  const { bytes, view } = message(Notification.INVAL_ENTRY, 16 + name.length + 1);
  view.setBigUint64(OUT_HEADER_BYTES, parent, true);
  view.setUint32(OUT_HEADER_BYTES + 8, name.length, true);
  view.setUint32(OUT_HEADER_BYTES + 12, EXPIRE_ONLY, true);
  bytes.set(name, OUT_HEADER_BYTES + 16);
  return bytes;
}

export class KernelNotify {
  readonly #channel: RequestChannel;
  readonly #limitReached: (limit: string) => void;
  readonly #waiting: Waiting[] = [];
  #busy = false;
  #ended = false;

  constructor(options: { readonly channel: RequestChannel; readonly limitReached: (limit: string) => void }) {
    this.#channel = options.channel;
    this.#limitReached = options.limitReached;
  }

  /** Written at once by the calling thread. False: the kernel refused. */
  invalidateAttributes(node: NodeId): boolean {
    return this.#write(encodeInvalidateNode(node, -1n));
  }

  /** As `invalidateAttributes`; the pages of a directory are locked only while a reply is copied. */
  invalidateListing(node: NodeId): boolean {
    return this.#write(encodeInvalidateNode(node, 0n));
  }

  /** @throws FuseError `notification` */
  invalidateEntry(parent: NodeId, name: Uint8Array): Promise<void> {
    if (name.length === 0 || name.length > NAME_BYTES_MAX)
      return Promise.reject(new FuseError('notification', 'not a name'));
    return this.#enqueue(encodeInvalidateEntry(parent, name));
  }

  /** Written at once by the calling thread. False: the kernel refused, as those do that do not know `INC_EPOCH`. */
  invalidateAllEntries(): boolean {
    return this.#write(message(Notification.INC_EPOCH, 0).bytes);
  }

  /** The mount is gone, and with it all that was cached. */
  end(): void {
    this.#ended = true;
    for (const { done } of this.#waiting.splice(0)) done(null);
  }

  #write(bytes: Uint8Array): boolean {
    if (this.#ended) return true;
    const failed = this.#channel.send(bytes, undefined);
    return failed === 0 || isGone(failed);
  }

  #enqueue(bytes: Uint8Array): Promise<void> {
    if (this.#ended) return Promise.resolve();
    if (this.#waiting.length >= NOTIFICATIONS_MAX) {
      this.#limitReached('fuse_notifications');
      return Promise.reject(new FuseError('notification', 'too many notifications wait for the kernel'));
    }
    return new Promise((resolve, reject) => {
      const done = (error: NodeJS.ErrnoException | null): void => {
        if (error === null || isGone(-(error.errno ?? 0))) resolve();
        else reject(new FuseError('notification', 'the kernel refused a notification', { cause: error }));
      };
      this.#waiting.push({ message: bytes, done });
      this.#next();
    });
  }

  #next(): void {
    if (this.#busy || this.#ended) return;
    const first = this.#waiting.shift();
    if (first === undefined) return;
    this.#busy = true;
    this.#channel.notify(first.message, (error) => {
      this.#busy = false;
      first.done(error);
      this.#next();
    });
  }
}

/** Nothing is cached under that name or node, or there is no mount any more. */
function isGone(errno: number): boolean {
  return errno === Errno.ENOENT || errno === Errno.ENODEV || errno === Errno.ENOTCONN;
}
