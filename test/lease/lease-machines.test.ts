/** Both machines together: whatever the network and the clocks do, nobody serves what is no longer so, and all waits end. */
import fc from 'fast-check';
import t from 'tap';
import { World } from './lease-world.ts';
import { TIMING } from './world-parts.ts';

const RUNS = Number(process.env.PERIGEE_LEASE_RUNS ?? 300);

function play(seed: number, satellites: number): World {
  const world = new World(seed, satellites);
  for (let act = 0; act < 150 && world.problems.length === 0; act++) {
    world.act();
    world.run(world.nowMs + world.prng.next() * 40);
  }
  return world;
}

t.test('nobody serves what is no longer so, whatever the network and the clocks do', async (t) => {
  let performed = 0;
  let kept = 0;
  fc.assert(
    fc.property(fc.integer(), fc.integer({ min: 1, max: 4 }), (seed, satellites) => {
      const world = play(seed, satellites);
      performed += world.performed;
      kept += world.kept;
      if (world.problems.length > 0) {
        throw new Error([`seed ${seed}`, ...world.log.slice(-30), ...world.problems].join('\n'));
      }
    }),
    { numRuns: RUNS },
  );
  t.ok(performed > RUNS * 5, `${performed} changes were performed`);
  t.ok(kept > RUNS * 5, `${kept} answers were kept`);
});

t.test('every change ends, and every session is live again, once the network is whole', async (t) => {
  fc.assert(
    fc.property(fc.integer(), fc.integer({ min: 1, max: 4 }), (seed, satellites) => {
      const world = play(seed, satellites);
      world.isRough = false;
      // A pause, grace after a crash, and the wait for one who never came back.
      world.run(world.nowMs + 2_500 + 4 * TIMING.termMs);
      const { unfinished } = world.origin;
      const states = world.satellites.map(({ state }) => state);
      if (unfinished > 0)
        throw new Error(`seed ${seed}: ${unfinished} changes never ended\n${world.log.join('\n')}`);
      if (states.some((state) => state !== 'live')) throw new Error(`seed ${seed}: ${states.join()}`);
    }),
    { numRuns: RUNS },
  );
  t.pass();
});
