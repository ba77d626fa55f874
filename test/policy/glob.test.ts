import fc from 'fast-check';
import picomatch from 'picomatch';
import t from 'tap';
import { compileGlob } from '../../lib/policy/glob.ts';
import { GlobSyntaxError } from '../../lib/policy/glob-syntax.ts';

const matches = (glob: string, path: string): boolean => compileGlob(glob).matches(path);

t.test('glob matches what it should and nothing else', async (t) => {
  const cases: [string, string[], string[]][] = [
    ['*.tar', ['a.tar', '.tar', '.a.tar', 'a b.tar', 'ä\n.tar'], ['a/b.tar', 'a.tar.gz', 'tar']],
    ['**/*.tar', ['a.tar', 'a/b.tar', 'a/.b/c.tar'], ['a.ta', 'a.tar/b']],
    ['a/**', ['a', 'a/b', 'a/b/c'], ['ab', 'b/a']],
    ['a/**/b', ['a/b', 'a/x/b', 'a/x/y/b'], ['a', 'a/x/b/c', 'ab']],
    ['?', ['a', '😀', 'ä'], ['', 'ab', '/']],
    ['[a-c]x', ['ax', 'cx'], ['dx', '-x']],
    ['[!a-c]x', ['dx', '😀x'], ['ax']],
    ['[]]', [']'], ['[']],
    ['[a-]', ['a', '-'], ['b']],
    ['{a,b{c,d}}.x', ['a.x', 'bc.x', 'bd.x'], ['b.x', 'c.x']],
    ['a{,b}', ['a', 'ab'], ['b']],
    ['{a/b,c}/d', ['a/b/d', 'c/d'], ['a/d']],
    ['\\*', ['*'], ['a']],
    ['[{]a,b}'.slice(0, 4), ['{a'], ['a']],
    ['!*.tmp', ['a', 'a/b.tmp'], ['a.tmp']],
    ['a|b', ['a|b'], ['a', 'b']],
    ['a+b$^.c', ['a+b$^.c'], ['aab$^xc']],
    ['a**b', ['ab', 'axxb'], ['a/b']],
  ];
  for (const [glob, yes, no] of cases) {
    for (const path of yes) t.equal(matches(glob, path), true, `${glob} ${path}`);
    for (const path of no) t.equal(matches(glob, path), false, `${glob} ${path}`);
  }
});

const path = fc
  .array(fc.stringMatching(/^[ab.]{1,4}$/), { minLength: 1, maxLength: 5 })
  .filter((names) => names.every((each) => each !== '.' && each !== '..'))
  .map((names) => names.join('/'));

