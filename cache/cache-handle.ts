/**
 * One opener's hold on one version: reads, fills, and the descriptor for the kernel.
 *
 * A read is answered from the blob as soon as every byte of its range is there and vouched for: present and
 * verified, or below the mark of a fill in progress. What is missing is fetched, by block; what NVMe cannot or
 * should not take is read around it. A failing disk is never an error of a read.
 */
import type { Clock } from '../lib/base/clock.ts';
import type { FetchPriority, VersionSource } from '../lib/tiers/tier.ts';
import { fetchesOnlyItself } from './admission.ts';
import { CacheError, type CacheHandle } from './block-cache.ts';
import type { Blob, BlobBody } from './blob.ts';
import type { BlobTable } from './blob-table.ts';
import { bytesOf } from './block-map.ts';
import type { Bypass } from './bypass.ts';
import type { Counters } from './counters.ts';
import type { DeviceHealth } from './device-health.ts';
import { type Disk, diskFault } from './disk.ts';
import type { Fill } from './fill.ts';
import { type FillTable, isSinkFailure } from './fill-table.ts';
import type { Filler } from './filler.ts';
import type { Keepings } from './keepings.ts';
import { TOUCHED_BLOCKS_MAX } from './limits.ts';
import { RecentEnds } from './recent-ends.ts';
import type { Space } from './space.ts';
import type { Verifier } from './verification.ts';

export interface CacheParts {
  readonly disk: Disk;
  readonly table: BlobTable;
  readonly fills: FillTable;
  readonly filler: Filler;
  readonly space: Space;
  readonly health: DeviceHealth;
  readonly keepings: Keepings;
  readonly verifier: Verifier;
  readonly bypass: Bypass;
  readonly counters: Counters;
  readonly clock: Clock;
}

interface Range {
  readonly offset: number;
  readonly end: number;
  readonly sequential: boolean;
  readonly signal: AbortSignal | undefined;
  readonly into: Uint8Array | undefined;
}

/** How often a reader starts over when blocks were lost, or somebody else's fill failed, under its feet. */
const READ_ATTEMPTS_MAX = 3;

export class BlobHandle implements CacheHandle {
  readonly #parts: CacheParts;
  readonly #blob: Blob;
  readonly #body: BlobBody;
  readonly #ends = new RecentEnds();
  readonly #isUse: boolean;
  readonly #isExpected: boolean;
  #passthrough = false;
  #closed = false;

  constructor(
    blob: Blob,
    parts: CacheParts,
    { isUse, isExpected }: { readonly isUse: boolean; readonly isExpected: boolean },
  ) {
    this.#isUse = isUse;
    this.#isExpected = isExpected;
    this.#parts = parts;
    this.#blob = blob;
    this.#body = parts.table.load(blob);
    blob.handles++;
    if (isExpected) blob.expectations++;
  }

  get source(): VersionSource {
    return this.#body.source;
  }

