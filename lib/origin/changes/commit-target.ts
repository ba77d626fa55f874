/**
 * Where a commit puts its object: by the path of an upload, or by the place that a write's file has now.
 *
 * A target is chosen outside the gate and looked at again inside; one that is not so any more is chosen anew.
 */
import type { DirectoryTimes, TouchedDirectories } from './directory-times.ts';
import { noSuchPath, refuseDirectory, walkDirectories } from '../tree/export-paths.ts';
import type { ExportTree } from '../tree/export-tree.ts';
import type { UploadRow } from '../index/index-changes.ts';
import type { IndexedInode } from '../index/index-rows.ts';
import type { NamespaceIndex } from '../index/namespace-index.ts';
import { OriginError } from '../origin.ts';
import type { WriteRow } from '../index/write-rows.ts';

export interface Target {
  readonly directory: number;
  /** Directories that are to be made, and the leaf. The first one is what the change is about. */
  readonly names: readonly [string, ...string[]];
  /** What has the first name now. */
  readonly existing: IndexedInode | undefined;
  /** Of a write: whose version it is. */
  readonly write: WriteRow | undefined;
  /** Of the object and of all directories that are made. */
  readonly naturalKey: string;
  /** The directory, if its entries change. */
  readonly touched: TouchedDirectories;
}

export interface CommitTargetsOptions {
  readonly exportId: number;
  readonly index: NamespaceIndex;
  readonly tree: ExportTree;
  readonly times: DirectoryTimes;
}

/** What an upload makes. */
export type Draft = Pick<UploadRow, 'upload' | 'directory' | 'names' | 'write'> & {
  readonly isMarker: boolean;
  /** Refused where there is something. */
  readonly isNew: boolean;
};

export class CommitTargets {
  readonly #options: CommitTargetsOptions;

  constructor(options: CommitTargetsOptions) {
    this.#options = options;
  }

  /** @throws OriginError `not-found`, `not-directory`, `is-directory`, `exists`, `fenced` */
  async of(draft: Draft): Promise<Target> {
    return draft.write === undefined ? this.#ofPath(draft) : this.#ofWrite(draft.write);
  }

  /** Inside the gate. @throws OriginError `fenced`, `not-found` */
  async isStillSo({ directory, names, existing, write, touched }: Target): Promise<boolean> {
    const { index, exportId } = this.#options;
    const key = { exportId, directory };
    if ((await index.directory(key)) === undefined || !(await touched.isStillSo())) return false;
    const now = await index.child(key, names[0]);
    if (now?.inode !== existing?.inode || now?.kind !== existing?.kind) return false;
    if (write === undefined) return true;
    const { place } = this.#expectWrite(write.write);
    return place?.directory === write.place?.directory && place?.name === write.place?.name;
  }

  async #ofPath(draft: Draft): Promise<Target> {
    const { tree, index, exportId } = this.#options;
    const leaf = draft.names.at(-1) ?? '';
    if ((await index.directory({ exportId, directory: draft.directory })) === undefined) {
      throw noSuchPath(draft.names.join('/'));
    }
    const { directory, missing } = await walkDirectories(tree, draft.names.slice(0, -1), draft.directory);
    const [first, ...rest] = missing;
    if (first !== undefined) {
      return this.#target({ directory, names: [first, ...rest, leaf], existing: undefined }, draft);
    }
    const existing = await tree.lookup(directory, leaf);
    if (draft.isNew && existing !== undefined) {
      throw new OriginError('exists', `there is ${JSON.stringify(leaf)} already`);
    }
    refuseDirectory(leaf, existing);
    return this.#target({ directory, names: [leaf], existing }, draft);
  }

  async #ofWrite(id: string): Promise<Target> {
    const { index, exportId, tree } = this.#options;
    const write = this.#expectWrite(id);
    const options = { isMarker: false, write };
    if (write.place === undefined) {
      const existing = await index.inode(exportId, write.inode);
      if (existing === undefined) throw removed();
      return this.#target({ directory: existing.parent, names: [existing.name], existing }, options);
    }
    const { directory, name } = write.place;
    if ((await index.directory({ exportId, directory })) === undefined) throw removed();
    const existing = await tree.lookup(directory, name);
    refuseDirectory(name, existing);
    return this.#target({ directory, names: [name], existing }, options);
  }

  async #target(
    at: Pick<Target, 'directory' | 'names' | 'existing'>,
    { isMarker, write }: { readonly isMarker: boolean; readonly write?: WriteRow | string | undefined },
  ): Promise<Target> {
    const { index, times, exportId } = this.#options;
    const { directory, names, existing } = at;
    const parent = await index.directory({ exportId, directory });
    if (parent === undefined) throw noSuchPath(names.join('/'));
    const row = typeof write === 'object' ? write : undefined;
    const isEntryNew = existing === undefined || (row !== undefined && existing.inode !== row.inode);
    return {
      ...at,
      write: row,
      naturalKey: parent.keyPrefix + names.join('/') + (isMarker ? '/' : ''),
      touched: await times.of(...(isEntryNew ? [directory] : [])),
    };
  }

  #expectWrite(id: string): WriteRow {
    const row = this.#options.index.changes.writes.get(id);
    if (row === undefined) throw fenced();
    if (row.endedMs === undefined) return row;
    throw row.committed === undefined ? removed() : fenced();
  }
}

export function fenced(): OriginError {
  return new OriginError('fenced', 'this write has ended, or another satellite has taken the file over');
}

export function removed(): OriginError {
  return new OriginError('not-found', 'the file, or the directory that it was to be in, was removed');
}
