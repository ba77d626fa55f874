import { execFileSync } from 'node:child_process';
import { mkdirSync, rmSync, statfsSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { MIB } from '../../lib/base/limits.ts';
import { needs, unmet } from '../support/requirements.ts';
import { BLOCK, openFixture, openVersion, temporaryDirectory } from './fixture.ts';
import { sourceOf, trueBytes } from './fake-tier.ts';

function run(command: string, ...args: string[]): void {
  execFileSync(command, args, { stdio: 'pipe' });
}

/** Mounts a small ext4 of its own for as long as the test runs. */
function smallFileSystem(t: Test, sizeBytes: number): string {
  const place = temporaryDirectory(t);
  const [image, mountpoint] = [join(place, 'image'), join(place, 'mount')];
  mkdirSync(mountpoint);
  writeFileSync(image, '');
  truncateSync(image, sizeBytes);
  run('mkfs.ext4', '-q', '-F', '-m', '0', image);
  run('mount', '-o', 'loop', image, mountpoint);
  t.teardown(() => run('umount', mountpoint));
  return mountpoint;
}

const skip = unmet(needs.loop, needs.mkfs);

t.test('full disk: reads go on, and the cache leaves the file system its reserve', { skip }, async (t) => {
  const mountpoint = smallFileSystem(t, 24 * MIB);
  // The capacity promises more than the file system has.
  const { cache, tier } = await openFixture(t, { directory: mountpoint, capacityBytes: 512 * MIB });
  const readAll = async (from: number, to: number): Promise<void> => {
    for (let number = from; number < to; number++) {
      const source = sourceOf(number, 16 * BLOCK - number);
      const handle = openVersion(cache, source);
      await handle.fill(0, source.sizeBytes, { priority: 'demand' });
      t.ok(trueBytes(source, 0, source.sizeBytes).equals(await handle.read(0, source.sizeBytes)));
      handle.close();
    }
  };
  await readAll(0, 40);
  const { bavail, bsize, blocks } = statfsSync(mountpoint);
  t.ok(bavail > 0 && bavail * bsize >= blocks * bsize * 0.01, `${bavail} blocks are left to others`);
  t.ok(cache.stat().usedBytes > 8 * MIB, 'most of it is used');
  t.equal(cache.stat().health, 'normal', 'nothing failed on the way');

  // Somebody else takes the rest: even evictions are late, writes fail, reads do not.
  const ballast = join(mountpoint, 'ballast');
  try {
    writeFileSync(ballast, Buffer.alloc(bavail * bsize));
  } catch {
    // It took what there was.
  }
  await readAll(100, 140);
  for (const fill of tier.fills) t.ok(fill.length > 0);
  t.ok(cache.stat().usedBytes + cache.stat().reservedBytes <= 24 * MIB);
  rmSync(ballast, { force: true });
  await readAll(200, 210);
  t.ok((await cache.verify({})).badBlocks === 0);
  await cache.close();
});
