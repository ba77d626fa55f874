import t from 'tap';
import { fakeWorld } from './fakes.ts';

const commands = ['up', 'origin', 'mount', 'unmount', 'status', 'cache', 'doctor'];

t.test('perigee --help names every command and the exit codes', async (t) => {
  const world = fakeWorld();
  t.equal(await world.run('--help'), 0);
  const text = world.out.stdout.join('\n');
  for (const command of commands) t.match(text, new RegExp(`^  ${command}\\b`, 'm'));
  t.match(text, 'Exit codes: 0 fine, 1 failed, 2 wrong usage, 3 partly done.');
  t.same(world.out.stderr, []);
});

for (const command of [
  ...commands,
  ...['stat', 'list', 'pin', 'unpin', 'evict', 'verify'].map((name) => `cache ${name}`),
]) {
  t.test(`perigee ${command} --help has examples`, async (t) => {
    const world = fakeWorld();
    t.equal(await world.run(...command.split(' '), '--help'), 0);
    const text = world.out.stdout.join('\n');
    t.match(text, `Usage: perigee ${command}`);
    t.match(text, /Examples:\n {2}\$ .*perigee/);
  });
}

t.test('perigee without words shows its help as wrong usage', async (t) => {
  for (const words of [[], ['cache']]) {
    const world = fakeWorld();
    t.equal(await world.run(...words), 2);
    t.match(world.out.stderr.join('\n'), 'Usage: perigee');
    t.same(world.out.stdout, []);
  }
});

t.test('perigee --version prints the version', async (t) => {
  const world = fakeWorld();
  t.equal(await world.run('--version'), 0);
  t.same(world.out.stdout, ['1.2.3']);
});

t.test('wrong words get exit code 2, the words, and what was probably meant', async (t) => {
  const cases: [string[], string, string][] = [
    [['mont'], "perigee: unknown command 'mont'", 'hint: did you mean mount?'],
    [['cache', 'pni'], "perigee: cache: unknown command 'pni'", 'hint: did you mean pin?'],
    [['status', '--jsno'], "perigee: status: unknown option '--jsno'", 'hint: did you mean --json?'],
    [
      ['--nothing-like-it'],
      "perigee: unknown option '--nothing-like-it'",
      'hint: perigee --help shows the usage',
    ],
    [
      ['mount', '127.0.0.1:1/x'],
      "perigee: mount: missing required argument 'mountpoint'",
      'hint: perigee mount --help shows the usage',
    ],
    [
      ['cache', 'pin'],
      "perigee: cache pin: missing required argument 'path'",
      'hint: perigee cache pin --help shows the usage',
    ],
    [
      ['unmount', '/a', '/b'],
      "perigee: unmount: too many arguments for 'unmount'. Expected 1 argument but got 2: /a, /b.",
      'hint: perigee unmount --help shows the usage',
    ],
    [
      ['mount', 'a:1/b', '/m', '--cache'],
      "perigee: mount: option '--cache <directory>' argument missing",
      'hint: perigee mount --help shows the usage',
    ],
  ];
  for (const [words, error, hint] of cases) {
    const world = fakeWorld();
    t.equal(await world.run(...words), 2, words.join(' '));
    t.same(world.complaint(), { error, hint });
    t.same(world.runtime.asked, []);
  }
});
