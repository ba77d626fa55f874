/** Translations between the contract's words and S3's: keys under a prefix, entity tags, heads, content ranges. */
import type { HeadObjectCommandOutput } from '@aws-sdk/client-s3';
import { type ByteRange, rangeWithin } from './byte-range.ts';
import { isMd5Tag } from './md5.ts';
import { checkKey } from './object-checks.ts';
import { type GetRequest, type ObjectHead, StoreError, type WriteConditions } from './object-store.ts';

/** What GET and HEAD answer alike. */
export type S3Head = Pick<
  HeadObjectCommandOutput,
  | 'ContentLength'
  | 'ETag'
  | 'LastModified'
  | 'Metadata'
  | 'ServerSideEncryption'
  | 'SSECustomerAlgorithm'
  | 'StorageClass'
  | 'VersionId'
>;

/** Kinds of encryption whose entity tags are still the MD5 of the content. */
const TRANSPARENT_ENCRYPTION: readonly string[] = ['AES256'];
const EXPRESS_ONE_ZONE = 'EXPRESS_ONEZONE';

export function s3Key(prefix: string, key: string): string {
  const full = prefix + key;
  if (key !== '') checkKey(full);
  else checkKey(key);
  return full;
}

export function entityTagOf(header: string | undefined): string {
  return (header ?? '').replace(/^(?:W\/)?"(.*)"$/, '$1');
}

/** Unquoted: AWS takes both forms, some servers compare the header with the bare tag. */
export function s3Conditions(conditions: WriteConditions | undefined): {
  IfMatch?: string;
  IfNoneMatch?: string;
} {
  return {
    ...(conditions?.ifMatch === undefined ? {} : { IfMatch: conditions.ifMatch }),
    ...(conditions?.ifAbsent ? { IfNoneMatch: '*' } : {}),
  };
}

export function headOf(key: string, answer: S3Head, sizeBytes = answer.ContentLength): ObjectHead {
  const entityTag = entityTagOf(answer.ETag);
  if (sizeBytes === undefined || entityTag === '') {
    throw new StoreError('corrupt', `${key}: the store answered without a length or an entity tag`);
  }
  return {
    key,
    sizeBytes,
    entityTag,
    modifiedMs: answer.LastModified?.getTime() ?? 0,
    versionId: versionOf(answer.VersionId),
    metadata: answer.Metadata ?? {},
    ...(isMd5Tag(entityTag) && tagsAreMd5(answer) ? { contentMd5: entityTag } : {}),
  };
}

function tagsAreMd5({ ServerSideEncryption, SSECustomerAlgorithm, StorageClass }: S3Head): boolean {
  const isTransparent =
    ServerSideEncryption === undefined || TRANSPARENT_ENCRYPTION.includes(ServerSideEncryption);
  return isTransparent && SSECustomerAlgorithm === undefined && StorageClass !== EXPRESS_ONE_ZONE;
}

/** Servers name the only version of a bucket without versions `null`. */
export function versionOf(versionId: string | undefined): string | undefined {
  return versionId === 'null' || versionId === '' ? undefined : versionId;
}

/** The version that was asked for, or `precondition-failed`: some servers ignore the condition. */
export function expectVersion(
  request: Pick<GetRequest, 'key' | 'ifMatch' | 'versionId'>,
  head: ObjectHead,
): void {
  const { key, ifMatch, versionId } = request;
  if (ifMatch !== undefined && head.entityTag !== ifMatch) {
    throw new StoreError('precondition-failed', `${key}: is ${head.entityTag}, not the version ${ifMatch}`);
  }
  if (versionId !== undefined && head.versionId !== undefined && head.versionId !== versionId) {
    throw new StoreError('precondition-failed', `${key}: is version ${head.versionId}, not ${versionId}`);
  }
}

/** What the body holds and how large the object is, checked against each other and against the request. */
export function answeredRange(
  request: GetRequest,
  answer: { readonly ContentLength?: number | undefined; readonly ContentRange?: string | undefined },
): ByteRange & { readonly sizeBytes: number } {
  const { key } = request;
  const { ContentLength: bytes, ContentRange: header } = answer;
  const fail = (): never => {
    throw new StoreError(
      'corrupt',
      `${key}: asked for ${rangeText(request)}, got ${bytes} bytes of ${header}`,
    );
  };
  if (bytes === undefined) return fail();
  const match = header === undefined ? undefined : /^bytes (\d+)-(\d+)\/(\d+)$/.exec(header);
  if (header !== undefined && !match) return fail();
  const offset = match ? Number(match[1]) : 0;
  const length = match ? Number(match[2]) - offset + 1 : bytes;
  const sizeBytes = match ? Number(match[3]) : bytes;
  if (length !== bytes) return fail();
  const asked = rangeWithin(request, sizeBytes);
  return asked.offset === offset && asked.length === length ? { offset, length, sizeBytes } : fail();
}

function rangeText({ range }: GetRequest): string {
  return range ? `${range.length} bytes from ${range.offset}` : 'all';
}
