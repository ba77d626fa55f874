/**
 * Where the bytes of a body come from, and who takes them: pieces are pushed, in order, only while they are wanted.
 * `guarded-body.ts` takes from a source whatever it is: a connection of our own, the SDK's stream, a file.
 */
import { type Readable } from 'node:stream';

export interface BodyTaker {
  /** True: nothing of the piece is kept, so its memory may be used again. */
  take(piece: Buffer): boolean;
  /** The source has no more; whether that is all there should be is for the taker to say. */
  end(): void;
  /** @param error undefined: it just broke off */
  fail(error: unknown): void;
}

export interface BodySource {
  /** Called once. Nothing is taken before the first `resume`. */
  start(taker: BodyTaker): void;
  pause(): void;
  resume(): void;
  /** Nothing is wanted any more; the taker is told nothing from here on. */
  destroy(): void;
}

export function streamSource(stream: Readable): BodySource {
  return {
    start(taker) {
      let ended = false;
      const once = (run: () => void): void => {
        if (!ended) run();
        ended = true;
      };
      stream.on('data', (piece: Buffer) => taker.take(piece));
      stream.on('end', () => once(() => taker.end()));
      stream.on('error', (error: unknown) => once(() => taker.fail(error)));
      stream.on('close', () => once(() => taker.fail(undefined)));
      stream.pause();
    },
    pause: () => void stream.pause(),
    resume: () => void stream.resume(),
    destroy() {
      stream.on('error', () => undefined);
      stream.destroy();
    },
  };
}
