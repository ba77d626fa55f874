/** The order of listings: by the UTF-8 bytes of names, which is the order of their code points. Pure. */

const SURROGATES = 0xd800;
const AFTER_SURROGATES = 0xe000;

/** Compares without encoding: UTF-16 differs from UTF-8 only in where it puts characters beyond the first 65,536. */
export function compareNames(a: string, b: string): number {
  const length = Math.min(a.length, b.length);
  for (let at = 0; at < length; at++) {
    const left = a.charCodeAt(at);
    const right = b.charCodeAt(at);
    if (left !== right) return rank(left) - rank(right);
  }
  return a.length - b.length;
}

/** Surrogates stand for characters above all others. */
function rank(unit: number): number {
  if (unit < SURROGATES) return unit;
  return unit >= AFTER_SURROGATES ? unit - 0x800 : unit + 0x2000;
}

/** Where in an ordered array the first name above `name` is. */
export function indexAbove(ordered: readonly string[], name: string): number {
  let low = 0;
  let high = ordered.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (compareNames(ordered[middle] as string, name) <= 0) low = middle + 1;
    else high = middle;
  }
  return low;
}
