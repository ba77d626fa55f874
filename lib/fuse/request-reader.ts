/**
 * The memory that requests are read into. Each channel has one reader with one piece of memory, used again for the next
 * request; a request that needs its bytes for longer keeps the piece, and the reader takes another.
 *
 * Invariant: a piece is given back only by the one who knows that nobody reads it any more. One that never is (its
 * write failed, and may still be under way) is left to the garbage collector.
 */
import type { RequestChannel } from './device.ts';
import type { RequestInput } from './write-router.ts';

/** Pieces that wait to be used again. */
const SPARE_MAX = 16;

interface Piece {
  readonly bytes: Buffer;
  readonly view: DataView;
}

export class RequestMemory {
  readonly #bytesMax: number;
  readonly #spare: Piece[] = [];

  /** @param bytesMax of the largest request */
  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  take(): Piece {
    const spare = this.#spare.pop();
    if (spare !== undefined) return spare;
    const bytes = Buffer.allocUnsafeSlow(this.#bytesMax);
    return { bytes, view: new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength) };
  }

  giveBack(piece: Piece): void {
    if (this.#spare.length < SPARE_MAX) this.#spare.push(piece);
  }
}

export class RequestReader implements RequestInput {
  readonly channel: RequestChannel;
  readonly #memory: RequestMemory;
  #piece: Piece;
  /** End of the request that has just been read. */
  end = 0;

  constructor(channel: RequestChannel, memory: RequestMemory) {
    this.channel = channel;
    this.#memory = memory;
    this.#piece = memory.take();
  }

  get bytes(): Buffer {
    return this.#piece.bytes;
  }

  get view(): DataView {
    return this.#piece.view;
  }

  keep(): () => void {
    const kept = this.#piece;
    this.#piece = this.#memory.take();
    return () => this.#memory.giveBack(kept);
  }
}
