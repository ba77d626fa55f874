/**
 * The NVMe tier: puts the parts together and answers for all of them.
 *
 * `openNvmeCache` takes a directory for itself, recovers what an earlier run left there, and serves until
 * `close`, which makes everything durable and lets the directory go.
 */
import { type Clock, nextTurn } from '../lib/base/clock.ts';
import { WHOLE_ON_OPEN_BYTES_DEFAULT } from '../lib/base/limits.ts';
import { seededPrng } from '../lib/base/prng.ts';
import type { Logger } from '../lib/telemetry/log.ts';
import type { Metrics } from '../lib/telemetry/metrics.ts';
import type { Tier } from '../lib/tiers/tier.ts';
import {
  type BlockCache,
  type CachedVersion,
  CacheError,
  type CacheHandle,
  type CacheStat,
  type EvictReport,
  type OpenVersion,
  type VerifyReport,
} from './block-cache.ts';
import type { Blob } from './blob.ts';
import { BlobTable } from './blob-table.ts';
import { BlockGeometry, BlockSet, bytesOf } from './block-map.ts';
import { Bypass } from './bypass.ts';
import { BlobHandle, type CacheParts } from './cache-handle.ts';
import { Catalog, type PlaceRow } from './catalog.ts';
import { Counters } from './counters.ts';
import { DeviceHealth } from './device-health.ts';
import { type Disk, diskFault, systemDisk } from './disk.ts';
import { type EvictionPolicy, reusePolicy } from './eviction-policy.ts';
import { FillTable } from './fill-table.ts';
import { Filler } from './filler.ts';
import { cachePaths, prepareDirectory } from './format.ts';
import type { KeepingOf } from './keeping.ts';
import { Keepings } from './keepings.ts';
import { CLOSE_FILLS_MS, PINNED_FRACTION_MAX, PUBLISH_INTERVAL_MS, RECONSIDERED_AT_ONCE } from './limits.ts';
import { type DirectoryLock, lockDirectory } from './lock.ts';
import { Recorder } from './recorder.ts';
import { recover } from './recovery.ts';
import { SpaceLedger } from './reservation.ts';
import { Scrub } from './scrub.ts';
import { Shards } from './shards.ts';
import { Space } from './space.ts';
import { Journal } from './staging/journal.ts';
import { NvmeStaging } from './staging/nvme-staging.ts';
import type { Staging } from './staging/staging.ts';
import { Verifier } from './verification.ts';

export interface NvmeCacheOptions {
  readonly directory: string;
  readonly capacityBytes: number;
  /** Of new blobs; those of earlier runs keep theirs. */
  readonly blockBytes: number;
  /** Up to this size a blob of an earlier run is verified within `fill`; larger ones in the background. */
  readonly wholeOnOpenBytes?: number;
  readonly tier: Tier;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: Metrics;
  /** How the file of a path is kept by policy; none: as usual. */
  readonly keepingOf?: KeepingOf;
  /** The disk to use; for tests that inject faults. */
  readonly disk?: Disk;
}

/** Seeds the choice of samples in evictions; any number does. */
const POLICY_SEED = 1;

export interface NvmeBlockCache extends BlockCache {
  /** Files being written, in the same directory and of the same room. */
  readonly staging: Staging;
  /** `keepingOf` may answer otherwise from now on: asks it about all blobs, some in each turn of the event loop. */
  reconsider(): void;
}

/** @throws CacheError locked, format, foreign, too-small, journal, disk */
export async function openNvmeCache(options: NvmeCacheOptions): Promise<NvmeBlockCache> {
  if (options.capacityBytes < options.blockBytes) {
    throw new CacheError(
      'too-small',
      `a cache of ${options.capacityBytes} bytes cannot hold one block of ${options.blockBytes} bytes`,
      { hint: 'give the cache more space, or make the blocks smaller' },
    );
  }
  const disk = options.disk ?? systemDisk;
  const paths = cachePaths(options.directory);
  prepareDirectory(paths, disk);
  const lock = lockDirectory(paths, disk);
  let catalog: Catalog | undefined;
  let journal: Journal | undefined;
  try {
    catalog = new Catalog(paths.catalog);
    journal = new Journal(paths, disk);
    const cache = new NvmeCache({ ...options, disk }, { lock, catalog, journal });
    await cache.start();
    return cache;
  } catch (error) {
    catalog?.close();
    journal?.close();
    lock.release();
    if (error instanceof CacheError) throw error;
    throw new CacheError('disk', `cannot use ${options.directory} as a cache`, {
      cause: error,
      hint: 'check the disk; the directory may be deleted unless its folder staging has files',
    });
  }
}

