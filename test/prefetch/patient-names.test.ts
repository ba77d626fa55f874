import t from 'tap';
import type { InodeNumber } from '../../lib/base/brand.ts';
import { NamespaceError } from '../../lib/namespace/namespace.ts';
import { patientNames } from '../../lib/prefetch/patient-names.ts';
import type { Names } from '../../lib/prefetch/walk.ts';
import { ManualClock } from '../cache/manual-clock.ts';

const ROOT = 1n as InodeNumber;

async function settle(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await Promise.resolve();
}

function setUp(answers: (Error | undefined)[]) {
  const clock = new ManualClock();
  let asked = 0;
  const names = {
    lookup: async () => {
      asked += 1;
      const error = answers.shift();
      if (error !== undefined) throw error;
      return undefined;
    },
  } as unknown as Names;
  return { clock, names: patientNames(names, clock), asked: () => asked };
}

t.test('a question is asked again while the origin is away', async (t) => {
  const away = [new NamespaceError('unavailable', 'away'), new NamespaceError('timeout', 'away')];
  const { clock, names, asked } = setUp([...away]);
  const answer = names.lookup(ROOT, 'a');
  for (let round = 0; round < 2; round++) {
    await settle();
    clock.advance(5_000);
  }
  t.equal(await answer, undefined);
  t.equal(asked(), 3);
});

t.test('not when the job is cancelled, nor after any other answer', async (t) => {
  const { clock, names, asked } = setUp([
    new NamespaceError('not-directory', 'a file'),
    new NamespaceError('unavailable', 'away'),
  ]);
  await t.rejects(names.lookup(ROOT, 'a'), { code: 'not-directory' });
  const cancelled = new AbortController();
  const answer = names.lookup(ROOT, 'a', { signal: cancelled.signal });
  await settle();
  cancelled.abort(new Error('cancelled'));
  await t.rejects(answer, /cancelled/);
  clock.advance(60_000);
  t.equal(asked(), 2);
});
