/** What lies in a file must do, however it got there: mappings, durability, room and holes, copies, shared descriptors. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFile, readFile, writeFile } from 'node:fs/promises';
import { constants } from 'node:fs';
import { type Change, failsWith, pattern, withFile } from './check.ts';
import {
  Allocate,
  closeRaw,
  copyRange,
  fallocate,
  linkFollowing,
  lseek,
  Mapping,
  openRaw,
  readMapped,
  readRaw,
  SEEK,
  writeRaw,
} from './posix.ts';

const { O_RDONLY, O_WRONLY, O_RDWR, O_CREAT, O_DIRECTORY, O_DSYNC } = constants;
const O_TMPFILE = 0o20200000;
const MIB = 1024 * 1024;

export const contents: Readonly<Record<string, Change>> = {
  'a shared mapping and the file are the same bytes': async ({ at }) => {
    const bytes = pattern(70_000);
    await writeFile(at('f'), bytes);
    await withFile(at('f'), 'r+', async (file) => {
      const mapping = await Mapping.open(file.fd, bytes.length);
      await mapping.write(10_000, Buffer.from('by mapping'));
      await mapping.sync();
      Buffer.from('by mapping').copy(bytes, 10_000);
      assert((await readFile(at('f'))).equals(bytes), 'the mapping shows in the file');
      await file.write('by write', 30_000);
      bytes.write('by write', 30_000);
      assert((await mapping.read()).equals(bytes), 'the file shows in the mapping');
      await mapping.write(69_990, Buffer.from('at the end'));
      bytes.write('at the end', 69_990);
      await mapping.close();
    });
    assert((await readFile(at('f'))).equals(bytes));
  },

  'a mapping outlives its descriptor': async ({ at }) => {
    await writeFile(at('f'), Buffer.alloc(10_000));
    const mapping = await withFile(at('f'), 'r+', ({ fd }) => Mapping.open(fd, 10_000));
    await mapping.write(5_000, Buffer.from('later'));
    await mapping.sync();
    assert.equal((await readFile(at('f'))).toString('utf8', 5_000, 5_005), 'later');
    await mapping.write(6_000, Buffer.from('last'));
    await mapping.close();
    assert.equal((await readFile(at('f'))).toString('utf8', 6_000, 6_004), 'last');
  },

  'a private mapping changes nothing': async ({ at }) => {
    await writeFile(at('f'), 'unchanged');
    await withFile(at('f'), 'r', async ({ fd }) => {
      const mapping = await Mapping.open(fd, 9, 'private');
      await mapping.write(0, Buffer.from('CHANGED'));
      assert.equal((await mapping.read()).toString(), 'CHANGEDed');
      await mapping.close();
    });
    assert.equal(await readFile(at('f'), 'utf8'), 'unchanged');
  },

  'a mapping of what was just written shows it': async ({ at }) => {
    const bytes = pattern(200_001);
    await withFile(at('f'), 'w+', async (file) => {
      await file.truncate(bytes.length);
      await file.write(bytes, 0, bytes.length, 0);
      assert((await readMapped(file.fd, bytes.length)).equals(bytes));
    });
  },

  'fsync succeeds whenever it is asked': async ({ at, directory }) => {
    await withFile(at('f'), 'w', async (file) => {
      await file.sync();
      await file.write('x');
      await file.datasync();
      await file.write('y');
      await file.sync();
    });
    await withFile(at('g'), O_WRONLY | O_CREAT | O_DSYNC, (file) => file.write('synchronous'));
    await withFile(directory, O_RDONLY | O_DIRECTORY, async (file) => {
      await file.sync();
      await file.datasync();
    });
  },

  'fallocate makes room, with and without a new size': async ({ at }) => {
    await withFile(at('f'), 'w+', async (file) => {
      await file.write('start');
      await fallocate(file.fd, 0, 0, 10_000);
      assert.equal((await file.stat()).size, 10_000);
      await fallocate(file.fd, Allocate.KEEP_SIZE, 10_000, 50_000);
      assert.equal((await file.stat()).size, 10_000);
      await failsWith('EINVAL', () => fallocate(file.fd, 0, 0, 0), 'nothing');
      await failsWith('ENOTSUP', () => fallocate(file.fd, Allocate.PUNCH_HOLE, 0, 10), 'without KEEP_SIZE');
    });
    assert((await readFile(at('f'))).equals(Buffer.concat([Buffer.from('start'), Buffer.alloc(9_995)])));
  },

  'fallocate punches holes and writes zeros': async ({ at }) => {
    const bytes = pattern(100_000);
    await writeFile(at('f'), bytes);
    await withFile(at('f'), 'r+', async ({ fd }) => {
      await fallocate(fd, Allocate.PUNCH_HOLE | Allocate.KEEP_SIZE, 10_000, 30_000);
      bytes.fill(0, 10_000, 40_000);
      assert((await readFile(at('f'))).equals(bytes), 'a hole');
      await fallocate(fd, Allocate.ZERO_RANGE | Allocate.KEEP_SIZE, 50_001, 10_001);
      bytes.fill(0, 50_001, 60_002);
      assert((await readFile(at('f'))).equals(bytes), 'zeros');
      await fallocate(fd, Allocate.PUNCH_HOLE | Allocate.KEEP_SIZE, 90_000, 30_000);
      bytes.fill(0, 90_000);
      assert((await readFile(at('f'))).equals(bytes), 'a hole beyond the end');
      await fallocate(fd, Allocate.ZERO_RANGE, 99_000, 2_000);
      assert.equal((await readFile(at('f'))).length, 101_000, 'zeros that make it longer');
    });
  },

  'lseek finds holes and data': async ({ at }) => {
    await withFile(at('f'), 'w', async (file) => {
      await file.truncate(4 * MIB);
      await file.write(pattern(MIB), 0, MIB, 2 * MIB);
    });
    await withFile(at('f'), 'r', async (file) => {
      assert.equal(await lseek(file.fd, 0, SEEK.DATA), 2 * MIB);
      assert.equal(await lseek(file.fd, 2 * MIB + 5, SEEK.DATA), 2 * MIB + 5);
      assert.equal(await lseek(file.fd, 2 * MIB, SEEK.HOLE), 3 * MIB);
      assert.equal(await lseek(file.fd, 5, SEEK.HOLE), 5);
      await failsWith('ENXIO', () => lseek(file.fd, 3 * MIB, SEEK.DATA), 'no data any more');
      await failsWith('ENXIO', () => lseek(file.fd, 4 * MIB, SEEK.HOLE), 'beyond the end');
      assert.equal(await lseek(file.fd, -1, SEEK.END), 4 * MIB - 1);
    });
  },

  'lseek calls nothing a hole that a mapping has written to': async ({ at }) => {
    await withFile(at('f'), 'w+', async (file) => {
      await file.truncate(MIB);
      const mapping = await Mapping.open(file.fd, MIB);
      await mapping.write(MIB / 2, Buffer.from('data'));
      const data = await lseek(file.fd, 0, SEEK.DATA);
      assert(data <= MIB / 2, `data from ${data}`);
      const hole = await lseek(file.fd, MIB / 2, SEEK.HOLE);
      assert(hole >= MIB / 2 + 4, `a hole at ${hole}`);
      await mapping.close();
    });
  },

  'copy_file_range copies between files and within one': async ({ at }) => {
    const bytes = pattern(3 * MIB);
    await writeFile(at('f'), bytes);
    await withFile(at('f'), 'r+', async (from) => {
      await withFile(at('g'), 'w+', async (to) => {
        for (let offset = 1_000; offset < bytes.length;) {
          const copied = await copyRange(
            { fd: from.fd, offset },
            { fd: to.fd, offset: offset - 1_000, length: bytes.length },
          );
          assert(copied > 0);
          offset += copied;
        }
        const end = { fd: to.fd, offset: 0, length: 10 };
        assert.equal(await copyRange({ fd: from.fd, offset: bytes.length }, end), 0, 'at the end');
      });
      await copyRange({ fd: from.fd, offset: 0 }, { fd: from.fd, offset: MIB, length: 5_000 });
      const overlapping = { fd: from.fd, offset: 10, length: 100 };
      await failsWith('EINVAL', () => copyRange({ fd: from.fd, offset: 0 }, overlapping), 'onto itself');
    });
    assert((await readFile(at('g'))).equals(bytes.subarray(1_000)));
    bytes.copy(bytes, MIB, 0, 5_000);
    assert((await readFile(at('f'))).equals(bytes));
    await copyFile(at('f'), at('h'));
    assert((await readFile(at('h'))).equals(bytes));
  },

  'descriptors that were duplicated share one offset, across processes too': async ({ at }) => {
    const fd = await openRaw(at('f'), O_RDWR | O_CREAT, 0o644);
    await writeRaw(fd, 'parent ');
    const child = spawn('sh', ['-c', 'printf child >&3; exec 3>&-'], {
      stdio: ['ignore', 'ignore', 'ignore', fd],
    });
    await once(child, 'exit');
    await writeRaw(fd, ' parent');
    const again = await openRaw(`/proc/self/fd/${fd}`, O_RDONLY);
    await closeRaw(fd);
    assert.equal(await readRaw(again, 100), 'parent child parent');
    await closeRaw(again);
  },

  'a file without a name from the start is made whole, or refused': async ({ at, directory }) => {
    let fd: number;
    try {
      fd = await openRaw(directory, O_RDWR | O_TMPFILE, 0o600);
    } catch (error) {
      assert.equal((error as NodeJS.ErrnoException).code, 'ENOTSUP');
      return;
    }
    await writeRaw(fd, 'content');
    await linkFollowing(`/proc/self/fd/${fd}`, at('f'));
    await closeRaw(fd);
    assert.equal(await readFile(at('f'), 'utf8'), 'content');
  },
};
