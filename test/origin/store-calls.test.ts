/** The origin's calls to a store are bounded in number and time, and counted. */
import t from 'tap';
import { type Clock, systemClock } from '../../lib/base/clock.ts';
import { StoreCalls } from '../../lib/origin/tree/store-calls.ts';
import { StoreError } from '../../lib/store/object-store.ts';
import { createMetrics } from '../../lib/telemetry/metrics.ts';
import { MemoryStore } from './memory-store.ts';

function create() {
  let nowMs = 0;
  const clock: Clock = { ...systemClock, nowMs: () => nowMs };
  const store = new MemoryStore();
  const metrics = createMetrics();
  const advance = (byMs: number): void => void (nowMs += byMs);
  return { store, metrics, advance, calls: new StoreCalls({ store, clock, metrics }) };
}

t.test('call that waits for its turn too long is not made', async (t) => {
  const { store, calls, advance } = create();
  let release = (): void => undefined;
  const released = new Promise<void>((resolve) => (release = resolve));
  store.before = () => released;
  store.fill(['a']);
  const first = Array.from({ length: 64 }, () => calls.head('a'));
  const waiting = calls.head('a');
  advance(9_000);
  release();
  await Promise.all(first);
  await t.rejects(waiting, { code: 'timeout', hint: /too slowly/ });
  t.equal(store.calls.head, 64);
});

t.test('calls beyond what may wait are refused and counted', async (t) => {
  const { store, calls, metrics } = create();
  let release = (): void => undefined;
  const released = new Promise<void>((resolve) => (release = resolve));
  store.before = () => released;
  store.fill(['a']);
  const made = Array.from({ length: 64 + 10_000 }, () => calls.head('a'));
  await t.rejects(calls.head('a'), { code: 'unavailable' });
  release();
  await Promise.all(made);
  const text = await metrics.registry.metrics();
  t.match(text, 'perigee_limit_reached_total{limit="STORE_CALLS_WAITING_MAX"} 1');
  t.match(text, 'perigee_origin_store_calls_total{call="head",result="ok"} 10064');
});

t.test('absent objects are no errors, and the others say what to do', async (t) => {
  const { store, calls, metrics } = create();
  t.equal(await calls.head('none'), undefined);
  store.before = () => {
    throw new StoreError('access-denied', 'the clock is wrong', { hint: 'set it' });
  };
  await t.rejects(calls.list({ prefix: '' }), { layer: 'origin', code: 'denied', hint: 'set it' });
  store.before = () => {
    throw new StoreError('invalid-key', 'no');
  };
  t.equal(await calls.head('x'), undefined, 'what a store cannot hold it does not hold');
  store.before = () => {
    throw new TypeError('a fault');
  };
  await t.rejects(calls.head('x'), { message: 'a fault' });
  t.match(
    await metrics.registry.metrics(),
    'perigee_origin_store_calls_total{call="list",result="access-denied"} 1',
  );
});
