/**
 * Uploads in parts. Completion survives a lost answer: where the upload is gone, the object is compared with what
 * the parts make. Conditions on completion are sent and, since few servers know them, also looked at just before.
 */
import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  HeadObjectCommand,
  ListPartsCommand,
  type S3Client,
  UploadPartCommand,
} from '@aws-sdk/client-s3';
import { md5OfParts } from './md5.ts';
import { checkMetadata } from './object-checks.ts';
import {
  type CallOptions,
  type ObjectHead,
  type PutOptions,
  StoreError,
  type UploadedPart,
  type WriteConditions,
  type Written,
} from './object-store.ts';
import { s3FailureOf } from './s3-errors.ts';
import { entityTagOf, headOf, s3Conditions, versionOf } from './s3-objects.ts';
import { type Attempt, type S3Caller } from './s3-retry.ts';

/** S3's own limits. */
export const PART_BYTES_MIN = 5 * 1024 * 1024;
export const PARTS_MAX = 10_000;

/** The key is the bucket's, with the prefix of the store. */
interface Upload {
  readonly key: string;
  readonly uploadId: string;
}

export interface S3Parts {
  readonly client: S3Client;
  readonly bucket: string;
  readonly call: S3Caller;
}

export class S3Uploads {
  readonly #client: S3Client;
  readonly #bucket: string;
  readonly #call: S3Caller;

  constructor(parts: S3Parts) {
    this.#client = parts.client;
    this.#bucket = parts.bucket;
    this.#call = parts.call;
  }

  create(key: string, options: PutOptions | undefined): Promise<string> {
    return this.#call({ what: `create upload ${key}`, options }, async ({ signal }) => {
      const answer = await this.#client.send(
        new CreateMultipartUploadCommand({
          Bucket: this.#bucket,
          Key: key,
          Metadata: { ...checkMetadata(options?.metadata) },
        }),
        { abortSignal: signal },
      );
      if (!answer.UploadId) throw new StoreError('corrupt', `${key}: the store gave no upload id`);
      return answer.UploadId;
    });
  }

  addPart(
    upload: Upload & { readonly partNumber: number },
    body: Uint8Array,
    options: CallOptions | undefined,
  ): Promise<UploadedPart> {
    const { key, uploadId, partNumber } = upload;
    const what = `upload part ${partNumber} of ${key}`;
    return this.#call({ what, options, bodyBytes: body.length }, async ({ signal }) => {
      const answer = await this.#client.send(
        new UploadPartCommand({
          Bucket: this.#bucket,
          Key: key,
          UploadId: uploadId,
          PartNumber: partNumber,
          Body: body,
          ContentLength: body.length,
        }),
        { abortSignal: signal },
      );
      return { number: partNumber, entityTag: entityTagOf(answer.ETag), sizeBytes: body.length };
    });
  }

  complete(
    upload: Upload & { readonly parts: readonly UploadedPart[] },
    options: (CallOptions & WriteConditions) | undefined,
  ): Promise<Written> {
    const { key, uploadId, parts } = upload;
    return this.#call({ what: `complete upload ${key}`, options }, async (attempt) => {
      const { signal } = attempt;
      if (!attempt.maybeDone) await this.#checkConditions(key, { options, signal });
      try {
        const answer = await this.#client.send(
          new CompleteMultipartUploadCommand({
            Bucket: this.#bucket,
            Key: key,
            UploadId: uploadId,
            MultipartUpload: {
              Parts: parts.map((part) => ({ PartNumber: part.number, ETag: part.entityTag })),
            },
            ...s3Conditions(options),
          }),
          { abortSignal: signal },
        );
        const entityTag = entityTagOf(answer.ETag);
        if (entityTag !== '') return { entityTag, versionId: versionOf(answer.VersionId) };
      } catch (error) {
        return await this.#afterFailure(error, { upload, attempt });
      }
      // Ceph's gateway completes without telling the tag.
      const head = await this.#head(key, signal);
      if (!head)
        throw new StoreError('precondition-failed', `${key}: was deleted as soon as it was complete`);
      return { entityTag: head.entityTag, versionId: head.versionId };
    });
  }

  async abort(upload: Upload, options: CallOptions | undefined): Promise<void> {
    const { key, uploadId } = upload;
    await this.#call({ what: `abort upload ${key}`, options }, async (attempt) => {
      try {
        await this.#client.send(
          new AbortMultipartUploadCommand({ Bucket: this.#bucket, Key: key, UploadId: uploadId }),
          { abortSignal: attempt.signal },
        );
      } catch (error) {
        const { code } = s3FailureOf(error, { what: key, wallMs: 0 }).error;
        if (code !== 'not-found' || !attempt.maybeDone) throw error;
      }
    });
  }

  /** Tells a completion whose answer was lost from one that failed. Some servers fail with 500 on an upload that is gone. */
  async #afterFailure(
    error: unknown,
    failed: {
      readonly upload: Upload & { readonly parts: readonly UploadedPart[] };
      readonly attempt: Attempt;
    },
  ): Promise<Written> {
    const { upload, attempt } = failed;
    const { code } = s3FailureOf(error, { what: upload.key, wallMs: 0 }).error;
    const maybeDone =
      code === 'unavailable'
        ? await this.#isGone(upload, attempt.signal)
        : attempt.maybeDone && (code === 'not-found' || code === 'precondition-failed');
    if (!maybeDone) throw error;
    const head = await this.#head(upload.key, attempt.signal);
    if (head && head.entityTag === md5OfParts(upload.parts.map(({ entityTag }) => entityTag))) {
      return { entityTag: head.entityTag, versionId: head.versionId };
    }
    if (code !== 'unavailable') throw error;
    throw new StoreError('not-found', `${upload.key}: there is no upload ${upload.uploadId}`, {
      cause: error,
    });
  }

  async #isGone(upload: Upload, signal: AbortSignal): Promise<boolean> {
    const { key, uploadId } = upload;
    try {
      await this.#client.send(
        new ListPartsCommand({ Bucket: this.#bucket, Key: key, UploadId: uploadId, MaxParts: 1 }),
        { abortSignal: signal },
      );
      return false;
    } catch (error) {
      return s3FailureOf(error, { what: key, wallMs: 0 }).error.code === 'not-found';
    }
  }

  async #checkConditions(
    key: string,
    given: { readonly options: WriteConditions | undefined; readonly signal: AbortSignal },
  ): Promise<void> {
    const { ifMatch, ifAbsent } = given.options ?? {};
    if (ifMatch === undefined && !ifAbsent) return;
    const head = await this.#head(key, given.signal);
    if (ifAbsent && head) throw new StoreError('precondition-failed', `${key}: there is an object already`);
    if (ifMatch !== undefined && head?.entityTag !== ifMatch) {
      throw new StoreError('precondition-failed', `${key}: is not the version ${ifMatch}`);
    }
  }

  async #head(key: string, signal: AbortSignal): Promise<ObjectHead | undefined> {
    try {
      const answer = await this.#client.send(new HeadObjectCommand({ Bucket: this.#bucket, Key: key }), {
        abortSignal: signal,
      });
      return headOf(key, answer);
    } catch (error) {
      if (s3FailureOf(error, { what: key, wallMs: 0 }).error.code === 'not-found') return undefined;
      throw error;
    }
  }
}
