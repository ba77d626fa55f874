/**
 * The end of a commit, in one transaction: what lies in the store is what the name means, the upload is done, the write
 * has its version, and the times of the directory move.
 */
import type { ObjectHead } from '../../store/object-store.ts';
import { removed, type Target } from './commit-target.ts';
import type { DirectoryTimes } from './directory-times.ts';
import type { ExportTree } from '../tree/export-tree.ts';
import type { ChangedRows, Leftover, UploadRow } from '../index/index-changes.ts';
import type { Found, IndexedInode } from '../index/index-rows.ts';
import type { Leftovers } from './leftovers.ts';
import type { NamespaceIndex } from '../index/namespace-index.ts';
import type { StoreCalls } from '../tree/store-calls.ts';

/** An object that was put or completed. */
export interface Stored {
  readonly head: ObjectHead;
  /** By the store; else the head is what we have put, and its time is ours. */
  readonly isAsked: boolean;
}

export interface CommitRecordOptions {
  readonly exportId: number;
  readonly index: NamespaceIndex;
  readonly store: StoreCalls;
  readonly tree: ExportTree;
  readonly leftovers: Leftovers;
  readonly times: DirectoryTimes;
}

interface Entry {
  readonly row: UploadRow;
  readonly target: Target;
  readonly found: Found;
  /** Keys that mean nothing any more. */
  readonly left: Leftover[];
}

export class CommitRecord {
  readonly #options: CommitRecordOptions;

  constructor(options: CommitRecordOptions) {
    this.#options = options;
  }

  /** @throws OriginError `not-found`: the directory was removed while the object was completed */
  async run(row: UploadRow, target: Target, stored: Stored): Promise<IndexedInode> {
    const { index, tree, leftovers, store } = this.#options;
    const entry: Entry = { row, target, found: await this.#find(row, stored), left: [] };
    const placed = index.changes.durably((rows) => {
      rows.deleteUpload(row.upload);
      const placed = this.#place(rows, entry);
      if (placed === undefined) return undefined;
      for (const leftover of entry.left) rows.putLeftover(this.#options.exportId, leftover);
      target.touched.apply(rows);
      this.#advanceWrite(rows, entry, placed);
      return placed;
    });
    if (placed === undefined) {
      await store.delete(row.objectKey, stored.head.entityTag);
      throw removed();
    }
    tree.questions.changed(target.directory, [target.names[0]]);
    tree.absences.drop(target.directory, target.names[0]);
    leftovers.add(entry.left);
    return placed;
  }

  async #find(row: UploadRow, { head, isAsked }: Stored): Promise<Found> {
    const { tree, times } = this.#options;
    if (isMarker(row)) return tree.probe.foundMarker(head);
    const found = await tree.probe.foundObject(head);
    return {
      ...found,
      version: isAsked ? found.version : { ...found.version, storedS: undefined },
      attributes:
        row.commit === undefined ? found.attributes : { ...row.commit.attributes, changedNs: times.nowNs },
    };
  }

  #place(rows: ChangedRows, { row, target, found, left }: Entry): IndexedInode | undefined {
    const { exportId, tree } = this.#options;
    const names = [...target.names];
    const leaf = names.pop() ?? '';
    let key = { exportId, directory: target.directory };
    for (const name of names) {
      const made = rows.place(key, name, tree.probe.listedDirectory());
      if (made === undefined) return undefined;
      rows.setListed(exportId, made.inode);
      key = { exportId, directory: made.inode };
    }
    const replaced = rows.child(key, leaf);
    if (replaced?.version !== undefined && replaced.version.objectKey !== row.objectKey) {
      const { objectKey, entityTag } = replaced.version;
      left.push({ key: objectKey, entityTag, inode: undefined });
    }
    // A file that comes in the place of another.
    const inode = target.write?.inode;
    if (replaced !== undefined && inode !== undefined && replaced.inode !== inode)
      rows.remove(exportId, replaced);
    const placed = rows.place(key, leaf, found, { inode });
    const parent = rows.directory(key);
    if (placed === undefined || parent === undefined) return undefined;
    if (isMarker(row)) rows.setListed(exportId, placed.inode);
    // The directory has got other keys since the upload began, or the file another name: the object follows.
    if (parent.keyPrefix + leaf + (isMarker(row) ? '/' : '') !== row.objectKey) {
      if (isMarker(row)) rows.setKeyPrefix(exportId, placed.inode, row.objectKey);
      left.push({ key: row.objectKey, entityTag: placed.version?.entityTag, inode: placed.inode });
    }
    return placed;
  }

  #advanceWrite(rows: ChangedRows, { row, target }: Entry, placed: IndexedInode): void {
    const { write } = target;
    if (write === undefined || row.commit === undefined || placed.version === undefined) return;
    if (write.place !== undefined) rows.writes.setPlace(write.write, undefined);
    rows.writes.setCommitted(write.write, { operation: row.commit.operation, version: placed.version });
    if (row.commit.isLast) rows.writes.end(write, Number(this.#options.times.nowNs / 1_000_000n));
  }
}

/** The object carries the attributes of a directory. */
export function isMarker(row: UploadRow): boolean {
  return row.objectKey.endsWith('/');
}
