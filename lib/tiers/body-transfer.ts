/**
 * Moves the bytes of response bodies into a sink, in order, in pieces, with bounded memory.
 *
 * How: pieces gather while a write is under way; the next write takes all of them. The first write is small, so that
 * a waiting reader gets its first byte early; later ones double up to `pieceBytesMax`. Whoever is slower holds the
 * other back: the body is paused while more than `waitingBytesMax` wait.
 *
 * Invariants: at most one write is under way; `take` settles only when none is; `takenTo` counts what a body has
 * delivered, `writtenTo` what the sink has taken; progress is reported of written bytes only and never goes back.
 */
import { invariant } from '../base/errors.ts';
import type { Readable } from 'node:stream';
import { StoreError } from '../store/object-store.ts';
import type { FetchLimits } from './fetch-limits.ts';
import { sinkErrorOf } from './tier-errors.ts';

/** Takes bytes in order, each at its own offset in the version. */
export interface RangeSink {
  /** Notes bytes as they pass by, before they are written. */
  observe(piece: Buffer): void;
  /** Finishes at once (undefined) or later. */
  write(pieces: readonly Buffer[], position: number): Promise<void> | undefined;
  /** Forgets everything observed: the range begins anew. */
  restart(): void;
}

export interface TransferRange {
  readonly offset: number;
  readonly length: number;
  readonly sink: RangeSink;
  readonly signal: AbortSignal;
  readonly onProgress: (filledTo: number) => void;
}

export class BodyTransfer {
  readonly #range: TransferRange;
  readonly #end: number;
  readonly #limits: FetchLimits;
  #takenTo: number;
  #writtenTo: number;
  #reportedTo: number;
  #pieceBytes: number;

  constructor(range: TransferRange, limits: FetchLimits) {
    this.#range = range;
    this.#end = range.offset + range.length;
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
    this.#range.sink.restart();
  }

  /** Resolves with undefined when the range is written, else with what went wrong; never rejects. */
  take(body: Readable): Promise<unknown> {
    const { sink, signal } = this.#range;
    const { waitingBytesMax, pieceBytesMax } = this.#limits;
    let waiting: Buffer[] = [];
    let waitingBytes = 0;
    let writing = false;
    /** The body will deliver no more; `failure` is undefined if that was its regular end. */
    let ended = false;
    let failure: unknown;

    return new Promise((resolve) => {
      const end = (error?: unknown): void => {
        if (ended) return;
        ended = true;
        failure = error;
        if (error !== undefined) body.destroy();
        write();
      };
      const settle = (): void => {
        signal.removeEventListener('abort', abort);
        resolve(failure);
      };
      const abort = (): void => end(signal.reason ?? new Error('aborted'));
      const written = (bytes: number): void => {
        this.#writtenTo += bytes;
        this.#pieceBytes = Math.min(pieceBytesMax, this.#pieceBytes * 2);
        this.#report();
      };
      const refused = (error: unknown): void => {
        waiting = [];
        waitingBytes = 0;
        if (ended) failure = sinkErrorOf(error);
        else end(sinkErrorOf(error));
      };
      const write = (): void => {
        while (!writing) {
          if (waitingBytes === 0) {
            if (ended) settle();
            return;
          }
          if (!ended && waitingBytes < this.#pieceBytes && this.#takenTo < this.#end) return;
          const pieces = waiting;
          const bytes = waitingBytes;
          waiting = [];
          waitingBytes = 0;
          try {
            const later = sink.write(pieces, this.#writtenTo);
            if (later === undefined) {
              written(bytes);
              continue;
            }
            writing = true;
            later
              .then(() => written(bytes), refused)
              .finally(() => {
                writing = false;
                if (body.isPaused()) body.resume();
                write();
              });
          } catch (error) {
            refused(error);
          }
        }
      };
      body.on('data', (piece: Buffer) => {
        if (ended) return;
        if (this.#takenTo + piece.byteLength > this.#end) {
          end(new StoreError('corrupt', 'the body is longer than the range'));
          return;
        }
        sink.observe(piece);
        this.#takenTo += piece.byteLength;
        waiting.push(piece);
        waitingBytes += piece.byteLength;
        write();
        if (writing && waitingBytes >= waitingBytesMax) body.pause();
      });
      body.on('end', () =>
        end(
          this.#takenTo === this.#end
            ? undefined
            : new StoreError('corrupt', 'the body is shorter than the range'),
        ),
      );
      body.on('error', (error) => end(error));
      body.on('close', () => end(new StoreError('unavailable', 'the body broke off')));
      if (signal.aborted) abort();
      else signal.addEventListener('abort', abort, { once: true });
    });
  }

  #report(): void {
    invariant(this.#writtenTo <= this.#takenTo, 'only taken bytes are written');
    if (this.#writtenTo <= this.#reportedTo) return;
    this.#reportedTo = this.#writtenTo;
    this.#range.onProgress(this.#writtenTo);
  }
}
