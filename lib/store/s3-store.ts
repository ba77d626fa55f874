/**
 * Objects of an S3 bucket, or of a prefix in one, through the SDK.
 *
 * Nothing that a server says is taken on trust: the version, the range and the length of an answer are checked
 * against the request, also where the server ignores conditions, and a body that ends early, late or wrong is an
 * error. Every call is bounded by its deadline; accidents and overload are retried inside it (`s3-retry.ts`).
 */
import { type Readable } from 'node:stream';
import {
  DeleteObjectCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  type S3Client,
} from '@aws-sdk/client-s3';
import { type Clock } from '../base/clock.ts';
import { STORE_DEADLINE_MS } from '../base/limits.ts';
import { type Prng } from '../base/prng.ts';
import { type BodySource, streamSource } from './body-source.ts';
import { checkRange } from './byte-range.ts';
import { signalsOf, withinDeadline } from './call-deadline.ts';
import { GuardedBody } from './guarded-body.ts';
import { checkMetadata, LIST_KEYS_MAX } from './object-checks.ts';
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
  type StoreAccess,
  StoreError,
  type UploadedPart,
  type WriteConditions,
  type Written,
} from './object-store.ts';
import { S3Copier } from './s3-copier.ts';
import { createS3Client, trustedCertificates } from './s3-client.ts';
import { S3DirectRead } from './s3-direct-read.ts';
import { s3FailureOf } from './s3-errors.ts';
import { listPageOf } from './s3-listing.ts';
import {
  answeredRange,
  entityTagOf,
  expectVersion,
  headOf,
  s3Conditions,
  s3Key,
  type S3Head,
  versionOf,
} from './s3-objects.ts';
import { type Attempt, withRetries } from './s3-retry.ts';
import { PART_BYTES_MIN, PARTS_MAX, S3Uploads } from './s3-uploads.ts';
import { type S3Location } from './s3-url.ts';
import { md5 } from './md5.ts';

/** What one server-side copy may hold; larger objects are copied in parts. S3's own limit. */
const COPY_WHOLE_BYTES_MAX = 5 * 1024 ** 3;

export interface S3StoreOptions {
  readonly location: S3Location;
  readonly clock: Clock;
  readonly prng: Prng;
  readonly copyWholeBytesMax?: number;
}

export class S3Store implements ObjectStore {
  readonly url: string;
  readonly abilities: StoreAbilities = {
    conditionalWrites: 'server-dependent',
    partBytesMin: PART_BYTES_MIN,
    partsMax: PARTS_MAX,
  };
  readonly #client: S3Client;
  readonly #bucket: string;
  readonly #md5Tags: boolean;
  readonly #prefix: string;
  readonly #clock: Clock;
  readonly #prng: Prng;
  readonly #direct: S3DirectRead;
  readonly #uploads: S3Uploads;
  readonly #copier: S3Copier;
  readonly #closing = new AbortController();

