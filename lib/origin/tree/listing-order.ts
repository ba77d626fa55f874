/**
 * How far a listing in the store's order has settled the order of names; pure.
 *
 * A store lists by keys, where directory `a` stands as `a/`, behind `a-b` and `a.b`; a mount lists by names, where
 * `a` comes first. So when a listing has come as far as some key, a directory may still be missing whose name is a
 * proper beginning of that key, if the byte that follows is below `/`. There are few such names, and each can be
 * asked for by itself. Everything below the first one that was not asked for is settled.
 */

/** The lowest byte order that a slash has. */
const SLASH = '/';

/**
 * Names that may still turn out to be directories.
 *
 * @param through the last key or common prefix (ends with `/`) of the listing, less the directory's own prefix
 * @returns ordered, shortest first
 */
export function unsettledNames(through: string): string[] {
  const names: string[] = [];
  for (let length = 1; length < through.length; length++) {
    if (through.charAt(length) < SLASH) names.push(through.slice(0, length));
  }
  if (through !== '' && !through.endsWith(SLASH)) names.push(through);
  return names;
}

/**
 * The name up to which, exclusive, every entry is known.
 *
 * @param asked names that were asked for by themselves since
 */
export function settledBelow(through: string, asked: ReadonlySet<string>): string {
  const open = unsettledNames(through).find((name) => !asked.has(name));
  // No name has a NUL, so this is the least string above the last name.
  return open ?? `${through.endsWith(SLASH) ? through.slice(0, -1) : through}\0`;
}

/** Order of UTF-8 bytes; the order of JavaScript differs beyond U+FFFF. */
export function compareBytes(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}
