/**
 * Extended attributes of inodes: in the index as JSON by name with values in base64, and in the metadata of objects,
 * where they fit, as the base64 of that. A text is the same for the same attributes.
 */
import type { ObjectMetadata } from '../../store/object-store.ts';
import { OriginError } from '../origin.ts';

const METADATA_NAME = 'perigee-xattr';
/** Stores take 2 KiB of metadata in all; ours has other entries. What is longer is in the index alone. */
const METADATA_BYTES_MAX = 1_400;
const NAME_PREFIX = 'user.';
const NAME_BYTES_MAX = 255;
/** Of names and values of one inode. */
const SUM_BYTES_MAX = 64 * 1024;

export interface ExtendedChanges {
  readonly extended: Readonly<Record<string, Uint8Array>>;
  readonly extendedRemoved: readonly string[];
}

/** @param before JSON @returns JSON; undefined: none are left @throws OriginError `invalid`, `no-space` */
export function changeExtended(
  before: string | undefined,
  { extended, extendedRemoved }: ExtendedChanges,
): string | undefined {
  const given = Object.entries(extended);
  if (given.length === 0 && extendedRemoved.length === 0) return before;
  const attributes = new Map<string, Buffer>(Object.entries(parseExtended(before)));
  for (const name of extendedRemoved) attributes.delete(name);
  for (const [name, value] of given) {
    if (!name.startsWith(NAME_PREFIX) || Buffer.byteLength(name) > NAME_BYTES_MAX || name.includes('\0')) {
      throw new OriginError('invalid', `${JSON.stringify(name.slice(0, 300))} is no extended attribute`, {
        hint: `names begin with ${NAME_PREFIX} and have up to ${NAME_BYTES_MAX} bytes`,
      });
    }
    attributes.set(name, Buffer.from(value));
  }
  const bytes = [...attributes].reduce((sum, [name, value]) => sum + name.length + value.length, 0);
  if (bytes > SUM_BYTES_MAX) {
    throw new OriginError('no-space', `a file has at most ${SUM_BYTES_MAX} bytes of extended attributes`);
  }
  if (attributes.size === 0) return undefined;
  const sorted = [...attributes].sort(([a], [b]) => (a < b ? -1 : 1));
  return JSON.stringify(Object.fromEntries(sorted.map(([name, value]) => [name, value.toString('base64')])));
}

export function parseExtended(text: string | undefined): Record<string, Buffer> {
  if (text === undefined) return {};
  const entries = Object.entries(JSON.parse(text) as Record<string, string>);
  return Object.fromEntries(entries.map(([name, value]) => [name, Buffer.from(value, 'base64')]));
}

/** Empty where they do not fit: then they are the index's alone. */
export function extendedMetadata(text: string | undefined): ObjectMetadata {
  if (text === undefined) return {};
  const value = Buffer.from(text).toString('base64');
  return value.length > METADATA_BYTES_MAX ? {} : { [METADATA_NAME]: value };
}

/** JSON, as `changeExtended` makes it; what makes no sense is as if it were absent. */
export function extendedOf(metadata: ObjectMetadata): string | undefined {
  const value = metadata[METADATA_NAME];
  if (value === undefined) return undefined;
  try {
    const parsed: unknown = JSON.parse(Buffer.from(value, 'base64').toString());
    const entries = Object.entries(parsed as Record<string, unknown>).map(([name, one]) => {
      if (typeof one !== 'string') throw new TypeError('a value in base64');
      return [name, Buffer.from(one, 'base64')] as const;
    });
    return changeExtended(undefined, { extended: Object.fromEntries(entries), extendedRemoved: [] });
  } catch {
    return undefined;
  }
}
