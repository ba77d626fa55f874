/**
 * Moves the bytes of response bodies into a sink, in order, in pieces.
 *
 * How: what a body delivers gathers until a piece is full and is then written at once, on this thread: fetch workers
 * have nothing better to do, writes of one file exclude each other in the kernel anyway, and a sink that is slow so
 * holds the body back with no buffer in between. The first piece is small, so that a waiting reader gets its first
 * byte early; pieces double up to `pieceBytesMax`.
 *
 * Invariants: `takenTo` counts what bodies have delivered, `writtenTo` what the sink has taken; they differ by less
 * than a piece and what the socket delivers at once; progress is reported of
 * written bytes only and never goes back.
 */
import type { Readable } from 'node:stream';
import { StoreError } from '../store/object-store.ts';
import type { FetchLimits } from './fetch-limits.ts';
import { sinkErrorOf } from './tier-errors.ts';

/** Takes bytes in order, each at its own offset in the version. */
export interface RangeSink {
  /** Notes bytes as they pass by, before they are written. */
  observe(piece: Buffer): void;
  write(pieces: readonly Buffer[], position: number): void;
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
  readonly #limits: FetchLimits;
  #takenTo: number;
  #writtenTo: number;
  #reportedTo: number;
  #pieceBytes: number;
  #waiting: Buffer[] = [];

  constructor(range: TransferRange, limits: FetchLimits) {
    this.#range = range;
    this.#limits = limits;
    this.#takenTo = this.#writtenTo = this.#reportedTo = range.offset;
    this.#pieceBytes = limits.firstPieceBytes;
  }

  /** Where the next body must begin. */
  get takenTo(): number {
    return this.#takenTo;
  }

  /** What was taken cannot be trusted: the next body begins at the start of the range. */
  restart(): void {
    this.#takenTo = this.#writtenTo = this.#range.offset;
    this.#waiting = [];
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
      const step = (run: () => void): void => {
        if (ended) return;
        try {
          run();
        } catch (error) {
          end(error);
        }
      };
      /** Whatever ends a body, what it has delivered is good, and the next one begins after it. */
      const endAfterWriting = (failure: unknown): void =>
        step(() => {
          this.#write();
          end(failure);
        });
      const abort = (): void => end(signal.reason);
      body.on('data', (piece: Buffer) => step(() => this.#take(piece, bodyEnd)));
      const breakOff = (): void =>
        endAfterWriting(body.errored ?? new StoreError('unavailable', 'the body broke off'));
      body.on('end', () => endAfterWriting(this.#shortness(bodyEnd)));
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
    this.#range.sink.observe(piece);
    this.#takenTo += piece.byteLength;
    this.#waiting.push(piece);
    if (this.#takenTo === bodyEnd || this.#takenTo - this.#writtenTo >= this.#pieceBytes) this.#write();
  }

  #write(): void {
    if (this.#waiting.length === 0) return;
    const pieces = this.#waiting;
    this.#waiting = [];
    try {
      this.#range.sink.write(pieces, this.#writtenTo);
    } catch (error) {
      throw sinkErrorOf(error);
    }
    this.#writtenTo = this.#takenTo;
    this.#pieceBytes = Math.min(this.#limits.pieceBytesMax, this.#pieceBytes * 2);
    const isFirst = this.#reportedTo === this.#range.offset;
    if (this.#writtenTo - this.#reportedTo < (isFirst ? 1 : this.#limits.reportBytes)) return;
    this.#reportedTo = this.#writtenTo;
    this.#range.onProgress(this.#writtenTo);
  }

  #shortness(bodyEnd: number): StoreError | undefined {
    return this.#takenTo === bodyEnd
      ? undefined
      : new StoreError('corrupt', 'the body is shorter than the range');
  }
}
