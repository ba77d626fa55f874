import t from 'tap';
import {
  EMPTY_DOCUMENT,
  documentForExport,
  parsePolicyDocument,
  policiesOfJson,
  policyText,
  readPolicyDocument,
  withoutPolicy,
} from '../../lib/policy/policy-document.ts';
import { DOCUMENT_BYTES_MAX, findingText } from '../../lib/policy/document-source.ts';
import { PolicyError } from '../../lib/policy/policy.ts';

/** All of the schema, as in the design. */
const WHOLE = `# what the lab reads
apiVersion: perigee/v1
policies:
  - name: imagenet                       # unique
    match:
      export: research
      prefix: imagenet/train/
      glob: "**/*.tar"
      size: { min: 1MiB, max: 8GiB }
      hosts: { labels: { pool: h200, rack: 7 } }
    prefetch:
      on: [apply, mount, open, list, publish]
      schedule: "0 2 * * *"
      what: siblings
      ahead: 8
      concurrency: 16
      bandwidth: 2GiB/s
      priority: -5
    cache:  { admit: first-miss, pin: false, ttl: 7d, rank: -1, wholeOnOpen: 64MiB }
    write:  { mode: through, readDuringWrite: redirect, publish: close }
    consistency: { immutable: false, onPartition: stale }
`;

function faults(text: string): string[] {
  const read = readPolicyDocument(text);
  return read.kind === 'wrong' ? read.faults.map(findingText) : [];
}

function warnings(text: string): string[] {
  return parsePolicyDocument(text).warnings.map(findingText);
}

function one(body: string): string {
  return `apiVersion: perigee/v1\npolicies:\n  - name: one\n    match: { prefix: a/ }\n${body}`;
}

t.test('policy document has every key of the schema', async (t) => {
  const [policy] = parsePolicyDocument(WHOLE).policies;
  t.same(policy, {
    name: 'imagenet',
    match: {
      export: 'research',
      prefix: 'imagenet/train/',
      glob: '**/*.tar',
      size: { minBytes: 1024 ** 2, maxBytes: 8 * 1024 ** 3 },
      labels: { pool: 'h200', rack: '7' },
    },
    states: {
      'prefetch.on': ['apply', 'mount', 'open', 'list', 'publish'],
      'prefetch.schedule': '0 2 * * *',
      'prefetch.what': 'siblings',
      'prefetch.ahead': 8,
      'prefetch.concurrency': 16,
      'prefetch.bandwidth': 2 * 1024 ** 3,
      'prefetch.priority': -5,
      'cache.admit': 'first-miss',
      'cache.pin': false,
      'cache.ttl': 7 * 24 * 3_600_000,
      'cache.rank': -1,
      'cache.wholeOnOpen': 64 * 1024 ** 2,
      'write.mode': 'through',
      'write.readDuringWrite': 'redirect',
      'write.publish': 'close',
      'consistency.immutable': false,
      'consistency.onPartition': 'stale',
    },
  });
});

t.test('policy document may be JSON, also indented by tabs, and may be for nobody', async (t) => {
  const document = {
    apiVersion: 'perigee/v1',
    policies: [{ name: 'one', match: {}, cache: { pin: true } }],
  };
  for (const indent of [undefined, 2, '\t']) {
    t.same(parsePolicyDocument(JSON.stringify(document, undefined, indent)).policies[0]?.states, {
      'cache.pin': true,
    });
  }
  t.match(parsePolicyDocument(EMPTY_DOCUMENT), { policies: [], warnings: [] });
});

t.test('policy document may use aliases', async (t) => {
  const text = `apiVersion: perigee/v1
policies:
  - { name: a, match: { prefix: a/ }, cache: &kept { pin: true, ttl: 1d } }
  - { name: b, match: { prefix: b/ }, cache: *kept }
`;
  const [a, b] = parsePolicyDocument(text).policies;
  t.same(a?.states, b?.states);
  t.same(policyText(text, 'b'), 'name: b\nmatch:\n  prefix: b/\ncache:\n  pin: true\n  ttl: 1d\n');
  t.throws(() => withoutPolicy(text, 'a'), { code: 'document', hint: /edit the document/ });
});

