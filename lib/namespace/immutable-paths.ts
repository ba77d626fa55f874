/**
 * Paths that the export declares to never change. A path is immutable if it, or a directory above it, matches a glob; and
 * so are the directories on the literal way to one, because whoever may read below must be able to get there.
 */
import picomatch from 'picomatch';

/** A part of the paths of an export. */
export interface PathRule {
  readonly isEmpty: boolean;
  /** Of what a path stands for. */
  has(path: string): boolean;
  /** Of all that is, or is not, in a directory. */
  hasBelow(path: string): boolean;
}

/** Paths for which at least one of the rules is true. */
export function eitherRule(rules: readonly PathRule[]): PathRule {
  return {
    get isEmpty() {
      return rules.every((rule) => rule.isEmpty);
    },
    has: (path) => rules.some((rule) => rule.has(path)),
    hasBelow: (path) => rules.some((rule) => rule.hasBelow(path)),
  };
}

export class ImmutablePaths implements PathRule {
  readonly isEmpty: boolean;
  readonly #matches: (path: string) => boolean;
  /** Directories on the literal ways. */
  readonly #ways = new Set<string>(['']);

  /** @param globs relative to the export's root, without a slash in front */
  constructor(globs: readonly string[]) {
    this.isEmpty = globs.length === 0;
    const trimmed = globs.map((glob) => glob.replace(/\/+$/, ''));
    this.#matches = this.isEmpty ? () => false : picomatch(trimmed, { dot: true });
    for (const glob of trimmed) {
      const literal = picomatch.scan(glob).base.split('/');
      for (let names = 1; names <= literal.length; names++) this.#ways.add(literal.slice(0, names).join('/'));
    }
  }

  /** Of what a path stands for: its kind, its attributes, its version. */
  has(path: string): boolean {
    if (this.isEmpty) return false;
    return this.#ways.has(path) || this.hasBelow(path);
  }

  /** Of all that is, or is not, in a directory. */
  hasBelow(path: string): boolean {
    if (this.isEmpty) return false;
    for (let end = path.length; end !== -1; end = path.lastIndexOf('/', end - 1)) {
      if (end > 0 && this.#matches(path.slice(0, end))) return true;
    }
    return false;
  }
}
