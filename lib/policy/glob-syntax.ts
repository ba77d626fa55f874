/** Reads globs: the alternatives that braces come to, each as names of tokens. Everything is bounded. */

const GLOB_CHARACTERS_MAX = 1_024;
/** What braces may come to. */
const ALTERNATIVES_MAX = 64;

export class GlobSyntaxError extends Error {
  override readonly name = 'GlobSyntaxError';
}

export type Token =
  | { readonly kind: 'character'; readonly code: number }
  | { readonly kind: 'any' }
  | { readonly kind: 'star' }
  | {
      readonly kind: 'class';
      readonly negated: boolean;
      readonly ranges: readonly (readonly [number, number])[];
    };

/** A name, or any number of directories. */
export type Segment = readonly Token[] | 'directories';

/** @throws GlobSyntaxError in words that follow the glob */
export function parseGlob(glob: string): {
  readonly negated: boolean;
  readonly alternatives: readonly (readonly Segment[])[];
} {
  if (glob.length > GLOB_CHARACTERS_MAX) {
    throw new GlobSyntaxError(`has ${glob.length} characters, over ${GLOB_CHARACTERS_MAX}`);
  }
  const negated = glob.startsWith('!');
  const text = negated ? glob.slice(1) : glob;
  if (text === '') throw new GlobSyntaxError('is empty');
  return { negated, alternatives: expandBraces(text).map(segmentsOf) };
}

/** Braces are written out, innermost last; what is escaped, or in a class, stays. */
function expandBraces(text: string): string[] {
  const done: string[] = [];
  const open = [text];
  while (open.length > 0) {
    if (done.length + open.length > ALTERNATIVES_MAX) {
      throw new GlobSyntaxError(`comes to more than ${ALTERNATIVES_MAX} alternatives`);
    }
    const next = open.pop()!;
    const braces = firstBraces(next);
    if (braces === undefined) done.push(next);
    else {
      const { from, to, options } = braces;
      open.push(...options.map((option) => next.slice(0, from) + option + next.slice(to + 1)).reverse());
    }
  }
  return done;
}

function firstBraces(
  text: string,
): { readonly from: number; readonly to: number; readonly options: readonly string[] } | undefined {
  const from = nextOf(text, '{', 0);
  if (from < 0) {
    if (nextOf(text, '}', 0) >= 0) throw new GlobSyntaxError('closes a brace that was not opened');
    return undefined;
  }
  const options: string[] = [];
  let depth = 0;
  let begin = from + 1;
  for (let at = nextOf(text, '{},', from); at >= 0; at = nextOf(text, '{},', at + 1)) {
    const character = text[at];
    if (character === '{') depth++;
    else if (character === '}') depth--;
    if (depth === 0 || (depth === 1 && character === ',')) {
      options.push(text.slice(begin, at));
      begin = at + 1;
    }
    if (depth > 0) continue;
    if (options.length > 1) return { from, to: at, options };
    throw new GlobSyntaxError(`has ${text.slice(from, at + 1)}, which is no choice`);
  }
  throw new GlobSyntaxError('opens a brace that is not closed');
}

/** Where one of these characters stands unescaped and outside of a class; -1: nowhere. */
function nextOf(text: string, characters: string, from: number): number {
  for (let at = 0; at < text.length; at++) {
    const character = text[at]!;
    if (at >= from && characters.includes(character)) return at;
    if (character === '\\') at++;
    else if (character === '[') at = endOfClass(text, at);
  }
  return -1;
}

function endOfClass(text: string, begin: number): number {
  for (let at = begin + 1; at < text.length; at++) {
    if (text[at] === '\\') at++;
    else if (text[at] === ']' && at > begin + (isNegated(text, begin) ? 2 : 1)) return at;
  }
  throw new GlobSyntaxError('opens a bracket that is not closed');
}

function isNegated(text: string, begin: number): boolean {
  return text[begin + 1] === '!' || text[begin + 1] === '^';
}

function segmentsOf(text: string): Segment[] {
  const segments: Segment[] = [];
  let begin = 0;
  for (let at = nextOf(text, '/', 0); begin <= text.length; at = nextOf(text, '/', begin)) {
    const end = at < 0 ? text.length : at;
    const part = text.slice(begin, end);
    if (part !== '**') segments.push(tokensOf(part));
    else if (segments.at(-1) !== 'directories') segments.push('directories');
    begin = end + 1;
  }
  return segments;
}

function tokensOf(text: string): Token[] {
  const tokens: Token[] = [];
  for (let at = 0; at < text.length;) {
    const code = text.codePointAt(at)!;
    const character = String.fromCodePoint(code);
    if (character === '[') {
      const end = endOfClass(text, at);
      tokens.push(classOf(text, { begin: at, end }));
      at = end + 1;
      continue;
    }
    at += character.length;
    if (character === '*') {
      if (tokens.at(-1)?.kind !== 'star') tokens.push({ kind: 'star' });
    } else if (character === '?') {
      tokens.push({ kind: 'any' });
    } else if (character === '(' || character === ')') {
      throw new GlobSyntaxError('has a parenthesis; write {one,other} for a choice, \\( for the character');
    } else if (character === '\\') {
      const escaped = text.codePointAt(at);
      if (escaped === undefined) throw new GlobSyntaxError('ends with a backslash');
      tokens.push({ kind: 'character', code: escaped });
      at += widthOf(escaped);
    } else {
      tokens.push({ kind: 'character', code });
    }
  }
  return tokens;
}

function classOf(text: string, { begin, end }: { readonly begin: number; readonly end: number }): Token {
  const negated = isNegated(text, begin);
  const inside = text.slice(begin + (negated ? 2 : 1), end);
  if (inside.includes('[:')) throw new GlobSyntaxError('has a named class; write its characters, as [a-z]');
  const codes: { readonly code: number; readonly isDash: boolean }[] = [];
  for (let at = 0; at < inside.length;) {
    const escapes = inside[at] === '\\';
    if (escapes) at++;
    const code = inside.codePointAt(at)!;
    if (code === 0x2f) throw new GlobSyntaxError('has a slash in brackets');
    codes.push({ code, isDash: !escapes && code === 0x2d });
    at += widthOf(code);
  }
  const ranges: [number, number][] = [];
  for (let at = 0; at < codes.length; at++) {
    const from = codes[at]!.code;
    const isRange = codes[at + 1]?.isDash === true && at + 2 < codes.length;
    const to = isRange ? codes[at + 2]!.code : from;
    if (from > to) throw new GlobSyntaxError(`has [${inside}], whose range runs backwards`);
    ranges.push([from, to]);
    if (isRange) at += 2;
  }
  return { kind: 'class', negated, ranges };
}

/** Of a character in UTF-16. */
export function widthOf(code: number): number {
  return code > 0xffff ? 2 : 1;
}
