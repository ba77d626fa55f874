import fc from 'fast-check';
import t from 'tap';
import { compilePolicies } from '../../lib/policy/engine.ts';
import { compileGlob } from '../../lib/policy/glob.ts';
import {
  DEFAULT_SETTINGS,
  type Policy,
  type PolicyMatch,
  SETTING_NAMES,
  type Settings,
  type Subject,
} from '../../lib/policy/policy.ts';

const everything: PolicyMatch = {
  export: undefined,
  prefix: '',
  glob: undefined,
  size: undefined,
  labels: undefined,
};

function policy(name: string, match: Partial<PolicyMatch>, states: Partial<Settings>): Policy {
  return { name, match: { ...everything, ...match }, states };
}

function subject(path: string, changes: Partial<Subject> = {}): Subject {
  return {
    exportName: 'research',
    path,
    sizeBytes: 1_000,
    host: { name: 'gpu-1', labels: { pool: 'h200' } },
    ...changes,
  };
}

t.test('engine without policies decides by defaults', async (t) => {
  const { settings, rulings, deciding } = compilePolicies([]).decide(subject('a'));
  t.same(settings, DEFAULT_SETTINGS);
  t.same(deciding, []);
  t.same(rulings['cache.pin'], { value: false, policy: undefined, reason: 'default' });
});

t.test('engine takes each setting from the most specific policy that states it, and says why', async (t) => {
  const engine = compilePolicies([
    policy('all', {}, { 'cache.rank': 1, 'cache.pin': true, 'cache.admit': 'second-miss' }),
    policy('train', { prefix: 'train/' }, { 'cache.rank': 2, 'cache.ttl': 1_000 }),
    policy('tars', { prefix: 'train/', glob: '**/*.tar' }, { 'cache.rank': 3, 'cache.ttl': 2_000 }),
  ]);
  const { settings, rulings, deciding } = engine.decide(subject('train/x/1.tar'));
  t.equal(settings['cache.rank'], 3);
  t.same(rulings['cache.rank'], { value: 3, policy: 'tars', reason: 'has-glob' });
  t.same(rulings['cache.pin'], { value: true, policy: 'all', reason: 'only-one' });
  t.same(deciding, ['tars', 'all'], 'nothing comes from train any more');
  t.same(engine.decide(subject('train/x/1.zip')).rulings['cache.rank'], {
    value: 2,
    policy: 'train',
    reason: 'longer-prefix',
  });
  t.same(engine.decide(subject('other')).deciding, ['all']);
});

t.test('engine orders by prefix, glob, conditions, priority and name, in this order', async (t) => {
  const size = { minBytes: 0, maxBytes: 10_000 };
  const ladder: [Policy, string][] = [
    [policy('z', { prefix: 'ab' }, {}), 'longer-prefix'],
    [policy('z', { prefix: 'a', glob: '*' }, {}), 'has-glob'],
    [policy('z', { prefix: 'a', size, export: 'research' }, {}), 'more-conditions'],
    [policy('z', { prefix: 'a', size }, { 'prefetch.priority': 1 }), 'higher-priority'],
    [policy('b', { prefix: 'a', size }, {}), 'earlier-name'],
    [policy('c', { prefix: 'a', size }, {}), 'only-one'],
  ];
  for (let from = 0; from < ladder.length; from++) {
    const policies = ladder.slice(from).map(([each, reason], at) => ({
      ...each,
      name: reason === 'higher-priority' ? 'z' : `${each.name}${at}`,
      states: { ...each.states, 'cache.rank': from + at },
    }));
    const ruling = compilePolicies(policies.reverse()).decide(subject('abc')).rulings['cache.rank'];
    t.match(ruling, { value: from, reason: ladder[from]?.[1] });
  }
});

t.test('engine explains what became of every policy', async (t) => {
  const states = { 'cache.rank': 1 };
  const explained = compilePolicies([
    policy('export', { export: 'other' }, states),
    policy('prefix', { prefix: 'test/' }, states),
    policy('glob', { prefix: 'train/', glob: '*.zip' }, states),
    policy('size', { size: { minBytes: 2_000, maxBytes: 3_000 } }, states),
    policy('host', { labels: { pool: 'h100' } }, states),
    policy('overruled', {}, states),
    policy('decides', { prefix: 'train/' }, states),
    policy('by-host-name', { labels: { host: 'gpu-1' } }, { 'cache.pin': true }),
  ]).explain(subject('train/1.tar'));
  t.same(
    explained.policies.map(({ name, outcome }) => `${name}: ${outcome}`),
    [
      'decides: decides',
      'by-host-name: decides',
      'overruled: overruled',
      'export: other-export',
      'prefix: other-prefix',
      'glob: other-glob',
      'size: other-size',
      'host: other-host',
    ],
  );
});

t.test('engine matches a directory by its path with a slash, and never by size', async (t) => {
  const states = { 'cache.rank': 1 };
  const engine = compilePolicies([
    policy('all', { prefix: 'train/', glob: '**' }, states),
    policy('sized', { size: { minBytes: 0, maxBytes: 1 } }, { 'cache.pin': true }),
  ]);
  const directory = subject('train/', { sizeBytes: undefined });
  t.same(engine.decide(directory).deciding, ['all']);
  t.equal(engine.explain(directory).policies.at(-1)?.outcome, 'no-size');
  t.same(engine.decide(subject('train/x/', { sizeBytes: undefined })).deciding, ['all']);
});