t.test('policy document is refused with place, expectation and the word that was meant', async (t) => {
  const cases: [string, RegExp][] = [
    ['', /^1:1: the document is empty \(write apiVersion: perigee\/v1/],
    ['# nothing\n', /^1:1: the document is empty/],
    ['42', /^1:1: 42 is not a map \(write apiVersion/],
    ['policies: []', /^1:1: apiVersion: is missing \(write apiVersion: perigee\/v1\)/],
    ['apiVersion: perigee/v1', /policies: is missing/],
    ['apiVersion: perigee/v2\npolicies: []', /^1:13: apiVersion: "perigee\/v2" is not a version/],
    ['apiVersion: perigee/v1\npolicies: {}', /^2:11: policies: \{\} is not a list/],
    [
      'apiVersion: perigee/v1\npolicies: [7]',
      /^2:12: policies\[0\]: 7 is not a map \(it may have name, match/,
    ],
    [
      'apiVersion: perigee/v1\npolicie: []\npolicies: []',
      /^2:1: policie: unknown key \(did you mean policies\?\)/,
    ],
    [one('\tcache: {}'), /^5:1: .*[Tt]ab/],
    [one('    cache: { pin: true\n'), /must be YAML or JSON/],
    [one('    cache: { pin: true, pin: false }'), /^5:\d+: Map keys must be unique/],
    [one('    cache: { pin: true }\n---\na: 1'), /document/],
    [one('    cache: { pin: !!js/function x }'), /^5:19: .*tag/],
    [one('    cache: { ttll: 7d }'), /^5:14: policies\[0\]\.cache\.ttll: unknown key \(did you mean ttl\?\)/],
    [one('    cache: { ttl: 5 bananas }'), /^5:19: policies\[0\]\.cache\.ttl: "5 bananas" is not a duration/],
    [one('    cache: { ttl: 5ms }'), /less than 1s/],
    [one('    cache: { ttl: }'), /^5:19: .*null is not a duration/],
    [one('    cache: { admit: first-mis }'), /did you mean first-miss\?/],
    [one('    cache: { rank: 1.5 }'), /is not a whole number from -1000 to 1000/],
    [one('    cache: { wholeOnOpen: 2GiB }'), /more than 1\s?GiB/],
    [one('    cache: []'), /^5:12: policies\[0\]\.cache: \[\] is not a map \(it may have admit, pin/],
    [one('    prefetch: { on: [opn] }'), /prefetch\.on\[0\]: "opn" is none of .*did you mean open\?/],
    [one('    prefetch: { on: [] }'), /is an empty list/],
    [one('    prefetch: { on: open }'), /"open" is not a list/],
    [one('    prefetch: { schedule: "61 * * * *" }'), /is not a schedule \(write the five fields/],
    [one('    prefetch: { schedule: "* * * * * *" }'), /is not a schedule/],
    [one('    prefetch: { bandwidth: 2GiB }'), /is not a bandwidth/],
    [one('    write: { mode: around }'), /is none of through, back/],
    [one('    __proto__: { pin: true }'), /^5:5: .*__proto__: unknown key/],
    [one('    constructor: 1'), /constructor: unknown key/],
    [one('    <<: { cache: { pin: true } }'), /unknown key/],
    [match('{ prefix: /a }'), /begins with a slash/],
    [match('{ prefix: a//b }'), /empty name/],
    [match('{ prefix: a/../b }'), /empty name or \.\./],
    [match('{ prefix: 7 }'), /7 is not a prefix/],
    [match('{ glob: "+(+(a))" }'), /has a parenthesis; write \{one,other\}/],
    [match('{ glob: "[z-a]" }'), /backwards/],
    [match('{ size: { min: 2GiB, max: 1GiB } }'), /has a min that is more than its max/],
    [match('{ size: {} }'), /neither min nor max/],
    [match('{ size: { min: -1 } }'), /-1 is not a size/],
    [match('{ hosts: {} }'), /hosts\.labels: is missing/],
    [match('{ hosts: { labels: [a=b] } }'), /is not a map of labels/],
    [match('{ hosts: { labels: {} } }'), /names no label/],
    [match('{ export: "a b" }'), /export name/],
    ['apiVersion: perigee/v1\npolicies: [{ name: "a b", match: {} }]', /"a b" is not a name of a policy/],
    ['apiVersion: perigee/v1\npolicies: [{ match: {} }]', /policies\[0\]\.name: is missing/],
    ['apiVersion: perigee/v1\npolicies: [{ name: a }]', /policies\[0\]\.match: is missing/],
  ];
  for (const [text, wanted] of cases) t.match(faults(text).join('\n'), wanted, text);
});

function match(text: string): string {
  return `apiVersion: perigee/v1\npolicies:\n  - { name: one, match: ${text}, cache: { pin: true } }\n`;
}

t.test(
  'policy document tells all faults at once, in the order of the text, and not without end',
  async (t) => {
    const text = `apiVersion: perigee/v1
policies:
  - name: same
    match: { prefx: a/ }
    cache: { pin: maybe, ttl: never }
  - name: other
    match: { glob: "[" }
`;
    t.same(
      faults(text).map((fault) => fault.split(':').slice(0, 1)[0]),
      ['4', '5', '5', '7'],
    );
    const many = `apiVersion: perigee/v1\npolicies:\n${'  - { name: x, match: {}, typo: 1 }\n'.repeat(60)}`;
    t.equal(faults(many).length, 51);
    t.match(faults(many).at(-1), /and 10 more/);
  },
);

t.test('policy document refuses a name that is taken, and says by which line', async (t) => {
  const text = `apiVersion: perigee/v1\npolicies:\n  - { name: a, match: {} }\n  - { name: a, match: {} }\n`;
  t.match(faults(text), [/^4:13: .*the name a is taken by the policy of line 3/]);
});

t.test('policy document is bounded', async (t) => {
  const list = (count: number): string =>
    `apiVersion: perigee/v1\npolicies:\n${Array.from({ length: count }, (_, at) => `  - { name: p${at}, match: { prefix: ${at}/ }, cache: { pin: true } }\n`).join('')}`;
  t.equal(parsePolicyDocument(list(1_000)).policies.length, 1_000);
  t.match(faults(list(1_001)), [/has more than 1000 entries/]);
  t.match(faults(`# ${'x'.repeat(DOCUMENT_BYTES_MAX)}`), [/more than 786432 bytes/]);
  const laughs = ['a: &a [x,x,x,x,x,x,x,x,x]'];
  for (const [at, name] of [...'bcdefghi'].entries()) {
    laughs.push(`${name}: &${name} [${Array(9).fill(`*${'abcdefghi'[at]}`).join(',')}]`);
  }
  t.match(faults(laughs.join('\n')), [/alias/]);
  t.match(faults(`a: ${'['.repeat(20_000)}`).join(), /./, 'deep nesting is refused, not a broken stack');
});

t.test('policy document warns of what is hardly meant', async (t) => {
  const cases: [string, RegExp][] = [
    [
      match('{ glob: "/a/**" }'),
      /^3:\d+: policies\[0\]\.match\.glob: can match nothing: it begins with a slash/,
    ],
    [match('{ prefix: "a/*.tar" }'), /prefix: is literal/],
    ['apiVersion: perigee/v1\npolicies: [{ name: a, match: {} }]', /states nothing/],
    [one('    prefetch: { schedule: "0 0 30 2 *", what: file }'), /never comes/],
    [one('    prefetch: { on: [open], what: file, depth: 2 }'), /depth: has no effect with what: file/],
    [one('    prefetch: { on: [open], what: subtree, ahead: 2 }'), /ahead: has no effect with what: subtree/],
    [one('    write: { publish: flush }'), /write\.publish: this release keeps it and does not act upon it/],
    [one('    write: { readDuringWrite: wait }'), /readDuringWrite: this release keeps it/],
    [one('    cache: { pin: true, admit: never }'), /pin: has no effect/],
  ];
  for (const [text, wanted] of cases) t.match(warnings(text).join('\n'), wanted, text);
  t.same(warnings(one('    cache: { pin: true }')), []);
  t.same(warnings(one('    prefetch: { priority: 2 }\n    cache: { pin: true }')), []);
  t.same(warnings(one('    prefetch: { on: [open], what: sequence }')), []);
  t.same(warnings(one('    write: { mode: back, publish: close }')), [], 'the default is acted upon');
});

t.test('policy document warns of contradictions and says which one wins', async (t) => {
  const text = `apiVersion: perigee/v1
policies:
  - { name: b, match: { prefix: a/, hosts: { labels: { x: 1, y: 2 } } }, cache: { pin: true, rank: 1 } }
  - { name: a, match: { prefix: a/, hosts: { labels: { y: 2, x: 1 } } }, cache: { pin: false, rank: 1 } }
  - { name: c, match: { prefix: a/ }, cache: { pin: true } }
  - { name: d, match: { prefix: a/ }, prefetch: { priority: 1 }, cache: { pin: false } }
`;
  t.match(warnings(text), [
    /^3:\d+: policies\[0\]\.cache\.pin: contradicts the policy a, .* wins by its name/,
  ]);
});

t.test('policy is taken out of a document, comments of the others stay', async (t) => {
  const text = `# head
apiVersion: perigee/v1
policies:
  - { name: a, match: {}, cache: { pin: true } } # first
  # about b
  - { name: b, match: {}, cache: { pin: false } }
`;
  const left = withoutPolicy(text, 'a');
  t.match(left, /# head[^]*# about b/);
  t.same(
    parsePolicyDocument(left).policies.map(({ name }) => name),
    ['b'],
  );
  t.same(parsePolicyDocument(withoutPolicy(left, 'b')).policies, []);
  t.throws(() => withoutPolicy(text, 'bb'), { code: 'unknown-policy', hint: 'did you mean b?' });
  t.throws(() => policyText(text, 'x y'), PolicyError);
});

t.test('policy document travels as the part that is about one export', async (t) => {
  const { written, policies } =
    parsePolicyDocument(`${WHOLE}  - { name: all, match: {}, cache: { pin: true } }
  - { name: other, match: { export: home }, cache: { pin: true } }
`);
  t.same(policiesOfJson(documentForExport(written, 'research')), policies.slice(0, 2));
  t.same(
    policiesOfJson(documentForExport(written, 'home')).map(({ name }) => name),
    ['all', 'other'],
  );
  for (const json of ['{', '{}', '{"apiVersion":"perigee/v2","policies":[]}']) {
    t.throws(() => policiesOfJson(json), { code: 'document', hint: /the same release/ });
  }
});
