/** A cache on a disk that is full, or fills up: reads go on. */
import fs from 'node:fs';
import path from 'node:path';
import t, { type Test } from 'tap';
import { MIB } from '../../lib/base/limits.ts';
import { seededPrng } from '../../lib/base/prng.ts';
import { needs, unmet } from '../support/requirements.ts';
import { run, System } from '../support/system.ts';
import { randomBytes, sha256 } from '../support/tree.ts';

/** A file system of its own on a loop device. */
async function smallDisk(t: Test, system: System, bytes: number): Promise<string> {
  const image = path.join(system.directory, 'disk.img');
  const mountpoint = path.join(system.directory, 'disk');
  fs.mkdirSync(mountpoint);
  fs.writeFileSync(image, '');
  fs.truncateSync(image, bytes);
  t.equal((await run('mkfs.ext4', ['-q', '-F', image])).code, 0);
  const mounted = await run('mount', ['-o', 'loop', image, mountpoint]);
  t.equal(mounted.code, 0, mounted.stderr);
  system.onEnd(async () => void (await run('umount', [mountpoint])));
  return mountpoint;
}

t.test(
  'reads go on when the disk of the cache is full',
  { skip: unmet(needs.fuse, needs.loop, needs.mkfs) },
  async (t) => {
    const prng = seededPrng(21);
    const system = await System.start(t);
    const disk = await smallDisk(t, system, 100 * MIB);
    const sums = new Map<string, string>();
    for (let index = 0; index < 12; index++) {
      const body = randomBytes(index % 3 === 0 ? 20 * MIB : 3 * MIB, prng);
      fs.writeFileSync(path.join(system.objects, `file-${index}`), body);
      sums.set(`file-${index}`, sha256(body));
    }
    // More than the disk has: only the disk itself can say no.
    const mount = await system.mount({ cacheDirectory: path.join(disk, 'cache'), cacheSize: '4GiB' });
    const readAll = async (when: string): Promise<void> => {
      for (const [name, sum] of sums) {
        t.equal(
          sha256(await fs.promises.readFile(path.join(mount.mountpoint, name))),
          sum,
          `${name} ${when}`,
        );
      }
    };
    await readAll('while the disk fills up');
    const { bavail, bsize } = fs.statfsSync(disk);
    fs.writeFileSync(path.join(disk, 'ballast'), Buffer.alloc(Math.max(0, bavail * bsize)));
    await readAll('on a disk that somebody else has filled');
    fs.unlinkSync(path.join(disk, 'ballast'));
    await readAll('when there is room again');
    t.equal((await mount.unmount()).code, 0);
  },
);
