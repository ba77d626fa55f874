import path from 'node:path';
import t, { type Test } from 'tap';
import { RpcError } from '../../lib/rpc/rpc-errors.ts';
import { FakeControl, type FakeWorld, fakeWorld } from './fakes.ts';
import { FAKE_DOCUMENT } from './fake-policy-calls.ts';

const ORIGIN = ['--origin', '10.0.0.1:7420'] as const;

function world(): FakeWorld {
  return fakeWorld({ env: {} });
}

function fileOf(t: Test, text: string): string {
  return path.join(t.testdir({ 'policies.yaml': text }), 'policies.yaml');
}

const simple =
  'apiVersion: perigee/v1\npolicies:\n  - { name: a, match: { prefix: a/ }, cache: { pin: true } }\n';

t.test('policy apply sends the document and says which version holds', async (t) => {
  const { run, out, runtime } = world();
  t.equal(await run('policy', 'apply', '-f', fileOf(t, simple), ...ORIGIN), 0);
  t.same(runtime.policyCalls.calls, [`apply ${simple.length} false`]);
  t.match(runtime.asked, [['policies', { origin: '10.0.0.1:7420' }]]);
  t.same(out.stdout, ['version 5 of the policies holds: 2 policies']);
  t.equal(runtime.policyCalls.closed, 1);
});

t.test('policy apply shows warnings with their place, and says when nothing changed', async (t) => {
  const { run, out, runtime } = world();
  runtime.policyCalls.unchanged = true;
  runtime.policyCalls.warnings = [
    { line: 3, column: 5, message: 'policies[0]: hm', hint: 'do so' },
    { line: 0, column: 0, message: 'a: no such export', hint: 'did you mean b?' },
  ];
  const file = fileOf(t, simple);
  t.equal(await run('policy', 'apply', '-f', file, ...ORIGIN), 0);
  t.same(out.stderr, [
    `warning: ${file}:3:5: policies[0]: hm (do so)`,
    'warning: a: no such export (did you mean b?)',
  ]);
  t.match(out.stdout, ['version 5 of the policies holds already: 2 policies']);
});

t.test('policy apply refuses a wrong document before it asks anybody', async (t) => {
  const { run, out, runtime } = world();
  const file = fileOf(
    t,
    'apiVersion: perigee/v1\npolicies:\n  - { name: a, match: {}, cache: { ttll: 1d, pin: perhaps } }\n',
  );
  t.equal(await run('policy', 'apply', '-f', file, ...ORIGIN), 2);
  t.match(
    out.stderr.join('\n'),
    /policy apply: the document is refused\n.*policies\.yaml:3:\d+: .*did you mean ttl\?.*\n.*"perhaps" is neither true nor false/,
  );
  t.same(runtime.asked, []);
});

t.test('policy apply says what is wrong with the file itself', async (t) => {
  const directory = t.testdir({ empty: '', large: 'x'.repeat(800_000) });
  const cases: [string, RegExp][] = [
    ['nothing', /cannot read .*ENOENT/],
    ['empty', /1:1: the document is empty/],
    ['large', /800000 bytes, over/],
    ['.', /cannot read/],
  ];
  for (const [name, wanted] of cases) {
    const { run, out } = world();
    t.equal(await run('policy', 'apply', '-f', path.join(directory, name), ...ORIGIN), 2, name);
    t.match(out.stderr.join('\n'), wanted, name);
  }
  const { run, out } = world();
  t.equal(await run('policy', 'apply', ...ORIGIN), 2);
  t.match(out.stderr.join(), /--file/);
});

t.test('policy apply takes a document from standard input, within bounds', async (t) => {
  const given = fakeWorld({ env: {}, stdin: Buffer.from(simple) });
  t.equal(await given.run('policy', 'apply', '-f', '-', ...ORIGIN), 0);
  t.same(given.runtime.policyCalls.calls, [`apply ${simple.length} false`]);
  const large = fakeWorld({ env: {}, stdin: Buffer.alloc(800_000, '#') });
  t.equal(await large.run('policy', 'apply', '-f', '-', ...ORIGIN), 2);
  t.match(large.out.stderr.join(), /more than 786432 bytes/);
});

t.test('policy commands take the origin of the only mount, or ask for one', async (t) => {
  const { run, runtime } = world();
  runtime.controls.set('/mnt/data', new FakeControl('/mnt/data'));
  t.equal(await run('policy', 'list'), 0);
  t.match(runtime.asked, [['policies', { origin: '127.0.0.1:7420' }]]);

  const without = world();
  t.equal(await without.run('policy', 'list'), 2);
  t.match(without.out.stderr, [/no origin is named: there is no mount/, 'hint: add --origin host:port']);
});

