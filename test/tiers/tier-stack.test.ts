import t from 'tap';
import type { VersionId } from '../../lib/base/brand.ts';
import { TierError, type FillRequest, type Tier } from '../../lib/tiers/tier.ts';
import { createTierStack } from '../../lib/tiers/tier-stack.ts';

const request: FillRequest = {
  source: {
    version: '00' as VersionId,
    exportName: 'data',
    objectKey: 'k',
    objectVersion: undefined,
    entityTag: 't',
    sizeBytes: 100,
  },
  offset: 0,
  length: 100,
  blockBytes: 100,
  priority: 'demand',
  sinkFd: 9,
};

/** Reports progress, then fails with `failure` or succeeds. */
function tier(name: string, progress: readonly number[], failure?: Error) {
  const state = { asked: 0, closed: false };
  const answer = <T>(value: T): Promise<T> => {
    state.asked++;
    return failure ? Promise.reject(failure) : Promise.resolve(value);
  };
  const self: Tier = {
    name,
    fill(_request, options) {
      for (const to of progress) options?.onProgress?.(to);
      return answer({ blockChecksums: [1] });
    },
    read: (range) => answer(new Uint8Array(range.length)),
    close() {
      state.closed = true;
      return Promise.resolve();
    },
  };
  return Object.assign(self, { state });
}

t.test('tier stack asks the next tier when one fails, and progress goes on', async (t) => {
  const near = tier('near', [10, 50], new TierError('unavailable', 'gone'));
  const far = tier('far', [20, 60]);
  const stack = createTierStack([near, far]);
  const seen: number[] = [];
  t.strictSame(await stack.fill(request, { onProgress: (to) => seen.push(to) }), { blockChecksums: [1] });
  t.strictSame(seen, [10, 50, 60]);
  t.equal((await stack.read({ ...request, length: 5 })).length, 5);
  await stack.close();
  t.ok(near.state.closed && far.state.closed);
});

t.test('tier stack tells the failure of the last tier', async (t) => {
  const stack = createTierStack([
    tier('near', [], new TierError('timeout', 'slow')),
    tier('far', [], new TierError('stale', 'replaced')),
  ]);
  await t.rejects(stack.fill(request), { code: 'stale' });
});

t.test('tier stack does not go on when the sink refuses, it closes, or nobody waits any more', async (t) => {
  for (const failure of [
    new TierError('sink', 'disk'),
    new TierError('closed', 'end'),
    new Error('cancelled'),
  ]) {
    const far = tier('far', []);
    await t.rejects(createTierStack([tier('near', [], failure), far]).fill(request), failure);
    t.equal(far.state.asked, 0);
  }
});
