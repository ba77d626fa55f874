import t from 'tap';
import { lruPolicy, reusePolicy } from '../../cache/eviction-policy.ts';
import { seededPrng } from '../../lib/base/prng.ts';
import { epochs, hitRatio, optimalHitRatio, type Trace, zipf } from '../bench/eviction.ts';

const ours = (capacityBytes: number) => reusePolicy({ capacityBytes, prng: seededPrng(5) });

t.test('policy does not replace during epoch scans and hits as much as the offline optimum', async (t) => {
  for (const [items, capacity] of [
    [240, 200],
    [400, 200],
    [1000, 200],
  ] as const) {
    const trace: Trace = { name: '', capacity, accesses: epochs(items, 12, seededPrng(items)), from: items };
    const ratio = hitRatio(ours(capacity), trace);
    t.ok(ratio >= 0.99 * (capacity / items), `${ratio} of ${capacity / items}`);
    t.ok(Math.abs(optimalHitRatio(trace) - capacity / items) < 1e-9, 'no policy does better');
    t.ok(hitRatio(lruPolicy(), trace) < ratio);
  }
});

t.test('policy keeps what is popular better than lru, also beside a scan', async (t) => {
  const prng = seededPrng(3);
  const popular = zipf(4000, { count: 20_000, skew: 0.9, prng });
  const mixed = popular.flatMap((item, at) => [item, 1_000_000 + at]);
  for (const accesses of [popular, mixed]) {
    const trace: Trace = { name: '', capacity: 200, accesses, from: accesses.length / 4 };
    t.ok(hitRatio(ours(200), trace) > hitRatio(lruPolicy(), trace));
  }
});

t.test('policy moves on to a new data set', async (t) => {
  const prng = seededPrng(4);
  const before = epochs(400, 6, prng);
  const after = epochs(400, 12, prng).map((item) => item + 10_000);
  const trace: Trace = {
    name: '',
    capacity: 200,
    accesses: [...before, ...after],
    from: before.length + 6 * 400,
  };
  t.ok(hitRatio(ours(200), trace) > 0.45);
});

t.test('policy names a victim for nobody in particular as long as there is one', async (t) => {
  for (const policy of [ours(10), lruPolicy()]) {
    for (let item = 0; item < 500; item++) {
      policy.touch(`${item}`, 1);
      policy.admit(`${item}`);
    }
    t.equal(
      policy.victim(undefined, (id) => id === '499'),
      '499',
    );
    t.equal(
      policy.victim(undefined, () => false),
      undefined,
    );
    policy.remove('499');
    t.equal(
      policy.victim(undefined, (id) => id === '499'),
      undefined,
    );
  }
});

t.test('policy remembers uses across a restart', async (t) => {
  const policy = ours(10);
  for (let use = 0; use < 5; use++) for (const id of ['a', 'b']) policy.touch(id, 100);
  policy.admit('a');
  const again = reusePolicy({ capacityBytes: 10, prng: seededPrng(5), settings: policy.settings() });
  again.restore('a', policy.usage('a')!);
  t.match(again.usage('a'), { uses: 5, gaps: 4, gapBytes: 200, usedAtBytes: 900 });
  t.strictSame(again.settings(), policy.settings());
});
