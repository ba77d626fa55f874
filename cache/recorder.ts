/**
 * Tells the catalog what happened to blobs, in groups and later.
 *
 * Two promises: a row says `complete` only after the blob's bytes are on the device; and a row never names a
 * block as present before the block is in the file (of this host, if not yet of the device). A crash forgets at
 * most the changes of one interval.
 */
import type { Clock } from '../lib/base/clock.ts';
import { describeError } from '../lib/base/errors.ts';
import type { Logger } from '../lib/telemetry/log.ts';
import { type Blob, type BlobState, nextBlobState } from './blob.ts';
import { rowOf, usageRow } from './blob-row.ts';
import type { Catalog } from './catalog.ts';
import type { Disk, WholeSync } from './disk.ts';
import type { EvictionPolicy } from './eviction-policy.ts';
import { blobPath, type CachePaths } from './format.ts';
import {
  CLOSE_SYNC_MS,
  CLOSE_SYNCS_MAX,
  COMMIT_BLOBS_MAX,
  COMMIT_INTERVAL_MS,
  SYNC_DELAY_MS,
  SYNC_WHOLE_BLOBS_MIN,
  SYNCS_MAX,
  USAGE_COMMIT_INTERVAL_MS,
} from './limits.ts';

export interface RecorderOptions {
  readonly catalog: Catalog;
  readonly disk: Disk;
  readonly paths: CachePaths;
  readonly policy: EvictionPolicy;
  readonly clock: Clock;
  readonly logger: Logger;
  /** The catalog has the blob's latest state. */
  readonly onRecorded: (blob: Blob) => void;
  /** The disk refused to commit. */
  readonly onFailure: (error: unknown) => void;
  /** The disk refused to sync: what it has of this blob is unknown from now on. */
  readonly onUnsynced: (blob: Blob, error: unknown) => void;
}

export class Recorder {
  readonly #options: RecorderOptions;
  readonly #changed = new Set<Blob>();
  readonly #removed = new Set<string>();
  readonly #used = new Set<string>();
  readonly #durable = new Set<Blob>();
  /** Complete blobs whose bytes may not be on the device yet, oldest first. */
  readonly #unsynced = new Map<Blob, { readonly sinceMs: number }>();
  readonly #stop: () => void;
  readonly #syncs = new Set<Promise<void>>();
  readonly #whole: WholeSync | undefined;
  #syncingWhole = false;
  #usageAtMs: number;
  #closing = false;

  constructor(options: RecorderOptions) {
    this.#options = options;
    this.#usageAtMs = options.clock.nowMs();
    this.#whole = options.disk.whole(options.paths.blobs);
    this.#stop = options.clock.every(COMMIT_INTERVAL_MS, () => this.#tick());
  }

  /** Blocks, pin or state changed; the body stays in memory until it is recorded. */
  changed(blob: Blob): void {
    blob.unrecorded = true;
    this.#changed.add(blob);
  }

  used(blob: Blob): void {
    this.#used.add(blob.version);
  }

  completed(blob: Blob): void {
    this.changed(blob);
    this.#unsynced.set(blob, { sinceMs: this.#options.clock.nowMs() });
  }

  removed(blob: Blob): void {
    this.#forget(blob);
    this.#used.delete(blob.version);
    if (blob.recorded) this.#removed.add(blob.version);
  }

