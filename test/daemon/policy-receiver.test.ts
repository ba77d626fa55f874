import { pino } from 'pino';
import t from 'tap';
import { PolicyReceiver } from '../../lib/daemon/policy-receiver.ts';
import { PolicyHolder } from '../../lib/policy/policy-holder.ts';
import { createMetrics } from '../../lib/telemetry/metrics.ts';
import { ManualClock } from '../cache/manual-clock.ts';

function setOf(version: number, ...names: string[]) {
  const policies = names.map((name) => ({ name, match: {}, cache: { pin: true } }));
  return { version: BigInt(version), document: JSON.stringify({ apiVersion: 'perigee/v1', policies }) };
}

function receiver() {
  const clock = new ManualClock();
  const lines: string[] = [];
  const logger = pino(
    { level: 'info' },
    { write: (line) => void lines.push(String((JSON.parse(line) as { msg: string }).msg)) },
  );
  const holder = new PolicyHolder({ exportName: 'data', host: { name: 'h', labels: {} } });
  const metrics = createMetrics();
  let changes = 0;
  holder.listen(() => changes++);
  return {
    ...{ clock, lines, holder },
    changes: () => changes,
    sets: new PolicyReceiver({ holder, clock, logger, metrics }),
    metrics,
    deciding: () => holder.decide({ path: 'a', sizeBytes: 1 }).deciding.join(),
  };
}

t.test('policies hold from the moment they come, and the same ones are not taken twice', async (t) => {
  const { sets, holder, deciding, changes } = receiver();
  t.equal(deciding(), '');
  sets.take(setOf(1, 'one'));
  t.equal(deciding(), 'one');
  t.equal(holder.version, 1);
  sets.take(setOf(1, 'one'));
  t.equal(changes(), 1);
  sets.take(setOf(1, 'of-another-origin'));
  t.equal(deciding(), 'of-another-origin', 'the same number need not be the same document');
  sets.take(setOf(0));
  t.equal(deciding(), '');
});

t.test(
  'policies that this release does not know are refused in the log, and the last ones hold',
  async (t) => {
    const { sets, lines, deciding, metrics } = receiver();
    sets.take(setOf(1, 'one'));
    for (const document of [
      '{',
      '{}',
      '{"apiVersion":"perigee/v1","policies":[{"name":"a","match":{},"later":{}}]}',
    ]) {
      sets.take({ version: 2n, document });
      t.equal(deciding(), 'one');
      t.match(lines.at(-1), /not in the shape that this release knows/);
    }
    t.match((await metrics.policyRefusals.get()).values, [{ value: 3 }]);
    t.match((await metrics.policyVersion.get()).values, [{ value: 1 }]);
  },
);

t.test('a start waits for the first policies, for a bounded time', async (t) => {
  const prompt = receiver();
  const waited = prompt.sets.first();
  prompt.sets.take(setOf(3, 'one'));
  await waited;
  t.same(prompt.lines, ['policies in force']);

  const late = receiver();
  const first = late.sets.first();
  late.clock.advance(2_000);
  await first;
  t.match(late.lines, [/does not tell its policies/]);
  late.sets.take(setOf(1, 'one'));
  t.equal(late.deciding(), 'one', 'and they hold when they come');
});
