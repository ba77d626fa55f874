/**
 * Commits: an upload's object is completed, or a small one put, and its name changes, as one.
 *
 * Guarantees: while the object changes no satellite holds the name; a name shows the old content or the new one whole,
 * whatever dies in between. The row of the upload says `committing` before the object is touched, and each object
 * carries the identity of its upload in its metadata: a commit whose outcome is not known, because an answer was lost
 * or the origin died, is settled by looking at what lies there, never by guessing. Until then no other commit touches
 * the object, and nobody takes the write over.
 * An upload whose file was renamed is completed at the key where it was begun, and moved from there (relocation.ts),
 * unless another name has got that key since: `upload-gone`.
 */
import type { SessionId } from '../../base/brand.ts';
import type { Clock } from '../../base/clock.ts';
import { describeError } from '../../base/errors.ts';
import type { ObjectMetadata, UploadedPart } from '../../store/object-store.ts';
import type { Logger } from '../../telemetry/log.ts';
import type { ChangeGate } from './change-gate.ts';
import { CommitRecord, isMarker, type Stored } from './commit-record.ts';
import { CommitTargets, type Target } from './commit-target.ts';
import type { DirectoryTimes } from './directory-times.ts';
import { walkDirectories } from '../tree/export-paths.ts';
import type { ExportTree } from '../tree/export-tree.ts';
import type { UploadRow } from '../index/index-changes.ts';
import type { IndexedInode } from '../index/index-rows.ts';
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

/** What becomes the object: parts that were uploaded, or bytes, for which there is no upload and no row yet. */
export type Content =
  | { readonly kind: 'parts'; readonly parts: readonly UploadedPart[] }
  | { readonly kind: 'bytes'; readonly bytes: Uint8Array; readonly isNew: boolean };

/** Not a reason to try again: the name is something else by now, or has no place. */
const PLACE_CODES: ReadonlySet<string> = new Set([
  'not-found',
  'not-directory',
  'is-directory',
  'exists',
  'fenced',
]);

export class Commits {
  readonly #options: CommitsOptions;
  readonly #targets: CommitTargets;
  readonly #record: CommitRecord;
  /** Rows that say `committing` while nobody works on them. */
  readonly #unsettled = new Map<string, UploadRow>();
  readonly #settling = new Map<string, Promise<void>>();
  /** Keys whose objects are being completed, until they are. */
  readonly #keys = new Map<string, Promise<void>>();
  readonly #running = new Set<Promise<IndexedInode>>();
  readonly #closing = new AbortController();

  constructor(options: CommitsOptions) {
    this.#options = options;
    this.#targets = new CommitTargets(options);
    this.#record = new CommitRecord(options);
  }

  /** Settles what an earlier life has left in the middle. */
  start(): void {
    const { index, exportId } = this.#options;
    for (const row of index.changes.uploads(exportId)) {
      if (row.state === 'committing') this.#settleLater(row, 0);
    }
  }

  async close(): Promise<void> {
    this.#closing.abort(new OriginError('unavailable', 'the origin ends'));
    await Promise.allSettled(this.#running);
  }

  /** An object at this key may just be getting a name. */
  isCommitting(key: string): boolean {
    return this.#keys.has(key) || [...this.#unsettled.values()].some(({ objectKey }) => objectKey === key);
  }

  /** @throws OriginError */
  run(
    row: UploadRow,
    { content, by }: { readonly content: Content; readonly by?: SessionId | undefined },
  ): Promise<IndexedInode> {
    const running = this.#run(row, content, by).finally(() => this.#running.delete(running));
    this.#running.add(running);
    return running;
  }

  /** Resolves when the outcome of every commit of a write is known. @throws OriginError */
  async settleWrite(write: string): Promise<void> {
    for (const row of this.#unsettled.values()) if (row.write === write) await this.#settle(row);
  }

  async #run(draft: UploadRow, content: Content, by: SessionId | undefined): Promise<IndexedInode> {
    const isNew = content.kind === 'bytes' && content.isNew;
    for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
      const target = await this.#targets.of({ ...draft, isNew, isMarker: isMarker(draft) });
      const row = content.kind === 'parts' ? draft : { ...draft, objectKey: target.naturalKey };
      await this.#settleOthers(row);
      await this.#freeKeys(row, target);
      const result = await this.#atTarget(row, { target, by }, () => this.#perform(row, target, content));
      if (result !== undefined) return result;
    }
    const hint = 'try again';
    throw new OriginError('unavailable', 'others keep changing the directories of this path', { hint });
  }