t.test('policy list shows each policy in a line, and JSON', async (t) => {
  const { run, out } = world();
  t.equal(await run('policy', 'list', ...ORIGIN), 0);
  t.same(out.stdout, [
    'NAME      STATES       MATCH',
    'imagenet  cache        datasets  train/  **/*.tar  <= 8 GiB  rack=a1',
    'rest      cache,write  everything',
  ]);
  const json = world();
  t.equal(await json.run('policy', 'list', ...ORIGIN, '--json'), 0);
  t.match(JSON.parse(json.out.stdout.join('')), {
    version: 4,
    policies: [{ name: 'imagenet' }, { name: 'rest' }],
  });
  const none = world();
  none.runtime.policyCalls.text = 'apiVersion: perigee/v1\npolicies: []\n';
  await none.run('policy', 'list', ...ORIGIN);
  t.same(none.out.stdout, ['no policies (version 4)']);
});

t.test('policy show prints one policy or the whole text, also of an earlier version', async (t) => {
  const one = world();
  t.equal(await one.run('policy', 'show', 'rest', ...ORIGIN), 0);
  t.match(one.out.stdout.join('\n'), /^name: rest\nmatch: \{\}\ncache:\n {2}pin: true\n/);
  const whole = world();
  t.equal(await whole.run('policy', 'show', '--at', '3', ...ORIGIN), 0);
  t.same(whole.runtime.policyCalls.calls, ['document 3']);
  t.equal(whole.out.stdout.join('\n'), FAKE_DOCUMENT.trimEnd());
  const missing = world();
  t.equal(await missing.run('policy', 'show', 'imagent', ...ORIGIN), 1);
  t.match(missing.out.stderr, [/there is no policy "imagent"/, 'hint: did you mean imagenet?']);
  const wrong = world();
  t.equal(await wrong.run('policy', 'show', '--at', 'x', ...ORIGIN), 2);
});

t.test('policy history shows versions with who made them', async (t) => {
  const { run, out, runtime } = world();
  runtime.policyCalls.more = true;
  t.equal(await run('policy', 'history', '--last', '2', ...ORIGIN), 0);
  t.same(runtime.policyCalls.calls, ['history 2']);
  t.same(out.stdout, [
    'VERSION  WHEN (UTC)           POLICIES  CHANGE           BY',
    '4        2026-01-02 03:04:05  2         rollback to 2    lab/admin-1',
    '3        2026-01-02 03:04:05  2         delete imagenet  lab/admin-1',
  ]);
  t.match(out.stderr, [/older/]);
});

t.test('policy delete and rollback make a version', async (t) => {
  const { run, out, runtime } = world();
  t.equal(await run('policy', 'delete', 'imagenet', ...ORIGIN), 0);
  t.equal(await run('policy', 'rollback', '2', ...ORIGIN), 0);
  t.same(runtime.policyCalls.calls, ['delete imagenet', 'rollback 2']);
  t.match(out.stdout, [/version 5 .*, without imagenet/, /version 5/]);
  t.equal(await run('policy', 'rollback', 'two', ...ORIGIN), 2);
  runtime.policyCalls.failure = new RpcError('not-found', 'there is no version 7', { hint: 'look' });
  t.equal(await run('policy', 'rollback', '7', ...ORIGIN), 1);
  t.match(out.stderr.slice(-2), ['perigee: policy rollback: there is no version 7', 'hint: look']);
});

t.test('policy plan counts files and bytes of each policy, and shares of known caches', async (t) => {
  const { run, out, runtime } = world();
  runtime.controls.set('/mnt/data', new FakeControl('/mnt/data', { origin: '10.0.0.1:7420' }));
  runtime.controls.set('/mnt/other', new FakeControl('/mnt/other', { origin: '10.9.9.9:7420' }));
  runtime.policyCalls.listed = [
    { path: 'train/a.tar', sizeBytes: 150 * 1024 ** 3 },
    { path: 'train/b/c.tar', sizeBytes: 1024 ** 3 },
    { path: 'train/b/c.json', sizeBytes: 1024 },
  ];
  const file = fileOf(
    t,
    `apiVersion: perigee/v1
policies:
  - { name: imagenet, match: { export: datasets, prefix: train/, glob: "**/*.tar" }, cache: { rank: 1 } }
  - { name: small, match: { prefix: train/b/, size: { max: 1MiB }, hosts: { labels: { rack: zz } } }, cache: { rank: 2 } }
  - { name: train, match: { prefix: train/ }, cache: { rank: 3 } }
`,
  );
  t.equal(await run('policy', 'plan', '-f', file, ...ORIGIN), 0);
  t.same(
    runtime.policyCalls.calls.slice(-2),
    ['exportNames', 'files datasets train/'],
    'one walk for all prefixes',
  );
  t.notMatch(runtime.policyCalls.calls.join(), / false/, 'nothing is applied');
  t.same(out.stdout, [
    'version 4 holds: 2 new, 1 changed, 1 removed, 0 the same',
    'removed: rest',
    'POLICY    CHANGE   FILES  BYTES    DECIDES  MATCH',
    'imagenet  changed  2      151 GiB  2        datasets  train/  **/*.tar',
    'small     new      1      1 KiB    1        train/b/  <= 1 MiB  rack=zz',
    'train     new      3      151 GiB  1        train/',
    '/mnt/data: imagenet is 151.0% of the cache of 100 GiB, more than it can hold',
    '/mnt/data: train is 151.0% of the cache of 100 GiB, more than it can hold',
    'looked at 3 files; caches of other hosts are not known here',
  ]);
  t.same(out.stderr, []);
});

