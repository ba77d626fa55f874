/**
 * Single flight: each missing block is on its way at most once.
 *
 * A fill covers a run of consecutive missing blocks, holds a reservation for their space and the blob against
 * eviction. Only when the tier vouches for all of it are its blocks present; after a failure they are as missing
 * as before, and space that the tier may have left taken stays accounted for.
 */
import { invariant } from '../lib/base/errors.ts';
import { type FetchPriority, type Tier, TierError } from '../lib/tiers/tier.ts';
import { CacheError } from './block-cache.ts';
import type { Blob } from './blob.ts';
import type { BlockSpan } from './block-map.ts';
import type { BlobTable } from './blob-table.ts';
import type { Counters } from './counters.ts';
import type { DeviceHealth } from './device-health.ts';
import { type Disk, diskFault } from './disk.ts';
import { Fill } from './fill.ts';
import { FILL_BYTES_MAX } from './limits.ts';
import type { Reservation } from './reservation.ts';

export class FillTable {
  readonly #options: {
    readonly tier: Tier;
    readonly table: BlobTable;
    readonly disk: Disk;
    readonly health: DeviceHealth;
    readonly counters: Counters;
  };
  readonly #running = new Map<Fill, Promise<void>>();
  #closed = false;

  constructor(options: {
    readonly tier: Tier;
    readonly table: BlobTable;
    readonly disk: Disk;
    readonly health: DeviceHealth;
    readonly counters: Counters;
  }) {
    this.#options = options;
  }

  /** The run of missing blocks that begins at `first`, ends before `end`, and is not longer than one request may be. */
  missingRun(blob: Blob, first: number, end: number): BlockSpan {
    const { present, fills, geometry } = blob.body!;
    const blocksMax = Math.max(1, Math.floor(FILL_BYTES_MAX / geometry.blockBytes));
    let to = first;
    while (to < end && to - first < blocksMax && !present.has(to) && !fills.has(to)) to++;
    return { first, end: to };
  }

  /** Bytes that must be reserved before the run may be filled. */
  chargeOf(blob: Blob, run: BlockSpan): number {
    const { charged, geometry } = blob.body!;
    let bytes = 0;
    for (let block = run.first; block < run.end; block++)
      if (!charged.has(block)) bytes += geometry.charge(block);
    return bytes;
  }

  start(blob: Blob, run: BlockSpan, how: { priority: FetchPriority; reservation: Reservation }): Fill {
    if (this.#closed) {
      how.reservation.settle(0);
      throw new CacheError('closed', 'the cache is shutting down');
    }
    const body = blob.body;
    invariant(body !== undefined && blob.state.kind === 'filling', 'only a filling blob is filled');
    invariant(run.first < run.end, 'a fill has blocks');
    const fill = new Fill({ ...run, offset: body.geometry.start(run.first) });
    for (let block = run.first; block < run.end; block++) {
      invariant(!body.fills.has(block) && !body.present.has(block), 'a block is fetched once');
      body.fills.set(block, fill);
    }
    const running = this.#run(blob, fill, how);
    this.#running.set(fill, running);
    void running.finally(() => this.#running.delete(fill));
    return fill;
  }

  /** Gives up everything on its way and resolves when it has stopped. */
  async close(): Promise<void> {
    this.#closed = true;
    const reason = new CacheError('closed', 'the cache is shutting down');
    for (const fill of this.#running.keys()) fill.abort(reason);
    await Promise.allSettled(this.#running.values());
  }

  async #run(
    blob: Blob,
    fill: Fill,
    how: { priority: FetchPriority; reservation: Reservation },
  ): Promise<void> {
    const { table, tier, counters, health } = this.#options;
    const body = blob.body!;
    const { geometry } = body;
    const offset = geometry.start(fill.firstBlock);
    const length = geometry.end(fill.endBlock - 1) - offset;
    let outcome: { readonly error: unknown } | 'good' = 'good';
    try {
      const sink = (): number => this.#sink(blob);
      const { blockChecksums } = await tier.fill(
        {
          source: body.source,
          offset,
          length,
          blockBytes: geometry.blockBytes,
          priority: how.priority,
          get sinkFd() {
            return sink();
          },
        },
        {
          signal: fill.signal,
          onProgress: (filledTo) => fill.progress(filledTo),
          onLead: (bytes) => fill.lead(bytes),
        },
      );
      invariant(
        blockChecksums.length === fill.endBlock - fill.firstBlock,
        'a tier gives one checksum for each block',
      );
      this.#landed(blob, fill, how.reservation, true);
      for (let block = fill.firstBlock; block < fill.endBlock; block++) {
        table.blockFilled(blob, block, blockChecksums[block - fill.firstBlock]!);
      }
      counters.fetched(length);
      table.runFilled(blob);
    } catch (error) {
      outcome = { error };
      if (isSinkFailure(error)) health.report(error);
      if (body.fills.get(fill.firstBlock) === fill)
        this.#landed(blob, fill, how.reservation, this.#mayHaveWritten(blob));
    }
    fill.settle(outcome);
    table.release(blob);
  }

  #sink(blob: Blob): number {
    const { table } = this.#options;
    try {
      try {
        return table.descriptor(blob);
      } catch (error) {
        if (diskFault(error) !== 'gone') throw error;
        // Nothing of it is present any more: this fill begins a new file.
        return table.descriptor(blob);
      }
    } catch (error) {
      throw new CacheError('disk', `cannot open the file of ${blob.version}`, { cause: error });
    }
  }

  /** The run is not on its way any more; its space is accounted for. */
  #landed(blob: Blob, fill: Fill, reservation: Reservation, taken: boolean): void {
    const body = blob.body!;
    const uncharged: number[] = [];
    for (let block = fill.firstBlock; block < fill.endBlock; block++) {
      body.fills.delete(block);
      if (!body.charged.has(block)) uncharged.push(block);
    }
    reservation.settle(taken ? reservation.bytes : 0);
    if (taken) this.#options.table.charge(blob, uncharged, reservation.bytes);
  }

  #mayHaveWritten(blob: Blob): boolean {
    const fd = blob.body!.fd;
    if (fd === undefined) return false;
    try {
      return this.#options.disk.allocatedBytes(fd) > blob.chargedBytes;
    } catch {
      return true;
    }
  }
}

/** Did NVMe refuse, rather than the source of the bytes? Then the bytes can still be had from the tier. */
export function isSinkFailure(error: unknown): boolean {
  if (error instanceof TierError) return error.code === 'sink';
  return error instanceof CacheError && error.code === 'disk';
}
