/** One page of ListObjectsV2 in the contract's words. Keys come percent-encoded, since XML cannot hold all of them. */
import { type ListObjectsV2CommandOutput } from '@aws-sdk/client-s3';
import { compareKeys } from './key-order.ts';
import { type ListPage, type ListRequest, type ObjectSummary } from './object-store.ts';
import { entityTagOf } from './s3-objects.ts';

export function listPageOf(
  answer: ListObjectsV2CommandOutput,
  context: { readonly prefix: string; readonly request: ListRequest },
): ListPage {
  const { prefix, request } = context;
  const undecodable: string[] = [];
  const keyOf = (text: string | undefined): string | undefined => {
    const key = answer.EncodingType === 'url' ? decodeKey(text ?? '') : text;
    if (key === undefined) undecodable.push(lossyKey(text ?? '').slice(prefix.length));
    return key?.slice(prefix.length);
  };
  const objects: ObjectSummary[] = [];
  for (const item of answer.Contents ?? []) {
    const key = keyOf(item.Key);
    // An object whose key is the store's own prefix has no name in it.
    if (key === undefined || key === '') continue;
    objects.push({
      key,
      sizeBytes: item.Size ?? 0,
      entityTag: entityTagOf(item.ETag),
      modifiedMs: item.LastModified?.getTime() ?? 0,
    });
  }
  const prefixes: string[] = [];
  for (const item of answer.CommonPrefixes ?? []) {
    const key = keyOf(item.Prefix);
    // Servers differ in whether a prefix is behind a key of its own.
    if (key !== undefined && compareKeys(key, request.startAfter ?? '') > 0) prefixes.push(key);
  }
  return {
    objects,
    prefixes,
    nextToken: answer.IsTruncated ? answer.NextContinuationToken : undefined,
    ...(undecodable.length === 0 ? {} : { undecodable }),
  };
}

/** Undefined if the bytes are no UTF-8. */
function decodeKey(text: string): string | undefined {
  try {
    return decodeURIComponent(text.replaceAll('+', ' '));
  } catch {
    return undefined;
  }
}

function lossyKey(text: string): string {
  const binary = text
    .replaceAll('+', ' ')
    .replace(/%([0-9A-Fa-f]{2})/g, (_, hex: string) => String.fromCharCode(parseInt(hex, 16)));
  return Buffer.from(binary, 'latin1').toString('utf8');
}