t.test('policy plan says when it was cut, and ends as partly done', async (t) => {
  const { run, out, runtime } = world();
  runtime.policyCalls.listed = Array.from({ length: 5 }, (_, at) => ({ path: `a/${at}`, sizeBytes: 1 }));
  const file = fileOf(t, simple);
  t.equal(await run('policy', 'plan', '-f', file, '--files-max', '3', ...ORIGIN), 3);
  t.match(out.stdout.join('\n'), /a {7}new {5}3 /);
  t.match(out.stdout.at(-1), /looked at 3 files/);
  t.match(out.stderr, [/cut there/]);
  t.equal(await run('policy', 'plan', '-f', file, '--files-max', '0', ...ORIGIN), 2);
  const json = world();
  t.equal(await json.run('policy', 'plan', '-f', file, '--json', ...ORIGIN), 0);
  t.match(JSON.parse(json.out.stdout.join('')), {
    version: 4,
    isCut: false,
    policies: [{ name: 'a', change: 'new' }],
  });
});

t.test('policy explain asks the mount of a path', async (t) => {
  const { run, out, runtime } = world();
  const control = new FakeControl('/mnt/data');
  runtime.controls.set('/mnt/data', control);
  t.equal(await run('policy', 'explain', '/mnt/data/train/1.tar'), 0);
  t.same(control.calls, ['explain train/1.tar']);
  t.same(out.stdout, [
    'datasets/train/1.tar: file of 2 KiB, 1 KiB of it cached',
    'policies of version 3, for gpu-1 pool=h200',
    '',
    'SETTING            VALUE   REASON         POLICY',
    'prefetch.on        -       default        -',
    'cache.wholeOnOpen  64 MiB  longer-prefix  train',
    'cache.ttl          -       default        -',
    'cache.pin          true    only-one       all',
    '',
    'OUTCOME       POLICY',
    'decides       train',
    'decides       all',
    'other-prefix  other',
  ]);
});

t.test('policy explain asks an origin about a path of an export, as for a host with labels', async (t) => {
  const { run, out, runtime } = world();
  const words = ['policy', 'explain', '/train/1.tar', ...ORIGIN, '--export', 'datasets', '--json'];
  t.equal(await run(...words, '--label', 'rack=a1'), 0);
  t.same(runtime.policyCalls.calls, ['document undefined', 'find datasets train/1.tar']);
  const explained = JSON.parse(out.stdout.join('')) as { settings: { name: string }[] };
  t.match(explained, {
    kind: 'file',
    path: 'train/1.tar',
    policies: [{ name: 'imagenet', outcome: 'decides' }, { name: 'rest' }],
  });
  t.match(
    explained.settings.find(({ name }) => name === 'cache.wholeOnOpen'),
    { value: 64 * 1024 ** 2, policy: 'imagenet' },
  );
  const other = world();
  other.runtime.policyCalls.found = undefined;
  t.equal(await other.run(...words), 0);
  t.match(JSON.parse(other.out.stdout.join('')), {
    kind: 'absent',
    policies: [{ name: 'rest' }, { outcome: 'no-size' }],
  });
});

t.test('the examples under --help of policy commands are commands', async (t) => {
  const names = ['apply', 'plan', 'list', 'show', 'delete', 'history', 'rollback', 'explain'];
  const directory = t.testdir({ 'policies.yaml': simple });
  for (const words of [['policy'], ...names.map((name) => ['policy', name])]) {
    const help = world();
    await help.run(...words, '--help');
    const examples = [...help.out.stdout.join('\n').matchAll(/^ {2}\$ perigee (.*)$/gm)].map(
      ([, line = '']) => line,
    );
    t.ok(examples.length > 0, words.join(' '));
    for (const line of examples) {
      const { run, out, runtime } = world();
      runtime.controls.set('/mnt/data', new FakeControl('/mnt/data'));
      const given = line.replace('policies.yaml', path.join(directory, 'policies.yaml')).split(' ');
      t.same([await run(...given), out.stderr.filter((text) => /^perigee|^hint/.test(text))], [0, []], line);
    }
  }
});

t.test('policy show tells what became of what was fetched ahead, on mounts of that origin', async (t) => {
  const { run, out, runtime } = world();
  const [ours, other] = [
    new FakeControl('/mnt/data', { origin: '10.0.0.1:7420' }),
    new FakeControl('/mnt/other', { origin: '10.9.9.9:7420' }),
  ];
  runtime.controls.set('/mnt/data', ours);
  runtime.controls.set('/mnt/other', other);
  t.equal(await run('policy', 'show', 'imagenet', ...ORIGIN), 0);
  t.same(out.stdout.slice(-2), [
    'FETCHED  USED   WASTED  LATE   MOUNT',
    '4 KiB    3 KiB  512 B   256 B  /mnt/data',
  ]);
  t.notOk(other.calls.includes('prefetchList'));
});
