/** put, rm, mv, mkdir and origin refresh: what they ask of the origin, print and refuse. */
import fs from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { PerigeeError } from '../../lib/base/errors.ts';
import { fakeWorld } from './fakes.ts';

const AT = '10.0.0.1:7420/data';
const OPENED = ['changes', { origin: '10.0.0.1:7420', exportName: 'data' }];

class Refused extends PerigeeError<'not-empty'> {
  override readonly layer = 'test';
}

t.test('put sends a file with its mode and time', async (t) => {
  const world = fakeWorld();
  const file = path.join(t.testdir({ 'a b': 'text' }), 'a b');
  fs.chmodSync(file, 0o640);
  fs.utimesSync(file, 1_000, 1_000.5);
  t.equal(await world.run('put', file, `${AT}/dir/`), 0);
  const attributes = { mode: 0o640, modifiedNs: 1_000_500_000_000n };
  t.same(world.runtime.asked, [
    OPENED,
    ['put', { path: 'dir/a b', text: 'text', attributes }],
    ['close', undefined],
  ]);
  t.same(world.out.stdout, ['put 1 file, 4 B']);
});

t.test('put reads standard input, and refuses to guess its name', async (t) => {
  const world = fakeWorld();
  t.equal(await world.run('put', '-', `${AT}/x`, '--json'), 0);
  t.match(world.runtime.asked[1], ['put', { path: 'x', text: 'piped' }]);
  t.same(JSON.parse(world.out.stdout[0] ?? ''), [{ path: 'x', sizeBytes: 5, version: 'v' }]);
  const second = fakeWorld();
  t.equal(await second.run('put', '-', `${AT}/x/`), 2);
  t.match(second.complaint(), { error: /has no name/, hint: /whole path/ });
});

t.test('put --recursive makes directories, files and symlinks', async (t) => {
  const world = fakeWorld();
  const top = t.testdir({ d: { f: 'one', e: {} } });
  fs.symlinkSync('f', path.join(top, 'd/l'));
  t.equal(await world.run('put', path.join(top, 'd'), `${AT}/t`), 2, 'not without the flag');
  t.match(world.complaint(), { hint: 'hint: add --recursive' });
  t.equal(await world.run('put', '-r', path.join(top, 'd'), `${AT}/t`), 0);
  const asked = world.runtime.asked.map(([name, what]) => [
    name,
    JSON.stringify(what, (_, v) => (typeof v === 'bigint' ? 0 : v)),
  ]);
  t.match(
    asked
      .filter(([name]) => name === 'makeDirectory')
      .map(([, what]) => what)
      .sort(),
    [/"t",.*"parents":true/, /"t\/e"/],
  );
  t.match(
    asked
      .filter(([name]) => name === 'put')
      .map(([, what]) => what)
      .sort(),
    [/"t\/f","text":"one"/, /"t\/l","text":"".*"target":"f"/],
  );
});

t.test('put tells what could not be put, and ends as partly done', async (t) => {
  const world = fakeWorld();
  const top = t.testdir({ d: { good: 'x' } });
  fs.mkdirSync(path.join(top, 'd/e'));
  const open = world.runtime.changes.bind(world.runtime);
  world.runtime.changes = async (options) => {
    const fake = await open(options);
    const makeDirectory = fake.makeDirectory.bind(fake);
    fake.makeDirectory = async (name, rest) => {
      if (name.endsWith('/e')) throw new Refused('not-empty', 'no room');
      await makeDirectory(name, rest);
    };
    return fake;
  };
  t.equal(await world.run('put', '-r', path.join(top, 'd'), `${AT}/t`), 3);
  t.match(world.complaint().error, /put: .*\/d\/e: no room/);
});

t.test('rm, mv, mkdir and origin refresh ask the origin', async (t) => {
  const cases: [string[], unknown, string[]][] = [
    [['rm', `${AT}/a`], ['remove', ['a', { recursive: false }]], []],
    [['rm', '-r', `${AT}/a/`], ['remove', ['a', { recursive: true }]], ['removed a: 3 names']],
    [['mv', `${AT}/a`, `${AT}/b/c`], ['rename', ['a', 'b/c', { noReplace: false }]], []],
    [['mv', '--no-replace', `${AT}/x/a`, `${AT}/`], ['rename', ['x/a', 'a', { noReplace: true }]], []],
    [
      ['mkdir', '-p', '-m', '750', `${AT}/d`],
      ['makeDirectory', ['d', { parents: true, attributes: { mode: 0o750 } }]],
      [],
    ],
    [
      ['origin', 'refresh', '-r', `${AT}/d`],
      ['refresh', ['d', { recursive: true }]],
      ['1,500 names in 2 directories: 3 new, 2 changed, 1 gone'],
    ],
  ];
  for (const [words, asked, lines] of cases) {
    const world = fakeWorld();
    t.equal(await world.run(...words), 0, words.join(' '));
    t.same(world.runtime.asked, [OPENED, asked, ['close', undefined]]);
    t.same(world.out.stdout, lines);
  }
});

t.test('refusals of the origin and paths that make no sense are told in words', async (t) => {
  const world = fakeWorld();
  world.runtime.failure = new Refused('not-empty', '"a" is not empty', { hint: 'use --recursive' });
  t.equal(await world.run('rm', `${AT}/a`), 1);
  t.same(world.complaint(), { error: 'perigee: rm: "a" is not empty', hint: 'hint: use --recursive' });
  const wrong: [string[], RegExp][] = [
    [['rm', 'datasets/a'], /is no ORIGIN\/EXPORT/],
    [['rm', AT], /names no path/],
    [['rm', '10.0.0.1:7420'], /names no export/],
    [['mv', `${AT}/a`, '10.0.0.2:7420/data/b'], /same export/],
    [['mkdir', '-m', '9', `${AT}/a`], /not an octal mode/],
    [['put', '/does/not/exist', `${AT}/a`], /cannot read/],
  ];
  for (const [words, why] of wrong) {
    const one = fakeWorld();
    t.equal(await one.run(...words), 2, words.join(' '));
    t.match(one.complaint().error, why);
  }
});

t.test('origin takes notifications where it is told', async (t) => {
  const world = fakeWorld();
  const exit = world.run(
    ...'origin --data d --export a=s3://x --events 127.0.0.1:7421 --events-token token'.split(' '),
  );
  await world.out.printed('ready:');
  t.match(world.runtime.asked[0]?.[1], {
    events: { listen: { host: '127.0.0.1', port: 7421 }, tokenFile: '/work dir/token' },
  });
  world.signal();
  t.equal(await exit, 0);
});
