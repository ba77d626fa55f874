/** What survives a restart, an unmount and a SIGKILL of the satellite. */
import fs from 'node:fs';
import path from 'node:path';
import t, { type Test } from 'tap';
import { MIB } from '../../lib/base/limits.ts';
import { seededPrng } from '../../lib/base/prng.ts';
import { needs, unmet } from '../support/requirements.ts';
import { run, System } from '../support/system.ts';
import { randomBytes, sha256 } from '../support/tree.ts';

const skip = unmet(needs.fuse);
/** The long form of the crash test runs with PERIGEE_CRASH_ROUNDS=100. */
const CRASH_ROUNDS = Number(process.env['PERIGEE_CRASH_ROUNDS'] ?? 8);
const CRASH_SEED = Number(process.env['PERIGEE_CRASH_SEED'] ?? 1);

function writeFiles(directory: string, sizes: Readonly<Record<string, number>>): Map<string, string> {
  const prng = seededPrng(7);
  const sums = new Map<string, string>();
  for (const [name, bytes] of Object.entries(sizes)) {
    const body = randomBytes(bytes, prng);
    fs.writeFileSync(path.join(directory, name), body);
    sums.set(name, sha256(body));
  }
  return sums;
}

async function checkSums(t: Test, mountpoint: string, sums: ReadonlyMap<string, string>): Promise<void> {
  for (const [name, sum] of sums) {
    t.equal(
      sha256(await fs.promises.readFile(path.join(mountpoint, name))),
      sum,
      `${name} has the source's bytes`,
    );
  }
}

t.test('a second mount with the same cache fetches nothing', { skip }, async (t) => {
  const system = await System.start(t);
  const sums = writeFiles(system.objects, { small: 10_000, middle: 3 * MIB, large: 40 * MIB, empty: 0 });
  const first = await system.mount();
  await checkSums(t, first.mountpoint, sums);
  t.ok((await first.status()).cache['fetchedBytes'], 'the first mount fetched');
  t.equal((await first.unmount()).code, 0);

  const second = await system.mount();
  await checkSums(t, second.mountpoint, sums);
  await checkSums(t, second.mountpoint, sums);
  t.equal((await second.status()).cache['fetchedBytes'], 0, 'the second fetched nothing');
});

t.test('after SIGKILL at any instant every byte served equals the source', { skip }, async (t) => {
  t.comment(`seed ${CRASH_SEED}, ${CRASH_ROUNDS} rounds`);
  const prng = seededPrng(CRASH_SEED);
  const system = await System.start(t);
  const sizes: Record<string, number> = { large: 64 * MIB, middle: 9 * MIB };
  for (let index = 0; index < 40; index++) sizes[`small-${index}`] = prng.below(300_000);
  const sums = writeFiles(system.objects, sizes);
  const names = Object.keys(sizes);
  for (let round = 0; round < CRASH_ROUNDS; round++) {
    const mount = await system.mount();
    const delayMs = prng.below(400);
    const readers = run('sh', ['-c', 'for f in "$@"; do cat "$f" >/dev/null & done; wait', 'sh', ...names], {
      cwd: mount.mountpoint,
    });
    await new Promise((resolve) => setTimeout(resolve, delayMs));
    await mount.kill();
    await readers;
    const again = await system.mount();
    await checkSums(t, again.mountpoint, sums);
    if (round % 4 === 3) {
      await again.kill();
      t.equal((await system.cli(['unmount', again.mountpoint, '--force'])).code, 0);
      fs.rmSync(path.join(system.directory, 'cache-a'), { recursive: true });
    } else t.equal((await again.unmount()).code, 0);
  }
});

t.test('flipped bytes in blobs are noticed after a restart, refetched and counted', { skip }, async (t) => {
  const system = await System.start(t);
  const sums = writeFiles(system.objects, { small: 50_000, large: 30 * MIB });
  const first = await system.mount();
  await checkSums(t, first.mountpoint, sums);
  t.equal((await first.unmount()).code, 0);
  const blobs = path.join(system.directory, 'cache-a', 'blobs');
  let flipped = 0;
  for (const entry of fs.readdirSync(blobs, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const file = path.join(entry.parentPath, entry.name);
    const fd = fs.openSync(file, 'r+');
    const at = Math.floor(fs.fstatSync(fd).size / 2);
    const byte = Buffer.alloc(1);
    fs.readSync(fd, byte, 0, 1, at);
    byte[0] = (byte[0] ?? 0) ^ 0x40;
    fs.writeSync(fd, byte, 0, 1, at);
    fs.closeSync(fd);
    flipped++;
  }
  t.equal(flipped, 2, 'both blobs were damaged');
  const second = await system.mount();
  await checkSums(t, second.mountpoint, sums);
  const { cache } = await second.status();
  t.equal(cache['checksumFailures'], 2, 'both were counted');
  t.ok(
    (cache['fetchedBytes'] ?? 0) > 0 && (cache['fetchedBytes'] ?? 0) <= 9 * MIB,
    'only the bad blocks were fetched again',
  );
});
