/**
 * The body of a GET: passes the bytes of a source on and never ends normally unless exactly `bytes` of them came.
 *
 * Short, long, reset or failed sources destroy it with a `StoreError`; so does a source that sends nothing for
 * `stallMs` while the reader waits. Back pressure reaches the source, at most one high-water mark is kept, and
 * destroying the body destroys the source.
 */
import { Readable } from 'node:stream';
import { type Clock } from '../base/clock.ts';
import { type BodySource } from './body-source.ts';
import { abortReason } from './call-deadline.ts';
import { StoreError } from './object-store.ts';

const BUFFERED_BYTES_MAX = 1024 * 1024;

export interface BodyGuard {
  /** For messages: what is being read. */
  readonly what: string;
  readonly bytes: number;
  readonly stallMs: number;
  readonly clock: Clock;
  readonly signals: readonly AbortSignal[];
  /** The reader is done with a piece when its `data` listener returns. */
  readonly transient?: boolean | undefined;
  /** Turns whatever the source failed with into a `StoreError`. */
  readonly toStoreError: (error: unknown) => StoreError;
  /** A last look before the end, such as "is the file still the same?"; a rejection destroys the body. */
  readonly beforeEnd?: () => Promise<void>;
}

export class GuardedBody extends Readable {
  readonly #source: BodySource;
  readonly #guard: BodyGuard;
  #receivedBytes = 0;
  #sourceEnded = false;
  #lastByteMs: number;
  #waiting = false;
  #stopWatch: () => void = () => {};
  readonly #onAbort = (): void => {
    const fired = this.#guard.signals.find(({ aborted }) => aborted);
    if (fired) this.destroy(abortReason(fired));
  };

  constructor(source: BodySource, guard: BodyGuard) {
    super({ highWaterMark: BUFFERED_BYTES_MAX });
    this.#source = source;
    this.#guard = guard;
    this.#lastByteMs = guard.clock.nowMs();
    // Nobody may have taken it yet when it breaks; whoever reads it later still gets the error.
    this.on('error', () => {});
    for (const signal of guard.signals) signal.addEventListener('abort', this.#onAbort, { once: true });
    this.#stopWatch = guard.clock.every(Math.max(1, Math.ceil(guard.stallMs / 4)), () => this.#watch());
    source.start({
      take: (piece) => this.#take(piece),
      end: () => this.#end(),
      fail: (error) => this.#fail(error),
    });
    this.#onAbort();
  }

  override _read(): void {
    if (!this.#waiting) {
      this.#waiting = true;
      this.#lastByteMs = this.#guard.clock.nowMs();
    }
    this.#source.resume();
  }

  override _destroy(error: Error | null, callback: (error: Error | null) => void): void {
    this.#stopWatch();
    for (const signal of this.#guard.signals) signal.removeEventListener('abort', this.#onAbort);
    if (!this.#sourceEnded) this.#source.destroy();
    callback(error);
  }

  #take(piece: Buffer): boolean {
    this.#receivedBytes += piece.length;
    const { bytes, what, transient } = this.#guard;
    if (this.#receivedBytes > bytes) {
      this.destroy(new StoreError('corrupt', `${what}: the store sent more than ${bytes} bytes`));
      return true;
    }
    this.#lastByteMs = this.#guard.clock.nowMs();
    this.#waiting = this.push(piece);
    if (!this.#waiting) this.#source.pause();
    return transient === true && this.readableLength === 0;
  }

  #end(): void {
    this.#sourceEnded = true;
    const { bytes, what, beforeEnd } = this.#guard;
    if (this.#receivedBytes !== bytes) {
      this.destroy(
        new StoreError('corrupt', `${what}: the store sent ${this.#receivedBytes} of ${bytes} bytes`),
      );
    } else if (beforeEnd) {
      beforeEnd().then(
        () => this.push(null),
        (error: unknown) => this.destroy(this.#guard.toStoreError(error)),
      );
    } else {
      this.push(null);
    }
  }

  #fail(error: unknown): void {
    const { bytes, what, toStoreError } = this.#guard;
    const broken = `${what}: the connection broke after ${this.#receivedBytes} of ${bytes} bytes`;
    this.destroy(error === undefined ? new StoreError('unavailable', broken) : toStoreError(error));
  }

  #watch(): void {
    if (!this.#waiting || this.#sourceEnded) return;
    const { clock, stallMs, what, bytes } = this.#guard;
    if (clock.nowMs() - this.#lastByteMs < stallMs) return;
    this.destroy(
      new StoreError(
        'timeout',
        `${what}: no byte for ${stallMs} ms after ${this.#receivedBytes} of ${bytes}`,
      ),
    );
  }
}
