import t from 'tap';
import { parsePolicyDocument } from '../../lib/policy/policy-document.ts';
import { PolicyHolder } from '../../lib/policy/policy-holder.ts';

const { policies } = parsePolicyDocument(`apiVersion: perigee/v1
policies:
  - { name: fixed, match: { export: data, prefix: fixed/ }, consistency: { immutable: true } }
  - { name: small, match: { prefix: small/, size: { max: 1KiB } }, consistency: { immutable: true } }
  - { name: here, match: { hosts: { labels: { pool: h200 } } }, cache: { rank: 1 } }
`);

t.test('holder decides for its export and host, by the set that it has', async (t) => {
  const holder = new PolicyHolder({ exportName: 'data', host: { name: 'gpu-1', labels: { pool: 'h200' } } });
  const other = new PolicyHolder({ exportName: 'home', host: { name: 'gpu-2', labels: {} } });
  const subject = { path: 'fixed/a', sizeBytes: 1 };
  t.same(holder.decide(subject).deciding, []);
  let changes = 0;
  holder.listen(() => changes++);
  for (const each of [holder, other]) each.replace(7, policies);
  t.equal(changes, 1);
  t.equal(holder.version, 7);
  t.same(holder.decide(subject).deciding, ['fixed', 'here']);
  t.same(other.decide(subject).deciding, []);
  t.same(
    other.explain(subject).policies.map(({ outcome }) => outcome),
    ['other-export', 'other-prefix', 'other-host'],
  );
});