  /**
   * A removed version is about to get a new file. Its old row must be gone first: after a crash it would vouch for
   * blocks that the new file does not have.
   */
  settleRemoval(version: string): void {
    if (!this.#removed.has(version)) return;
    try {
      this.#options.catalog.remove(version);
      this.#removed.delete(version);
    } catch (error) {
      this.#options.onFailure(error);
    }
  }

  /** Commits everything that is known now, except counters of use alone. Failures are reported and tried again later. */
  flush(): boolean {
    while (this.#changed.size + this.#removed.size + this.#durable.size > 0) {
      if (!this.#commit(false)) return false;
    }
    return true;
  }

  /** Makes everything durable and commits it, within a bound. */
  async close(): Promise<void> {
    this.#closing = true;
    this.#stop();
    const { clock } = this.#options;
    const deadline = clock.nowMs() + CLOSE_SYNC_MS;
    while (this.#unsynced.size + this.#syncs.size > 0 && clock.nowMs() < deadline) {
      this.#startSyncs(CLOSE_SYNCS_MAX);
      await Promise.race(this.#syncs);
    }
    this.flush();
    this.#commit(true);
    if (this.#syncs.size === 0) this.#whole?.close();
  }

  #tick(): void {
    const { clock } = this.#options;
    this.#startSyncs(SYNCS_MAX);
    const withUsage = clock.nowMs() - this.#usageAtMs >= USAGE_COMMIT_INTERVAL_MS;
    if (withUsage) this.#usageAtMs = clock.nowMs();
    if (!this.#commit(withUsage)) return;
    if (this.#changed.size + this.#removed.size > 0) clock.after(1, () => this.#closing || this.#tick());
  }

  #commit(withUsage: boolean): boolean {
    const { catalog, policy, logger } = this.#options;
    const changed = first(this.#changed, COMMIT_BLOBS_MAX);
    const durable = [...this.#durable].filter((blob) => !blob.unrecorded);
    const removed = [...this.#removed];
    const used = withUsage ? [...this.#used] : [];
    if (changed.length + durable.length + removed.length + used.length === 0 && !withUsage) return true;
    try {
      catalog.commit({
        upserts: changed.map((blob) => rowOf(blob, policy.usage(blob.version))),
        durable: durable.map((blob) => blob.version),
        usages: used.map((version) => ({ version, ...usageRow(policy.usage(version)) })),
        removals: removed,
        settings: policy.settings(),
      });
    } catch (error) {
      logger.error({ err: error }, `cannot write the catalog: ${describeError(error)}`);
      this.#options.onFailure(error);
      return false;
    }
    for (const version of removed) this.#removed.delete(version);
    for (const version of used) this.#used.delete(version);
    for (const blob of durable) this.#durable.delete(blob);
    for (const blob of changed) {
      this.#changed.delete(blob);
      this.#durable.delete(blob);
      blob.unrecorded = false;
      blob.recorded = true;
      this.#options.onRecorded(blob);
    }
    return true;
  }

  #startSyncs(limit: number): void {
    const nowMs = this.#options.clock.nowMs();
    const isDue = (sinceMs: number): boolean => this.#closing || nowMs - sinceMs >= SYNC_DELAY_MS;
    const oldest = first(this.#unsynced.values(), 1)[0];
    if (oldest === undefined || !isDue(oldest.sinceMs)) return;
    if (this.#whole !== undefined && this.#unsynced.size >= SYNC_WHOLE_BLOBS_MIN) {
      if (!this.#syncingWhole) this.#start(this.#syncWhole(this.#whole));
      return;
    }
    for (const [blob, { sinceMs }] of this.#unsynced) {
      if (this.#syncs.size >= limit || !isDue(sinceMs)) return;
      this.#unsynced.delete(blob);
      this.#start(this.#sync(blob));
    }
  }

  #start(run: Promise<void>): void {
    const sync = run.finally(() => this.#syncs.delete(sync));
    this.#syncs.add(sync);
  }

  /** All that are complete by now at once. If that fails, each by itself, to learn which of them it is. */
  async #syncWhole(whole: WholeSync): Promise<void> {
    const before = [...this.#unsynced.keys()].map((blob) => ({ blob, was: blob.state }));
    this.#unsynced.clear();
    this.#syncingWhole = true;
    try {
      await whole.sync();
      for (const { blob, was } of before) this.#synced(blob, was);
    } catch (error) {
      this.#options.logger.warn(
        { reason: describeError(error) },
        'the file system of the cache failed to sync',
      );
      for (const { blob } of before) await this.#sync(blob);
    } finally {
      this.#syncingWhole = false;
    }
  }

  async #sync(blob: Blob): Promise<void> {
    const { disk, paths } = this.#options;
    const before = blob.state;
    try {
      await disk.datasync(blobPath(paths, blob));
    } catch (error) {
      // Evicted meanwhile: its file has no name any more.
      if (blob.state.kind !== 'evicting') this.#options.onUnsynced(blob, error);
      return;
    }
    this.#synced(blob, before);
    if (!this.#closing && this.#syncs.size <= SYNCS_MAX) this.#startSoon();
  }

  #synced(blob: Blob, before: BlobState): void {
    // A block that was lost and filled again meanwhile has been queued anew.
    if (blob.state.kind !== 'complete' || before.kind !== 'complete' || this.#unsynced.has(blob)) return;
    blob.state = nextBlobState(blob.state, 'durable');
    this.#durable.add(blob);
  }

  #startSoon(): void {
    this.#options.clock.after(0, () => this.#closing || this.#startSyncs(SYNCS_MAX));
  }

  #forget(blob: Blob): void {
    this.#changed.delete(blob);
    this.#durable.delete(blob);
    this.#unsynced.delete(blob);
    blob.unrecorded = false;
  }
}

function first<T>(items: Iterable<T>, count: number): T[] {
  const taken: T[] = [];
  for (const item of items) {
    if (taken.length === count) break;
    taken.push(item);
  }
  return taken;
}