/** Names made of these, and `**` between them. */
function globOf(parts: readonly string[]): fc.Arbitrary<string> {
  const name = fc
    .array(fc.constantFrom(...parts), { minLength: 1, maxLength: 4 })
    .map((some) => some.join(''));
  return fc
    .array(fc.oneof(fc.constant('**'), name), { minLength: 1, maxLength: 4 })
    .map((names) => names.join('/'))
    .filter((glob) => !/[^/]\*\*|\*\*[^/]|(\{.*){6}/.test(glob));
}

t.test('glob matches as a regular expression of the same meaning does', async () => {
  const signs = ['a', 'b', '.', '*', '?', '[ab]', '[!a]', '[a-b]', '\\a', '{a,b}', '{ab,}', '{a*,?}'];
  // Braces are written out first, as shells do: stars around nothing are `**`.
  const glob = globOf(signs).filter((pattern) => !/\*(\{ab,\})+\*/.test(pattern));
  fc.assert(
    fc.property(
      glob,
      path,
      (pattern, text) => compileGlob(pattern).matches(text) === regexpOf(pattern).test(text),
    ),
    { numRuns: 20_000 },
  );
});

/** Backtracks without end on some patterns, and says in a line what each sign means. */
function regexpOf(glob: string): RegExp {
  const signs: Readonly<Record<string, string>> = {
    ...{ '.': '\\.', '{': '(?:', '}': ')', ',': '|', '[!': '[^/', '?': '[^/]', '*': '[^/]*' },
    ...{ '**/': '(?:.*/)?', '/**': '(?:/.*)?', '/**/': '/(?:.*/)?', '**': '.*' },
  };
  const once = glob.replaceAll(/\*\*(\/\*\*)+/g, '**');
  return new RegExp(
    `^(?:${once.replaceAll(/\/\*\*\/?|\*\*\/?|\[!|[.{},?*]/g, (sign) => signs[sign] ?? sign)})$`,
  );
}

t.test('glob matches as picomatch does, where that has no quirks', async () => {
  const glob = globOf(['a', 'b', '*', '?', '[ab]', '{a,b}']).filter(
    (pattern) => /^[ab]/.test(pattern) && !/\*\*$/.test(pattern),
  );
  fc.assert(
    fc.property(glob, path, (pattern, text) => {
      const theirs = picomatch(pattern, { dot: true, noextglob: true, strictSlashes: true });
      return compileGlob(pattern).matches(text) === theirs(text);
    }),
    { numRuns: 5_000 },
  );
});

t.test('glob tells its literal beginning, which every match has', async (t) => {
  const heads: [string, string][] = [
    ['a/b/*.tar', 'a/b/'],
    ['a/**', 'a'],
    ['{train,trial}/x', 'tr'],
    ['!a', ''],
    ['a\\*b?', 'a*b'],
    ['plain/name', 'plain/name'],
  ];
  for (const [glob, head] of heads) t.equal(compileGlob(glob).literalHead, head, glob);
});

t.test('glob that can match nothing says why', async (t) => {
  const futile: [string, RegExp][] = [
    ['/a', /begins with a slash/],
    ['a/', /ends with a slash/],
    ['a//b', /two slashes/],
    ['a/../b', /name \.\./],
    ['a'.repeat(256), /more than 255 bytes/],
    ['{/a,b/}', /slash/],
  ];
  for (const [glob, why] of futile) t.match(compileGlob(glob).futile, why, glob);
  for (const glob of ['**', 'a/**', '{/a,b}', '!/a', '*'.repeat(300)]) {
    t.equal(compileGlob(glob).futile, undefined, glob);
  }
});

t.test('glob refuses in words what it does not know, or what is too much', async (t) => {
  const refused: [string, RegExp][] = [
    ['', /empty/],
    ['!', /empty/],
    ['a'.repeat(1_025), /1025 characters/],
    ['@(a|b)', /parenthesis/],
    ['(a+)+b', /parenthesis/],
    ['+(+(a))', /parenthesis/],
    ['[a', /bracket/],
    ['[z-a]', /backwards/],
    ['[[:alpha:]]', /named class/],
    ['[a/b]', /slash in brackets/],
    ['{a,b', /not closed/],
    ['a}', /not opened/],
    ['{a}', /no choice/],
    ['{1..9}', /no choice/],
    ['a\\', /backslash/],
    ['{a,b}'.repeat(7), /alternatives/],
    ['{'.repeat(400) + 'a,b' + '}'.repeat(400), /no choice|alternatives/],
    [`{${'a,'.repeat(65)}b}`, /alternatives/],
  ];
  for (const [glob, why] of refused) {
    t.throws(() => compileGlob(glob), why, glob.slice(0, 40));
    t.throws(() => compileGlob(glob), GlobSyntaxError, glob.slice(0, 40));
  }
});

t.test(
  'a glob of many stars takes steps in proportion to its length, on names made against it',
  async (t) => {
    // By a regular expression the first of these takes minutes; a hang is this test's way to fail.
    const hostile: [string, string][] = [
      ['*a'.repeat(30) + 'b', 'a'.repeat(255)],
      ['**/*a*a*b/'.repeat(20) + 'c', `${'a'.repeat(200)}b/`.repeat(20)],
      ['**/'.repeat(300) + 'x', 'a/'.repeat(2_047) + 'a'],
      ['{*a,*b,*c,*d}*a*a*a*a*a*z', 'a'.repeat(255)],
      ['?'.repeat(200) + '*'.repeat(200) + 'z', 'a'.repeat(255)],
    ];
    for (const [glob, path] of hostile) t.equal(matches(glob, path), false, glob.slice(0, 40));
  },
);
