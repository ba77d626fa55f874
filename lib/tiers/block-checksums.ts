/**
 * CRC-32 of each block of a range, computed as its bytes pass by in pieces of any size.
 *
 * Invariant: the range begins at a block boundary; its last block may be short.
 */
import { crc32 } from 'node:zlib';

export class BlockChecksums {
  readonly #blockBytes: number;
  readonly #finished: number[] = [];
  #running = 0;
  #inBlock = 0;

  constructor(blockBytes: number) {
    this.#blockBytes = blockBytes;
  }

  add(piece: Uint8Array): void {
    for (let at = 0; at < piece.byteLength;) {
      const end = Math.min(piece.byteLength, at + this.#blockBytes - this.#inBlock);
      this.#running = crc32(
        at === 0 && end === piece.byteLength ? piece : piece.subarray(at, end),
        this.#running,
      );
      this.#inBlock += end - at;
      at = end;
      if (this.#inBlock === this.#blockBytes) this.#finish();
    }
  }

  /** Of the whole range; nothing can be added afterwards. */
  finish(): readonly number[] {
    if (this.#inBlock > 0) this.#finish();
    return this.#finished;
  }

  #finish(): void {
    this.#finished.push(this.#running);
    this.#running = 0;
    this.#inBlock = 0;
  }
}
