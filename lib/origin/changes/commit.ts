/**
 * Commits: an upload's object is completed and its name changes, as one.
 *
 * Guarantees: while the object changes no satellite holds the name; a name shows the old content or the new one whole,
 * whatever dies in between. The row of the upload says `committing` before the object is touched, and each object
 * carries the identity of its upload in its metadata: a commit whose outcome is not known, because an answer was lost
 * or the origin died, is settled by looking at what lies there, never by guessing. Until then no other commit touches
 * the object.
 */
import type { Clock } from '../../base/clock.ts';
import { describeError, invariant } from '../../base/errors.ts';
import type { ObjectHead, ObjectMetadata, UploadedPart } from '../../store/object-store.ts';
import type { Logger } from '../../telemetry/log.ts';
import type { ChangeGate } from './change-gate.ts';
import type { DirectoryTimes } from './directory-times.ts';
import { noSuchPath, refuseDirectory, walkDirectories } from '../tree/export-paths.ts';
import type { ExportTree } from '../tree/export-tree.ts';
import type { ChangedRows, Leftover, UploadRow } from '../index/index-changes.ts';
import type { Found, IndexedInode } from '../index/index-rows.ts';
import type { Leftovers } from './leftovers.ts';
import type { NamespaceIndex } from '../index/namespace-index.ts';
import { OriginError } from '../origin.ts';
import type { StoreCalls } from '../tree/store-calls.ts';

/** Metadata of an object that tells which upload made it. */
const UPLOAD_METADATA = 'perigee-upload';
/** A commit that finds its path changed under it begins anew so often. */
const ATTEMPTS_MAX = 16;
const RECOVERY_RETRY_MS = 2_000;

export interface CommitsOptions {
  readonly exportId: number;
  readonly index: NamespaceIndex;
  readonly store: StoreCalls;
  readonly tree: ExportTree;
  readonly gate: ChangeGate;
  readonly leftovers: Leftovers;
  readonly times: DirectoryTimes;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Where a commit puts its object. */
interface Target {
  readonly directory: number;
  /** Directories that are to be made, and the leaf. The first one is what the change is about. */
  readonly names: readonly [string, ...string[]];
}

export class Commits {
  readonly #options: CommitsOptions;
  /** Rows that say `committing` while nobody works on them. */
  readonly #unsettled = new Map<string, UploadRow>();
  readonly #settling = new Map<string, Promise<void>>();
  /** Keys whose objects are being completed. */
  readonly #keys = new Set<string>();
  readonly #closing = new AbortController();

  constructor(options: CommitsOptions) {
    this.#options = options;
  }

  /** Settles what an earlier life has left in the middle. */
  start(): void {
    const { index, exportId } = this.#options;
    for (const row of index.changes.uploads(exportId)) {
      if (row.state === 'committing') this.#settleLater(row, 0);
    }
  }

  close(): void {
    this.#closing.abort(new OriginError('unavailable', 'the origin ends'));
  }

  /** An object at this key may just be getting a name. */
  isCommitting(key: string): boolean {
    return this.#keys.has(key) || [...this.#unsettled.values()].some(({ objectKey }) => objectKey === key);
  }

  /** @throws OriginError */
  async run(row: UploadRow, parts: readonly UploadedPart[]): Promise<IndexedInode> {
    for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
      const target = await this.#target(row);
      await this.#settleOthers(row);
      await this.#freeKeys(row, target);
      const result = await this.#atTarget(row, target, () => this.#perform(row, { target, parts }));
      if (result === undefined) continue;
      await this.#options.times.touch(target.directory);
      return result;
    }
    const hint = 'try again';
    throw new OriginError('unavailable', 'others keep changing the directories of this path', { hint });
  }

  /** Runs inside the gate; undefined if the target was not what it was chosen by any more. */
  #atTarget<T>(row: UploadRow, target: Target, run: () => Promise<T>): Promise<T | undefined> {
    const { gate, index, exportId, leftovers } = this.#options;
    const { directory, names } = target;
    const key = { exportId, directory };
    const perform = async (): Promise<T | undefined> => {
      if ((await index.directory(key)) === undefined) return undefined;
      const existing = await index.child(key, names[0]);
      const replaces = names.length === 1 && !isMarker(row);
      if (existing !== undefined && (!replaces || existing.kind === 'directory')) return undefined;
      if (leftovers.has(row.objectKey)) return undefined;
      this.#keys.add(row.objectKey);
      return run().finally(() => this.#keys.delete(row.objectKey));
    };
    return gate.run({ names: [{ directory, name: names[0] }] }, perform, this.#closing.signal);
  }

  /** @throws OriginError `not-found`, `not-directory`, `is-directory`, `exists` */
  async #target(row: UploadRow): Promise<Target> {
    const { tree, index, exportId } = this.#options;
    const leaf = row.names.at(-1);
    invariant(leaf !== undefined, 'an upload has a name');
    if ((await index.directory({ exportId, directory: row.directory })) === undefined) {
      throw noSuchPath(row.names.join('/'));
    }
    const { directory, missing } = await walkDirectories(tree, row.names.slice(0, -1), row.directory);
    const [first, ...rest] = missing;
    if (first !== undefined) return { directory, names: [first, ...rest, leaf] };
    const existing = await tree.lookup(directory, leaf);
    if (isMarker(row) && existing !== undefined) {
      throw new OriginError('exists', `there is ${JSON.stringify(leaf)} already`);
    }
    refuseDirectory(leaf, existing);
    return { directory, names: [leaf] };
  }

