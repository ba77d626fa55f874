/**
 * How keys become paths of files, and back; pure, no I/O.
 *
 * Key `a/b/c` is the file `a/b/c`. A segment that no file name can hold is escaped: `.%` and the segment with
 * NUL, `%`, a leading `~` and a lone `.` or `..` percent-encoded; a segment that already begins with `.%` and
 * `.perigee` at the top are escaped too. One that is longer than a file name becomes `.%~` and its SHA-256,
 * and its text is kept in `.perigee/names/`. An object `a` that stands beside `a/b` lives in an aside name:
 * the escaped form with a final `%`, which no encoding produces.
 * Invariant: `decodeName(encodeSegment(s)) === s`, and no two segments share a name.
 */
import { createHash } from 'node:crypto';
import { NAME_BYTES_MAX } from '../base/limits.ts';
import { checkKey } from './object-checks.ts';
import { StoreError } from './object-store.ts';

/** Everything of the store's own lies in this directory of its root. */
export const RESERVED_NAME = '.perigee';
const ESCAPE = '.%';
const HASHED = '.%~';

export interface SegmentName {
  readonly name: string;
  /** The name is a hash: the segment must be written to `.perigee/names/` before it is used. */
  readonly hashed: boolean;
}

export interface KeyPath {
  readonly directories: readonly { readonly segment: string; readonly name: SegmentName }[];
  readonly leaf: { readonly segment: string; readonly name: SegmentName };
}

export function keyPath(key: string): KeyPath {
  checkKey(key);
  const segments = key.split('/');
  const named = segments.map((segment, index) => ({ segment, name: encodeSegment(segment, index === 0) }));
  const leaf = named.pop();
  if (!leaf) throw new StoreError('invalid-key', 'a key has at least one segment');
  return { directories: named, leaf };
}

/** @param top whether this is the first segment of the key */
export function encodeSegment(segment: string, top: boolean): SegmentName {
  if (!needsEscape(segment, top)) {
    if (!tooLong(segment)) return { name: segment, hashed: false };
    return { name: HASHED + sha256(segment), hashed: true };
  }
  return escaped(segment, '');
}

/** The name of an object that cannot have its natural one because a directory has it. */
export function asideName(segment: string): SegmentName {
  return escaped(segment, '%');
}

export type DecodedName =
  | { readonly kind: 'segment'; readonly segment: string; readonly aside: boolean }
  | { readonly kind: 'hashed'; readonly hash: string; readonly aside: boolean }
  | { readonly kind: 'none' };

/** What a name in a directory stands for; `none` for names that no key leads to. */
export function decodeName(name: string, top: boolean): DecodedName {
  if (!name.startsWith(ESCAPE)) {
    return top && name === RESERVED_NAME
      ? { kind: 'none' }
      : { kind: 'segment', segment: name, aside: false };
  }
  const aside = name.endsWith('%');
  const body = name.slice(ESCAPE.length, aside && name.length > ESCAPE.length ? -1 : undefined);
  const isAside = aside && name.length > ESCAPE.length;
  if (body.startsWith('~')) {
    return /^~[0-9a-f]{64}$/.test(body)
      ? { kind: 'hashed', hash: body.slice(1), aside: isAside }
      : { kind: 'none' };
  }
  const segment = body.replace(/%(00|25|2E|7E)/g, (_, hex: string) => String.fromCharCode(parseInt(hex, 16)));
  const again = isAside ? asideName(segment) : encodeSegment(segment, top);
  return again.name === name ? { kind: 'segment', segment, aside: isAside } : { kind: 'none' };
}

export function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}

function needsEscape(segment: string, top: boolean): boolean {
  return (
    segment === '' ||
    segment === '.' ||
    segment === '..' ||
    segment.startsWith(ESCAPE) ||
    segment.includes('\0') ||
    (top && segment === RESERVED_NAME)
  );
}

function escaped(segment: string, suffix: '' | '%'): SegmentName {
  const body =
    segment === '.' || segment === '..'
      ? segment.replaceAll('.', '%2E')
      : segment.replaceAll('%', '%25').replaceAll('\0', '%00').replace(/^~/, '%7E');
  const name = ESCAPE + body + suffix;
  return tooLong(name) ? { name: HASHED + sha256(segment) + suffix, hashed: true } : { name, hashed: false };
}

function tooLong(name: string): boolean {
  return (
    name.length > NAME_BYTES_MAX ||
    (name.length * 3 > NAME_BYTES_MAX && Buffer.byteLength(name) > NAME_BYTES_MAX)
  );
}
