/** Each deliberate fault of the protocol is found by the simulator, or the simulator is too weak. */
import fs from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { run } from '../support/system.ts';
import { mutants, placeOf } from './mutants.ts';

const SEEDS_MAX = 300;
const TIMEOUT_MS = 600_000;
const only = process.env['PERIGEE_SIM_MUTANT'];
/** All of them take a quarter of an hour; each run looks at those that are found soon. */
const isWhole = process.env['PERIGEE_SIM_MUTANTS'] === 'all';

const chosen = mutants.filter(({ name, foundSoon }) =>
  only === undefined ? isWhole || foundSoon === true : only === name,
);

t.test('each fault has its place in the source', async (t) => {
  for (const { name, changes } of mutants) {
    for (const change of changes) {
      const source = fs.readFileSync(path.join(import.meta.dirname, '../..', change.file), 'utf8');
      t.doesNotThrow(() => placeOf(source, change), name);
    }
  }
});

for (const { name, fault, needsMoves } of chosen) {
  t.test(`${name}: ${fault}`, async (t) => {
    const at = (file: string): string => path.join(import.meta.dirname, file);
    const still = needsMoves === true ? [] : ['--still'];
    const { code, stdout, stderr } = await run(
      process.execPath,
      ['--import', at('mutate.ts'), at('main.ts'), '--seeds', String(SEEDS_MAX), ...still],
      { env: { PERIGEE_MUTANT: name }, timeoutMs: TIMEOUT_MS },
    );
    const found = /seed (\d+) is wrong, after (\d+) seeds/.exec(stdout);
    t.ok(code === 1 && found !== null, `found after ${found?.[2]} seeds ${stderr}`);
  });
}
