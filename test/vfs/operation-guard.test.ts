import t from 'tap';
import { NamespaceError } from '../../lib/namespace/namespace.ts';
import type { Logger } from '../../lib/telemetry/log.ts';
import { OperationGuard } from '../../lib/vfs/operation-guard.ts';
import { ManualClock } from './manual-clock.ts';

function guardWorld() {
  const lines: { readonly level: string; readonly text: string; readonly [field: string]: unknown }[] = [];
  const note = (level: string) => (fields: object, text: string) => lines.push({ ...fields, level, text });
  const logger = { warn: note('warn'), error: note('error') } as unknown as Logger;
  const clock = new ManualClock();
  const guard = new OperationGuard({ logger, clock });
  const fail = async (operation: string, error: Error): Promise<void> => {
    await t.rejects(guard.run(operation, () => Promise.reject(error)));
  };
  return { lines, clock, guard, fail };
}

const away = () => new NamespaceError('unavailable', 'the origin is away');

t.test('operation guard logs the first failure of a kind, then a count an interval', async (t) => {
  const { lines, clock, fail } = guardWorld();
  for (let times = 0; times < 2_000; times++) await fail('lookup', away());
  t.match(lines, [{ level: 'warn', text: 'an operation failed', operation: 'lookup', errno: 'ETIMEDOUT' }]);
  clock.advance(60_000);
  t.equal(lines.length, 2);
  t.match(lines[1], { text: 'operations failed', count: 1_999, cause: 'the origin is away' });
  clock.advance(60_000);
  t.equal(lines.length, 2, 'nothing to tell of an interval without failures');
  t.equal(clock.waiting, 0, 'and no timer is left');
  await fail('lookup', away());
  t.match(lines[2], { text: 'an operation failed' });
});

t.test('operation guard tells its counts when it is closed', async (t) => {
  const { lines, clock, guard, fail } = guardWorld();
  for (let times = 0; times < 3; times++) await fail('open', away());
  guard.close();
  t.match(lines[1], { text: 'operations failed', count: 2 });
  t.equal(clock.waiting, 0);
});

t.test('operation guard tells kinds apart, and an EIO is an error', async (t) => {
  const { lines, fail } = guardWorld();
  await fail('lookup', away());
  await fail('open', away());
  await fail('lookup', new NamespaceError('timeout', 'late'));
  await fail('lookup', new Error('a fault'));
  await fail('lookup', new NamespaceError('not-found', 'no such name'));
  t.same(
    lines.map(({ level, operation, cause }) => [level, operation, cause]),
    [
      ['warn', 'lookup', 'the origin is away'],
      ['warn', 'open', 'the origin is away'],
      ['warn', 'lookup', 'late'],
      ['error', 'lookup', 'a fault'],
    ],
  );
});
