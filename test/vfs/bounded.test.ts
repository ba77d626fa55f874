import t from 'tap';
import { bounded } from '../../lib/vfs/bounded.ts';
import { ManualClock } from './manual-clock.ts';

const never = (): Promise<never> => new Promise(() => undefined);

t.test('bounded wait', async (t) => {
  t.test('answers what came in time, and leaves no timer', async (t) => {
    const clock = new ManualClock();
    const { signal } = new AbortController();
    t.equal(await bounded(clock, { signal, deadlineMs: 10 }, async () => 'answer'), 'answer');
    await t.rejects(
      bounded(clock, { signal, deadlineMs: 10 }, async () => Promise.reject(new Error('no'))),
      new Error('no'),
    );
    t.equal(clock.waiting, 0);
  });

  t.test('ends at the deadline, even if what it waits for ignores the signal', async (t) => {
    const clock = new ManualClock();
    let seen: AbortSignal | undefined;
    const wait = bounded(clock, { signal: new AbortController().signal, deadlineMs: 10 }, (signal) => {
      seen = signal;
      return never();
    });
    clock.advance(9);
    t.equal(seen?.aborted, false);
    clock.advance(1);
    await t.rejects(wait, { code: 'timeout' });
    t.equal(seen?.aborted, true);
  });

  t.test('ends when the program is interrupted', async (t) => {
    const clock = new ManualClock();
    const interrupt = new AbortController();
    const wait = bounded(clock, { signal: interrupt.signal, deadlineMs: 10 }, never);
    interrupt.abort();
    await t.rejects(wait, { code: 'interrupted' });
    await t.rejects(bounded(clock, { signal: interrupt.signal, deadlineMs: 10 }, never), {
      code: 'interrupted',
    });
    t.equal(clock.waiting, 0);
  });
});
