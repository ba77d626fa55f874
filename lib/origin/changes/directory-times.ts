/**
 * Moves the times of a directory with its entries, in the same pass of the gate and the same transaction.
 *
 * The times are a name that changes share, so changes in one directory do not wait for each other. They never go back.
 */
import { ROOT_INODE } from '../../base/brand.ts';
import type { Clock } from '../../base/clock.ts';
import type { ChangedName } from './change-gate.ts';
import type { ChangedRows } from '../index/index-changes.ts';
import type { IndexedInode } from '../index/index-rows.ts';
import type { NamespaceIndex } from '../index/namespace-index.ts';

const NS_PER_MS = 1_000_000n;

/** Directories whose times a change moves. */
export interface TouchedDirectories {
  /** For the gate. */
  readonly names: readonly ChangedName[];
  /** Inside the gate: their places are those that the gate was told. */
  isStillSo(): Promise<boolean>;
  /** In the transaction of the change. */
  apply(rows: ChangedRows): void;
}

export class DirectoryTimes {
  readonly #exportId: number;
  readonly #index: NamespaceIndex;
  readonly #clock: Clock;

  constructor(options: { readonly exportId: number; readonly index: NamespaceIndex; readonly clock: Clock }) {
    this.#exportId = options.exportId;
    this.#index = options.index;
    this.#clock = options.clock;
  }

  async of(...directories: readonly number[]): Promise<TouchedDirectories> {
    const distinct = [...new Set(directories)];
    const rows = await this.#rows(distinct);
    return {
      names: rows.flatMap((row) => (row === undefined ? [] : { ...attributesName(row), isShared: true })),
      isStillSo: async () => {
        const now = await this.#rows(distinct);
        return now.every((row, at) => row?.parent === rows[at]?.parent && row?.name === rows[at]?.name);
      },
      apply: (changed) => {
        for (const directory of distinct) this.#touch(changed, directory);
      },
    };
  }

  get nowNs(): bigint {
    return BigInt(Math.round(this.#clock.wallMs())) * NS_PER_MS;
  }

  #rows(directories: readonly number[]): Promise<(IndexedInode | undefined)[]> {
    return Promise.all(directories.map((directory) => this.#index.inode(this.#exportId, directory)));
  }

  #touch(rows: ChangedRows, directory: number): void {
    const now = rows.inode(this.#exportId, directory);
    if (now === undefined) return;
    const { nowNs } = this;
    rows.setTimes(this.#exportId, directory, nowNs > now.modifiedNs ? nowNs : now.modifiedNs);
  }
}

/** Where the attributes of an inode are leased. */
export function attributesName(row: IndexedInode): ChangedName {
  const root = Number(ROOT_INODE);
  return row.inode === root
    ? { directory: root, name: '', attributesOnly: true }
    : { directory: row.parent, name: row.name, attributesOnly: true };
}
