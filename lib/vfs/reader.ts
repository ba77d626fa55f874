/**
 * Answers reads that come to us, and reads ahead of them.
 *
 * A read goes to the cache first, so that a reader's own miss is never behind its read-ahead; then the observer is told,
 * and what it advises is filled without waiting. Read-ahead belongs to the node: it ends when the node's last handle is
 * closed. A version whose object was moved meanwhile is read from its new place. Bounded: `READAHEAD_BYTES_MAX` under way in the whole mount, beyond which advice is dropped and counted (the
 * reads then fetch for themselves).
 *
 * Invariant: a read answers with exactly the bytes of its range that lie inside the version, or fails.
 */
import type { BlockCache, CacheHandle, OpenVersion } from '../../cache/block-cache.ts';
import type { Clock } from '../base/clock.ts';
import { describeError } from '../base/errors.ts';
import { MIB } from '../base/limits.ts';
import type { RequestContext } from '../fuse/operations.ts';
import type { AccessObserver } from '../prefetch/access-observer.ts';
import type { Logger } from '../telemetry/log.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { TierError, type VersionSource } from '../tiers/tier.ts';
import { bounded, READ_DEADLINE_MS } from './bounded.ts';
import { FileCompleter } from './file-completer.ts';
import { pathOf, type Node } from './node-table.ts';
import type { StaleReports } from './stale-reports.ts';
import { VfsError } from './vfs-error.ts';

/** Read-ahead under way in the whole mount: twice what its readers share once there are many. */
const READAHEAD_BYTES_MAX = 1024 * MIB;

const NOTHING = new Uint8Array(0);

export interface ByteRange {
  readonly offset: number;
  readonly length: number;
}

export interface ReadRange extends ByteRange {
  /** Where the answer may lie; written to no more once the read has succeeded. */
  readonly into?: Uint8Array;
}

/** A node's file with the hold that serves it. */
export interface OpenFile {
  readonly node: Node;
  readonly cached: CacheHandle;
}

export interface ReaderOptions {
  readonly cache: BlockCache;
  readonly observer: AccessObserver;
  readonly reports: StaleReports;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: Metrics;
}

export class Reader {
  readonly #options: ReaderOptions;
  readonly #completer: FileCompleter;
  /** Ends the read-ahead of a node. */
  readonly #readahead = new Map<Node, AbortController>();
  #readaheadBytes = 0;
  #servedBytes = 0;

  constructor(options: ReaderOptions) {
    this.#options = options;
    this.#completer = new FileCompleter(options);
  }

  get servedBytes(): number {
    return this.#servedBytes;
  }

  async read(file: OpenFile, range: ReadRange, context: RequestContext): Promise<Uint8Array> {
    const { cached } = file;
    const { source } = cached;
    const length = Math.min(range.length, source.sizeBytes - range.offset);
    if (length <= 0) return NOTHING;
    const read = await this.#whereItLies(file, () => {
      const bytes = bounded(
        this.#options.clock,
        { signal: context.signal, deadlineMs: READ_DEADLINE_MS },
        (signal) => cached.read(range.offset, length, { signal, into: range.into }),
      );
      this.#observe(file, { offset: range.offset, length });
      return bytes;
    });
    if (read.length !== length) {
      throw new VfsError(
        'short-read',
        `the cache answered ${read.length} of ${length} bytes at ${range.offset} of version ${source.version}`,
      );
    }
    this.#servedBytes += length;
    return read;
  }

  /** The whole file, waited for, before an open is answered. */
  fetchWhole(file: OpenFile, context: RequestContext): Promise<void> {
    const { cached } = file;
    return this.#whereItLies(file, () =>
      bounded(this.#options.clock, { signal: context.signal, deadlineMs: READ_DEADLINE_MS }, (signal) =>
        cached.fill(0, cached.source.sizeBytes, { priority: 'demand', signal }),
      ),
    );
  }

  /** The node's last handle is closed. */
  closed(node: Node): void {
    const controller = this.#readahead.get(node);
    if (controller === undefined) return;
    this.#readahead.delete(node);
    controller.abort();
    if (node.version === undefined) return;
    this.#options.observer.closed(node.version);
    this.#completer.readerLeft(node.version);
  }

  close(): void {
    for (const node of [...this.#readahead.keys()]) this.closed(node);
    this.#completer.close();
  }

  #observe(file: OpenFile, range: ByteRange): void {
    const { node, cached } = file;
    const { version, sizeBytes } = cached.source;
    if (cached.cachedBytes >= sizeBytes) return;
    let controller = this.#readahead.get(node);
    if (controller === undefined) {
      controller = new AbortController();
      this.#readahead.set(node, controller);
    }
    for (const advice of this.#options.observer.read({ version, sizeBytes, ...range })) {
      if (advice.kind === 'fill') void this.#fillAhead(cached, advice, controller.signal);
      else this.#completer.complete(openVersionOf(node, cached.source), advice.offset);
    }
  }

  async #fillAhead(cached: CacheHandle, range: ByteRange, signal: AbortSignal): Promise<void> {
    if (this.#readaheadBytes + range.length > READAHEAD_BYTES_MAX) {
      this.#options.metrics.limitReached.inc({ limit: 'readahead_bytes' });
      return;
    }
    this.#readaheadBytes += range.length;
    try {
      await cached.fill(range.offset, range.length, { priority: 'readahead', signal });
    } catch (error) {
      // The reader that comes here will ask for these bytes itself, and see why they cannot be had.
      if (signal.aborted) return;
      const { version } = cached.source;
      this.#options.logger.debug({ version, cause: describeError(error) }, 'a read-ahead failed');
    } finally {
      this.#readaheadBytes -= range.length;
    }
  }

  /** Once more if the version has only been moved; a version that is gone is reported. */
  async #whereItLies<T>({ node, cached }: OpenFile, run: () => Promise<T>): Promise<T> {
    const { source } = cached;
    try {
      return await run();
    } catch (error) {
      if (!(error instanceof TierError) || error.code !== 'stale') throw error;
      const moved = await this.#options.reports.report(node, source);
      if (moved === undefined) throw error;
      // The cache learns the place when it is told of the version.
      this.#options.cache.open(openVersionOf(node, moved)).close();
      return run();
    }
  }
}

/** What the cache is told about a node's version. */
export function openVersionOf(node: Node, source: VersionSource): OpenVersion {
  return { source, inode: node.inode, path: pathOf(node) };
}