class NvmeCache implements NvmeBlockCache {
  readonly #options: NvmeCacheOptions & { readonly disk: Disk };
  readonly #lock: DirectoryLock;
  readonly #catalog: Catalog;
  readonly #policy: EvictionPolicy;
  readonly #ledger: SpaceLedger;
  readonly #recorder: Recorder;
  readonly #parts: CacheParts;
  readonly #scrub: Scrub;
  readonly #shards: Shards;
  readonly #staging: NvmeStaging;
  readonly #stopPublishing: () => void;
  #closed: Promise<void> | undefined;
  /** Which round of asking how blobs are kept is under way. */
  #reconsidering = 0;

  constructor(
    options: NvmeCacheOptions & { readonly disk: Disk },
    held: { readonly lock: DirectoryLock; readonly catalog: Catalog; readonly journal: Journal },
  ) {
    const { clock, logger, metrics, disk, tier, capacityBytes } = options;
    const { catalog, journal } = held;
    const paths = cachePaths(options.directory);
    this.#options = options;
    this.#lock = held.lock;
    this.#catalog = catalog;
    const counters = new Counters(metrics);
    const ledger = (this.#ledger = new SpaceLedger(capacityBytes));
    const policy = (this.#policy = reusePolicy({
      capacityBytes,
      prng: seededPrng(POLICY_SEED),
      settings: catalog.settings(),
    }));
    const health = new DeviceHealth({ disk, paths, clock, logger, metrics });
    const onFailure = (error: unknown): void => health.report(error);
    const recorder = (this.#recorder = new Recorder({
      ...{ catalog, disk, paths, policy, clock, logger, onFailure },
      onRecorded: (blob) => table.release(blob),
      onUnsynced: (blob, error) => {
        if (diskFault(error) !== 'missing') health.report(error);
        if (blob.state.kind === 'complete') void table.remove(blob);
      },
    }));
    const { blockBytes } = options;
    const shards = (this.#shards = new Shards({ disk, paths }));
    const table = new BlobTable({
      paths,
      disk,
      catalog,
      ledger,
      policy,
      recorder,
      blockBytes,
      shards,
      logger,
      onFailure,
      onRemoved: (blob) => keepings.forget(blob),
    });
    const keepings = new Keepings({
      ...{ policy, capacityBytes, clock },
      keepingOf: options.keepingOf,
      blobOf: (version) => table.get(version),
    });
    const space = new Space({
      ...{ disk, ledger, policy, keepings, table, counters, clock, onFailure },
      directory: options.directory,
    });
    const fills = new FillTable({ tier, table, disk, health, counters });
    const verifier = new Verifier({ disk, table, health, counters, logger });
    const wholeOnOpenBytes = options.wholeOnOpenBytes ?? WHOLE_ON_OPEN_BYTES_DEFAULT;
    const filler = new Filler({ table, fills, space, health, verifier, clock, metrics, wholeOnOpenBytes });
    const bypass = new Bypass({ tier, counters, metrics });
    this.#parts = { disk, table, fills, filler, space, health, keepings, verifier, bypass, counters, clock };
    this.#staging = new NvmeStaging({
      ...{ paths, disk, journal, ledger, space, table, blockBytes, clock },
      onSealed: (blob, version) => this.#keep(blob, version),
      onFailure,
    });
    this.#stopPublishing = clock.every(PUBLISH_INTERVAL_MS, () => this.#publish());
    this.#scrub = new Scrub({ table, verifier, health, clock, logger });
  }

  async start(): Promise<void> {
    const { disk, logger } = this.#options;
    const paths = cachePaths(this.#options.directory);
    const { table, space } = this.#parts;
    const staged = this.#staging.recover();
    const report = recover({
      paths,
      disk,
      catalog: this.#catalog,
      table,
      policy: this.#policy,
      shards: this.#shards,
    });
    logger.info({ directory: this.#options.directory, ...report, ...staged }, 'cache opened');
    await space.relieve();
    this.#publish();
  }

  get staging(): Staging {
    return this.#staging;
  }

  open(version: OpenVersion): CacheHandle {
    this.#refuseClosed();
    const { table, verifier, keepings } = this.#parts;
    const blob = table.obtain(version);
    const isUse = version.isUse ?? true;
    const handle = new BlobHandle(blob, this.#parts, { isUse, isExpected: version.isExpected ?? false });
    this.#judge(blob, { exportName: version.source.exportName, path: version.path });
    if (isUse) {
      this.#policy.touch(blob.version, blob.sizeBytes);
      keepings.used(blob);
      if (blob.recorded) this.#recorder.used(blob);
    }
    const wholeOnOpenBytes = this.#options.wholeOnOpenBytes ?? WHOLE_ON_OPEN_BYTES_DEFAULT;
    if (blob.state.kind === 'complete' && !blob.state.verified && blob.sizeBytes > wholeOnOpenBytes) {
      verifier.inBackground(blob);
    }
    return handle;
  }

  stat(): CacheStat {
    this.#publish();
    const { table, health, counters, keepings } = this.#parts;
    return {
      directory: this.#options.directory,
      health: health.name,
      capacityBytes: this.#ledger.capacityBytes,
      usedBytes: this.#ledger.usedBytes,
      reservedBytes: this.#ledger.reservedBytes,
      pinnedBytes: table.pinnedBytes + keepings.pinnedBytes,
      dirtyBytes: this.#staging.stat().usedBytes,
      blobs: table.size,
      completeBlobs: table.completeBlobs,
      hits: counters.hits,
      misses: counters.misses,
      fetchedBytes: counters.fetchedBytes,
      evictedBytes: counters.evictedBytes,
      checksumFailures: counters.checksumFailures,
      bypassedReads: counters.bypassedReads,
    };
  }

  list(filter: { readonly path?: string }): CachedVersion[] {
    this.#refuseClosed();
    this.#recorder.flush();
    return this.#catalog.list(filter.path).flatMap((row) => {
      const blob = this.#parts.table.get(row.version);
      if (blob === undefined) return [];
      const geometry = new BlockGeometry(row.size_bytes, row.block_bytes);
      const present = blob.body?.present ?? new BlockSet(geometry.blocks, Uint8Array.from(row.present));
      return {
        version: row.version,
        exportName: row.export_name,
        path: row.path,
        sizeBytes: row.size_bytes,
        cachedBytes: bytesOf(present, geometry),
        state: blob.state.kind === 'complete' ? 'complete' : 'filling',
        pinned: blob.pinned || blob.pinnedByPolicy,
        uses: this.#policy.usage(row.version)?.uses ?? row.uses,
        open: blob.handles > 0,
      };
    });
  }

  pin(version: string, pinned: boolean): void {
    this.#refuseClosed();
    const { table } = this.#parts;
    const blob = table.get(version);
    if (blob === undefined) {
      throw new CacheError('not-cached', `version ${version} is not cached`, {
        hint: 'read the file once, then pin it',
      });
    }
    const room = this.#ledger.capacityBytes * PINNED_FRACTION_MAX - table.pinnedBytes;
    if (pinned && !blob.pinned && blob.sizeBytes > room) {
      throw new CacheError(
        'no-space',
        `pinning ${blob.sizeBytes} bytes would leave no room for anything else`,
        {
          hint: 'unpin something, or give the cache more space',
        },
      );
    }
    table.pin(blob, pinned);
    this.#recorder.flush();
    table.release(blob);
  }

  evict(filter: { readonly path?: string; readonly version?: string }): EvictReport {
    this.#refuseClosed();
    const { space } = this.#parts;
    const report = { freedBytes: 0, keptBlobs: 0 };
    for (const blob of this.#select(filter)) {
      if (!space.canEvict(blob)) {
        report.keptBlobs++;
        continue;
      }
      report.freedBytes += blob.chargedBytes;
      void space.evict(blob);
    }
    this.#recorder.flush();
    return report;
  }

  async verify(
    filter: { readonly path?: string },
    options: { readonly signal?: AbortSignal } = {},
  ): Promise<VerifyReport> {
    this.#refuseClosed();
    const report = { blobs: 0, bytes: 0, badBlocks: 0, missingBlobs: 0 };
    for (const blob of this.#select(filter)) {
      if (blob.state.kind === 'evicting') continue;
      const { bytes, badBlocks, missing } = await this.#parts.verifier.everything(blob, options.signal);
      if (missing) report.missingBlobs++;
      else report.blobs++;
      report.bytes += bytes;
      report.badBlocks += badBlocks;
    }
    return report;
  }

  close(): Promise<void> {
    return (this.#closed ??= this.#close());
  }

  async #close(): Promise<void> {
    const { fills, space, health, verifier, bypass, clock } = this.#parts;
    this.#scrub.close();
    this.#stopPublishing();
    bypass.close();
    const stopped = Promise.allSettled([fills.close(), verifier.close(), space.close()]);
    const { promise: late, resolve } = Promise.withResolvers<void>();
    const stopTimer = clock.after(CLOSE_FILLS_MS, resolve);
    await Promise.race([stopped, late]);
    stopTimer();
    health.close();
    await this.#staging.close();
    await this.#recorder.close();
    this.#parts.table.close();
    this.#catalog.close();
    this.#lock.release();
  }

  reconsider(): void {
    const { table } = this.#parts;
    const round = ++this.#reconsidering;
    for (const blob of table.values()) {
      const { body } = blob;
      if (body !== undefined) this.#judge(blob, { exportName: body.source.exportName, path: body.path });
    }
    const next = (after: string): void => {
      if (this.#closed !== undefined || round !== this.#reconsidering) return;
      const rows = this.#placesBehind(after);
      for (const { version, export_name: exportName, path } of rows) {
        const blob = table.get(version);
        if (blob !== undefined && blob.body === undefined) this.#judge(blob, { exportName, path });
      }
      const last = rows.at(-1);
      if (last !== undefined) nextTurn(() => next(last.version));
    };
    next('');
  }

  /** A version that was written here has become a blob. False: policies do not want it. */
  #keep(blob: Blob, { source, path }: OpenVersion): boolean {
    this.#judge(blob, { exportName: source.exportName, path });
    if (blob.keeping.admit !== 'never' || !this.#parts.space.canEvict(blob)) return true;
    void this.#parts.space.evict(blob);
    return false;
  }

  #placesBehind(version: string): readonly PlaceRow[] {
    try {
      return this.#catalog.places(version, RECONSIDERED_AT_ONCE);
    } catch (error) {
      this.#parts.health.report(error);
      return [];
    }
  }

  #judge(blob: Blob, of: { readonly exportName: string; readonly path: string }): void {
    const { keepings, table } = this.#parts;
    keepings.judge(blob, { ...of, sizeBytes: blob.sizeBytes }, table.pinnedBytes);
  }

  #select(filter: { readonly path?: string; readonly version?: string }): Blob[] {
    this.#recorder.flush();
    const { table } = this.#parts;
    const versions =
      filter.version === undefined
        ? this.#catalog.list(filter.path).map((row) => row.version)
        : [filter.version];
    return versions.flatMap((version) => table.get(version) ?? []);
  }

  #refuseClosed(): void {
    if (this.#closed !== undefined) throw new CacheError('closed', 'the cache is shutting down');
  }

  #publish(): void {
    const { cacheBytes } = this.#options.metrics;
    cacheBytes.set({ state: 'used' }, this.#ledger.usedBytes);
    cacheBytes.set({ state: 'reserved' }, this.#ledger.reservedBytes);
    const { table, keepings } = this.#parts;
    cacheBytes.set({ state: 'pinned' }, table.pinnedBytes + keepings.pinnedBytes);
    cacheBytes.set({ state: 'dirty' }, this.#staging.stat().usedBytes);
    cacheBytes.set({ state: 'capacity' }, this.#ledger.capacityBytes);
  }
}
