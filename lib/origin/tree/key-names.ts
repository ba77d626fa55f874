/**
 * Which names the keys of a store have under a mount; pure.
 *
 * Segments between slashes are names. A segment that no file can be called by hides the key: empty, `.`, `..`, with
 * NUL, over 255 bytes, or not valid UTF-8 (which clients of stores show as U+FFFD). `a/` makes a directory; a
 * directory wins over an object of the same name. Rules with examples: README.md.
 */
import { NAME_BYTES_MAX } from '../../base/limits.ts';

/** Why a segment of a key cannot be a file's name; undefined if it can. */
export function nameProblem(segment: string): string | undefined {
  if (segment === '') return 'has an empty segment';
  if (segment === '.' || segment === '..') return `has a segment "${segment}"`;
  if (segment.includes('\0')) return 'has a segment with NUL';
  if (segment.includes('/')) return 'has a segment with a slash';
  if (!segment.isWellFormed() || segment.includes('\ufffd')) return 'has a segment that is not valid UTF-8';
  // No character is longer than three bytes a UTF-16 unit, so most names need no count.
  if (segment.length * 3 > NAME_BYTES_MAX && Buffer.byteLength(segment) > NAME_BYTES_MAX) {
    return `has a segment over ${NAME_BYTES_MAX} bytes`;
  }
  return undefined;
}

/** Name that an object of a delimited listing has in its directory; undefined for the directory's own marker and for what is hidden. */
export function objectName(keyPrefix: string, key: string): string | undefined {
  return visible(keyPrefix, key, key.length);
}

/** Name that a common prefix of a delimited listing has in its directory. */
export function directoryName(keyPrefix: string, commonPrefix: string): string | undefined {
  return commonPrefix.endsWith('/') ? visible(keyPrefix, commonPrefix, commonPrefix.length - 1) : undefined;
}

function visible(keyPrefix: string, key: string, end: number): string | undefined {
  if (!key.startsWith(keyPrefix)) return undefined;
  const name = key.slice(keyPrefix.length, end);
  return nameProblem(name) === undefined ? name : undefined;
}

export interface KeyFinding {
  readonly key: string;
  readonly finding: string;
}

/**
 * Finds keys that cannot be reached under a mount. Fed with every key below a prefix in the store's order; keeps
 * only the objects that a later key may still turn into directories, which all are prefixes of the last key.
 */
export class KeyInspector {
  #pending: { readonly key: string; reported: boolean }[] = [];

  next(object: { readonly key: string; readonly sizeBytes: number }): KeyFinding[] {
    const { key } = object;
    const findings: KeyFinding[] = [];
    this.#pending = this.#pending.filter((earlier) => key.startsWith(earlier.key));
    for (const earlier of this.#pending) {
      if (earlier.reported || key[earlier.key.length] !== '/') continue;
      earlier.reported = true;
      findings.push({ key: earlier.key, finding: `is hidden by the directory of the same name ("${key}")` });
    }
    const isMarker = key.endsWith('/');
    const segments = key.split('/');
    if (isMarker) segments.pop();
    const problem = segments.map(nameProblem).find((found) => found !== undefined);
    if (problem !== undefined) findings.push({ key, finding: problem });
    else if (isMarker && object.sizeBytes > 0) {
      findings.push({
        key,
        finding: `is a directory under the mount; its ${object.sizeBytes} bytes are not`,
      });
    }
    if (!isMarker) this.#pending.push({ key, reported: false });
    return findings;
  }
}
