/**
 * The identity of one content of one object: 32 hexadecimal digits.
 *
 * It follows from where the object lies and what it holds, not from when the index met it: after an index is built
 * anew the satellites' caches still fit. The store's own version id is left out, because listings do not tell it and
 * an entity tag already changes with the content.
 */
import { createHash } from 'node:crypto';
import type { VersionId } from '../../base/brand.ts';

const DIGITS = 32;

export function versionIdOf(object: {
  /** Where the objects lie, see export-options.ts. */
  readonly identity: string;
  readonly key: string;
  readonly entityTag: string;
  readonly sizeBytes: number;
}): VersionId {
  const { identity, key, entityTag, sizeBytes } = object;
  const text = JSON.stringify([identity, key, entityTag, sizeBytes]);
  return createHash('sha256').update(text).digest('hex').slice(0, DIGITS) as VersionId;
}