t.test('engine keeps labels of hosts apart from what objects inherit', async (t) => {
  const engine = compilePolicies([policy('a', { labels: { toString: 'x' } }, { 'cache.pin': true })]);
  t.equal(engine.decide(subject('a')).settings['cache.pin'], false);
  const own = compilePolicies([policy('a', { labels: { host: 'renamed' } }, { 'cache.pin': true })]);
  const host = { name: 'gpu-1', labels: { host: 'renamed' } };
  t.equal(own.decide(subject('a', { host })).settings['cache.pin'], true, 'a label called host wins');
});

t.test('engine decides right about more sets of policies than it keeps', async (t) => {
  const letters = 'abcdefghijklm';
  const engine = compilePolicies(
    [...letters].map((letter) =>
      policy(letter, { glob: `*${letter}*` }, { 'cache.rank': letter.charCodeAt(0) }),
    ),
  );
  const wrong: string[] = [];
  for (let round = 0; round < 2; round++) {
    for (let set = 0; set < 2 ** letters.length; set++) {
      const path = `.${[...letters].filter((_, at) => (set >> at) & 1).join('')}`;
      const { settings, deciding } = engine.decide(subject(path));
      const wanted = path[1]?.charCodeAt(0) ?? 0;
      if (settings['cache.rank'] !== wanted || deciding.join() !== (path[1] ?? '')) wrong.push(path);
    }
  }
  t.same(wrong, []);
});

/** As one would write it without a thought of speed. */
function naive(policies: readonly Policy[], { exportName, path, sizeBytes, host }: Subject) {
  const matching = policies.filter(({ match }) => {
    if (match.export !== undefined && match.export !== exportName) return false;
    if (!path.startsWith(match.prefix)) return false;
    if (match.glob !== undefined && !compileGlob(match.glob).matches(path.slice(match.prefix.length)))
      return false;
    if (match.size !== undefined) {
      if (sizeBytes === undefined) return false;
      if (sizeBytes < match.size.minBytes || match.size.maxBytes < sizeBytes) return false;
    }
    return Object.entries(match.labels ?? {}).every(([name, value]) => host.labels[name] === value);
  });
  const rankOf = ({ match, states, name }: Policy) => [
    -match.prefix.length,
    match.glob === undefined ? 1 : 0,
    -[match.export, match.size, match.labels].filter(Boolean).length,
    -(states['prefetch.priority'] ?? 0),
    name,
  ];
  const before = (a: Policy, b: Policy): number => {
    const [left, right] = [rankOf(a), rankOf(b)];
    const at = left.findIndex((value, index) => value !== right[index]);
    return at < 0 ? 0 : left[at]! < right[at]! ? -1 : 1;
  };
  matching.sort(before);
  return Object.fromEntries(
    SETTING_NAMES.map((name) => {
      const from = matching.find(({ states }) => states[name] !== undefined);
      return [name, [from?.states[name] ?? DEFAULT_SETTINGS[name], from?.name]];
    }),
  );
}

t.test('engine decides as a naive one does', async () => {
  const prefix = fc.constantFrom('', 'a', 'a/', 'a/b', 'a/b/', 'ab/', 'b', 'a/bb', 'b/a/');
  const maybe = <T>(value: fc.Arbitrary<T>): fc.Arbitrary<T | undefined> =>
    fc.option(value, { nil: undefined });
  const bounds = fc
    .tuple(fc.nat(20), fc.nat(20))
    .map(([minBytes, more]) => ({ minBytes, maxBytes: minBytes + more }));
  const anyPolicy = fc.record({
    match: fc.record({
      export: maybe(fc.constantFrom('x', 'y')),
      prefix,
      glob: maybe(fc.constantFrom('*', '**', '**/*', 'a/*', 'b/**', '{a,b}*', '[ab]/?', 'a', 'b/a/b', '!a*')),
      size: maybe(bounds),
      labels: maybe(fc.constantFrom({ pool: 'p' }, { pool: 'q' }, { pool: 'p', rack: 'r' })),
    }),
    states: fc.record(
      {
        'cache.rank': fc.nat(3),
        'cache.pin': fc.boolean(),
        'cache.admit': fc.constantFrom('never' as const, 'second-miss' as const),
        'prefetch.priority': fc.nat(2),
      },
      { requiredKeys: [] },
    ),
  });
  const policies = fc
    .array(anyPolicy, { maxLength: 12 })
    .map((list): Policy[] => list.map((each, at) => ({ name: `p${at}`, ...each })));
  const anySubject = fc.record({
    exportName: fc.constantFrom('x', 'y'),
    path: fc
      .array(fc.constantFrom('a', 'b', 'ab', 'bb'), { minLength: 1, maxLength: 4 })
      .map((names) => names.join('/')),
    sizeBytes: maybe(fc.nat(40)),
    host: fc.record({
      name: fc.constant('h'),
      labels: fc.constantFrom({}, { pool: 'p' }, { pool: 'p', rack: 'r' }, { pool: 'q', rack: 'r' }),
    }),
  }) as fc.Arbitrary<Subject>;
  fc.assert(
    fc.property(policies, fc.array(anySubject, { minLength: 1, maxLength: 8 }), (list, subjects) => {
      const engine = compilePolicies(list);
      for (const each of subjects) {
        const { rulings } = engine.decide(each);
        const wanted = naive(list, each);
        for (const name of SETTING_NAMES) {
          const [value, from] = wanted[name]!;
          if (rulings[name].value !== value || rulings[name].policy !== from) return false;
        }
      }
      return true;
    }),
    { numRuns: 2_000 },
  );
});
