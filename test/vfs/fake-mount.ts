/**
 * A file system over the fakes, called as a driver would call it. It stands in for the kernel where that matters: it
 * walks paths, keeps lookup counts, and refuses (as the kernel does, with EIO) to mix I/O modes of one node.
 */
import type { WriteMode } from '../../cache/working-copy.ts';
import { ROOT_NODE, type NodeId } from '../../lib/base/brand.ts';
import { systemClock, type Clock } from '../../lib/base/clock.ts';
import { Errno } from '../../lib/fuse/errno.ts';
import {
  ErrnoError,
  type DirectoryRecord,
  type EntryReply,
  type OpenReply,
  type RequestContext,
} from '../../lib/fuse/operations.ts';
import { createStreamObserver } from '../../lib/prefetch/stream-observer.ts';
import { createLogger } from '../../lib/telemetry/log.ts';
import { createMetrics } from '../../lib/telemetry/metrics.ts';
import { createVfs, type Vfs } from '../../lib/vfs/vfs.ts';
import { FakeChanges } from './fake-changes.ts';
import { FakeCache } from './fake-cache.ts';
import { FakeNamespace } from './fake-namespace.ts';
import { FakeWriteBack } from './fake-write-back.ts';

export interface OpenFd {
  readonly node: NodeId;
  readonly handle: bigint;
  readonly fd: number | undefined;
}

export class FakeMount {
  readonly namespace = new FakeNamespace();
  readonly metrics = createMetrics();
  readonly cache: FakeCache;
  readonly changes = new FakeChanges(this.namespace);
  readonly writeBack = new FakeWriteBack(this.changes);
  readonly vfs: Vfs;
  /** What the kernel was told to forget, in order. */
  readonly notified: string[] = [];
  /** What the notification of an entry waits for. */
  lock: Promise<void> = Promise.resolve();
  /** What is to be called once the replies of this turn are written. */
  readonly turns: (() => void)[] = [];
  /** Lookups that this kernel holds. */
  readonly held = new Map<NodeId, number>();
  readonly #open = new Map<NodeId, OpenFd[]>();

  constructor(
    options: {
      readonly passthrough?: boolean;
      readonly wholeOnOpenBytes?: number;
      readonly blockBytes?: number;
      readonly clock?: Clock;
      readonly notifications?: 'none' | 'entries' | 'all';
      /** It can be written to. */
      readonly writeMode?: WriteMode;
    } = {},
  ) {
    const { passthrough = true, wholeOnOpenBytes = 4096, blockBytes = 1024 } = options;
    const { clock = systemClock, notifications = 'all', writeMode } = options;
    this.cache = new FakeCache({ bytesOf: (version) => this.namespace.bytesOf(version), blockBytes });
    this.vfs = createVfs({
      namespace: this.namespace,
      cache: this.cache,
      observer: createStreamObserver({ clock }),
      clock,
      leaseClock: clock,
      nextTurn: (run) => this.turns.push(run),
      namesDeadlineMs: 15_000,
      logger: createLogger({ level: 'silent' }),
      metrics: this.metrics,
      wholeOnOpenBytes,
      ...(writeMode && {
        writing: { changes: this.changes, writeBack: this.writeBack, mode: writeMode },
      }),
    });
    this.vfs.connected({
      abilities: { passthrough, readBytesMax: 1024 * 1024, notifications },
      invalidateAttributes: (node) => {
        this.notified.push(`attributes ${node}`);
        return true;
      },
      invalidateListing: (node) => {
        this.notified.push(`listing ${node}`);
        return true;
      },
      invalidateEntry: (parent, name) => {
        this.notified.push(`entry ${parent} ${Buffer.from(name).toString()}`);
        return this.lock;
      },
      invalidateAllEntries: () => {
        this.notified.push('all');
        return true;
      },
    });
  }

