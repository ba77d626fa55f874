/**
 * No acknowledged byte is lost: writers keep a manifest of what was acknowledged, the satellite (and now and then the
 * origin) is killed at a random instant, and in the end every file is read back from the object store alone.
 *
 * The long form: PERIGEE_WRITE_CRASH_ROUNDS=200; PERIGEE_CRASH_SEED repeats one run.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import t, { type Test } from 'tap';
import { seededPrng } from '../../lib/base/prng.ts';
import { needs, unmet } from '../support/requirements.ts';
import { System } from '../support/system.ts';
import { sha256 } from '../support/tree.ts';
import type { ManifestLine } from './crash-writer.ts';

const skip = unmet(needs.fuse);
const ROUNDS = Number(process.env['PERIGEE_WRITE_CRASH_ROUNDS'] ?? 6);
const SEED = Number(process.env['PERIGEE_CRASH_SEED'] ?? 1);
const WRITERS = 2;
/** Rounds between two looks at everything, without a cache. */
const ROUNDS_BETWEEN_CHECKS = 10;
const RUN_MS_MAX = 800;
const STUCK_MS = 5_000;

for (const mode of ['through', 'back'] as const) {
  t.test(`after SIGKILL at any instant nothing acknowledged is lost: write ${mode}`, { skip }, async (t) => {
    t.comment(`seed ${SEED}, ${ROUNDS} rounds`);
    const prng = seededPrng(SEED);
    const system = await System.start(t);
    const manifest = path.join(system.directory, 'manifest');
    fs.writeFileSync(manifest, '');
    for (let round = 1; round <= ROUNDS; round++) {
      const mount = await system.mount({ flags: ['--write-mode', mode] });
      const writers = Array.from({ length: WRITERS }, (_, index) =>
        startWriter(mount.mountpoint, manifest, SEED * 100_000 + round * WRITERS + index),
      );
      await Promise.all(writers.map(({ started }) => started));
      await new Promise((resolve) => setTimeout(resolve, prng.below(RUN_MS_MAX)));
      await mount.kill();
      // A thread of the killed process may wait in the kernel for a lock that a writer holds, which waits for an answer.
      const stuck = setTimeout(() => void system.cli(['unmount', mount.mountpoint, '--force']), STUCK_MS);
      for (const writer of writers)
        t.equal(await writer.ended, '', `round ${round}: the writer met nothing else`);
      clearTimeout(stuck);
      if (round % 3 === 0) await restartOrigin(system);

      const again = await system.mount({ flags: ['--write-mode', mode] });
      const flushed = await system.cli(['flush', again.mountpoint]);
      t.equal(flushed.code, 0, flushed.stderr);
      if (round % ROUNDS_BETWEEN_CHECKS === 0 || round === ROUNDS) {
        await again.kill();
        t.equal((await system.cli(['unmount', again.mountpoint, '--force'])).code, 0);
        fs.rmSync(path.join(system.directory, 'cache-a'), { recursive: true });
        const bare = await system.mount();
        check(t, bare.mountpoint, manifest);
        t.equal((await bare.unmount()).code, 0);
      } else t.equal((await again.unmount()).code, 0);
    }
    t.comment(`${fs.readFileSync(manifest, 'utf8').split('\n').length} lines in the manifest`);
  });
}

interface Writer {
  /** It is about to write. */
  readonly started: Promise<unknown>;
  /** What it had to say of errors that it did not expect. */
  readonly ended: Promise<string>;
}

function startWriter(directory: string, manifest: string, seed: number): Writer {
  const program = path.join(import.meta.dirname, 'crash-writer.ts');
  const child: ChildProcess = spawn(process.execPath, [program, directory, manifest, String(seed)], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let errors = '';
  child.stderr?.on('data', (chunk: Buffer) => (errors += chunk.toString()));
  const ended = once(child, 'close').then(() => errors);
  const { stdout } = child;
  return { started: Promise.race([stdout === null ? ended : once(stdout, 'data'), ended]), ended };
}

async function restartOrigin(system: System): Promise<void> {
  const port = Number(system.address.split(':').at(-1));
  await system.stopOrigin('SIGKILL');
  await system.startOrigin(`file://${system.objects}`, port);
}

/** What a name may be: the last state that was acknowledged, or one that was begun after it. */
interface Allowed {
  readonly sums: Set<string | undefined>;
  prefix: { readonly bytes: number; readonly sum: string } | undefined;
}

function allowedStates(manifest: string): Map<string, Allowed> {
  const names = new Map<string, Allowed>();
  for (const text of fs.readFileSync(manifest, 'utf8').split('\n')) {
    if (text === '') continue;
    const line = JSON.parse(text) as ManifestLine;
    let allowed = names.get(line.name);
    if (allowed === undefined)
      names.set(line.name, (allowed = { sums: new Set([undefined]), prefix: undefined }));
    switch (line.event) {
      case 'begin':
        allowed.sums.delete(line.sum);
        allowed.sums.add(line.sum);
        break;
      case 'synced':
        allowed.prefix = line;
        break;
      case 'done': {
        const last = [...allowed.sums].at(-1);
        allowed.sums.clear();
        allowed.sums.add(last);
        allowed.prefix = undefined;
        break;
      }
    }
  }
  return names;
}

function check(t: Test, directory: string, manifest: string): void {
  const wrong: string[] = [];
  let files = 0;
  for (const [name, { sums, prefix }] of allowedStates(manifest)) {
    const file = path.join(directory, name);
    const body = fs.existsSync(file) ? fs.readFileSync(file) : undefined;
    files += 1;
    if (prefix !== undefined) {
      const begins = body !== undefined && sha256(body.subarray(0, prefix.bytes)) === prefix.sum;
      if (!begins)
        wrong.push(
          `${name}: ${body?.length ?? 'gone'} bytes, does not begin with the ${prefix.bytes} synced ones`,
        );
    } else if (!sums.has(body === undefined ? undefined : sha256(body))) {
      wrong.push(`${name}: ${body?.length ?? 'gone'} bytes, none of the ${sums.size} states it may have`);
    }
  }
  t.strictSame(wrong, [], `${files} names are as they were acknowledged`);
}
