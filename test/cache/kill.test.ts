import { spawn } from 'node:child_process';
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { seededPrng } from '../../lib/base/prng.ts';
import { openFixture, openVersion, temporaryDirectory } from './fixture.ts';
import { trueBytes } from './fake-tier.ts';
import { KILL_BLOCK, KILL_CAPACITY, KILL_FILES, killSource } from './kill-plan.ts';

const child = fileURLToPath(new URL('./killed-process.ts', import.meta.url));

/** Runs the child until an instant that the seed chooses, then kills it. Returns what it complained about. */
async function runAndKill(directory: string, seed: number): Promise<string> {
  const process_ = spawn(process.execPath, [child, directory, String(seed)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const exited = new Promise((resolve) => process_.once('exit', resolve));
  let output = '';
  await new Promise<void>((resolve) => {
    process_.stdout.on('data', (data: Buffer) => {
      output += data.toString();
      if (output.includes('ready')) resolve();
    });
    process_.once('exit', () => resolve());
  });
  const delayMs = seededPrng(seed).below(900);
  await new Promise((resolve) => setTimeout(resolve, delayMs));
  process_.kill('SIGKILL');
  await exited;
  return output.replace('ready\n', '');
}

t.test('cache killed at any instant serves every byte as its source has it', async (t) => {
  const rounds = Number(process.env['PERIGEE_ROUNDS'] ?? 4);
  const seed = Number(process.env['PERIGEE_SEED'] ?? Date.now() % 1_000_000);
  t.comment(`PERIGEE_SEED=${seed}`);
  const directory = temporaryDirectory(t);
  let kept = 0;
  for (let round = 0; round < rounds; round++) {
    t.equal(await runAndKill(directory, seed + round), '', `round ${round}`);
    const { cache } = await openFixture(t, {
      directory,
      capacityBytes: KILL_CAPACITY,
      blockBytes: KILL_BLOCK,
    });
    kept += cache.stat().completeBlobs;
    t.ok(takenBytes(directory) <= cache.stat().usedBytes, 'what lies there is accounted for');
    for (let number = 0; number < KILL_FILES; number++) {
      const source = killSource(number);
      const handle = openVersion(cache, source);
      const bytes = await handle.read(0, source.sizeBytes);
      if (!trueBytes(source, 0, source.sizeBytes).equals(bytes)) t.fail(`file ${number} has wrong bytes`);
      handle.close();
    }
    t.equal(cache.stat().checksumFailures, 0, 'the kernel still wrote what it was given');
    await cache.close();
  }
  t.ok(kept > 0 || rounds < 2, 'something outlived the deaths');
});

function takenBytes(directory: string): number {
  const entries = readdirSync(join(directory, 'blobs'), { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile())
    .reduce((sum, entry) => sum + statSync(join(entry.parentPath, entry.name)).blocks * 512, 0);
}