  context(signal: AbortSignal = new AbortController().signal): RequestContext {
    return { uid: 1000, gid: 1000, pid: 1, signal };
  }

  async lookup(parent: NodeId, name: string): Promise<EntryReply> {
    const entry = await this.vfs.lookup(parent, Buffer.from(name), this.context());
    if (entry.node !== 0n) this.took(entry.node);
    return entry;
  }

  /** Counts a lookup that a reply carried. */
  took(node: NodeId): void {
    this.held.set(node, (this.held.get(node) ?? 0) + 1);
  }

  forget(node: NodeId): void {
    const count = this.held.get(node) ?? 0;
    this.held.delete(node);
    if (count > 0) this.vfs.forget(node, BigInt(count));
  }

  async walk(path: string): Promise<EntryReply> {
    let entry: EntryReply | undefined;
    for (const name of path.split('/')) {
      entry = await this.lookup(entry?.node ?? ROOT_NODE, name);
      if (entry.node === 0n) throw new ErrnoError(Errno.ENOENT, path);
    }
    return entry as EntryReply;
  }

  /** As open(2): walks again once on ESTALE. */
  async open(path: string, signal?: AbortSignal): Promise<OpenFd> {
    const first = await this.walk(path);
    try {
      return await this.openNode(first.node, signal);
    } catch (error) {
      if (!(error instanceof ErrnoError) || error.errno !== Errno.ESTALE) throw error;
      return this.openNode((await this.walk(path)).node, signal);
    }
  }

  async openNode(node: NodeId, signal?: AbortSignal): Promise<OpenFd> {
    const reply: OpenReply = await this.vfs.open(node, 0, this.context(signal));
    const others = this.#open.get(node) ?? [];
    const file: OpenFd = { node, handle: reply.handle, fd: reply.backing?.fd };
    for (const other of others) {
      if (other.fd !== file.fd) throw new ErrnoError(Errno.EIO, `modes mixed on node ${node}`);
    }
    this.#open.set(node, [...others, file]);
    return file;
  }

  async read(file: OpenFd, offset: number, length: number, signal?: AbortSignal): Promise<string> {
    const bytes = await this.vfs.read(file.handle, { offset, length }, this.context(signal));
    return Buffer.from(bytes).toString('utf8');
  }

  release(file: OpenFd): void {
    this.#open.set(
      file.node,
      (this.#open.get(file.node) ?? []).filter((other) => other !== file),
    );
    this.vfs.release(file.handle);
  }

  openFds(): OpenFd[] {
    return [...this.#open.values()].flat();
  }

  /** The whole directory through a new handle. */
  async list(node: NodeId, perCall = 100): Promise<DirectoryRecord[]> {
    const { handle } = await this.vfs.openDirectory(node, this.context());
    const records = await this.readAll(handle, perCall);
    this.vfs.releaseDirectory(handle);
    return records;
  }

  /** From an offset to the end, `perCall` records a call. */
  async readAll(handle: bigint, perCall: number, from = 0n): Promise<DirectoryRecord[]> {
    const records: DirectoryRecord[] = [];
    for (let offset = from; ;) {
      const part = await this.readSome(handle, offset, perCall);
      if (part.length === 0) return records;
      records.push(...part);
      offset = (part.at(-1) as DirectoryRecord).nextOffset;
    }
  }

  async readSome(handle: bigint, offset: bigint, max: number): Promise<DirectoryRecord[]> {
    const part: DirectoryRecord[] = [];
    const sink = (record: DirectoryRecord): boolean => {
      if (part.length === max) return false;
      part.push(record);
      return true;
    };
    await this.vfs.readDirectory(handle, offset, sink, this.context());
    return part;
  }
}

export function nameOf(record: { readonly name: Uint8Array }): string {
  return Buffer.from(record.name).toString('utf8');
}

/** For `t.rejects`: what fails with this errno. */
export function withErrno(errno: number): Error {
  return { errno } as unknown as Error;
}