  /** What was removed or renamed must have left the keys that the new object and its directories get. */
  async #freeKeys(row: UploadRow, { names }: Target): Promise<void> {
    const { leftovers } = this.#options;
    const segments = row.objectKey.replace(/\/$/, '').split('/');
    const kept = segments.length - names.length;
    for (let length = kept + 1; length < segments.length; length++) {
      await leftovers.freed(`${segments.slice(0, length).join('/')}/`);
    }
    await leftovers.freed(row.objectKey);
  }

  async #perform(
    row: UploadRow,
    given: { readonly target: Target; readonly parts: readonly UploadedPart[] },
  ): Promise<IndexedInode> {
    const { index, store } = this.#options;
    index.changes.durably((rows) => rows.setUploadState(row.upload, 'committing'));
    let head: ObjectHead | undefined;
    try {
      await this.#complete(row, given.parts);
      head = await store.head(row.objectKey);
    } catch (error) {
      head = await this.#lookAfter(row, error);
      if (head === undefined) {
        this.#forget(row);
        throw error;
      }
    }
    if (head === undefined) {
      this.#forget(row);
      throw new OriginError('unavailable', `${row.objectKey} was deleted in the store as soon as it was put`);
    }
    return this.#record(row, { target: given.target, head });
  }

  async #complete(row: UploadRow, parts: readonly UploadedPart[]): Promise<void> {
    const { store, logger } = this.#options;
    const upload = { key: row.objectKey, uploadId: row.storeUpload };
    if (parts.length > 0) return void (await store.completeUpload({ ...upload, parts }));
    await store.putEmpty(row.objectKey, metadataOf(row));
    if (row.storeUpload === '') return;
    await store.abortUpload(upload).catch((error: unknown) => {
      logger.warn({ key: row.objectKey }, `an empty upload stays in the store: ${describeError(error)}`);
    });
  }

  /** @throws OriginError `unavailable`: it is not known yet, and will be found out */
  async #lookAfter(row: UploadRow, cause: unknown): Promise<ObjectHead | undefined> {
    try {
      return await this.#look(row);
    } catch {
      this.#settleLater(row, RECOVERY_RETRY_MS);
      throw new OriginError('unavailable', 'whether the change has happened is not known yet', {
        cause,
        hint: 'the origin finds out when the object store answers again; look then',
      });
    }
  }

  /** The object of this upload, if it lies in the store; afterwards it cannot come to lie there any more. */
  async #look(row: UploadRow): Promise<ObjectHead | undefined> {
    const { store } = this.#options;
    const isOurs = (head: ObjectHead | undefined): boolean => head?.metadata[UPLOAD_METADATA] === row.upload;
    const head = await store.head(row.objectKey);
    if (isOurs(head)) return head;
    if (row.storeUpload === '') return undefined;
    await store.abortUpload({ key: row.objectKey, uploadId: row.storeUpload });
    const again = await store.head(row.objectKey);
    return isOurs(again) ? again : undefined;
  }

  /** One transaction: what lies in the store is what the name means, and the upload is done. */
  async #record(
    row: UploadRow,
    given: { readonly target: Target; readonly head: ObjectHead },
  ): Promise<IndexedInode> {
    const { index, tree, leftovers, store } = this.#options;
    const { target, head } = given;
    const found = isMarker(row) ? tree.probe.foundMarker(head) : await tree.probe.foundObject(head);
    const left: Leftover[] = [];
    let placed: IndexedInode | undefined;
    try {
      placed = index.changes.durably((rows) => {
        rows.deleteUpload(row.upload);
        return this.#place(rows, { row, target, found, left });
      });
    } catch (error) {
      this.#settleLater(row, RECOVERY_RETRY_MS);
      throw error;
    }
    if (placed === undefined) {
      // The directory was removed while its new file was completed.
      await store.delete(row.objectKey, head.entityTag);
      throw noSuchPath(row.names.join('/'));
    }
    tree.questions.changed(target.directory, [target.names[0]]);
    tree.absences.drop(target.directory, target.names[0]);
    leftovers.add(left);
    return placed;
  }

  #place(
    rows: ChangedRows,
    given: {
      readonly row: UploadRow;
      readonly target: Target;
      readonly found: Found;
      readonly left: Leftover[];
    },
  ): IndexedInode | undefined {
    const { exportId, tree } = this.#options;
    const { row, target, found, left } = given;
    const names = [...target.names];
    const leaf = names.pop() ?? '';
    let key = { exportId, directory: target.directory };
    for (const name of names) {
      const made = rows.place(key, name, tree.probe.listedDirectory());
      if (made === undefined) return undefined;
      key = { exportId, directory: made.inode };
    }
    const replaced = rows.child(key, leaf)?.version;
    const placed = rows.place(key, leaf, found);
    const parent = rows.directory(key);
    if (placed === undefined || parent === undefined) return undefined;
    if (replaced !== undefined && replaced.objectKey !== row.objectKey) {
      left.push({ key: replaced.objectKey, entityTag: replaced.entityTag, inode: undefined });
    }
    // The directory has got other keys since the upload began: the object follows.
    if (parent.keyPrefix + leaf + (isMarker(row) ? '/' : '') !== row.objectKey) {
      if (isMarker(row)) rows.setKeyPrefix(exportId, placed.inode, row.objectKey);
      const entityTag = placed.version?.entityTag;
      left.push({ key: row.objectKey, entityTag, inode: placed.inode });
    }
    for (const leftover of left) rows.putLeftover(exportId, leftover);
    return placed;
  }

  #forget(row: UploadRow): void {
    this.#options.index.changes.durably((rows) => rows.deleteUpload(row.upload));
    this.#unsettled.delete(row.upload);
  }

  #settleLater(row: UploadRow, delayMs: number): void {
    const { clock, logger } = this.#options;
    this.#unsettled.set(row.upload, row);
    clock.after(delayMs, () => {
      if (this.#closing.signal.aborted || !this.#unsettled.has(row.upload)) return;
      this.#settle(row).catch((error: unknown) => {
        if (this.#closing.signal.aborted) return;
        logger.warn({ key: row.objectKey }, `a commit is not settled yet: ${describeError(error)}`);
        this.#settleLater(row, RECOVERY_RETRY_MS);
      });
    });
  }

  async #settleOthers(row: UploadRow): Promise<void> {
    for (const other of this.#unsettled.values()) {
      if (other.objectKey === row.objectKey) await this.#settle(other);
    }
  }

  #settle(row: UploadRow): Promise<void> {
    let settling = this.#settling.get(row.upload);
    if (settling === undefined) {
      settling = this.#settleOnce(row).finally(() => this.#settling.delete(row.upload));
      this.#settling.set(row.upload, settling);
    }
    return settling;
  }

  async #settleOnce(row: UploadRow): Promise<void> {
    for (let isSettled = false; !isSettled;) {
      const target = await this.#target(row).catch((error: unknown) => {
        if (error instanceof OriginError && PATH_CODES.has(error.code)) return undefined;
        throw error;
      });
      if (target === undefined) return this.#discard(row);
      const settled = await this.#atTarget(row, target, async () => {
        const head = await this.#look(row);
        if (head === undefined) this.#forget(row);
        else await this.#record(row, { target, head });
        return true;
      });
      isSettled = settled === true;
    }
    this.#unsettled.delete(row.upload);
  }

  /** Its name is something else by now, or has no place. */
  async #discard(row: UploadRow): Promise<void> {
    const { store, tree } = this.#options;
    const head = await this.#look(row);
    const { missing } = await walkDirectories(tree, row.names.slice(0, -1), row.directory).catch(() => ({
      missing: row.names,
    }));
    // A directory of that name, found meanwhile, is the one that was made.
    if (head !== undefined && missing.length > 0) await store.delete(row.objectKey, head.entityTag);
    this.#forget(row);
  }
}

const PATH_CODES: ReadonlySet<string> = new Set(['not-found', 'not-directory', 'is-directory', 'exists']);

/** The metadata that the object gets. */
export function metadataOf(row: UploadRow): ObjectMetadata {
  return { ...(JSON.parse(row.attributes) as ObjectMetadata), [UPLOAD_METADATA]: row.upload };
}

/** The object carries the attributes of a directory. */
function isMarker(row: UploadRow): boolean {
  return row.objectKey.endsWith('/');
}