  /** Runs inside the gate; undefined if the target was not what it was chosen by any more. */
  #atTarget<T>(
    row: UploadRow,
    { target, by }: { readonly target: Target; readonly by: SessionId | undefined },
    run: () => Promise<T>,
  ): Promise<T | undefined> {
    const { gate, leftovers } = this.#options;
    const { directory, names, touched } = target;
    const { objectKey: key } = row;
    const perform = async (): Promise<T | undefined> => {
      if (!(await this.#targets.isStillSo(target))) return undefined;
      if (leftovers.has(key) || this.#keys.has(key)) return undefined;
      // At the key of another name nobody else may begin anything.
      const release = key === target.naturalKey ? undefined : leftovers.hold(key);
      const running = run().finally(() => {
        this.#keys.delete(key);
        release?.();
      });
      const ended = running.then(
        () => undefined,
        () => undefined,
      );
      this.#keys.set(key, ended);
      return running;
    };
    const change = { names: [{ directory, name: names[0] }, ...touched.names], by };
    return gate.run(change, perform, this.#closing.signal);
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
    await this.#keys.get(row.objectKey);
  }

  async #perform(draft: UploadRow, target: Target, content: Content): Promise<IndexedInode> {
    const { index } = this.#options;
    const row = { ...draft, state: 'committing' } as const;
    if (row.objectKey !== target.naturalKey) await this.#expectFree(row);
    index.changes.durably((rows) => {
      if (content.kind === 'parts') rows.setUploadState(row.upload, row);
      else rows.insertUpload(row);
    });
    let stored: Stored | undefined;
    try {
      stored = await this.#store(row, content);
    } catch (error) {
      stored = await this.#lookAfter(row, error);
      if (stored === undefined) {
        this.#forget(row);
        throw error;
      }
    }
    if (stored === undefined) {
      this.#forget(row);
      throw new OriginError('unavailable', `${row.objectKey} was deleted in the store as soon as it was put`);
    }
    return this.#recordOrSettle(row, target, stored);
  }

  /** Bytes need one call: what lies there is known without asking. */
  async #store(row: UploadRow, content: Content): Promise<Stored | undefined> {
    const { store, clock } = this.#options;
    const { objectKey: key, storeUpload: uploadId } = row;
    const metadata = metadataOf(row);
    if (content.kind === 'parts' && content.parts.length > 0) {
      await store.completeUpload({ key, uploadId, parts: content.parts });
      return this.#ask(row);
    }
    const bytes = content.kind === 'bytes' ? content.bytes : new Uint8Array();
    const { entityTag, versionId } = await store.put(key, bytes, metadata);
    if (uploadId !== '') await this.#abort(row);
    const modifiedMs = clock.wallMs();
    const head = { key, sizeBytes: bytes.length, entityTag, versionId, modifiedMs, metadata };
    return { head, isAsked: false };
  }

  async #ask({ objectKey }: UploadRow): Promise<Stored | undefined> {
    const head = await this.#options.store.head(objectKey);
    return head && { head, isAsked: true };
  }

  /** Nothing was uploaded to it. */
  async #abort({ objectKey: key, storeUpload: uploadId }: UploadRow): Promise<void> {
    const { store, logger } = this.#options;
    await store.abortUpload({ key, uploadId }).catch((error: unknown) => {
      logger.warn({ key }, `an empty upload stays in the store: ${describeError(error)}`);
    });
  }

  /** The file was renamed since: its upload may be completed only if nobody else lies there. @throws `upload-gone` */
  async #expectFree(row: UploadRow): Promise<void> {
    const { store, index } = this.#options;
    const { objectKey: key, storeUpload: uploadId } = row;
    if ((await store.head(key)) === undefined) return;
    if (uploadId !== '') await store.abortUpload({ key, uploadId });
    index.changes.durably((rows) => rows.deleteUpload(row.upload));
    throw new OriginError('upload-gone', `${key}, where the upload was begun, belongs to another file now`, {
      hint: 'upload it anew',
    });
  }

  /** @throws OriginError `unavailable`: it is not known yet, and will be found out */
  async #lookAfter(row: UploadRow, cause: unknown): Promise<Stored | undefined> {
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
  async #look(row: UploadRow): Promise<Stored | undefined> {
    const { store } = this.#options;
    const isOurs = (stored: Stored | undefined): boolean =>
      stored?.head.metadata[UPLOAD_METADATA] === row.upload;
    const stored = await this.#ask(row);
    if (isOurs(stored)) return stored;
    if (row.storeUpload === '') return undefined;
    await store.abortUpload({ key: row.objectKey, uploadId: row.storeUpload });
    const again = await this.#ask(row);
    return isOurs(again) ? again : undefined;
  }

  async #recordOrSettle(row: UploadRow, target: Target, stored: Stored): Promise<IndexedInode> {
    try {
      return await this.#record.run(row, target, stored);
    } catch (error) {
      if (!(error instanceof OriginError)) this.#settleLater(row, RECOVERY_RETRY_MS);
      throw error;
    }
  }

  #forget(row: UploadRow): void {
    this.#options.index.changes.durably((rows) => rows.deleteUpload(row.upload));
    this.#unsettled.delete(row.upload);
  }

  // --- What is not known ---

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
    const draft = { ...row, isMarker: isMarker(row), isNew: isMarker(row) };
    for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
      const target = await this.#targets.of(draft).catch((error: unknown) => {
        if (error instanceof OriginError && PLACE_CODES.has(error.code)) return undefined;
        throw error;
      });
      if (target === undefined) return this.#discard(row);
      const isSettled = await this.#atTarget(row, { target, by: undefined }, async () => {
        const stored = await this.#look(row);
        if (stored === undefined) this.#forget(row);
        else await this.#record.run(row, target, stored);
        return true;
      });
      if (isSettled === undefined) continue;
      this.#unsettled.delete(row.upload);
      return;
    }
    throw new OriginError('unavailable', `what is at ${row.objectKey} keeps changing`);
  }

  /** Its name is something else by now, or has no place. */
  async #discard(row: UploadRow): Promise<void> {
    const { store, tree } = this.#options;
    const stored = await this.#look(row);
    const isMeant =
      row.write === undefined &&
      (await walkDirectories(tree, row.names.slice(0, -1), row.directory).then(
        ({ missing }) => missing.length === 0,
        () => false,
      ));
    // A directory of that name, found meanwhile, is the one that was made.
    if (stored !== undefined && !isMeant) await store.delete(row.objectKey, stored.head.entityTag);
    this.#forget(row);
  }
}

/** The metadata that the object gets. */
export function metadataOf(row: UploadRow): ObjectMetadata {
  return { ...(JSON.parse(row.attributes) as ObjectMetadata), [UPLOAD_METADATA]: row.upload };
}
