/** An object store in memory: keys in order of UTF-8 bytes, paging as S3 pages, calls counted, failures on demand. */
import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import {
  type GetRequest,
  type GetResult,
  type ListPage,
  type ListRequest,
  type ObjectHead,
  type ObjectMetadata,
  type ObjectStore,
  StoreError,
  type UploadedPart,
  type WriteConditions,
  type Written,
} from '../../lib/store/object-store.ts';

interface MemoryObject {
  readonly body: Uint8Array;
  readonly metadata: ObjectMetadata;
  readonly modifiedMs: number;
  readonly entityTag: string;
}

export type MemoryCall = 'head' | 'get' | 'list';
export type MemoryWrite =
  'put' | 'delete' | 'copy' | 'createUpload' | 'uploadPart' | 'completeUpload' | 'abortUpload';

interface MemoryUpload {
  readonly key: string;
  readonly metadata: ObjectMetadata;
  readonly parts: Map<number, Uint8Array>;
}

export class MemoryStore implements ObjectStore {
  readonly url = 'memory://bucket';
  readonly abilities = { conditionalWrites: 'enforced', partBytesMin: 1, partsMax: 10_000 } as const;
  readonly calls: Record<MemoryCall, number> = { head: 0, get: 0, list: 0 };
  /** Called before each read; throws or waits to make the store fail or stall. */
  before: (call: MemoryCall, key: string) => void | Promise<void> = () => undefined;
  /** The same for writes: `done` is called again with true when the write has happened and its answer is due. */
  onWrite: (call: MemoryWrite, key: string, done: boolean) => void | Promise<void> = () => undefined;
  /** Objects and prefixes in one page, at most. */
  pageMax = 1_000;
  /** What a clock says when an object is put. */
  nowMs = 1_700_000_000_000;
  readonly #objects = new Map<string, MemoryObject>();
  readonly #uploads = new Map<string, MemoryUpload>();
  #uploadsBegun = 0;
  #sorted: { readonly key: string; readonly bytes: Buffer }[] | undefined;

  /** The keys, in the store's order. */
  get keys(): string[] {
    return this.#order().map(({ key }) => key);
  }

  /** Puts objects at once without any ceremony: value is the body. */
  fill(objects: Readonly<Record<string, string>> | readonly string[], metadata: ObjectMetadata = {}): void {
    const entries = Array.isArray(objects)
      ? (objects as readonly string[]).map((key) => [key, 'x'] as const)
      : Object.entries(objects as Readonly<Record<string, string>>);
    for (const [key, body] of entries) this.#set(key, Buffer.from(body), metadata);
  }

  remove(key: string): void {
    this.#objects.delete(key);
    this.#sorted = undefined;
  }

  async head(key: string): Promise<ObjectHead> {
    this.calls.head += 1;
    await this.before('head', key);
    return this.#headOf(key);
  }

  async get(request: GetRequest): Promise<GetResult> {
    this.calls.get += 1;
    await this.before('get', request.key);
    const head = this.#headOf(request.key);
    if (request.ifMatch !== undefined && request.ifMatch !== head.entityTag) {
      throw new StoreError('precondition-failed', 'another version');
    }
    const whole = this.#objects.get(request.key)?.body ?? new Uint8Array();
    const { offset = 0, length = whole.length } = request.range ?? {};
    const bytes = whole.subarray(offset, offset + length);
    return { head, bodyBytes: bytes.length, body: Readable.from([Buffer.from(bytes)]) };
  }

