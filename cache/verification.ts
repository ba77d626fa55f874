/**
 * Compares blocks with their checksums: before the first serve after a start, in the background for large blobs
 * that are open, for the scrub, and on demand.
 *
 * A block that does not match, or that the disk cannot give back, is lost: counted, dropped, fetched again by
 * whoever needs it next. A blob whose file is gone is no bad block: the table has forgotten what it had. Two comparisons of one block at one time are one.
 */
import { crc32 } from 'node:zlib';
import { describeError } from '../lib/base/errors.ts';
import { CacheError } from './block-cache.ts';
import type { Blob, BlockCheck } from './blob.ts';
import type { BlobTable } from './blob-table.ts';
import type { Counters } from './counters.ts';
import type { DeviceHealth } from './device-health.ts';
import { type Disk, diskFault } from './disk.ts';
import type { Logger } from '../lib/telemetry/log.ts';
import { VERIFICATIONS_MAX, VERIFICATIONS_QUEUED_MAX } from './limits.ts';

export interface BlobReport {
  readonly bytes: number;
  readonly badBlocks: number;
  /** Its file was not there. */
  readonly missing: boolean;
}

export class Verifier {
  readonly #options: {
    readonly disk: Disk;
    readonly table: BlobTable;
    readonly health: DeviceHealth;
    readonly counters: Counters;
    readonly logger: Logger;
  };
  readonly #queue = new Set<Blob>();
  readonly #running = new Set<Promise<void>>();
  readonly #closing = new AbortController();

  constructor(options: {
    readonly disk: Disk;
    readonly table: BlobTable;
    readonly health: DeviceHealth;
    readonly counters: Counters;
    readonly logger: Logger;
  }) {
    this.#options = options;
  }

  /** Is this present block good? If not, it is not present any more afterwards. */
  block(blob: Blob, block: number): Promise<BlockCheck> {
    const { checks } = this.#options.table.load(blob);
    const running = checks.get(block);
    if (running !== undefined) return running;
    blob.holds++;
    const check = this.#compare(blob, block).finally(() => {
      checks.delete(block);
      blob.holds--;
      this.#options.table.release(blob);
    });
    checks.set(block, check);
    return check;
  }

  /** Verifies the blocks of [first, end) that are present and were not verified yet. */
  async span(blob: Blob, span: { readonly first: number; readonly end: number }, signal?: AbortSignal) {
    const body = this.#options.table.load(blob);
    for (let block = span.first; block < span.end; block++) {
      if (body.verified.has(block) || !body.present.has(block)) continue;
      if (blob.state.kind === 'evicting' || this.#closing.signal.aborted) return;
      signal?.throwIfAborted();
      await this.block(blob, block);
    }
  }

  /** Every present block, verified before or not. */
  async everything(blob: Blob, signal?: AbortSignal): Promise<BlobReport> {
    const body = this.#options.table.load(blob);
    let bytes = 0;
    let badBlocks = 0;
    let missing = false;
    blob.holds++;
    try {
      for (let block = 0; block < body.geometry.blocks; block++) {
        if (!body.present.has(block) || blob.state.kind === 'evicting') continue;
        signal?.throwIfAborted();
        this.#closing.signal.throwIfAborted();
        const check = await this.block(blob, block);
        if (check === 'missing') missing = true;
        else bytes += body.geometry.length(block);
        if (check === 'bad') badBlocks++;
      }
    } finally {
      blob.holds--;
      this.#options.table.release(blob);
    }
    return { bytes, badBlocks, missing };
  }

  /** Verifies what an earlier run left, when there is time. Who is not taken for lack of room asks again at the next open. */
  inBackground(blob: Blob): void {
    if (this.#queue.size >= VERIFICATIONS_QUEUED_MAX || this.#closing.signal.aborted) return;
    this.#queue.add(blob);
    this.#next();
  }

  async close(): Promise<void> {
    this.#closing.abort(new Error('the cache is shutting down'));
    this.#queue.clear();
    await Promise.allSettled(this.#running);
  }

  #next(): void {
    for (const blob of this.#queue) {
      if (this.#running.size >= VERIFICATIONS_MAX) return;
      this.#queue.delete(blob);
      if (blob.state.kind === 'evicting') continue;
      const { geometry } = this.#options.table.load(blob);
      const run = this.span(blob, { first: 0, end: geometry.blocks })
        .catch((error: unknown) => this.#options.logger.warn(`verification stopped: ${describeError(error)}`))
        .finally(() => {
          this.#running.delete(run);
          this.#options.table.release(blob);
          this.#next();
        });
      this.#running.add(run);
    }
  }

  async #compare(blob: Blob, block: number): Promise<BlockCheck> {
    const { disk, table, counters, health, logger } = this.#options;
    const body = table.load(blob);
    if (!body.present.has(block)) return 'missing';
    const bytes = Buffer.allocUnsafeSlow(body.geometry.length(block));
    let error: unknown;
    try {
      const read = await disk.read(table.descriptor(blob), bytes, body.geometry.start(block));
      if (read === bytes.length && crc32(bytes) === body.checksums[block]) {
        table.blockVerified(blob, block);
        return 'good';
      }
    } catch (caught) {
      error = caught;
      // Neither good nor bad: this process cannot look at it now.
      if (error instanceof CacheError || diskFault(error) === 'exhausted') throw error;
      if (diskFault(error) === 'gone') return 'missing';
      health.report(error);
    }
    if (error === undefined) counters.checksumFailure();
    logger.warn(
      { version: blob.version, block, ...(error === undefined ? {} : { reason: describeError(error) }) },
      'a cached block is bad and will be fetched again',
    );
    table.blockLost(blob, block);
    return 'bad';
  }
}
