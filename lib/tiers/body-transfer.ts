/**
 * Moves the bytes of response bodies into a sink, in order, in pieces.
 *
 * How: what a body delivers is written at once, on this thread: fetch workers have nothing better to do, writes of
 * one file exclude each other in the kernel anyway, a sink that is slow so holds the body back, and the store can read
 * into the same memory again. The first report comes early, for a waiting reader; then they become fewer.
 *
 * Invariants: nothing of a piece is kept; `takenTo` counts what the sink has taken; progress is reported of such bytes
 * only and never goes back.
 */
import type { Readable } from 'node:stream';
import { StoreError } from '../store/object-store.ts';
import type { FetchLimits } from './fetch-limits.ts';
import { sinkErrorOf } from './tier-errors.ts';

/** Takes bytes in order, each at its own offset in the version. */
export interface RangeSink {
  /** Notes bytes as they pass by. */
  observe(piece: Buffer): void;
  /** Done with the piece when it returns. */
  write(piece: Buffer, position: number): void;
  /** Forgets everything observed: the range begins anew. */
  restart(): void;
}

export interface TransferRange {
  readonly offset: number;
  readonly sink: RangeSink;
  readonly signal: AbortSignal;
  readonly onProgress: (filledTo: number) => void;
}

export class BodyTransfer {
  readonly #range: TransferRange;
  readonly #reportBytesMax: number;
  #reportBytes: number;
  #takenTo: number;
  #reportedTo: number;

  constructor(range: TransferRange, limits: Pick<FetchLimits, 'firstReportBytes' | 'reportBytes'>) {
    this.#range = range;
    this.#reportBytesMax = limits.reportBytes;
    this.#reportBytes = Math.min(limits.firstReportBytes, limits.reportBytes);
    this.#takenTo = this.#reportedTo = range.offset;
  }

  /** Where the next body must begin. */
  get takenTo(): number {
    return this.#takenTo;
  }

  /** What was taken cannot be trusted: the next body begins at the start of the range. */
  restart(): void {
    this.#takenTo = this.#range.offset;
    this.#range.sink.restart();
  }

  /**
   * Takes one body, which begins at `takenTo` and ends at `bodyEnd`. Resolves with undefined when it is written,
   * else with what went wrong; never rejects.
   */
  take(body: Readable, bodyEnd: number): Promise<unknown> {
    const { signal } = this.#range;
    return new Promise((resolve) => {
      let ended = false;
      const end = (failure: unknown): void => {
        if (ended) return;
        ended = true;
        signal.removeEventListener('abort', abort);
        if (failure !== undefined) body.destroy();
        resolve(failure);
      };
      const abort = (): void => end(signal.reason);
      body.on('data', (piece: Buffer) => {
        if (ended) return;
        try {
          this.#take(piece, bodyEnd);
        } catch (error) {
          end(error);
        }
      });
      const breakOff = (): void => {
        // Every body closes in the end, and errors are dear.
        if (!ended) end(body.errored ?? new StoreError('unavailable', 'the body broke off'));
      };
      body.on('end', () => end(this.#shortness(bodyEnd)));
      body.on('error', breakOff);
      body.on('close', breakOff);
      if (signal.aborted) abort();
      else if (body.destroyed) breakOff();
      else signal.addEventListener('abort', abort, { once: true });
    });
  }

  #take(piece: Buffer, bodyEnd: number): void {
    if (this.#takenTo + piece.byteLength > bodyEnd) {
      throw new StoreError('corrupt', 'the body is longer than the range');
    }
    const { sink, onProgress } = this.#range;
    try {
      sink.write(piece, this.#takenTo);
    } catch (error) {
      throw sinkErrorOf(error);
    }
    sink.observe(piece);
    this.#takenTo += piece.byteLength;
    if (this.#takenTo - this.#reportedTo < this.#reportBytes) return;
    this.#reportBytes = Math.min(this.#reportBytesMax, this.#reportBytes * 2);
    this.#reportedTo = this.#takenTo;
    onProgress(this.#takenTo);
  }

  #shortness(bodyEnd: number): StoreError | undefined {
    return this.#takenTo === bodyEnd
      ? undefined
      : new StoreError('corrupt', 'the body is shorter than the range');
  }
}
