/**
 * Semantics 1: "A name operation takes effect at one instant between call and return, for every satellite of the export."
 * Semantics 2, 5 and 6 follow from the same histories, and that every wait ends from the end of each world.
 *
 * PERIGEE_SIM_SEEDS worlds (40 by default), from PERIGEE_SIM_FROM on, in as many processes as there are cores.
 */
import os from 'node:os';
import t from 'tap';
import { simulate } from './simulation.ts';
import { worlds } from './worlds.ts';

const SEEDS_DEFAULT = 40;
const seeds = Number(process.env['PERIGEE_SIM_SEEDS'] ?? SEEDS_DEFAULT);
const from = Number(process.env['PERIGEE_SIM_FROM'] ?? 1);
Error.stackTraceLimit = 0;

t.test(`${seeds} worlds from seed ${from} are linearizable, and nothing is left over in them`, async (t) => {
  const sum = new Map<string, number>();
  for await (const { seed, problems, counts } of worlds({ from, seeds, jobs: os.availableParallelism() })) {
    if (problems.length > 0) {
      t.comment(problems.join('\n\n'));
      t.fail(`seed ${seed} is wrong: npm run sim -- --seeds 1 --from ${seed}`);
      return;
    }
    for (const [what, by] of Object.entries(counts)) sum.set(what, (sum.get(what) ?? 0) + by);
  }
  // A world in which nothing is cached, dropped or interrupted proves nothing.
  for (const what of ['cached', 'dropped', 'epochs', 'impatient', 'failed: unavailable']) {
    t.ok((sum.get(what) ?? 0) > 0, `${sum.get(what)} ${what}`);
  }
});

t.test('a seed is a world, event for event', async (t) => {
  const [first, second] = [await simulate(7, { isTraced: true }), await simulate(7, { isTraced: true })];
  t.same(first, second);
  t.ok(first.events > 1_000 && first.operations > 100 && first.trace.length > 100);
});
