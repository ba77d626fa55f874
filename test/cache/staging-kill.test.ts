import { spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { seededPrng } from '../../lib/base/prng.ts';
import { trueBytes } from './fake-tier.ts';
import { openFixture, temporaryDirectory } from './fixture.ts';
import { KILL_BLOCK, killSource } from './kill-plan.ts';
import { writeOf } from './staged.ts';

const child = fileURLToPath(new URL('./staging-killed-process.ts', import.meta.url));

/** Runs the child until an instant that the seed chooses, then kills it. Returns what it said. */
async function runAndKill(directory: string, run: { seed: number; first: number }): Promise<string[]> {
  const process_ = spawn(process.execPath, [child, directory, String(run.seed), String(run.first)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const exited = new Promise((resolve) => process_.once('close', resolve));
  let output = '';
  await new Promise<void>((resolve) => {
    process_.stdout.on('data', (data: Buffer) => {
      output += data.toString();
      if (output.includes('ready')) resolve();
    });
    process_.once('exit', () => resolve());
  });
  await new Promise((resolve) => setTimeout(resolve, seededPrng(run.seed).below(700)));
  process_.kill('SIGKILL');
  await exited;
  return output.split('\n').slice(0, -1);
}

t.test('writers killed at any instant: what was acknowledged is there, and nothing else', async (t) => {
  const rounds = Number(process.env['PERIGEE_ROUNDS'] ?? 4);
  const seed = Number(process.env['PERIGEE_SEED'] ?? Date.now() % 1_000_000);
  t.comment(`PERIGEE_SEED=${seed}`);
  const directory = temporaryDirectory(t);
  let owedFiles = 0;
  for (let round = 0; round < rounds; round++) {
    const said = await runAndKill(directory, { seed: seed + round, first: 100_000 * round });
    const numbers = (word: string): Set<number> =>
      new Set(said.filter((line) => line.startsWith(`${word} `)).map((line) => Number(line.split(' ')[1])));
    const [owed, ending, ended] = [numbers('owed'), numbers('ending'), numbers('ended')];
    t.equal(numbers('ready').size, 1, `round ${round}: ${owed.size} acknowledged, ${ended.size} ended`);
    const { cache } = await openFixture(t, {
      ...{ directory, capacityBytes: 4096 * KILL_BLOCK, blockBytes: KILL_BLOCK },
    });
    const found = new Map(cache.staging.recovered.map(({ file }) => [file.name, file]));
    for (const number of owed) {
      const file = found.get(writeOf(number));
      if (file === undefined && !ending.has(number)) t.fail(`file ${number} was acknowledged and is gone`);
    }
    for (const number of ended) if (found.has(writeOf(number))) t.fail(`file ${number} had ended`);
    for (const [name, file] of found) {
      const source = killSource(Number(name.split('-')[1]));
      const bytes = await file.read(0, source.sizeBytes + 1);
      if (!trueBytes(source, 0, source.sizeBytes).equals(bytes)) t.fail(`${name} has other bytes`);
    }
    t.same(readdirSync(join(directory, 'staging')).sort(), [...found.keys()].sort());
    t.match(await cache.verify({}), { badBlocks: 0, missingBlobs: 0 });
    owedFiles += found.size;
    for (const { file } of cache.staging.recovered) await cache.staging.discard(file);
    for (const entry of cache.staging.ended) cache.staging.forget(entry);
    await cache.close();
  }
  t.ok(owedFiles > 0 || rounds < 2, 'something was owed');
});
