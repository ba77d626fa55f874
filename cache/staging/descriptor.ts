/**
 * An open file whose number is given back only once no call of ours uses it any more: the number of a closed one may
 * be another file's already.
 */
import { CacheError } from '../block-cache.ts';
import type { Disk } from '../disk.ts';

export class Descriptor {
  readonly number: number;
  readonly #disk: Disk;
  #uses = 0;
  #isClosed = false;

  constructor(number: number, disk: Disk) {
    this.number = number;
    this.#disk = disk;
  }

  async use<T>(run: (fd: number) => Promise<T>): Promise<T> {
    if (this.#isClosed) throw new CacheError('closed', 'the file that is being written was closed');
    this.#uses++;
    try {
      return await run(this.number);
    } finally {
      if (--this.#uses === 0 && this.#isClosed) this.#disk.close(this.number);
    }
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    if (this.#uses === 0) this.#disk.close(this.number);
  }
}
