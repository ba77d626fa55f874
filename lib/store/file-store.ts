/**
 * Objects as files of a directory: the embedded default, which also exports a directory tree that exists already.
 *
 * Key `a/b` is the file `a/b` under the root (`file-keys.ts` for what cannot be one); contents are replaced whole
 * and durably (`file-writer.ts`); entity tags follow from the file itself (`file-objects.ts`). A file that another
 * program rewrites in place while it is read fails that read: its tag is compared again before the last byte.
 */
import { type FileHandle } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { type Clock } from '../base/clock.ts';
import { STORE_DEADLINE_MS } from '../base/limits.ts';
import { type Prng } from '../base/prng.ts';
import { streamSource } from './body-source.ts';
import { checkRange, rangeWithin } from './byte-range.ts';
import { signalsOf, withinDeadline } from './call-deadline.ts';
import { fileErrorOf } from './file-errors.ts';
import { FileListing } from './file-listing.ts';
import { entityTagOf, FileObjects } from './file-objects.ts';
import { FilePaths, type Found } from './file-paths.ts';
import { FileUploads, PARTS_MAX } from './file-uploads.ts';
import { FileWriter } from './file-writer.ts';
import { GuardedBody } from './guarded-body.ts';
import { checkKey, checkMetadata } from './object-checks.ts';
import {
  type CallOptions,
  type GetRequest,
  type GetResult,
  type ListPage,
  type ListRequest,
  type ObjectHead,
  type ObjectStore,
  type PutOptions,
  type StoreAbilities,
  StoreError,
  type UploadedPart,
  type WriteConditions,
  type Written,
} from './object-store.ts';

const READ_BYTES = 512 * 1024;

export interface FileStoreOptions {
  /** An absolute path without symlinks, of a directory that exists. */
  readonly root: string;
  readonly url: string;
  readonly clock: Clock;
  readonly prng: Prng;
}

export class FileStore implements ObjectStore {
  readonly url: string;
  readonly abilities: StoreAbilities = {
    conditionalWrites: 'enforced',
    partBytesMin: 1,
    partsMax: PARTS_MAX,
  };
  readonly #clock: Clock;
  readonly #paths: FilePaths;
  readonly #objects: FileObjects;
  readonly #listing: FileListing;
  readonly #writer: FileWriter;
  readonly #uploads: FileUploads;
  readonly #closing = new AbortController();

  constructor(options: FileStoreOptions) {
    this.url = options.url;
    this.#clock = options.clock;
    this.#paths = new FilePaths(options.root);
    this.#objects = new FileObjects(this.#paths);
    this.#listing = new FileListing(this.#paths, options.clock);
    this.#writer = new FileWriter({ ...options, paths: this.#paths, objects: this.#objects });
    this.#uploads = new FileUploads(this.#paths, this.#writer);
  }

