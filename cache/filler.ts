/**
 * Brings ranges to NVMe ahead of readers: whole small files, read-ahead windows, the rest of a large file.
 *
 * Walks the missing blocks in runs and hands a bounded number of them to the tier at one time, by priority; a
 * block that was not handed over yet belongs to nobody, so a reader that needs it first fetches it first.
 * Stops without an error when there is no room, when NVMe is not to be trusted, or when its handle closes.
 */
import type { Clock } from '../lib/base/clock.ts';
import type { FetchPriority } from '../lib/tiers/tier.ts';
import type { Metrics } from '../lib/telemetry/metrics.ts';
import type { Blob } from './blob.ts';
import type { BlockSpan } from './block-map.ts';
import type { BlobTable } from './blob-table.ts';
import type { DeviceHealth } from './device-health.ts';
import { diskFault } from './disk.ts';
import type { Fill } from './fill.ts';
import { WHOLE_FILL } from './fill.ts';
import { type FillTable, isSinkFailure } from './fill-table.ts';
import { FILL_WAIT_AHEAD_MS, FILL_WAIT_MS, FILLS_MAX } from './limits.ts';
import { Slots } from './slots.ts';
import type { Space } from './space.ts';
import type { Verifier } from './verification.ts';

export interface FillerOptions {
  readonly table: BlobTable;
  readonly fills: FillTable;
  readonly space: Space;
  readonly health: DeviceHealth;
  readonly verifier: Verifier;
  readonly clock: Clock;
  readonly metrics: Metrics;
  /** Up to this size a blob of an earlier run is verified while its opener waits. */
  readonly wholeOnOpenBytes: number;
}

export interface FillOrder {
  readonly span: BlockSpan;
  readonly priority: FetchPriority;
  readonly signal: AbortSignal | undefined;
  /** The handle that wanted it is gone. */
  readonly stopped: () => boolean;
}

export class Filler {
  readonly #options: FillerOptions;
  readonly #slots: Readonly<Record<FetchPriority, Slots>>;

  constructor(options: FillerOptions) {
    this.#options = options;
    const slots = (priority: FetchPriority): Slots =>
      new Slots({ limit: FILLS_MAX[priority], name: `cache.fills.${priority}`, metrics: options.metrics });
    this.#slots = { demand: slots('demand'), readahead: slots('readahead'), background: slots('background') };
  }

  /** @throws TierError except `sink`, the signal's reason */
  async fill(blob: Blob, order: FillOrder): Promise<void> {
    const { table, verifier, wholeOnOpenBytes } = this.#options;
    const { present, verified } = table.load(blob);
    if (verified.full || order.span.first === order.span.end) return;
    order.signal?.throwIfAborted();
    blob.holds++;
    try {
      if (verified.count < present.count && blob.sizeBytes <= wholeOnOpenBytes) {
        await verifier.span(blob, order.span, order.signal);
      }
      await this.#bring(blob, order);
    } catch (error) {
      if (!isSinkFailure(error) && diskFault(error) !== 'exhausted') throw error;
    } finally {
      blob.holds--;
      if (verified.count < present.count && blob.sizeBytes > wholeOnOpenBytes) verifier.inBackground(blob);
      table.release(blob);
    }
  }

  async #bring(blob: Blob, order: FillOrder): Promise<void> {
    const { health, clock } = this.#options;
    const { present, fills: running } = this.#options.table.load(blob);
    const { signal } = order;
    const stallMs = order.priority === 'demand' ? FILL_WAIT_MS : FILL_WAIT_AHEAD_MS;
    const waits = new Set<Promise<unknown>>();
    let failure: { readonly error: unknown } | undefined;
    const waitFor = (fill: Fill): void => {
      const wait = fill
        .wait(WHOLE_FILL, { clock, signal, stallMs })
        .catch((error: unknown) => void (failure ??= { error }))
        .finally(() => waits.delete(wait));
      waits.add(wait);
    };
    let joined: Fill | undefined;
    for (let block = order.span.first; block < order.span.end;) {
      if (blob.state.kind !== 'filling' || order.stopped() || !health.mayFill || failure !== undefined) break;
      const other = running.get(block);
      if (other?.signal.aborted) {
        // Given up by those who wanted it; not by us.
        await other.settled;
        continue;
      }
      if (other !== undefined && other !== joined) waitFor((joined = other));
      if (other !== undefined || present.has(block)) block++;
      else {
        const fill = await this.#startRun(blob, { first: block, end: order.span.end }, order);
        if (fill === 'no-room') break;
        if (fill === undefined) continue;
        waitFor(fill);
        block = fill.endBlock;
      }
    }
    while (waits.size > 0) await Promise.all(waits);
    if (failure !== undefined) throw failure.error;
  }

  /** Undefined if the block was taken by somebody else meanwhile. */
  async #startRun(blob: Blob, span: BlockSpan, order: FillOrder): Promise<Fill | 'no-room' | undefined> {
    const { fills, space } = this.#options;
    const slots = this.#slots[order.priority];
    if (!slots.tryTake()) await slots.take(order.signal);
    let fill: Fill | undefined;
    try {
      const run = fills.missingRun(blob, span.first, span.end);
      if (run.first === run.end || blob.state.kind !== 'filling' || order.stopped()) return undefined;
      const reserved = space.reserve(blob, fills.chargeOf(blob, run));
      const reservation = reserved instanceof Promise ? await reserved : reserved;
      if (reservation === undefined) return 'no-room';
      if (blob.state.kind !== 'filling' || fills.missingRun(blob, run.first, run.end).end !== run.end) {
        reservation.settle(0);
        return undefined;
      }
      fill = fills.start(blob, run, { priority: order.priority, reservation });
      void fill.settled.then(() => slots.give());
      return fill;
    } finally {
      if (fill === undefined) slots.give();
    }
  }
}
