/**
 * Reads the whole cache slowly, over and over, so that a block that has gone bad on the disk is found before
 * somebody needs it. One block at a time, never while the disk is unwell, never two at once.
 */
import type { Clock } from '../lib/base/clock.ts';
import { describeError } from '../lib/base/errors.ts';
import type { Logger } from '../lib/telemetry/log.ts';
import type { Blob } from './blob.ts';
import type { BlobTable } from './blob-table.ts';
import type { DeviceHealth } from './device-health.ts';
import { SCRUB_INTERVAL_MS } from './limits.ts';
import type { Verifier } from './verification.ts';

export class Scrub {
  readonly #options: {
    readonly table: BlobTable;
    readonly verifier: Verifier;
    readonly health: DeviceHealth;
    readonly clock: Clock;
    readonly logger: Logger;
  };
  readonly #stop: () => void;
  #rest: IterableIterator<Blob> | undefined;
  #at: { readonly blob: Blob; readonly block: number } | undefined;
  #busy = false;

  constructor(options: {
    readonly table: BlobTable;
    readonly verifier: Verifier;
    readonly health: DeviceHealth;
    readonly clock: Clock;
    readonly logger: Logger;
  }) {
    this.#options = options;
    this.#stop = options.clock.every(SCRUB_INTERVAL_MS, () => void this.step());
  }

  close(): void {
    this.#stop();
  }

  /** Compares the next present block, if there is one. */
  async step(): Promise<void> {
    const { table, verifier, health, logger } = this.#options;
    if (this.#busy || health.name !== 'normal') return;
    const next = this.#next();
    if (next === undefined) return;
    this.#busy = true;
    try {
      if (table.load(next.blob).present.has(next.block)) await verifier.block(next.blob, next.block);
      else table.release(next.blob);
    } catch (error) {
      logger.warn(`scrub: ${describeError(error)}`);
    } finally {
      this.#busy = false;
    }
  }

  #next(): { readonly blob: Blob; readonly block: number } | undefined {
    const { table } = this.#options;
    const at = this.#at;
    if (at !== undefined && isThere(at.blob) && (at.block + 1) * at.blob.blockBytes < at.blob.sizeBytes) {
      return (this.#at = { blob: at.blob, block: at.block + 1 });
    }
    this.#rest ??= table.values();
    for (let next = this.#rest.next(); !next.done; next = this.#rest.next()) {
      if (isThere(next.value) && next.value.sizeBytes > 0) return (this.#at = { blob: next.value, block: 0 });
    }
    this.#rest = this.#at = undefined;
    return undefined;
  }
}

/** Only complete blobs: the others are still being read anyway. */
function isThere(blob: Blob): boolean {
  return blob.state.kind === 'complete';
}
