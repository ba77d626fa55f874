/**
 * A program that writes below a directory and keeps a manifest, outside, of what it was told is safe: run as
 * `crash-writer.ts DIRECTORY MANIFEST SEED`, until it is ended or the mount under it dies.
 *
 * Each line of the manifest is a JSON value of `ManifestLine`; a line about an operation that has succeeded is written
 * after the call has returned.
 */
import fs from 'node:fs';
import path from 'node:path';
import { seededPrng } from '../../lib/base/prng.ts';
import { randomBytes, sha256 } from '../support/tree.ts';

/**
 * - `begin`: from now on the name may have these bytes (or, without a sum, be gone)
 * - `done`: from now on it has what was begun last, until something else is begun
 * - `synced`: the file begun last begins with these bytes, whatever becomes of the rest
 */
export type ManifestLine =
  | { readonly event: 'begin'; readonly name: string; readonly sum?: string }
  | { readonly event: 'done'; readonly name: string }
  | { readonly event: 'synced'; readonly name: string; readonly bytes: number; readonly sum: string };

const SMALL_BYTES_MAX = 200_000;
const LARGE_BYTES = 9 * 1024 * 1024;

function main(directory: string, manifest: string, seed: number): void {
  const prng = seededPrng(seed);
  const note = (line: ManifestLine): void => fs.appendFileSync(manifest, `${JSON.stringify(line)}\n`);
  const size = (): number => (prng.below(20) === 0 ? LARGE_BYTES : prng.below(SMALL_BYTES_MAX));
  const names: string[] = [];
  process.stdout.write('begins\n');
  for (let count = 0; ; count++) {
    const fresh = `${seed}-${count}`;
    const known = names.length > 0 ? names[prng.below(names.length)] : undefined;
    const body = randomBytes(size(), prng);
    const at = (name: string): string => path.join(directory, name);
    switch (prng.below(6)) {
      case 0:
      case 1: {
        note({ event: 'begin', name: fresh, sum: sha256(body) });
        fs.writeFileSync(at(fresh), body);
        note({ event: 'done', name: fresh });
        names.push(fresh);
        break;
      }
      case 2: {
        // Half of it is synced, the rest follows, the close comes last.
        const half = Math.floor(body.length / 2);
        const beginning = sha256(body.subarray(0, half));
        // A kill between the sync and the next line leaves a file that nobody was told of.
        note({ event: 'begin', name: fresh, sum: beginning });
        note({ event: 'begin', name: fresh, sum: sha256(body) });
        const fd = fs.openSync(at(fresh), 'wx');
        fs.writeSync(fd, body, 0, half);
        fs.fsyncSync(fd);
        note({ event: 'synced', name: fresh, bytes: half, sum: beginning });
        fs.writeSync(fd, body, half);
        fs.closeSync(fd);
        note({ event: 'done', name: fresh });
        names.push(fresh);
        break;
      }
      case 3: {
        if (known === undefined) break;
        note({ event: 'begin', name: known, sum: sha256(body) });
        fs.writeFileSync(at(`${known}.tmp`), body);
        fs.renameSync(at(`${known}.tmp`), at(known));
        note({ event: 'done', name: known });
        break;
      }
      case 4: {
        // As safetensors does: the name is final before the bytes are.
        note({ event: 'begin', name: fresh, sum: sha256(body) });
        const fd = fs.openSync(at(`.${fresh}`), 'wx+', 0o600);
        fs.ftruncateSync(fd, body.length);
        fs.writeSync(fd, body, 0, body.length, 0);
        fs.renameSync(at(`.${fresh}`), at(fresh));
        fs.closeSync(fd);
        note({ event: 'done', name: fresh });
        names.push(fresh);
        break;
      }
      case 5: {
        if (known === undefined || prng.below(3) > 0) break;
        note({ event: 'begin', name: known });
        fs.unlinkSync(at(known));
        note({ event: 'done', name: known });
        names.splice(names.indexOf(known), 1);
        break;
      }
    }
  }
}

const [directory, manifest, seed] = process.argv.slice(2);
if (directory !== undefined && manifest !== undefined) {
  try {
    main(directory, manifest, Number(seed));
  } catch (error) {
    // The mount has died under it, as it was meant to; anything else is for the test to see.
    const code = (error as NodeJS.ErrnoException).code ?? '';
    if (!['ENOTCONN', 'ECONNABORTED', 'EIO', 'ENODEV', 'ENOENT'].includes(code)) throw error;
    process.stdout.write(`${code}\n`);
  }
}
