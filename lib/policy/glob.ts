/**
 * Globs over paths, in time that is bounded whatever the glob and the path are.
 *
 * Shape and meaning are picomatch's: `*` and `?` stay inside of a name, `**` as a name of its own stands for any
 * number of directories, `[a-z]` and `[!a-z]`, `{one,other}`, a backslash before what is meant literally, `!` in
 * front of the whole for the opposite; names that begin with a dot are names like others. It is not done by a regular
 * expression, because one of several stars backtracks: four stars on a name of 200 characters take a quarter of a
 * second. Here names and directories are walked with one place to go back to, which is enough for stars: at most
 * (length of the glob) x (length of the path) steps for each alternative of its braces, of which there are few.
 * Parentheses are refused, since they are patterns of other tools.
 */
import { NAME_BYTES_MAX } from '../base/limits.ts';
import { parseGlob, type Segment, type Token, widthOf } from './glob-syntax.ts';

/** Says whether a path, or a part of one, matches. */
export type GlobMatcher = (path: string) => boolean;

export interface Glob {
  readonly matches: GlobMatcher;
  /** Every match begins with it. */
  readonly literalHead: string;
  /** Why no path can match; undefined: some may. */
  readonly futile: string | undefined;
}

/** @throws GlobSyntaxError in words that follow the glob */
export function compileGlob(glob: string): Glob {
  const { negated, alternatives } = parseGlob(glob);
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
