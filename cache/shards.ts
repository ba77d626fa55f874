/** Chooses the folder of each new blob: one until it has enough files, then the emptiest other one. See `format.ts`. */
import type { Disk } from './disk.ts';
import { type CachePaths, SHARD_FILES, shardPath, SHARDS } from './format.ts';

export class Shards {
  readonly #disk: Disk;
  readonly #paths: CachePaths;
  /** Files that were made in each folder or found there; removed ones are noticed at the next start. */
  readonly #files = new Uint32Array(SHARDS);
  #current: number | undefined;
  #left = 0;

  constructor(options: { readonly disk: Disk; readonly paths: CachePaths }) {
    this.#disk = options.disk;
    this.#paths = options.paths;
  }

  /** A file of an earlier run. */
  adopt(shard: number): void {
    this.#files[shard]!++;
  }

  /** The folder of a new blob; exists from now on. */
  take(): number {
    if (this.#current === undefined || this.#left === 0) this.#turn();
    this.#left--;
    this.#files[this.#current!]!++;
    return this.#current!;
  }

  #turn(): void {
    let emptiest = 0;
    for (let shard = 1; shard < SHARDS; shard++) {
      if (this.#files[shard]! < this.#files[emptiest]!) emptiest = shard;
    }
    // What is nearly full is not worth the turn: continue with the fullest that has room.
    for (let shard = 0; shard < SHARDS; shard++) {
      const files = this.#files[shard]!;
      if (files < SHARD_FILES / 2 && files > this.#files[emptiest]!) emptiest = shard;
    }
    this.#disk.makeDirectory(shardPath(this.#paths, emptiest));
    this.#current = emptiest;
    this.#left = SHARD_FILES;
  }
}
