/** MD5 is what S3 makes entity tags of; it protects nothing. */
import { createHash } from 'node:crypto';

/** In lower-case hexadecimal: the entity tag of an object that was put in one piece without encryption keys. */
export function md5(bytes: Uint8Array): string {
  return createHash('md5').update(bytes).digest('hex');
}

/** Shaped like the entity tag of an object that was put in one piece. */
export function isMd5Tag(entityTag: string): boolean {
  return /^[0-9a-f]{32}$/.test(entityTag);
}

/** The entity tag of an object put together from parts; undefined where the parts' tags are no MD5. */
export function md5OfParts(partTags: readonly string[]): string | undefined {
  if (!partTags.every(isMd5Tag)) return undefined;
  return `${md5(Buffer.from(partTags.join(''), 'hex'))}-${partTags.length}`;
}