  head(key: string, options?: CallOptions & { readonly versionId?: string }): Promise<ObjectHead> {
    return this.#call(`head ${key}`, options, async () => {
      refuseVersion(options?.versionId);
      return this.#objects.headOf(key, await this.#find(key));
    });
  }

  get(request: GetRequest, options?: CallOptions): Promise<GetResult> {
    const what = `get ${request.key}`;
    return this.#call(what, options, async (signal) => {
      checkRange(request);
      refuseVersion(request.versionId);
      const opened = await this.#paths.open(request.key);
      if (!opened) throw new StoreError('not-found', `${request.key}: no such object`);
      try {
        const result = await this.#read(request, { opened, options, what });
        // Too late: nobody will read it.
        if (signal.aborted) result.body.destroy();
        return result;
      } catch (error) {
        await opened.file?.close();
        throw error;
      }
    });
  }

  list(request: ListRequest, options?: CallOptions): Promise<ListPage> {
    return this.#call(`list ${request.prefix}`, options, () => this.#listing.page(request));
  }

  put(key: string, body: Uint8Array, options?: PutOptions): Promise<Written> {
    return this.#call(`put ${key}`, options, () =>
      this.#writer.write({
        key,
        metadata: checkMetadata(options?.metadata),
        conditions: conditionsOf(options),
        fill: (file) => file.writeFile(body),
      }),
    );
  }

  createUpload(key: string, options?: PutOptions): Promise<string> {
    return this.#call(`create upload ${key}`, options, async () => {
      checkKey(key);
      return this.#uploads.create(key, {
        metadata: checkMetadata(options?.metadata),
        conditions: conditionsOf(options),
      });
    });
  }

  uploadPart(
    upload: { readonly key: string; readonly uploadId: string; readonly partNumber: number },
    body: Uint8Array,
    options?: CallOptions,
  ): Promise<UploadedPart> {
    return this.#call(`upload part ${upload.partNumber} of ${upload.key}`, options, () =>
      this.#uploads.addPart(upload, body),
    );
  }

  completeUpload(
    upload: { readonly key: string; readonly uploadId: string; readonly parts: readonly UploadedPart[] },
    options?: CallOptions & WriteConditions,
  ): Promise<Written> {
    return this.#call(`complete upload ${upload.key}`, options, () =>
      this.#uploads.complete(upload, conditionsOf(options)),
    );
  }

  abortUpload(
    upload: { readonly key: string; readonly uploadId: string },
    options?: CallOptions,
  ): Promise<void> {
    return this.#call(`abort upload ${upload.key}`, options, () => this.#uploads.abort(upload));
  }

  copy(
    copy: { readonly from: string; readonly to: string; readonly ifMatch?: string },
    options?: PutOptions,
  ): Promise<Written> {
    return this.#call(`copy ${copy.from} to ${copy.to}`, options, async () => {
      const source = await this.#find(copy.from);
      const { entityTag, metadata } = await this.#objects.headOf(copy.from, source);
      expectTag(copy.from, { expected: copy.ifMatch ?? entityTag, entityTag });
      const isSymlink = source.stats.isSymbolicLink();
      return this.#writer.write({
        key: copy.to,
        metadata: options?.metadata ? checkMetadata(options.metadata) : metadata,
        conditions: conditionsOf(options),
        fill: async (_file, path) => {
          if (!isSymlink) await this.#writer.copyInto(source.path, path);
          const now = await this.#find(copy.from);
          expectTag(copy.from, { expected: entityTag, entityTag: entityTagOf(now.stats) });
        },
      });
    });
  }

  delete(key: string, options?: CallOptions & WriteConditions): Promise<void> {
    return this.#call(`delete ${key}`, options, () => this.#writer.remove(key, conditionsOf(options)));
  }

  async close(): Promise<void> {
    this.#closing.abort(new StoreError('unavailable', 'the store is closed'));
  }

  async #call<T>(
    what: string,
    options: CallOptions | undefined,
    work: (signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const call = { clock: this.#clock, what, options, closing: this.#closing.signal };
    return withinDeadline(call, async ({ signal }) => {
      try {
        return await work(signal);
      } catch (error) {
        throw fileErrorOf(error, what);
      }
    });
  }

  async #find(key: string): Promise<Found> {
    const found = await this.#paths.find(key);
    if (!found) throw new StoreError('not-found', `${key}: no such object`);
    return found;
  }

  async #read(
    request: GetRequest,
    call: {
      readonly opened: Found & { readonly file: FileHandle | undefined };
      readonly options: CallOptions | undefined;
      readonly what: string;
    },
  ): Promise<GetResult> {
    const { opened, options, what } = call;
    const { file } = opened;
    const head = await this.#objects.headOf(request.key, opened);
    expectTag(request.key, { expected: request.ifMatch, entityTag: head.entityTag });
    const range = rangeWithin(request, head.sizeBytes);
    const source = file ? Readable.from(chunksOf(file, range), { objectMode: false }) : Readable.from([]);
    const beforeEnd = async (): Promise<void> => {
      if (!file) return;
      const entityTag = entityTagOf(await file.stat({ bigint: true }));
      expectTag(request.key, { expected: head.entityTag, entityTag });
    };
    const body = new GuardedBody(streamSource(source), {
      what,
      bytes: range.length,
      stallMs: options?.deadlineMs ?? STORE_DEADLINE_MS,
      clock: this.#clock,
      signals: signalsOf({ options, closing: this.#closing.signal }),
      toStoreError: (error) => fileErrorOf(error, what),
      beforeEnd,
    });
    body.once('close', () => void file?.close().catch(() => {}));
    return { head, bodyBytes: range.length, body };
  }
}

async function* chunksOf(
  file: FileHandle,
  range: { readonly offset: number; readonly length: number },
): AsyncGenerator<Buffer> {
  const end = range.offset + range.length;
  for (let at = range.offset; at < end;) {
    const buffer = Buffer.allocUnsafe(Math.min(READ_BYTES, end - at));
    const { bytesRead } = await file.read(buffer, 0, buffer.length, at);
    if (bytesRead === 0) return;
    yield buffer.subarray(0, bytesRead);
    at += bytesRead;
  }
}

function expectTag(
  key: string,
  tags: { readonly expected: string | undefined; readonly entityTag: string },
): void {
  if (tags.expected === undefined || tags.expected === tags.entityTag) return;
  throw new StoreError('precondition-failed', `${key}: is not the version ${tags.expected} any more`);
}

function conditionsOf(options: WriteConditions | undefined): WriteConditions {
  return {
    ...(options?.ifMatch === undefined ? {} : { ifMatch: options.ifMatch }),
    ...(options?.ifAbsent === undefined ? {} : { ifAbsent: options.ifAbsent }),
  };
}

function refuseVersion(versionId: string | undefined): void {
  if (versionId === undefined) return;
  throw new StoreError('unsupported', 'the file store keeps no versions');
}
