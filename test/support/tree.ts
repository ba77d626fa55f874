/** Seeded trees of files with the names and sizes that break file systems: unicode, spaces, quotes, newlines, 255 bytes, empty files. */
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { type Prng, seededPrng } from '../../lib/base/prng.ts';

const ALPHABETS = [
  'abcdefghijklmnopqrstuvwxyz0123456789',
  'äöüßéèñçøå',
  '文件名数据集训练',
  '🚀🛰️🌍',
  ' \'"$&;()[]{}!#%+,=@~^`\\\t\n',
];
const NAME_BYTES_MAX = 255;
const DIRECTORY_SHARE = 0.03;

export interface TreeFile {
  /** Relative, with `/`. */
  readonly path: string;
  readonly bytes: number;
}

/** Writes `files` files below `root`; the same seed makes the same tree. */
export function writeTree(
  root: string,
  options: { readonly seed: number; readonly files: number; readonly bytesMax: number },
): TreeFile[] {
  const prng = seededPrng(options.seed);
  const directories = [''];
  const taken = new Set<string>();
  const made: TreeFile[] = [];
  while (made.length < options.files) {
    const parent = directories[prng.below(directories.length)] ?? '';
    const name = randomName(prng);
    const relative = parent === '' ? name : `${parent}/${name}`;
    if (taken.has(relative) || Buffer.byteLength(relative) > 900) continue;
    taken.add(relative);
    if (prng.next() < DIRECTORY_SHARE) {
      fs.mkdirSync(path.join(root, relative));
      directories.push(relative);
      // An object store has no empty directories.
      writeRandomFile(path.join(root, relative, 'first'), 10, prng);
      taken.add(`${relative}/first`);
      made.push({ path: `${relative}/first`, bytes: 10 });
      continue;
    }
    const bytes = prng.next() < 0.05 ? 0 : Math.floor(options.bytesMax ** prng.next());
    writeRandomFile(path.join(root, relative), bytes, prng);
    made.push({ path: relative, bytes });
  }
  return made;
}

/** Bytes that differ at every place, so that a shifted or mixed read cannot pass. */
export function randomBytes(bytes: number, prng: Prng): Buffer {
  const body = Buffer.allocUnsafe(bytes);
  let at = 0;
  for (; at + 4 <= bytes; at += 4) body.writeUInt32LE(prng.below(2 ** 32), at);
  for (; at < bytes; at++) body[at] = prng.below(256);
  return body;
}

export function writeRandomFile(file: string, bytes: number, prng: Prng): void {
  fs.writeFileSync(file, randomBytes(bytes, prng));
}

export function sha256(body: Uint8Array): string {
  return createHash('sha256').update(body).digest('hex');
}

function randomName(prng: Prng): string {
  const alphabet = [...(ALPHABETS[prng.next() < 0.7 ? 0 : prng.below(ALPHABETS.length)] ?? 'x')];
  const target = prng.next() < 0.02 ? NAME_BYTES_MAX : 1 + prng.below(24);
  let name = '';
  let bytes = 0;
  for (;;) {
    const character = alphabet[prng.below(alphabet.length)] ?? 'x';
    bytes += Buffer.byteLength(character);
    if (bytes > target) break;
    name += character;
  }
  return name === '' || name === '.' || name === '..' ? 'x' : name;
}
