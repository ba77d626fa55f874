/**
 * New contents of files, symlinks, and directories with attributes: begun here, made real by `commit.ts`; by paths for
 * tools, by writes (`writes.ts`) and places for satellites.
 *
 * `begin` fixes the object's key and opens a multipart upload there; the caller uploads parts straight to the store,
 * and only the origin completes it. What a row holds survives a restart. An upload that nobody commits is aborted
 * after a day.
 */
import { describeError } from '../../base/errors.ts';
import { randomId } from '../../base/prng.ts';
import type { ObjectMetadata, UploadedPart } from '../../store/object-store.ts';
import type { SessionId } from '../../base/brand.ts';
import { type Commits, type CommitsOptions, metadataOf } from './commit.ts';
import {
  locateAt,
  noSuchPath,
  parseChildPath,
  parsePath,
  type Place,
  refuseDirectory,
  walkDirectories,
} from '../tree/export-paths.ts';
import type { UploadRow } from '../index/index-changes.ts';
import type { IndexedInode } from '../index/index-rows.ts';
import { OriginError } from '../origin.ts';

/** Uploads of one export that are open at once. */
const UPLOADS_MAX = 10_000;
/** Counted anew when the origin starts. */
const UPLOAD_AGE_MAX_MS = 24 * 60 * 60_000;
const EXPIRY_CHECK_MS = 10 * 60_000;
const UPLOAD_ID_BYTES = 16;
/** Results kept for callers whose answer was lost. */
const RESULTS_MAX = 1_000;

export interface BegunUpload {
  readonly upload: string;
  readonly objectKey: string;
  readonly storeUpload: string;
}

export class Uploads {
  readonly #options: CommitsOptions;
  readonly #commits: Commits;
  /** Every upload that has a row: since when. */
  readonly #openMs = new Map<string, number>();
  readonly #committing = new Map<string, Promise<IndexedInode>>();
  readonly #results = new Map<string, IndexedInode>();
  readonly #stopExpiry: () => void;

  constructor(options: CommitsOptions & { readonly commits: Commits }) {
    this.#options = options;
    this.#commits = options.commits;
    const { clock, index, exportId } = options;
    for (const { upload } of index.changes.uploads(exportId)) this.#openMs.set(upload, clock.nowMs());
    this.#stopExpiry = clock.every(EXPIRY_CHECK_MS, () => void this.expire());
  }

  /** @param options.empty no part will follow @throws OriginError */
  async begin(
    path: string,
    options: { readonly metadata: ObjectMetadata; readonly empty: boolean },
  ): Promise<BegunUpload> {
    const { tree } = this.#options;
    const { parents, name } = parseChildPath(path);
    this.#admit();
    const { directory, missing } = await walkDirectories(tree, parents);
    if (missing.length === 0) refuseDirectory(path, await tree.lookup(directory, name));
    const row = await this.#newRow(directory, { names: [...missing, name], ...options });
    if (!options.empty) return this.#begin(row);
    this.#insert(row);
    return { upload: row.upload, objectKey: row.objectKey, storeUpload: '' };
  }

  /** The next version of a write's file, which has this place now. @throws OriginError */
  async beginFor(
    write: string,
    { place, metadata }: { readonly place: Place; readonly metadata: ObjectMetadata },
  ): Promise<BegunUpload> {
    this.#admit();
    const row = await this.#newRow(place.directory, { names: [place.name], metadata });
    return this.#begin({ ...row, names: [], write });
  }

