/** What a file that is written to must do: create, open, write, truncate, live without a name, show its times. */
import assert from 'node:assert/strict';
import {
  appendFile,
  lstat,
  mkdir,
  open,
  readFile,
  stat,
  symlink,
  truncate,
  unlink,
  writeFile,
} from 'node:fs/promises';
import { constants } from 'node:fs';
import { type Change, failsWith, pattern, withFile } from './check.ts';
import { fallocate, linkFollowing, Mapping, Time, setTimes } from './posix.ts';

const { O_RDONLY, O_WRONLY, O_RDWR, O_CREAT, O_EXCL, O_TRUNC, O_APPEND, O_DIRECTORY, O_NOFOLLOW } = constants;
const KIB = 1024;
const MIB = 1024 * KIB;

async function openFlags(path: string, flags: number, mode = 0o644): Promise<void> {
  await (await open(path, flags, mode)).close();
}

export const files: Readonly<Record<string, Change>> = {
  'create makes an empty file with the mode less the umask': async ({ at, actor }) => {
    const other = await actor();
    await other.do('umask', 0o027);
    await other.do('close', await other.do('open', at('f'), O_WRONLY | O_CREAT, 0o666));
    const { mode, size, nlink } = await stat(at('f'));
    assert.deepEqual([mode & 0o7777, size, nlink], [0o640, 0, 1]);
  },

  'create honours its flags': async ({ at }) => {
    await writeFile(at('f'), 'there');
    await mkdir(at('d'));
    await symlink('nowhere', at('dangling'));
    await failsWith('EEXIST', () => openFlags(at('f'), O_WRONLY | O_CREAT | O_EXCL), 'O_EXCL');
    await failsWith('EEXIST', () => openFlags(at('d'), O_WRONLY | O_CREAT | O_EXCL), 'O_EXCL of a directory');
    await failsWith(
      'EEXIST',
      () => openFlags(at('dangling'), O_WRONLY | O_CREAT | O_EXCL),
      'O_EXCL of a link',
    );
    await failsWith('EISDIR', () => openFlags(at('d'), O_WRONLY | O_CREAT), 'a directory');
    await failsWith('EISDIR', () => openFlags(`${at('fresh')}/`, O_WRONLY | O_CREAT), 'a trailing slash');
    await failsWith('ENOENT', () => openFlags(at('no', 'f'), O_WRONLY | O_CREAT), 'no such directory');
    await failsWith('ENOTDIR', () => openFlags(at('f', 'f'), O_WRONLY | O_CREAT), 'below a file');
    await failsWith('ENOTDIR', () => openFlags(at('f'), O_RDONLY | O_DIRECTORY), 'O_DIRECTORY');
    await failsWith('ELOOP', () => openFlags(at('dangling'), O_WRONLY | O_CREAT | O_NOFOLLOW), 'O_NOFOLLOW');
    await openFlags(at('f'), O_WRONLY | O_CREAT);
    assert.equal(await readFile(at('f'), 'utf8'), 'there', 'what exists is only opened');
    await openFlags(at('dangling'), O_WRONLY | O_CREAT);
    assert((await lstat(at('nowhere'))).isFile(), 'made where the link points to');
  },

  'create that many try at once is done by one': async ({ at }) => {
    const tries = Array.from({ length: 40 }, () => openFlags(at('f'), O_WRONLY | O_CREAT | O_EXCL));
    const done = (await Promise.allSettled(tries)).filter(({ status }) => status === 'fulfilled');
    assert.equal(done.length, 1);
  },

  'a file that was created without permission can be written through its descriptor': async ({
    at,
    directory,
    actor,
  }) => {
    const other = await actor();
    await other.do('chmod', directory, 0o777);
    await other.do('become', 65_534, [65_534]);
    const fd = await other.do('open', at('f'), O_RDWR | O_CREAT, 0);
    assert.equal(await other.do('write', fd, 'secret'), 6);
    await failsWith('EACCES', () => other.do('open', at('f'), O_RDONLY, 0), 'and not opened again');
    assert.equal(await readFile(at('f'), 'utf8'), 'secret');
  },

  'O_TRUNC empties a file and keeps its inode': async ({ at }) => {
    await writeFile(at('f'), pattern(100_000));
    const before = await stat(at('f'));
    await withFile(at('f'), O_RDWR | O_TRUNC, async (file) => {
      assert.equal((await file.stat()).size, 0);
      await file.write('new');
    });
    assert.equal((await stat(at('f'))).ino, before.ino);
    assert.equal(await readFile(at('f'), 'utf8'), 'new');
  },

  'O_APPEND writes to the end, wherever another handle has moved it': async ({ at }) => {
    const [one, other] = [await open(at('f'), 'a'), await open(at('f'), 'a')];
    for (let round = 0; round < 20; round++) {
      await one.write(`one ${round}\n`);
      await other.write(`other ${round}\n`, 0);
    }
    await Promise.all([one.close(), other.close()]);
    const lines = Array.from({ length: 20 }, (_, round) => `one ${round}\nother ${round}\n`);
    assert.equal(await readFile(at('f'), 'utf8'), lines.join(''));
  },

  'appends of many processes are all there': async ({ at, actor }) => {
    const actors = await Promise.all([actor(), actor(), actor()]);
    await Promise.all(
      actors.map(async (each, index) => {
        const fd = await each.do('open', at('f'), O_WRONLY | O_CREAT | O_APPEND, 0o644);
        for (let line = 0; line < 50; line++) await each.do('write', fd, `${index}:${line}\n`);
        await each.do('close', fd);
      }),
    );
    const lines = (await readFile(at('f'), 'utf8')).trimEnd().split('\n');
    assert.equal(lines.length, 150);
    assert.equal(new Set(lines).size, 150);
  },

  'write anywhere leaves zeros between': async ({ at }) => {
    const model = Buffer.alloc(300_000);
    let end = 0;
    await withFile(at('f'), 'w+', async (file) => {
      for (const [offset, length] of [
        [70_000, 5],
        [4_095, 2],
        [0, 1],
        [131_071, 4_098],
        [299_999, 1],
        [200_000, 50_000],
      ] as const) {
        const bytes = pattern(length, offset + 1);
        assert.equal((await file.write(bytes, 0, length, offset)).bytesWritten, length);
        bytes.copy(model, offset);
        end = Math.max(end, offset + length);
        assert.equal((await file.stat()).size, end);
      }
      assert((await readFile(at('f'))).equals(model.subarray(0, end)));
    });
    assert((await readFile(at('f'))).equals(model.subarray(0, end)), 'also after close');
  },

  'write backwards, and over what is there': async ({ at }) => {
    const bytes = pattern(1 * MIB + 77);
    await withFile(at('f'), 'w', async (file) => {
      for (let end = bytes.length; end > 0; end -= 100_000) {
        const start = Math.max(0, end - 100_000);
        await file.write(bytes, start, end - start, start);
      }
      await file.write(bytes, 10, 55, 10);
    });
    assert((await readFile(at('f'))).equals(bytes));
  },

  'a large write is taken whole': async ({ at }) => {
    const bytes = pattern(5 * MIB + 3);
    await withFile(at('f'), 'w', async (file) =>
      assert.equal((await file.write(bytes)).bytesWritten, bytes.length),
    );
    assert((await readFile(at('f'))).equals(bytes));
    await withFile(at('g'), 'w', (file) => file.writev([bytes.subarray(0, 7), bytes, bytes.subarray(7, 9)]));
    assert.equal((await stat(at('g'))).size, bytes.length + 9);
  },

  'small writes across pages add up': async ({ at }) => {
    const bytes = pattern(9_000);
    await withFile(at('f'), 'w', async (file) => {
      for (let offset = 0; offset < bytes.length; offset += 7)
        await file.write(bytes, offset, Math.min(7, bytes.length - offset));
    });
    assert((await readFile(at('f'))).equals(bytes));
  },

  'a write of nothing changes nothing': async ({ at }) => {
    await writeFile(at('f'), 'x');
    await withFile(at('f'), 'r+', (file) => file.write(Buffer.alloc(0), 0, 0, 1_000));
    assert.equal((await stat(at('f'))).size, 1);
  },

  'handles can do only what they were opened for': async ({ at }) => {
    await writeFile(at('f'), 'x');
    await withFile(at('f'), 'r', async (file) => {
      await failsWith('EBADF', () => file.write('y'), 'write');
      await failsWith('EINVAL', () => file.truncate(0), 'ftruncate');
      await failsWith('EBADF', () => fallocate(file.fd, 0, 0, 10), 'fallocate');
    });
    await withFile(at('f'), 'a', (file) =>
      failsWith('EBADF', () => file.read(Buffer.alloc(1), 0, 1, 0), 'read'),
    );
    assert.equal(await readFile(at('f'), 'utf8'), 'x');
  },

  'what one handle writes another reads at once': async ({ at }) => {
    const [one, other] = [await open(at('f'), 'w+'), await open(at('f'), 'r+')];
    const late = await open(at('f'), 'r');
    const into = Buffer.alloc(5);
    for (const [writer, reader, text] of [
      [one, other, 'first'],
      [other, one, 'again'],
      [one, late, 'third'],
    ] as const) {
      await writer.write(Buffer.from(text), 0, 5, 4_094);
      assert.equal((await reader.read(into, 0, 5, 4_094)).bytesRead, 5);
      assert.equal(into.toString(), text);
      assert.equal((await reader.stat()).size, 4_099);
    }
    await Promise.all([one.close(), other.close(), late.close()]);
  },

  'truncate cuts off, and what it adds is zeros': async ({ at }) => {
    const bytes = pattern(20_000);
    await writeFile(at('f'), bytes);
    await truncate(at('f'), 5_001);
    assert((await readFile(at('f'))).equals(bytes.subarray(0, 5_001)));
    await truncate(at('f'), 12_000);
    assert((await readFile(at('f'))).equals(Buffer.concat([bytes.subarray(0, 5_001), Buffer.alloc(6_999)])));
    await withFile(at('f'), 'r+', async (file) => {
      await file.truncate(4_096);
      await file.write('end', 8_192);
      await file.truncate(8_194);
      assert.equal((await file.stat()).size, 8_194);
    });
    const whole = Buffer.concat([bytes.subarray(0, 4_096), Buffer.alloc(4_096), Buffer.from('en')]);
    assert((await readFile(at('f'))).equals(whole));
    await truncate(at('f'), 0);
    assert.equal((await stat(at('f'))).size, 0);
  },

  'truncate refuses what is no file': async ({ at, directory }) => {
    await failsWith('EISDIR', () => truncate(directory, 0), 'a directory');
    await failsWith('ENOENT', () => truncate(at('absent'), 0), 'nothing');
    await symlink('loop', at('loop'));
    await failsWith('ELOOP', () => truncate(at('loop'), 0), 'a loop');
  },

  'files can be huge where nothing is': async ({ at }) => {
    const far = 2 ** 42;
    await withFile(at('f'), 'w+', async (file) => {
      await file.write('far', far);
      assert.equal((await file.stat()).size, far + 3);
      const into = Buffer.alloc(8);
      assert.equal((await file.read(into, 0, 8, far - 5)).bytesRead, 8);
      assert.equal(into.toString('latin1'), '\0\0\0\0\0far');
      await file.truncate(far - 1);
      assert.equal((await file.read(into, 0, 8, far - 3)).bytesRead, 2);
    });
  },

  'an open file without a name goes on': async ({ at }) => {
    const file = await open(at('f'), 'w+');
    await file.write('before');
    await unlink(at('f'));
    await failsWith('ENOENT', () => stat(at('f')), 'the name');
    await file.write(' after');
    assert.deepEqual([(await file.stat()).nlink, (await file.stat()).size], [0, 12]);
    await file.truncate(9);
    const into = Buffer.alloc(20);
    assert.equal((await file.read(into, 0, 20, 0)).bytesRead, 9);
    assert.equal(into.subarray(0, 9).toString(), 'before af');
    await file.chmod(0o600);
    await file.sync();
    await writeFile(at('f'), 'another');
    assert.equal((await file.stat()).size, 9, 'a new file of that name is another');
    await failsWith('ENOENT', () => linkFollowing(`/proc/self/fd/${file.fd}`, at('g')), 'no new name');
    await file.close();
    assert.equal(await readFile(at('f'), 'utf8'), 'another');
  },

  'writing moves the times of change, reading does not': async ({ at }) => {
    const past = { seconds: 1_000_000_000, nanoseconds: 5 };
    const omit = { seconds: 0, nanoseconds: Time.OMIT };
    await writeFile(at('f'), 'x');
    const changes: Readonly<Record<string, () => Promise<unknown>>> = {
      write: () => appendFile(at('f'), 'y'),
      'truncate to less': () => truncate(at('f'), 1),
      'truncate to more': () => truncate(at('f'), 10),
      O_TRUNC: () => openFlags(at('f'), O_WRONLY | O_TRUNC),
      mapping: async () => {
        await truncate(at('f'), 100);
        await setTimes(at('f'), omit, past);
        await withFile(at('f'), 'r+', async ({ fd }) => {
          const mapping = await Mapping.open(fd, 100);
          await mapping.write(0, Buffer.from('m'));
          await mapping.sync();
          await mapping.close();
        });
      },
    };
    for (const [what, change] of Object.entries(changes)) {
      await setTimes(at('f'), omit, past);
      const before = await stat(at('f'), { bigint: true });
      assert.equal(before.mtimeNs, 1_000_000_000_000_000_005n, what);
      await change();
      const after = await stat(at('f'), { bigint: true });
      assert(after.mtimeNs > before.mtimeNs, `mtime after ${what}`);
      assert(after.ctimeNs >= before.ctimeNs, `ctime after ${what}`);
    }
    await setTimes(at('f'), omit, past);
    await readFile(at('f'));
    assert.equal((await stat(at('f'), { bigint: true })).mtimeNs, 1_000_000_000_000_000_005n);
  },

  'times set through an open file that was written stay': async ({ at }) => {
    await withFile(at('f'), 'w', async (file) => {
      await file.write('bytes');
      await file.utimes(1, 2);
      assert.equal((await file.stat()).mtimeMs, 2_000);
    });
    assert.equal((await stat(at('f'))).mtimeMs, 2_000);
  },
};
