import fc from 'fast-check';
import t from 'tap';
import {
  CALM_MS,
  FAILURES_MAX,
  type HealthEvent,
  HEALTHY,
  mayFill,
  mayServe,
  nextHealth,
  PROBE_PAUSE_MAX_MS,
  PROBE_PAUSE_MS,
  probeDue,
} from '../../cache/health.ts';

const failed: HealthEvent = { kind: 'failed', cause: 'device' };

t.test('health goes down after failures in a row and comes back over a probe and calm', async (t) => {
  let state = HEALTHY;
  for (let failure = 1; failure < FAILURES_MAX; failure++) {
    state = nextHealth(state, failed, failure);
    t.equal(state.kind, 'unstable');
    t.ok(mayFill(state) && mayServe(state));
  }
  state = nextHealth(state, failed, 10);
  t.equal(state.kind, 'down');
  t.notOk(mayFill(state) || mayServe(state));
  t.notOk(probeDue(state, 10));
  t.ok(probeDue(state, 10 + PROBE_PAUSE_MS));
  state = nextHealth(state, { kind: 'probed', ok: false }, 10 + PROBE_PAUSE_MS);
  t.equal(state.kind, 'down');
  t.notOk(probeDue(state, 10 + 2 * PROBE_PAUSE_MS), 'the next pause is longer');
  state = nextHealth(state, { kind: 'probed', ok: true }, 10_000);
  t.equal(state.kind, 'unstable');
  t.equal(nextHealth(state, failed, 10_001).kind, 'down', 'one more failure is enough after a probe');
  t.equal(nextHealth(state, { kind: 'tick' }, 10_000 + CALM_MS - 1).kind, 'unstable');
  t.equal(nextHealth(state, { kind: 'tick' }, 10_000 + CALM_MS).kind, 'normal');
});

t.test('health full file system is not written but read', async (t) => {
  let state = HEALTHY;
  for (let failure = 0; failure < FAILURES_MAX; failure++) {
    state = nextHealth(state, { kind: 'failed', cause: 'no-space' }, 0);
  }
  t.notOk(mayFill(state));
  t.ok(mayServe(state));
  t.notOk(mayServe(nextHealth(state, failed, 1)), 'unless the device fails as well');
});

t.test(
  'health never returns from down to normal but over a good probe, and pauses stay bounded',
  async () => {
    const events = fc.array(
      fc.oneof(
        fc.record({
          kind: fc.constant('failed' as const),
          cause: fc.constantFrom('device' as const, 'no-space' as const),
        }),
        fc.record({ kind: fc.constant('probed' as const), ok: fc.boolean() }),
        fc.record({ kind: fc.constant('tick' as const) }),
      ),
    );
    fc.assert(
      fc.property(events, fc.nat({ max: 100_000 }), (steps, stepMs) => {
        let state = HEALTHY;
        let nowMs = 0;
        for (const event of steps) {
          const before = state;
          state = nextHealth(state, event, (nowMs += stepMs));
          if (before.kind === 'down' && state.kind !== 'down' && !(event.kind === 'probed' && event.ok))
            return false;
          if (before.kind === 'down' && state.kind === 'normal') return false;
          if (state.kind === 'down' && state.probeAtMs - nowMs > PROBE_PAUSE_MAX_MS) return false;
        }
        return true;
      }),
    );
  },
);
