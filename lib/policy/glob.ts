/**
 * Globs over paths, in time that is bounded whatever the glob and the path are.
 *
 * Shape and meaning are picomatch's: `*` and `?` stay inside of a name, `**` as a name of its own stands for any
 * number of directories, `[a-z]` and `[!a-z]`, `{one,other}`, a backslash before what is meant literally, `!` in
 * front of the whole for the opposite; names that begin with a dot are names like others. It is not done by a regular
 * expression, because one of several stars backtracks: four stars on a name of 200 characters take a quarter of a
 * second. Here names and directories are walked with one place to go back to, which is enough for stars: at most
 * (length of the glob) x (length of the path) steps. Parentheses are refused, since they are patterns of other tools.
 */
import { NAME_BYTES_MAX } from '../base/limits.ts';

export const GLOB_CHARACTERS_MAX = 1_024;
/** What braces may come to. */
const ALTERNATIVES_MAX = 64;

/** Says whether a path, or a part of one, matches. */
export type GlobMatcher = (path: string) => boolean;

export interface Glob {
  readonly matches: GlobMatcher;
  /** Every match begins with it. */
  readonly literalHead: string;
  /** Why no path can match; undefined: some may. */
  readonly futile: string | undefined;
}

export class GlobSyntaxError extends Error {
  override readonly name = 'GlobSyntaxError';
}

type Token =
  | { readonly kind: 'character'; readonly code: number }
  | { readonly kind: 'any' }
  | { readonly kind: 'star' }
  | {
      readonly kind: 'class';
      readonly negated: boolean;
      readonly ranges: readonly (readonly [number, number])[];
    };

/** A name, or any number of directories. */
type Segment = readonly Token[] | 'directories';

/** @throws GlobSyntaxError in words that follow the glob */
export function compileGlob(glob: string): Glob {
  if (glob.length > GLOB_CHARACTERS_MAX) {
    throw new GlobSyntaxError(`has ${glob.length} characters, over ${GLOB_CHARACTERS_MAX}`);
  }
  const negated = glob.startsWith('!');
  const text = negated ? glob.slice(1) : glob;
  if (text === '') throw new GlobSyntaxError('is empty');
  const alternatives = expandBraces(text).map(segmentsOf);
  const matchesAny: GlobMatcher = (path) => {
    const names = path.split('/');
    return alternatives.some((segments) => matchesSegments(segments, names));
  };
  const futile = alternatives.map(futilityOf);
  return {
    matches: negated ? (path) => !matchesAny(path) : matchesAny,
    literalHead: negated ? '' : alternatives.map(headOf).reduce(commonHead),
    futile: negated || futile.includes(undefined) ? undefined : futile[0],
  };
}

function matchesSegments(segments: readonly Segment[], names: readonly string[]): boolean {
  let segment = 0;
  let name = 0;
  /** Where the last `**` began to take names, and how far it has come. */
  let star = -1;
  let starName = 0;
  while (name < names.length) {
    const at = segments[segment];
    if (at === 'directories') {
      star = segment++;
      starName = name;
    } else if (at !== undefined && matchesName(at, names[name]!)) {
      segment++;
      name++;
    } else if (star >= 0) {
      segment = star + 1;
      name = ++starName;
    } else {
      return false;
    }
  }
  while (segments[segment] === 'directories') segment++;
  return segment === segments.length;
}

function matchesName(tokens: readonly Token[], name: string): boolean {
  let token = 0;
  let at = 0;
  let star = -1;
  let starAt = 0;
  while (at < name.length) {
    const now = tokens[token];
    const code = name.codePointAt(at)!;
    if (now?.kind === 'star') {
      star = token++;
      starAt = at;
    } else if (now !== undefined && matchesCharacter(now, code)) {
      token++;
      at += widthOf(code);
    } else if (star >= 0) {
      token = star + 1;
      starAt += widthOf(name.codePointAt(starAt)!);
      at = starAt;
    } else {
      return false;
    }
  }
  while (tokens[token]?.kind === 'star') token++;
  return token === tokens.length;
}

function matchesCharacter(token: Token, code: number): boolean {
  switch (token.kind) {
    case 'character':
      return token.code === code;
    case 'any':
      return true;
    case 'class':
      return token.ranges.some(([from, to]) => from <= code && code <= to) !== token.negated;
    case 'star':
      return false;
  }
}

function widthOf(code: number): number {
  return code > 0xffff ? 2 : 1;
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

/** The characters before the first token that is none. A slash before `**` is no part: `a/**` is `a` too. */
function headOf(segments: readonly Segment[]): string {
  let head = '';
  for (const [at, segment] of segments.entries()) {
    if (segment === 'directories') break;
    if (at > 0) head += '/';
    const other = segment.findIndex(({ kind }) => kind !== 'character');
    head += textOf(other < 0 ? segment : segment.slice(0, other));
    if (other >= 0) break;
  }
  return head;
}

function textOf(tokens: readonly Token[]): string {
  return tokens.map((token) => (token.kind === 'character' ? String.fromCodePoint(token.code) : '')).join('');
}

function commonHead(one: string, other: string): string {
  let length = 0;
  while (length < one.length && one[length] === other[length]) length++;
  return one.slice(0, length);
}

function futilityOf(segments: readonly Segment[]): string | undefined {
  for (const [at, segment] of segments.entries()) {
    if (segment === 'directories') continue;
    const isLiteral = segment.every(({ kind }) => kind === 'character');
    const name = textOf(segment);
    if (segment.length === 0) {
      if (at === 0) return 'begins with a slash, and paths do not';
      return at === segments.length - 1 ? 'ends with a slash, and files do not' : 'has two slashes in a row';
    }
    if (isLiteral && (name === '.' || name === '..')) return `has the name ${name}, and paths have none`;
    if (segment.filter(({ kind }) => kind !== 'star').length > NAME_BYTES_MAX) {
      return `asks for a name of more than ${NAME_BYTES_MAX} bytes`;
    }
  }
  return undefined;
}
