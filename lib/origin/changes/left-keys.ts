/**
 * The keys that rows leave when they are removed or get another place, in one transaction: what becomes a leftover, and
 * what is a name's own again.
 *
 * A row leaves the key where its bytes lie, and the one where a move may have begun to put them. Never named to be
 * emptied: a key where the bytes of another row lie, which waits for its own move.
 */
import type { ChangedRows, Leftover } from '../index/index-changes.ts';
import type { IndexedInode } from '../index/index-rows.ts';
import type { Leftovers } from './leftovers.ts';

export class LeftKeys {
  readonly #exportId: number;
  readonly #rows: ChangedRows;
  readonly #leftovers: Leftovers;
  readonly #left = new Map<string, Leftover>();
  readonly #kept = new Set<string>();

  constructor(options: {
    readonly exportId: number;
    readonly rows: ChangedRows;
    readonly leftovers: Leftovers;
  }) {
    this.#exportId = options.exportId;
    this.#rows = options.rows;
    this.#leftovers = options.leftovers;
  }

  remove(row: IndexedInode): void {
    this.#leave(row, undefined);
    this.#rows.remove(this.#exportId, row);
  }

  /** The inode gets another place; its bytes stay where they are for now. */
  move(row: IndexedInode, to: { readonly directory: number; readonly name: string }): void {
    const place = { parent: to.directory, name: to.name };
    const key = this.#leave(row, row.inode);
    this.#rows.move(this.#exportId, row.inode, place);
    if (key !== this.#naturalKey({ ...row, ...place })) return;
    // Back where its bytes lie.
    this.#left.delete(key);
    this.#kept.add(key);
  }

  /** At the end of the transaction. @returns what follows from it in memory, when it is done */
  record(): () => void {
    for (const key of this.#kept) this.#rows.deleteLeftover(this.#exportId, key);
    for (const leftover of this.#left.values()) this.#rows.putLeftover(this.#exportId, leftover);
    return () => {
      for (const key of this.#kept) this.#leftovers.cancel(key);
      this.#leftovers.add([...this.#left.values()]);
    };
  }

  /** @returns where its bytes lie */
  #leave(row: IndexedInode, movedInode: number | undefined): string {
    const key = this.#actualKey(row);
    const naturalKey = this.#naturalKey(row);
    this.#left.set(key, { key, entityTag: row.version?.entityTag, inode: movedInode });
    if (naturalKey !== key && !this.#hasBytesOfAnother(naturalKey)) {
      this.#left.set(naturalKey, { key: naturalKey, entityTag: undefined, inode: undefined });
    }
    return key;
  }

  #hasBytesOfAnother(key: string): boolean {
    const known = this.#left.get(key) ?? this.#leftovers.get(key);
    return this.#kept.has(key) || known?.inode !== undefined;
  }

  #actualKey(row: IndexedInode): string {
    if (row.version !== undefined) return row.version.objectKey;
    const own = this.#rows.directory({ exportId: this.#exportId, directory: row.inode });
    return own?.keyPrefix ?? this.#naturalKey(row);
  }

  #naturalKey(row: IndexedInode): string {
    const prefix = this.#rows.directory({ exportId: this.#exportId, directory: row.parent })?.keyPrefix ?? '';
    return prefix + row.name + (row.kind === 'directory' ? '/' : '');
  }
}
