import t from 'tap';
import { parsePolicyDocument } from '../../lib/policy/policy-document.ts';
import { PolicyHolder } from '../../lib/policy/policy-holder.ts';
import { RuledPaths } from '../../lib/policy/ruled-paths.ts';

function setUp(policies: readonly string[]) {
  const holder = new PolicyHolder({ exportName: 'data', host: { name: 'gpu-1', labels: {} } });
  const paths = new RuledPaths(holder, { name: 'consistency.immutable', value: true });
  const put = (texts: readonly string[]): boolean => {
    const lines = texts.map((text, at) => `  - { name: p${at}, ${text} }\n`).join('');
    holder.replace(1, parsePolicyDocument(`apiVersion: perigee/v1\npolicies:\n${lines || '  []'}`).policies);
    return paths.refresh();
  };
  put(policies);
  return { paths, put };
}

const IMMUTABLE = 'consistency: { immutable: true }';

t.test('a path has the value whatever its size, or not at all', async (t) => {
  const { paths } = setUp([
    `match: { prefix: sets/fixed/ }, ${IMMUTABLE}`,
    `match: { prefix: small/, size: { max: 1KiB } }, ${IMMUTABLE}`,
    `match: { export: other }, ${IMMUTABLE}`,
  ]);
  t.equal(paths.has('sets/fixed/a'), true);
  t.equal(paths.has('small/a'), false, 'its size is not known yet');
  t.equal(paths.has('a'), false);
  for (const way of ['', 'sets', 'sets/fixed']) t.equal(paths.has(way), true, `the way: /${way}`);
});

t.test('all of a directory has it if a whole prefix says so and nothing says otherwise', async (t) => {
  const whole = `match: { prefix: sets/ }, ${IMMUTABLE}`;
  const { paths, put } = setUp([whole]);
  t.equal(paths.hasBelow('sets'), true);
  t.equal(paths.hasBelow('sets/a/b'), true);
  t.equal(paths.hasBelow(''), false);
  put([whole, 'match: { prefix: sets/a/live }, consistency: { immutable: false }']);
  t.equal(paths.hasBelow('sets/a'), false);
  t.equal(paths.hasBelow('sets'), false, 'what is below it is not all the same');
  t.equal(paths.hasBelow('sets/b'), true);
  t.equal(paths.has('sets/a/live.txt'), false);
  put([`match: { prefix: sets/, glob: "*.tar" }, ${IMMUTABLE}`]);
  t.equal(paths.hasBelow('sets'), false, 'other names may come');
});

t.test('a change is one only if it is about the setting', async (t) => {
  const { paths, put } = setUp([]);
  t.equal(paths.isEmpty, true);
  t.equal(put(['match: {}, cache: { pin: true }']), false);
  t.equal(put([`match: {}, ${IMMUTABLE}`]), true);
  t.equal(paths.isEmpty, false);
  t.equal(paths.has('anything'), true);
  t.equal(put([`match: {}, ${IMMUTABLE}`]), false);
  t.equal(put([]), true);
  t.equal(paths.has('anything'), false);
});
