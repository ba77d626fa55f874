/**
 * Where directories are: each with those above it, as the lease table wants them.
 *
 * A bounded memory of parents over the index. What it says is what the index says, as long as it is told of moves
 * before anybody acts on them: the change gate does that.
 */
import type { InodeNumber } from '../../base/brand.ts';
import type { Ancestors } from '../../lease/lease-table-events.ts';
import type { NamespaceIndex } from '../index/namespace-index.ts';

/** About 100 bytes each; beyond it the one that was learnt first is forgotten. */
const DIRECTORIES_MAX = 200_000;
/** A tree deeper than that has a cycle, or names longer than any path may be. */
const DEPTH_MAX = 4_096;
const ROOT = 1n as InodeNumber;

export class LeasePlaces {
  readonly #index: NamespaceIndex;
  readonly #exportId: number;
  readonly #parents = new Map<InodeNumber, InodeNumber>();

  constructor(index: NamespaceIndex, exportId: number) {
    this.#index = index;
    this.#exportId = exportId;
  }

  /** Undefined: not all of it is remembered. */
  of(directory: InodeNumber): Ancestors | undefined {
    const ancestors = [directory];
    for (let at = directory; at !== ROOT;) {
      const parent = this.#parents.get(at);
      if (parent === undefined || ancestors.length > DEPTH_MAX) return undefined;
      ancestors.push(parent);
      at = parent;
    }
    return ancestors;
  }

  /** @returns whether there is such a directory; if so, `of` knew it at some moment before this resolved */
  async learn(directory: InodeNumber): Promise<boolean> {
    for (let at = directory, depth = 0; at !== ROOT && depth <= DEPTH_MAX; depth++) {
      let parent = this.#parents.get(at);
      if (parent === undefined) {
        const row = await this.#index.inode(this.#exportId, Number(at));
        if (row?.kind !== 'directory') return false;
        parent = BigInt(row.parent) as InodeNumber;
        this.#remember(at, parent);
      }
      at = parent;
    }
    return true;
  }

  /** It may have got another place, or be gone. */
  forget(directory: InodeNumber): void {
    this.#parents.delete(directory);
  }

  #remember(directory: InodeNumber, parent: InodeNumber): void {
    const [oldest] = this.#parents.size >= DIRECTORIES_MAX ? this.#parents.keys() : [];
    if (oldest !== undefined) this.#parents.delete(oldest);
    this.#parents.set(directory, parent);
  }
}