  constructor(options: S3StoreOptions) {
    const { location } = options;
    this.url = location.url;
    this.#bucket = location.bucket;
    this.#prefix = location.prefix;
    this.#md5Tags = location.md5Tags;
    this.#clock = options.clock;
    this.#prng = options.prng;
    const ca = trustedCertificates(location);
    this.#client = createS3Client(location, ca);
    this.#direct = new S3DirectRead({
      client: this.#client,
      clock: options.clock,
      connectionsMax: location.connections,
      ca,
      md5Tags: location.md5Tags,
    });
    const parts = { client: this.#client, bucket: this.#bucket, call: this.#call.bind(this) };
    this.#uploads = new S3Uploads(parts);
    this.#copier = new S3Copier({
      ...parts,
      uploads: this.#uploads,
      copyWholeBytesMax: Math.min(options.copyWholeBytesMax ?? COPY_WHOLE_BYTES_MAX, COPY_WHOLE_BYTES_MAX),
    });
  }

  prepare(): Promise<void> {
    return this.#direct.learn(new HeadObjectCommand({ Bucket: this.#bucket, Key: 'none' }));
  }

  async access(): Promise<StoreAccess | undefined> {
    const access = await this.#direct.access();
    return access && { ...access, prefix: this.#prefix };
  }

  head(key: string, options?: CallOptions & { readonly versionId?: string }): Promise<ObjectHead> {
    const versionId = options?.versionId;
    const version = versionId === undefined ? {} : { versionId };
    return this.#call({ what: `head ${key}`, options }, async (attempt) => {
      const full = s3Key(this.#prefix, key);
      const answer: S3Head =
        (await this.#direct.head(full, version, attempt)) ??
        (await this.#client.send(
          new HeadObjectCommand({
            Bucket: this.#bucket,
            Key: full,
            ...(versionId === undefined ? {} : { VersionId: versionId }),
          }),
          { abortSignal: attempt.signal },
        ));
      const head = headOf(key, answer);
      expectVersion({ key, ...version }, head);
      return head;
    });
  }

  get(request: GetRequest, options?: CallOptions): Promise<GetResult> {
    const { key, range, ifMatch, versionId } = request;
    const what = `get ${key}`;
    return this.#call({ what, options }, async (attempt) => {
      checkRange(request);
      const full = s3Key(this.#prefix, key);
      const direct = await this.#direct.get(full, request, attempt);
      if (direct) return this.#guarded(request, { answer: direct, source: direct.Body, options, what });
      const answer = await this.#client.send(
        new GetObjectCommand({
          Bucket: this.#bucket,
          Key: full,
          ...(range ? { Range: `bytes=${range.offset}-${range.offset + range.length - 1}` } : {}),
          ...(ifMatch === undefined ? {} : { IfMatch: `"${ifMatch}"` }),
          ...(versionId === undefined ? {} : { VersionId: versionId }),
        }),
        { abortSignal: attempt.signal },
      );
      const source = streamSource(answer.Body as Readable);
      return this.#guarded(request, { answer, source, options, what });
    });
  }

  list(request: ListRequest, options?: CallOptions): Promise<ListPage> {
    const { prefix, delimiter, startAfter, token, keysMax } = request;
    return this.#call({ what: `list ${prefix}`, options }, async ({ signal }) => {
      const after = startAfter === undefined || startAfter === '' ? undefined : this.#prefix + startAfter;
      const answer = await this.#client.send(
        new ListObjectsV2Command({
          Bucket: this.#bucket,
          Prefix: this.#prefix + prefix,
          EncodingType: 'url',
          MaxKeys: Math.min(Math.max(1, keysMax ?? LIST_KEYS_MAX), LIST_KEYS_MAX),
          ...(delimiter === undefined ? {} : { Delimiter: delimiter }),
          ...(after === undefined ? {} : { StartAfter: after }),
          ...(token === undefined ? {} : { ContinuationToken: token }),
        }),
        { abortSignal: signal },
      );
      return listPageOf(answer, { prefix: this.#prefix, request });
    });
  }

  put(key: string, body: Uint8Array, options?: PutOptions): Promise<Written> {
    return this.#call({ what: `put ${key}`, options, bodyBytes: body.length }, async (attempt) => {
      try {
        const answer = await this.#client.send(
          new PutObjectCommand({
            Bucket: this.#bucket,
            Key: s3Key(this.#prefix, key),
            Body: body,
            ContentLength: body.length,
            Metadata: { ...checkMetadata(options?.metadata) },
            ...s3Conditions(options),
          }),
          { abortSignal: attempt.signal },
        );
        return { entityTag: entityTagOf(answer.ETag), versionId: versionOf(answer.VersionId) };
      } catch (error) {
        return await this.#afterPutFailure(error, { key, body, attempt, ifMatch: options?.ifMatch });
      }
    });
  }

  createUpload(key: string, options?: PutOptions): Promise<string> {
    return this.#uploads.create(s3Key(this.#prefix, key), options);
  }

  uploadPart(
    upload: { readonly key: string; readonly uploadId: string; readonly partNumber: number },
    body: Uint8Array,
    options?: CallOptions,
  ): Promise<UploadedPart> {
    return this.#uploads.addPart({ ...upload, key: s3Key(this.#prefix, upload.key) }, body, options);
  }

  completeUpload(
    upload: { readonly key: string; readonly uploadId: string; readonly parts: readonly UploadedPart[] },
    options?: CallOptions & WriteConditions,
  ): Promise<Written> {
    return this.#uploads.complete({ ...upload, key: s3Key(this.#prefix, upload.key) }, options);
  }

  abortUpload(
    upload: { readonly key: string; readonly uploadId: string },
    options?: CallOptions,
  ): Promise<void> {
    return this.#uploads.abort({ ...upload, key: s3Key(this.#prefix, upload.key) }, options);
  }

  copy(
    copy: { readonly from: string; readonly to: string; readonly ifMatch?: string },
    options?: PutOptions,
  ): Promise<Written> {
    const from = s3Key(this.#prefix, copy.from);
    return this.#copier.copy({ ...copy, from, to: s3Key(this.#prefix, copy.to) }, options);
  }

  async delete(key: string, options?: CallOptions & WriteConditions): Promise<void> {
    const ifMatch = options?.ifMatch;
    // Few servers know conditions here: look first, which leaves only a short time between.
    if (ifMatch !== undefined) {
      const head = await this.head(key, options).catch((error: unknown) => {
        const absent = error instanceof StoreError && error.code === 'not-found';
        throw absent ? absentToMatch(key, { ifMatch, cause: error }) : error;
      });
      expectVersion({ key, ifMatch }, head);
    }
    await this.#call({ what: `delete ${key}`, options }, async ({ signal }) => {
      await this.#client.send(
        new DeleteObjectCommand({ Bucket: this.#bucket, Key: s3Key(this.#prefix, key) }),
        { abortSignal: signal },
      );
    });
  }

  async close(): Promise<void> {
    this.#closing.abort(new StoreError('unavailable', 'the store is closed'));
    this.#direct.close();
    this.#client.destroy();
  }

  #call<T>(
    call: { readonly what: string; readonly options: CallOptions | undefined; readonly bodyBytes?: number },
    run: (attempt: Attempt) => Promise<T>,
  ): Promise<T> {
    const { what, options, bodyBytes = 0 } = call;
    const bounds = { clock: this.#clock, what, options, closing: this.#closing.signal };
    return withinDeadline(bounds, (scope) =>
      withRetries({ what, clock: this.#clock, prng: this.#prng, scope, bodyBytes }, run),
    );
  }

  #guarded(
    request: GetRequest,
    got: {
      readonly answer: S3Head & { readonly ContentRange?: string | undefined };
      readonly source: BodySource;
      readonly options: CallOptions | undefined;
      readonly what: string;
    },
  ): GetResult {
    const { answer, source, options, what } = got;
    try {
      const { length, sizeBytes } = answeredRange(request, answer);
      const { contentMd5, ...told } = headOf(request.key, answer, sizeBytes);
      const head = this.#md5Tags && contentMd5 !== undefined ? { ...told, contentMd5 } : told;
      expectVersion(request, head);
      const body = new GuardedBody(source, {
        what,
        bytes: length,
        stallMs: options?.deadlineMs ?? STORE_DEADLINE_MS,
        clock: this.#clock,
        signals: signalsOf({ options, closing: this.#closing.signal }),
        transient: request.transient,
        toStoreError: (error) => s3FailureOf(error, { what, wallMs: this.#clock.wallMs() }).error,
      });
      return { head, bodyBytes: length, body };
    } catch (error) {
      source.destroy();
      throw error;
    }
  }

  /**
   * A condition may fail because an earlier attempt, whose answer was lost, has written just this. Where there is
   * no object to match, servers say not-found.
   */
  async #afterPutFailure(
    error: unknown,
    put: {
      readonly key: string;
      readonly body: Uint8Array;
      readonly attempt: Attempt;
      readonly ifMatch: string | undefined;
    },
  ): Promise<Written> {
    const { key, body, attempt, ifMatch } = put;
    const failure = s3FailureOf(error, { what: `put ${key}`, wallMs: this.#clock.wallMs() }).error;
    if (failure.code === 'not-found' && ifMatch !== undefined)
      throw absentToMatch(key, { ifMatch, cause: error });
    if (failure.code !== 'precondition-failed' || !attempt.maybeDone) throw error;
    const head = await this.head(key, { signal: attempt.signal });
    if (head.entityTag !== md5(body)) throw error;
    return { entityTag: head.entityTag, versionId: head.versionId };
  }
}

function absentToMatch(key: string, why: { readonly ifMatch: string; readonly cause: unknown }): StoreError {
  return new StoreError('precondition-failed', `${key}: is not there, so not the version ${why.ifMatch}`, {
    cause: why.cause,
  });
}
