/**
 * The name cache against a naive origin that keeps the protocol (`cache-world.ts`): whatever the order in which answers
 * and messages arrive, a name that the cache knows is what it is at the origin, and the kernel holds nothing that the
 * cache could not find.
 */
import fc from 'fast-check';
import t from 'tap';
import { CacheWorld } from './cache-world.ts';

t.test(
  'a name that is known is what it is at the origin, in every order of answers and messages',
  async (t) => {
    const met: Record<string, number> = {};
    const step = fc.tuple(fc.nat(19), fc.nat(1000));
    fc.assert(
      fc.property(fc.array(step, { minLength: 100, maxLength: 300, size: 'max' }), (script) => {
        const world = new CacheWorld();
        for (const [kind, pick] of script) {
          world.step(kind, pick);
          world.check();
        }
        world.settle();
        for (const [what, by] of Object.entries(world.met)) met[what] = (met[what] ?? 0) + by;
      }),
      { numRuns: Number(process.env['PERIGEE_TEST_RUNS'] ?? 1_000) },
    );
    for (const [what, times] of Object.entries(met)) t.ok(times > 100, `${what}: ${times}`);
  },
);