  async list(request: ListRequest): Promise<ListPage> {
    this.calls.list += 1;
    await this.before('list', request.prefix);
    const { prefix, delimiter } = request;
    const keysMax = Math.min(request.keysMax ?? 1_000, this.pageMax);
    const order = this.#order();
    const after = request.token ?? request.startAfter;
    const objects: ListPage['objects'][number][] = [];
    const prefixes: string[] = [];
    let last: string | undefined;
    const from =
      after !== undefined && Buffer.compare(Buffer.from(after), Buffer.from(prefix)) > 0 ? after : prefix;
    for (let at = lowerBound(order, from); at < order.length; at++) {
      const key = order[at]?.key ?? '';
      if (!key.startsWith(prefix)) break;
      const end = delimiter === undefined ? -1 : key.indexOf(delimiter, prefix.length);
      const item = end === -1 ? key : key.slice(0, end + 1);
      if (item === last) continue;
      if (after !== undefined && Buffer.compare(Buffer.from(item), Buffer.from(after)) <= 0) {
        last = item;
        continue;
      }
      if (objects.length + prefixes.length === keysMax) {
        return { objects, prefixes, nextToken: last };
      }
      if (end === -1) objects.push(this.#headOf(key));
      else prefixes.push(item);
      last = item;
    }
    return { objects, prefixes, nextToken: undefined };
  }

  /** Uploads that were neither completed nor aborted. */
  get uploads(): number {
    return this.#uploads.size;
  }

  text(key: string): string | undefined {
    const object = this.#objects.get(key);
    return object && Buffer.from(object.body).toString();
  }

  put(key: string, body: Uint8Array, options?: { metadata?: ObjectMetadata }): Promise<Written> {
    return this.#write('put', key, () => this.#set(key, body, options?.metadata ?? {}));
  }

  delete(key: string, options?: WriteConditions): Promise<void> {
    return this.#write('delete', key, () => {
      if (options?.ifMatch !== undefined && this.#objects.get(key)?.entityTag !== options.ifMatch) {
        throw new StoreError('precondition-failed', `${key} is another version`);
      }
      this.remove(key);
    });
  }

  createUpload(key: string, options?: { metadata?: ObjectMetadata }): Promise<string> {
    return this.#write('createUpload', key, () => {
      const uploadId = `upload-${this.#uploadsBegun++}`;
      this.#uploads.set(uploadId, { key, metadata: options?.metadata ?? {}, parts: new Map() });
      return uploadId;
    });
  }

  uploadPart(
    upload: { readonly key: string; readonly uploadId: string; readonly partNumber: number },
    body: Uint8Array,
  ): Promise<UploadedPart> {
    return this.#write('uploadPart', upload.key, () => {
      this.#uploadOf(upload).parts.set(upload.partNumber, body);
      return { number: upload.partNumber, entityTag: md5(body), sizeBytes: body.length };
    });
  }

  completeUpload(upload: {
    readonly key: string;
    readonly uploadId: string;
    readonly parts: readonly UploadedPart[];
  }): Promise<Written> {
    return this.#write('completeUpload', upload.key, () => {
      const { metadata, parts } = this.#uploadOf(upload);
      const bodies = upload.parts.map(({ number, entityTag }) => {
        const body = parts.get(number);
        if (body === undefined || md5(body) !== entityTag) throw new StoreError('invalid', 'another part');
        return body;
      });
      this.#uploads.delete(upload.uploadId);
      return this.#set(upload.key, Buffer.concat(bodies), metadata);
    });
  }

  abortUpload(upload: { readonly key: string; readonly uploadId: string }): Promise<void> {
    return this.#write('abortUpload', upload.key, () => {
      this.#uploadOf(upload);
      this.#uploads.delete(upload.uploadId);
    });
  }

  copy(copy: { readonly from: string; readonly to: string; readonly ifMatch?: string }): Promise<Written> {
    return this.#write('copy', copy.to, () => {
      const { body, metadata, entityTag } = this.#objects.get(copy.from) ?? absent(copy.from);
      if (copy.ifMatch !== undefined && copy.ifMatch !== entityTag) {
        throw new StoreError('precondition-failed', `${copy.from} is another version`);
      }
      return this.#set(copy.to, body, metadata);
    });
  }

  async close(): Promise<void> {
    // Nothing is held.
  }

  async #write<T>(call: MemoryWrite, key: string, write: () => T): Promise<T> {
    await this.onWrite(call, key, false);
    const result = write();
    await this.onWrite(call, key, true);
    return result;
  }

  #uploadOf({ key, uploadId }: { readonly key: string; readonly uploadId: string }): MemoryUpload {
    const upload = this.#uploads.get(uploadId);
    if (upload?.key === key) return upload;
    throw new StoreError('not-found', `no upload ${uploadId}`);
  }

  #set(key: string, body: Uint8Array, metadata: ObjectMetadata): Written {
    const entityTag = md5(body);
    if (!this.#objects.has(key)) this.#sorted = undefined;
    this.#objects.set(key, { body, metadata, modifiedMs: this.nowMs, entityTag });
    return { entityTag, versionId: undefined };
  }

  #headOf(key: string): ObjectHead {
    const object = this.#objects.get(key);
    if (object === undefined) throw new StoreError('not-found', `no object ${key}`);
    const { body, metadata, modifiedMs, entityTag } = object;
    return { key, sizeBytes: body.length, entityTag, modifiedMs, versionId: undefined, metadata };
  }

  #order(): { readonly key: string; readonly bytes: Buffer }[] {
    this.#sorted ??= [...this.#objects.keys()]
      .map((key) => ({ key, bytes: Buffer.from(key) }))
      .sort((a, b) => Buffer.compare(a.bytes, b.bytes));
    return this.#sorted;
  }
}

function lowerBound(order: readonly { readonly bytes: Buffer }[], prefix: string): number {
  const wanted = Buffer.from(prefix);
  let low = 0;
  let high = order.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (Buffer.compare(order[middle]?.bytes ?? wanted, wanted) < 0) low = middle + 1;
    else high = middle;
  }
  return low;
}

function absent(key: string): never {
  throw new StoreError('not-found', `no object ${key}`);
}

function md5(body: Uint8Array): string {
  return createHash('md5').update(body).digest('hex');
}