  async #begin(row: UploadRow): Promise<BegunUpload> {
    const storeUpload = await this.#options.store.createUpload(row.objectKey, metadataOf(row));
    this.#insert({ ...row, storeUpload });
    return { upload: row.upload, objectKey: row.objectKey, storeUpload };
  }

  /** The same again while it is under way, or soon after it, has the same result. @throws OriginError */
  async commit(
    upload: string,
    content: { readonly parts: readonly UploadedPart[]; readonly sizeBytes: number },
  ): Promise<IndexedInode> {
    const done = this.#results.get(upload) ?? this.#committing.get(upload);
    if (done !== undefined) return done;
    const { index, exportId, store } = this.#options;
    const row = index.changes.upload(upload);
    if (row?.exportId !== exportId || row.state !== 'open' || row.write !== undefined) {
      throw new OriginError('not-found', 'there is no such upload', {
        hint: 'it was committed, aborted, or left alone for too long; begin anew',
      });
    }
    checkParts(content, store.abilities.partsMax);
    return this.#commit(row, content.parts);
  }

  /** An upload of a write, to be committed. @throws OriginError `upload-gone`, `invalid` */
  take(
    upload: string,
    {
      write,
      ...content
    }: {
      readonly write: string;
      readonly parts: readonly UploadedPart[];
      readonly sizeBytes: number;
    },
  ): UploadRow {
    const { index, store } = this.#options;
    const row = index.changes.upload(upload);
    if (row?.write !== write || row.state !== 'open') {
      throw new OriginError('upload-gone', 'there is no such upload any more', { hint: 'upload it anew' });
    }
    checkParts(content, store.abilities.partsMax);
    return row;
  }

  /** For bytes of a write that are put by the commit itself: in no table before, and the write knows the place. */
  draftFor(write: string, metadata: ObjectMetadata): UploadRow {
    return { ...this.#rowOf(0, { names: [], objectKey: '', metadata }), write };
  }

  /** Those of a write that nobody will commit. @throws OriginError */
  async abortOf(write: string): Promise<void> {
    for (const { upload } of this.#options.index.changes.uploadsOf(write)) await this.abort(upload);
  }

  /** A directory, or a symlink where its metadata says so. @throws OriginError `exists` and others */
  async makeAt(
    place: Place,
    made: {
      readonly kind: 'directory' | 'symlink';
      readonly metadata: ObjectMetadata;
      readonly by: SessionId | undefined;
    },
  ): Promise<IndexedInode> {
    this.#options.leftovers.admit();
    const { directory, name } = await locateAt(this.#options.tree, place);
    return this.#make(directory, { names: [name], ...made });
  }

  #make(
    directory: number,
    made: {
      readonly names: readonly string[];
      readonly kind: 'directory' | 'symlink';
      readonly metadata: ObjectMetadata;
      readonly by?: SessionId | undefined;
    },
  ): Promise<IndexedInode> {
    const objectKey = made.kind === 'directory' ? '/' : '';
    const row = this.#rowOf(directory, { ...made, objectKey });
    const content = { kind: 'bytes', bytes: new Uint8Array(), isNew: true } as const;
    return this.#commits.run(row, { content, by: made.by });
  }

  /** Aborting what is not there succeeds. @throws OriginError */
  async abort(upload: string): Promise<void> {
    const { index, exportId, store } = this.#options;
    const row = index.changes.upload(upload);
    if (row?.exportId !== exportId || row.state !== 'open' || this.#committing.has(upload)) return;
    if (row.storeUpload !== '') await store.abortUpload({ key: row.objectKey, uploadId: row.storeUpload });
    if (this.#committing.has(upload)) return;
    index.changes.durably((rows) => rows.deleteUpload(upload));
    this.#openMs.delete(upload);
  }

  /** A directory with attributes of its own. @throws OriginError `exists` and others */
  async makeDirectory(
    path: string,
    options: { readonly metadata: ObjectMetadata; readonly parents: boolean },
  ): Promise<IndexedInode> {
    const { tree } = this.#options;
    const names = parsePath(path);
    const { directory, missing } = await walkDirectories(tree, names);
    if (missing.length === 0) {
      if (options.parents) return tree.attributes(directory);
      throw new OriginError('exists', `there is a directory ${JSON.stringify(path)} already`);
    }
    if (missing.length > 1 && !options.parents) {
      throw noSuchPath(names.slice(0, names.length - missing.length + 1).join('/'));
    }
    this.#options.leftovers.admit();
    try {
      const { metadata } = options;
      return await this.#make(directory, { names: missing, kind: 'directory', metadata });
    } catch (error) {
      // Another has made it at the same time.
      if (options.parents && error instanceof OriginError && error.code === 'exists') {
        return this.makeDirectory(path, options);
      }
      throw error;
    }
  }

  /** Aborts what was left alone for too long. */
  async expire(): Promise<void> {
    const { clock, logger } = this.#options;
    const beforeMs = clock.nowMs() - UPLOAD_AGE_MAX_MS;
    for (const [upload, openMs] of this.#openMs) {
      if (openMs > beforeMs) continue;
      await this.abort(upload).catch((error: unknown) => {
        logger.warn({ upload }, `an abandoned upload could not be aborted: ${describeError(error)}`);
      });
    }
  }

  async close(): Promise<void> {
    this.#stopExpiry();
    await this.#commits.close();
  }

  #admit(): void {
    this.#options.leftovers.admit();
    if (this.#openMs.size < UPLOADS_MAX) return;
    throw new OriginError('unavailable', 'too many uploads are open', {
      hint: 'commit or abort some; abandoned ones are aborted after a day',
    });
  }

  #insert(row: UploadRow): void {
    const { index, clock } = this.#options;
    index.changes.durably((rows) => rows.insertUpload(row));
    this.#openMs.set(row.upload, clock.nowMs());
  }

  async #newRow(
    directory: number,
    file: { readonly names: readonly string[]; readonly metadata: ObjectMetadata },
  ): Promise<UploadRow> {
    const { exportId, index } = this.#options;
    const parent = await index.directory({ exportId, directory });
    if (parent === undefined) throw noSuchPath(file.names.join('/'));
    return this.#rowOf(directory, { ...file, objectKey: parent.keyPrefix + file.names.join('/') });
  }

  #rowOf(
    directory: number,
    file: {
      readonly names: readonly string[];
      readonly objectKey: string;
      readonly metadata: ObjectMetadata;
    },
  ): UploadRow {
    const { exportId, clock } = this.#options;
    return {
      ...{ exportId, directory },
      upload: randomId(UPLOAD_ID_BYTES),
      names: file.names,
      objectKey: file.objectKey,
      storeUpload: '',
      attributes: JSON.stringify(file.metadata),
      state: 'open',
      begunMs: Math.round(clock.wallMs()),
      write: undefined,
      commit: undefined,
    };
  }

  async #commit(row: UploadRow, parts: readonly UploadedPart[]): Promise<IndexedInode> {
    const { index } = this.#options;
    const running = this.#commits.run(row, { content: { kind: 'parts', parts } }).finally(() => {
      this.#committing.delete(row.upload);
      if (index.changes.upload(row.upload) === undefined) this.#openMs.delete(row.upload);
    });
    this.#committing.set(row.upload, running);
    const result = await running;
    this.#results.set(row.upload, result);
    const [oldest] = this.#results.size > RESULTS_MAX ? this.#results.keys() : [];
    if (oldest !== undefined) this.#results.delete(oldest);
    return result;
  }
}

/** @throws OriginError `invalid` */
function checkParts(
  { parts, sizeBytes }: { readonly parts: readonly UploadedPart[]; readonly sizeBytes: number },
  partsMax: number,
): void {
  const refuse = (why: string): never => {
    throw new OriginError('invalid', `the parts of the upload ${why}`);
  };
  if (parts.length > partsMax) refuse(`are ${parts.length}, more than ${partsMax}`);
  let last = 0;
  let sum = 0;
  for (const part of parts) {
    if (part.number <= last) refuse('are not in ascending order');
    last = part.number;
    sum += part.sizeBytes;
  }
  if (sum !== sizeBytes) refuse(`have ${sum} bytes, not ${sizeBytes}`);
}
