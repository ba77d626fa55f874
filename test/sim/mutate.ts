/** Loads the product with one mutant's changes: `node --import ./test/sim/mutate.ts …` with PERIGEE_MUTANT in the environment. */
import fs from 'node:fs';
import { registerHooks } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { mutants, placeOf } from './mutants.ts';

const ROOT = path.resolve(import.meta.dirname, '../..');
const wanted = process.env['PERIGEE_MUTANT'];
const mutant = mutants.find(({ name }) => name === wanted);
if (mutant === undefined) throw new Error(`there is no mutant ${wanted}`);
const changed = mutant.changes.map((change) => {
  const source = fs.readFileSync(path.join(ROOT, change.file), 'utf8');
  return { ...change, place: placeOf(source, change) };
});

registerHooks({
  load(url, context, next) {
    const loaded = next(url, context);
    if (!url.startsWith('file:')) return loaded;
    const file = path.relative(ROOT, fileURLToPath(url));
    let source = Buffer.from((loaded.source ?? '') as Uint8Array).toString();
    for (const { place, to } of changed.filter((change) => change.file === file)) {
      source = source.replace(place, () => to);
    }
    return { ...loaded, source };
  },
});
