/**
 * Server-side copies of any size: one request up to S3's limit, parts beyond. The source's version is compared
 * before and after, since some servers ignore the condition on it; a copy that lost that race is reported.
 */
import {
  CopyObjectCommand,
  HeadObjectCommand,
  type HeadObjectCommandOutput,
  UploadPartCopyCommand,
} from '@aws-sdk/client-s3';
import PQueue from 'p-queue';
import { checkMetadata } from './object-checks.ts';
import { type PutOptions, StoreError, type UploadedPart, type Written } from './object-store.ts';
import { entityTagOf, headOf, s3Conditions, versionOf } from './s3-objects.ts';
import { PART_BYTES_MIN, PARTS_MAX, type S3Parts, type S3Uploads } from './s3-uploads.ts';

const PART_COPIES_AT_ONCE = 8;
/** Parts are this large unless there would be too many, or the limit of one copy is lower. */
const PART_COPY_BYTES = 256 * 1024 * 1024;

/** Keys are the bucket's, with the prefix of the store. */
interface Copy {
  readonly from: string;
  readonly to: string;
  readonly ifMatch?: string;
}

export class S3Copier {
  readonly #parts: S3Parts;
  readonly #uploads: S3Uploads;
  readonly #copyWholeBytesMax: number;

  constructor(parts: S3Parts & { readonly uploads: S3Uploads; readonly copyWholeBytesMax: number }) {
    this.#parts = parts;
    this.#uploads = parts.uploads;
    this.#copyWholeBytesMax = parts.copyWholeBytesMax;
  }

  async copy(copy: Copy, options: PutOptions | undefined): Promise<Written> {
    const source = await this.#head(copy.from, options);
    const { sizeBytes, entityTag } = headOf(copy.from, source);
    this.#expect(copy, { expected: copy.ifMatch, entityTag });
    const pinned = { ...copy, ifMatch: entityTag };
    const written =
      sizeBytes <= this.#copyWholeBytesMax
        ? await this.#copyWhole(pinned, options)
        : await this.#copyParts(pinned, { options, sizeBytes, metadata: source.Metadata ?? {} });
    if (copy.ifMatch !== undefined) {
      const after = headOf(copy.from, await this.#head(copy.from, options));
      this.#expect(copy, { expected: entityTag, entityTag: after.entityTag });
    }
    return written;
  }

  #expect(copy: Copy, tags: { readonly expected: string | undefined; readonly entityTag: string }): void {
    if (tags.expected === undefined || tags.expected === tags.entityTag) return;
    throw new StoreError('precondition-failed', `${copy.from}: is not the version ${tags.expected}`);
  }

  #head(key: string, options: PutOptions | undefined): Promise<HeadObjectCommandOutput> {
    const { client, bucket, call } = this.#parts;
    return call({ what: `head ${key}`, options }, ({ signal }) =>
      client.send(new HeadObjectCommand({ Bucket: bucket, Key: key }), { abortSignal: signal }),
    );
  }

  #copyWhole(copy: Copy & { readonly ifMatch: string }, options: PutOptions | undefined): Promise<Written> {
    const { client, bucket, call } = this.#parts;
    const metadata = options?.metadata;
    return call({ what: `copy ${copy.from} to ${copy.to}`, options }, async ({ signal }) => {
      const answer = await client.send(
        new CopyObjectCommand({
          Bucket: bucket,
          Key: copy.to,
          CopySource: sourceOf(bucket, copy.from),
          CopySourceIfMatch: copy.ifMatch,
          ...(metadata ? { MetadataDirective: 'REPLACE', Metadata: { ...checkMetadata(metadata) } } : {}),
          ...s3Conditions(options),
        }),
        { abortSignal: signal },
      );
      return {
        entityTag: entityTagOf(answer.CopyObjectResult?.ETag),
        versionId: versionOf(answer.VersionId),
      };
    });
  }

  async #copyParts(
    copy: Copy & { readonly ifMatch: string },
    source: {
      readonly options: PutOptions | undefined;
      readonly sizeBytes: number;
      readonly metadata: Record<string, string>;
    },
  ): Promise<Written> {
    const { options, sizeBytes } = source;
    const upload = {
      key: copy.to,
      uploadId: await this.#uploads.create(copy.to, {
        ...options,
        metadata: options?.metadata ?? source.metadata,
      }),
    };
    try {
      const queue = new PQueue({ concurrency: PART_COPIES_AT_ONCE });
      const ranges = partRanges(sizeBytes, Math.min(PART_COPY_BYTES, this.#copyWholeBytesMax));
      const parts = await Promise.all(
        ranges.map((range, index) =>
          queue.add(() => this.#copyPart(copy, { ...range, ...upload, number: index + 1, options })),
        ),
      );
      return await this.#uploads.complete({ ...upload, parts }, options);
    } catch (error) {
      await this.#uploads.abort(upload, undefined).catch(() => {});
      throw error;
    }
  }

  #copyPart(
    copy: Copy & { readonly ifMatch: string },
    part: {
      readonly uploadId: string;
      readonly number: number;
      readonly offset: number;
      readonly length: number;
      readonly options: PutOptions | undefined;
    },
  ): Promise<UploadedPart> {
    const { client, bucket, call } = this.#parts;
    const { number, offset, length, options } = part;
    return call(
      { what: `copy part ${number} of ${copy.from} to ${copy.to}`, options },
      async ({ signal }) => {
        const answer = await client.send(
          new UploadPartCopyCommand({
            Bucket: bucket,
            Key: copy.to,
            UploadId: part.uploadId,
            PartNumber: number,
            CopySource: sourceOf(bucket, copy.from),
            CopySourceIfMatch: copy.ifMatch,
            CopySourceRange: `bytes=${offset}-${offset + length - 1}`,
          }),
          { abortSignal: signal },
        );
        return { number, entityTag: entityTagOf(answer.CopyPartResult?.ETag), sizeBytes: length };
      },
    );
  }
}

/** Parts of equal size, the last one smaller; S3 wants at least 5 MiB of all but the last, and at most 10,000. */
export function partRanges(sizeBytes: number, partBytes: number): { offset: number; length: number }[] {
  const bytes = Math.max(partBytes, PART_BYTES_MIN, Math.ceil(sizeBytes / PARTS_MAX));
  const ranges = [];
  for (let offset = 0; offset < sizeBytes; offset += bytes) {
    ranges.push({ offset, length: Math.min(bytes, sizeBytes - offset) });
  }
  return ranges;
}

function sourceOf(bucket: string, key: string): string {
  return `${bucket}/${key.split('/').map(encodeURIComponent).join('/')}`;
}
