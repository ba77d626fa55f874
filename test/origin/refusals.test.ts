import { pino } from 'pino';
import t from 'tap';
import { Refusals } from '../../lib/origin/services/refusals.ts';
import { AccessError } from '../../lib/rpc/principal.ts';
import { createMetrics } from '../../lib/telemetry/metrics.ts';
import { FakeClock } from '../cli/fakes.ts';

function start() {
  const lines: Record<string, unknown>[] = [];
  const logger = pino(
    {},
    { write: (line: string) => lines.push(JSON.parse(line) as Record<string, unknown>) },
  );
  const clock = new FakeClock();
  const metrics = createMetrics();
  const refusals = new Refusals({ clock, logger, metrics });
  const refuse = (reason: 'token' | 'role', address: string, host = 'h'): void =>
    refusals.note({
      reason,
      address,
      principal: { tenant: 't', host, role: 'read', provenBy: 'token' },
      call: { method: 'Lookup', exportName: 'data' },
      error: new AccessError(reason, `no ${reason}`, { hint: 'ask' }),
    });
  return { lines, clock, metrics, refuse };
}

t.test('every refusal is counted; of a kind from one host one a minute is logged', async (t) => {
  const { lines, clock, metrics, refuse } = start();
  for (let count = 0; count < 5; count++) refuse('role', '10.0.0.1');
  refuse('role', '10.0.0.2');
  refuse('token', '10.0.0.1');
  refuse('token', '10.0.0.1', 'behind-the-same-address');
  t.match(lines, [
    {
      reason: 'role',
      address: '10.0.0.1',
      tenant: 't',
      method: 'Lookup',
      exportName: 'data',
      msg: 'refused: no role',
    },
    { reason: 'role', address: '10.0.0.2' },
    { reason: 'token', address: '10.0.0.1', host: 'h' },
    { reason: 'token', address: '10.0.0.1', host: 'behind-the-same-address' },
  ]);
  t.equal(lines.length, 4);
  clock.pass(59_999);
  refuse('role', '10.0.0.1');
  t.equal(lines.length, 4);
  clock.pass(1);
  refuse('role', '10.0.0.1');
  t.match(lines[4], { reason: 'role', refusedSinceLast: 5 });
  t.match(await metrics.originRefusals.get(), {
    values: [
      { labels: { reason: 'role' }, value: 8 },
      { labels: { reason: 'token' }, value: 2 },
    ],
  });
});

t.test('what is remembered of refusals is bounded', async (t) => {
  const { lines, refuse } = start();
  for (let host = 0; host < 1_000; host++) refuse('token', `host-${host}`);
  refuse('token', 'host-0');
  t.equal(lines.length, 1_000, 'a thousand are remembered');
  refuse('token', 'one-more');
  refuse('token', 'host-1');
  t.equal(lines.length, 1_001);
  refuse('token', 'host-0');
  t.equal(lines.length, 1_002, 'and the oldest was forgotten');
});