  get cachedBytes(): number {
    return bytesOf(this.#body.present, this.#body.geometry);
  }

  async read(
    offset: number,
    length: number,
    options: { readonly signal?: AbortSignal; readonly into?: Uint8Array | undefined } = {},
  ): Promise<Uint8Array> {
    this.#refuseClosed();
    const { counters, health } = this.#parts;
    const end = Math.min(offset + length, this.#blob.sizeBytes);
    if (offset >= end) return new Uint8Array(0);
    const { signal, into } = options;
    const range: Range = { offset, end, sequential: this.#ends.note(offset, end), signal, into };
    if (!health.mayServe) return this.#around(range);
    if (this.#readable(range)) {
      counters.hit();
      return this.#fromBlob(range);
    }
    counters.miss();
    return this.#fetchAndRead(range);
  }

  async fill(
    offset: number,
    length: number,
    options: { readonly priority: FetchPriority; readonly signal?: AbortSignal },
  ): Promise<void> {
    this.#refuseClosed();
    if (!this.#parts.keepings.admits(this.#blob)) return;
    await this.#parts.filler.fill(this.#blob, {
      span: this.#body.geometry.span(offset, length),
      priority: options.priority,
      signal: options.signal,
      stopped: () => this.#closed,
    });
  }

  backingFd(): number | undefined {
    this.#refuseClosed();
    const { state } = this.#blob;
    const { health, table, counters } = this.#parts;
    if (state.kind !== 'complete' || !state.verified || !health.mayServe) return undefined;
    try {
      const fd = table.descriptor(this.#blob);
      if (!this.#passthrough) {
        this.#passthrough = true;
        this.#blob.passthroughs++;
        counters.passthrough();
      }
      return fd;
    } catch (error) {
      health.report(error);
      return undefined;
    }
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#blob.handles--;
    if (this.#isExpected) this.#blob.expectations--;
    if (this.#passthrough) this.#blob.passthroughs--;
    if (this.#isUse) this.#parts.keepings.used(this.#blob);
    this.#parts.table.release(this.#blob);
  }

  #refuseClosed(): void {
    if (this.#closed) throw new CacheError('closed', 'the handle was closed');
  }

  #readable(range: Range): boolean {
    const { first, end } = this.#body.geometry.span(range.offset, range.end - range.offset);
    return this.#body.verified.hasAll(first, end);
  }

  async #fetchAndRead(range: Range): Promise<Uint8Array> {
    for (let attempt = 1; ; attempt++) {
      const waits = await this.#bring(range);
      if (waits === undefined) return this.#around(range);
      try {
        const { clock } = this.#parts;
        const { signal } = range;
        const { offset: leadOffset = Infinity } = waits[0]?.fill ?? {};
        const takesLead = waits.length === 1 && leadOffset <= range.offset;
        const [lead] = await Promise.all(
          waits.map(({ fill, upTo }) => fill.wait(upTo, { clock, signal, takesLead })),
        );
        if (lead === undefined) return await this.#fromBlob(range);
        return lead.subarray(range.offset - leadOffset, range.end - leadOffset);
      } catch (error) {
        range.signal?.throwIfAborted();
        if (isSinkFailure(error)) return this.#around(range);
        // Another's fill may have been given up; a fill of our own tells the truth.
        if (attempt === READ_ATTEMPTS_MAX || waits.every((wait) => wait.own)) throw error;
      }
    }
  }

  /** Has every block of the range verified or on its way; undefined if the range is to be read around NVMe. */
  async #bring(range: Range): Promise<{ fill: Fill; upTo: number; own: boolean }[] | undefined> {
    const { verifier, fills, space, health, keepings } = this.#parts;
    const { present, verified, geometry } = this.#body;
    const { first, end } = geometry.span(range.offset, range.end - range.offset);
    const waits: { fill: Fill; upTo: number; own: boolean }[] = [];
    for (let block = first; block < end;) {
      if (this.#blob.state.kind === 'evicting' || this.#closed) return undefined;
      if (verified.has(block)) {
        block++;
        continue;
      }
      if (present.has(block)) {
        try {
          await verifier.block(this.#blob, block);
        } catch (error) {
          if (diskFault(error) === 'exhausted') return undefined;
          throw error;
        }
        continue;
      }
      const running = this.#body.fills.get(block);
      if (running?.signal.aborted) {
        // Given up by those who wanted it; not by us.
        await running.settled;
        continue;
      }
      if (running !== undefined) {
        waits.push({ fill: running, upTo: Math.min(range.end, geometry.end(block)), own: false });
        block++;
        continue;
      }
      if (!health.mayFill || !keepings.admits(this.#blob) || this.#isSmall(range, block)) return undefined;
      const run = fills.missingRun(this.#blob, block, end);
      const reserved = space.reserve(this.#blob, fills.chargeOf(this.#blob, run));
      const reservation = reserved instanceof Promise ? await reserved : reserved;
      if (reservation === undefined) return undefined;
      // Others may have been faster while space was made.
      const now = fills.missingRun(this.#blob, block, end);
      if (this.#blob.state.kind !== 'filling' || this.#closed || now.end !== run.end) {
        reservation.settle(0);
        continue;
      }
      const fill = fills.start(this.#blob, run, { priority: 'demand', reservation });
      waits.push({ fill, upTo: Math.min(range.end, geometry.end(run.end - 1)), own: true });
      block = run.end;
    }
    return waits;
  }

  #isSmall(range: Range, block: number): boolean {
    const { touched, geometry } = this.#body;
    const small = fetchesOnlyItself({
      sizeBytes: geometry.sizeBytes,
      offset: range.offset,
      length: range.end - range.offset,
      sequential: range.sequential,
      touched: touched.has(block),
    });
    if (small && touched.size < TOUCHED_BLOCKS_MAX) touched.add(block);
    return small;
  }

  async #fromBlob(range: Range): Promise<Uint8Array> {
    const { disk, table, health } = this.#parts;
    const length = range.end - range.offset;
    let cause: unknown;
    this.#blob.holds++;
    try {
      const bytes = range.into?.subarray(0, length) ?? Buffer.allocUnsafeSlow(length);
      const fd = table.descriptor(this.#blob);
      // What has just arrived is in memory, and the way through another thread dearer than the copy.
      if (disk.readNow(fd, bytes, range.offset)) return bytes;
      const read = await disk.read(fd, bytes, range.offset);
      if (read === length) return bytes;
      cause = new Error(`the file of ${this.#blob.version} is shorter than its blocks`);
    } catch (error) {
      cause = error;
    } finally {
      this.#blob.holds--;
      if (this.#closed) table.release(this.#blob);
    }
    if (cause instanceof CacheError) throw cause;
    health.report(cause);
    this.#loseBlocks(range);
    return this.#around(range);
  }

  /** The disk did not give the range back: whatever of it is present is not to be relied on. */
  #loseBlocks(range: Range): void {
    const { geometry, present } = this.#body;
    const { first, end } = geometry.span(range.offset, range.end - range.offset);
    for (let block = first; block < end; block++) {
      if (this.#blob.state.kind !== 'evicting' && present.has(block))
        this.#parts.table.blockLost(this.#blob, block);
    }
  }

  #around(range: Range): Promise<Uint8Array> {
    return this.#parts.bypass.read(this.source, {
      offset: range.offset,
      length: range.end - range.offset,
      sequential: range.sequential,
      signal: range.signal,
    });
  }
}
