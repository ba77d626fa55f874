/**
 * GETs and HEADs of S3 as they go over the wire, and their answers in the SDK's words. Needs no SDK, so that a thread that
 * has not loaded it can ask a store too.
 */
import type { GetObjectCommandOutput } from '@aws-sdk/client-s3';
import { type BodySource } from './body-source.ts';
import { type HttpAnswer } from './http-connection.ts';
import { type HttpMethod } from './http-head.ts';
import { type GetRequest, StoreError } from './object-store.ts';
import { type S3Head } from './s3-objects.ts';
import { type Credentials, type S3Signature } from './s3-signature.ts';
import { type S3Place } from './store-access.ts';

const METADATA_PREFIX = 'x-amz-meta-';
const HEADER_VALUE = /^[\t\x20-\x7e]*$/;

export interface S3WireRequest extends Pick<GetRequest, 'key' | 'range' | 'ifMatch' | 'versionId'> {
  readonly method: HttpMethod;
}

/** Who asks, and when. */
export interface S3Identity {
  readonly credentials: Credentials;
  readonly region: string;
  /** Since 1970, as the server counts. */
  readonly nowMs: number;
}

export type S3Got = S3Head & Pick<GetObjectCommandOutput, 'ContentRange'> & { readonly Body: BodySource };

/** Request line and headers, signed. @throws StoreError invalid: no header can hold a value */
export function requestText(
  place: S3Place,
  request: S3WireRequest,
  by: S3Identity & { readonly signature: S3Signature },
): string {
  const { method, key, range, ifMatch, versionId } = request;
  const path = `${place.path}/${key.split('/').map(encodeSegment).join('/')}`;
  const query = versionId === undefined ? '' : `versionId=${encodeSegment(versionId)}`;
  const headers = by.signature.sign(
    {
      method,
      path,
      query,
      headers: {
        host: place.host,
        ...(range ? { range: `bytes=${range.offset}-${range.offset + range.length - 1}` } : {}),
        ...(ifMatch === undefined ? {} : { 'if-match': `"${ifMatch}"` }),
      },
    },
    {
      credentials: by.credentials,
      region: by.region,
      // eslint-disable-next-line no-restricted-globals -- only to be written as a text; the time is the Clock's
      at: new Date(by.nowMs),
    },
  );
  let text = `${method} ${path}${query === '' ? '' : `?${query}`} HTTP/1.1\r\n`;
  for (const [name, value] of Object.entries(headers)) {
    if (!HEADER_VALUE.test(value)) throw new StoreError('invalid', `${key}: no header can hold its ${name}`);
    text += `${name}: ${value}\r\n`;
  }
  return `${text}\r\n`;
}

export function gotOf({ headers, body }: HttpAnswer): S3Got {
  const metadata: Record<string, string> = {};
  for (const [name, value] of Object.entries(headers)) {
    if (name.startsWith(METADATA_PREFIX)) metadata[name.slice(METADATA_PREFIX.length)] = value;
  }
  const length = headers['content-length'];
  // eslint-disable-next-line no-restricted-globals -- reads a text, not the clock
  const modified = new Date(headers['last-modified'] ?? NaN);
  return {
    ContentLength: length === undefined ? undefined : Number(length),
    ContentRange: headers['content-range'],
    ETag: headers['etag'],
    LastModified: modified,
    Metadata: metadata,
    VersionId: headers['x-amz-version-id'],
    ServerSideEncryption: headers['x-amz-server-side-encryption'] as S3Head['ServerSideEncryption'],
    SSECustomerAlgorithm: headers['x-amz-server-side-encryption-customer-algorithm'],
    StorageClass: headers['x-amz-storage-class'] as S3Head['StorageClass'],
    Body: body,
  };
}

/** As RFC 3986 and the signature want it: stricter than encodeURIComponent. */
function encodeSegment(segment: string): string {
  return encodeURIComponent(segment).replace(
    /[!'()*]/g,
    (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`,
  );
}
