/** Objects that change behind our back, and handles that outlive their file. */
import fs from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { MIB } from '../../lib/base/limits.ts';
import { seededPrng } from '../../lib/base/prng.ts';
import { Errno } from '../../lib/fuse/errno.ts';
import { needs, unmet } from '../support/requirements.ts';
import { System } from '../support/system.ts';
import { randomBytes, sha256 } from '../support/tree.ts';

const skip = unmet(needs.fuse);

/** Replaces an object as another client of the store would: atomically. */
function replace(system: System, name: string, body: Uint8Array): void {
  const temporary = path.join(system.directory, 'replacement');
  fs.writeFileSync(temporary, body);
  fs.renameSync(temporary, path.join(system.objects, name));
}

// Semantics 3: "All reads through one handle see one version, from open to close, whatever others commit meanwhile."
t.test('a handle on a cached file keeps its version when the object is replaced', { skip }, async (t) => {
  const prng = seededPrng(3);
  const system = await System.start(t);
  const [before, after] = [randomBytes(2 * MIB, prng), randomBytes(3 * MIB, prng)];
  fs.writeFileSync(path.join(system.objects, 'file'), before);
  const { mountpoint } = await system.mount();
  const handle = await fs.promises.open(path.join(mountpoint, 'file'));
  t.teardown(() => handle.close());
  await handle.read(Buffer.alloc(4096), 0, 4096, 0);
  replace(system, 'file', after);
  const body = Buffer.alloc(before.length);
  await handle.read(body, 0, body.length, 0);
  t.equal(sha256(body), sha256(before), 'the whole old version');
  t.equal((await handle.stat()).size, before.length, 'fstat shows the handle’s version');
});

// Semantics 10: "… readers then see either the old version whole, the new version whole, or an error; never a mix."
t.test(
  'a large file replaced in the middle of a read fails with ESTALE, and the next open sees the new version',
  { skip },
  async (t) => {
    const prng = seededPrng(4);
    const system = await System.start(t);
    const [before, after] = [randomBytes(400 * MIB, prng), randomBytes(20 * MIB, prng)];
    fs.writeFileSync(path.join(system.objects, 'file'), before);
    const { mountpoint } = await system.mount({ cacheSize: '64MiB' });
    const handle = await fs.promises.open(path.join(mountpoint, 'file'));
    t.teardown(() => handle.close());
    await handle.read(Buffer.alloc(4096), 0, 4096, 0);
    replace(system, 'file', after);

    const piece = Buffer.alloc(MIB);
    let failure: NodeJS.ErrnoException | undefined;
    for (let at = before.length - MIB; at >= 0 && failure === undefined; at -= MIB) {
      try {
        const { bytesRead } = await handle.read(piece, 0, MIB, at);
        t.equal(
          sha256(piece.subarray(0, bytesRead)),
          sha256(before.subarray(at, at + bytesRead)),
          `bytes at ${at} are of the old version`,
        );
      } catch (error) {
        failure = error as NodeJS.ErrnoException;
      }
    }
    t.equal(failure?.errno, -Errno.ESTALE);
    t.equal(
      sha256(await fs.promises.readFile(path.join(mountpoint, 'file'))),
      sha256(after),
      'the new version whole',
    );
  },
);

t.test('a deleted object reads as ENOENT once the fetch has failed', { skip }, async (t) => {
  const system = await System.start(t);
  fs.writeFileSync(path.join(system.objects, 'file'), randomBytes(10_000, seededPrng(5)));
  const { mountpoint } = await system.mount();
  t.equal((await fs.promises.stat(path.join(mountpoint, 'file'))).size, 10_000);
  fs.unlinkSync(path.join(system.objects, 'file'));
  await t.rejects(fs.promises.readFile(path.join(mountpoint, 'file')), { code: /ENOENT|ESTALE/ });
  await t.rejects(fs.promises.stat(path.join(mountpoint, 'file')), { code: 'ENOENT' });
});
