import t from 'tap';
import { type BlobEvent, type BlobState, initialBlobState, nextBlobState } from '../../cache/blob.ts';

const events: BlobEvent[] = ['filled', 'restored', 'verified', 'durable', 'block-lost', 'evict'];

function name(state: BlobState): string {
  if (state.kind !== 'complete') return state.kind;
  return `complete${state.verified ? '+verified' : ''}${state.durable ? '+durable' : ''}`;
}

t.test('blob every state and event has exactly the listed outcome', async (t) => {
  const table = new Map<string, string>();
  const queue = [initialBlobState()];
  for (let state = queue.pop(); state !== undefined; state = queue.pop()) {
    for (const event of events) {
      const key = `${name(state)} ${event}`;
      if (table.has(key)) continue;
      try {
        const next = nextBlobState(state, event);
        table.set(key, name(next));
        queue.push(next);
      } catch (error) {
        t.match(error, { code: 'invariant' });
        table.set(key, 'illegal');
      }
    }
  }
  const legal = Object.fromEntries([...table].filter(([, outcome]) => outcome !== 'illegal'));
  t.strictSame(legal, {
    'filling filled': 'complete+verified',
    'filling restored': 'complete+durable',
    'filling block-lost': 'filling',
    'filling evict': 'evicting',
    'evicting block-lost': 'evicting',
    'complete+durable verified': 'complete+verified+durable',
    'complete+durable durable': 'complete+durable',
    'complete+durable block-lost': 'filling',
    'complete+durable evict': 'evicting',
    'complete+verified+durable verified': 'complete+verified+durable',
    'complete+verified+durable durable': 'complete+verified+durable',
    'complete+verified+durable block-lost': 'filling',
    'complete+verified+durable evict': 'evicting',
    'complete+verified verified': 'complete+verified',
    'complete+verified durable': 'complete+verified+durable',
    'complete+verified block-lost': 'filling',
    'complete+verified evict': 'evicting',
  });
});
