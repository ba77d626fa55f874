/** What names must do: directories, links, renames, removals, limits. */
import assert from 'node:assert/strict';
import {
  appendFile,
  chmod,
  chown,
  link,
  lstat,
  mkdir,
  open,
  readdir,
  readFile,
  readlink,
  rename,
  rm,
  rmdir,
  stat,
  symlink,
  unlink,
  writeFile,
} from 'node:fs/promises';
import { constants } from 'node:fs';
import { type Change, failsWith } from './check.ts';
import { mknod, openRaw, Rename, renameWith, setTimes, Time } from './posix.ts';

const NAME_MAX = 255;
const OMIT = { seconds: 0, nanoseconds: Time.OMIT };
const PAST = { seconds: 1_000_000_000, nanoseconds: 0 };
const PAST_MS = 1_000_000_000_000;

const modified = async (path: string): Promise<number> => (await stat(path)).mtimeMs;
const inode = async (path: string): Promise<number> => (await lstat(path)).ino;

const directories: Readonly<Record<string, Change>> = {
  'mkdir makes an empty directory, counted by its parent': async ({ at, directory, actor }) => {
    const before = (await stat(directory)).nlink;
    const other = await actor();
    await other.do('umask', 0o027);
    await other.do('mkdir', at('d'), 0o777);
    const made = await stat(at('d'));
    assert.deepEqual([made.isDirectory(), made.mode & 0o7777, made.nlink], [true, 0o750, 2]);
    assert.equal((await stat(directory)).nlink, before + 1);
    assert.deepEqual(await readdir(at('d')), []);
    await mkdir(`${at('d', 'e')}/`);
    await mkdir(at('d', 'e', 'f'));
    assert.equal(await inode(at('d', 'e', 'f', '..')), await inode(at('d', 'e')));
    await rm(at('d'), { recursive: true });
    assert.equal((await stat(directory)).nlink, before);
  },

  'mkdir refuses what is there and what is nowhere': async ({ at, directory }) => {
    await writeFile(at('f'), '');
    await symlink('nowhere', at('dangling'));
    for (const path of [at('f'), at('dangling'), directory, `${directory}/.`, '/'])
      await failsWith('EEXIST', () => mkdir(path), path);
    await failsWith('ENOENT', () => mkdir(at('no', 'd')), 'no parent');
    await failsWith('ENOTDIR', () => mkdir(at('f', 'd')), 'below a file');
  },

  'rmdir takes only empty directories': async ({ at, directory }) => {
    await mkdir(at('d', 'e'), { recursive: true });
    await writeFile(at('f'), '');
    await symlink('d', at('link'));
    await failsWith('ENOTEMPTY', () => rmdir(at('d')), 'not empty');
    await failsWith('ENOTEMPTY', () => rmdir(`${at('d', 'e')}/..`), 'the parent');
    await failsWith('EINVAL', () => rmdir(`${at('d', 'e')}/.`), 'dot');
    await failsWith('ENOTDIR', () => rmdir(at('f')), 'a file');
    await failsWith('ENOTDIR', () => rmdir(at('link')), 'a link');
    await failsWith('ENOENT', () => rmdir(at('absent')), 'nothing');
    await rmdir(at('d', 'e'));
    await rmdir(`${at('d')}/`);
    assert.deepEqual((await readdir(directory)).toSorted(), ['f', 'link']);
  },

  'a directory that is gone takes no names': async ({ at, directory, actor }) => {
    await mkdir(at('d'));
    const other = await actor();
    await other.do('chdir', at('d'));
    await rmdir(at('d'));
    await failsWith('ENOENT', () => other.do('mkdir', 'e', 0o755), 'mkdir');
    await failsWith(
      'ENOENT',
      () => other.do('open', 'f', constants.O_CREAT | constants.O_WRONLY, 0o644),
      'create',
    );
    await failsWith('ENOENT', () => other.do('rename', at('f'), 'f'), 'rename');
    assert.deepEqual(await readdir(directory), []);
  },

  'a directory hands its group and set-group-ID bit down': async ({ at }) => {
    await mkdir(at('d'));
    await chown(at('d'), 0, 4242);
    await chmod(at('d'), 0o2755);
    await mkdir(at('d', 'e'));
    await writeFile(at('d', 'f'), '');
    const [child, file] = [await stat(at('d', 'e')), await stat(at('d', 'f'))];
    assert.deepEqual([child.gid, child.mode & 0o7000], [4242, 0o2000]);
    assert.deepEqual([file.gid, file.mode & 0o7000], [4242, 0]);
  },

  'names that come and go move the times of their directory': async ({ at }) => {
    await mkdir(at('d'));
    await mkdir(at('e'));
    const at2 = (name: string): string => at('d', name);
    const changes: Readonly<Record<string, () => Promise<unknown>>> = {
      create: () => writeFile(at2('f'), ''),
      mkdir: () => mkdir(at2('s')),
      symlink: () => symlink('x', at2('l')),
      link: () => link(at2('f'), at2('g')),
      rename: () => rename(at2('f'), at2('h')),
      unlink: () => unlink(at2('g')),
      rmdir: () => rmdir(at2('s')),
      'rename away': () => rename(at2('h'), at('e', 'h')),
      'rename here': () => rename(at('e', 'h'), at2('i')),
    };
    for (const [what, change] of Object.entries(changes)) {
      await setTimes(at('d'), OMIT, PAST);
      assert.equal(await modified(at('d')), PAST_MS);
      await change();
      assert((await modified(at('d'))) > PAST_MS, what);
    }
    await setTimes(at('d'), OMIT, PAST);
    await appendFile(at2('i'), 'a write is no change of names');
    assert.equal(await modified(at('d')), PAST_MS);
  },

  'a listing shows what was made and what is gone': async ({ at, directory }) => {
    const names = Array.from({ length: 300 }, (_, index) => `file-${index}`);
    await Promise.all(names.map((name) => writeFile(at(name), name)));
    assert.deepEqual((await readdir(directory)).toSorted(), names.toSorted());
    await Promise.all(names.filter((_, index) => index % 3 === 0).map((name) => unlink(at(name))));
    assert.deepEqual(
      (await readdir(directory)).toSorted(),
      names.filter((_, index) => index % 3 !== 0).toSorted(),
    );
    for (const name of await readdir(directory)) await rename(at(name), at(`${name}.new`));
    assert((await readdir(directory)).every((name) => name.endsWith('.new')));
    await rm(directory, { recursive: true });
    await mkdir(directory);
  },
};

const links: Readonly<Record<string, Change>> = {
  'symlink keeps any target': async ({ at }) => {
    for (const [index, target] of ['x', '/', '../..', 'a\nb', 'grüße', 'x'.repeat(4_095)].entries()) {
      await symlink(target, at(`l${index}`));
      assert.equal(await readlink(at(`l${index}`)), target);
      assert.equal((await lstat(at(`l${index}`))).size, Buffer.byteLength(target));
    }
    await failsWith('ENOENT', () => symlink('', at('empty')), 'an empty target');
    await failsWith('ENAMETOOLONG', () => symlink('x'.repeat(4_096), at('long')), 'too long a target');
    await failsWith('EEXIST', () => symlink('x', at('l0')), 'a name that is there');
    await unlink(at('l0'));
    await failsWith('ENOENT', () => lstat(at('l0')), 'gone');
  },

  'symlinks are followed forty times and no more': async ({ at }) => {
    await writeFile(at('l0'), 'end');
    for (let index = 1; index <= 41; index++) await symlink(`l${index - 1}`, at(`l${index}`));
    assert.equal(await readFile(at('l40'), 'utf8'), 'end');
    await failsWith('ELOOP', () => readFile(at('l41')), 'the forty-first');
    await symlink('b', at('a'));
    await symlink('a', at('b'));
    for (const run of [
      () => stat(at('a')),
      () => open(at('a'), 'w'),
      () => mkdir(at('a', 'c')),
      () => chmod(at('a'), 0),
    ])
      await failsWith('ELOOP', run, 'a loop');
  },

  'link gives a file another name': async ({ at }) => {
    await writeFile(at('f'), 'one');
    await link(at('f'), at('g'));
    const [f, g] = [await stat(at('f')), await stat(at('g'))];
    assert.deepEqual([f.nlink, g.nlink, f.ino === g.ino], [2, 2, true]);
    await appendFile(at('g'), ' file');
    assert.equal(await readFile(at('f'), 'utf8'), 'one file');
    await chmod(at('f'), 0o600);
    assert.equal((await stat(at('g'))).mode & 0o7777, 0o600);
    await unlink(at('f'));
    assert.equal((await stat(at('g'))).nlink, 1);
    assert.equal(await readFile(at('g'), 'utf8'), 'one file');
    await mkdir(at('d'));
    await link(at('g'), at('d', 'h'));
    assert.equal((await stat(at('g'))).nlink, 2);
  },

  'link refuses directories and names that are there': async ({ at }) => {
    await writeFile(at('f'), '');
    await mkdir(at('d'));
    await symlink('nowhere', at('dangling'));
    await failsWith('EPERM', () => link(at('d'), at('e')), 'a directory');
    await failsWith('EEXIST', () => link(at('f'), at('d')), 'a name that is there');
    await failsWith('EEXIST', () => link(at('f'), at('f')), 'itself');
    await failsWith('ENOENT', () => link(at('absent'), at('e')), 'nothing');
    await failsWith('ENOENT', () => link(at('f'), at('no', 'e')), 'nowhere');
    await link(at('dangling'), at('another'));
    assert.equal(await readlink(at('another')), 'nowhere', 'a link to the link itself');
    assert.equal((await lstat(at('another'))).nlink, 2);
  },

  'unlink takes names, not directories': async ({ at }) => {
    await mkdir(at('d'));
    await writeFile(at('f'), '');
    await failsWith('EISDIR', () => unlink(at('d')), 'a directory');
    await failsWith('ENOENT', () => unlink(at('absent')), 'nothing');
    await failsWith('ENOTDIR', () => unlink(at('f', 'x')), 'below a file');
    await failsWith('ENOTDIR', () => unlink(`${at('f')}/`), 'a trailing slash');
    await unlink(at('f'));
    await failsWith('ENOENT', () => unlink(at('f')), 'twice');
  },

  'mknod makes a regular file': async ({ at }) => {
    await mknod(at('f'), 0o100640);
    const made = await stat(at('f'));
    assert.deepEqual([made.isFile(), made.size, made.mode & 0o7777], [true, 0, 0o640]);
    await failsWith('EEXIST', () => mknod(at('f'), 0o100640), 'twice');
  },

  'mknod refuses what is no regular file': async ({ at, directory }) => {
    for (const type of [0o010000, 0o140000, 0o020000, 0o060000])
      await failsWith('EPERM', () => mknod(at('n'), type | 0o644), type.toString(8));
    assert.deepEqual(await readdir(directory), []);
  },
};

const renames: Readonly<Record<string, Change>> = {
  'rename moves a file, whatever is open': async ({ at, directory }) => {
    await mkdir(at('d'));
    const file = await open(at('f'), 'w+');
    await file.write('begun');
    const before = await inode(at('f'));
    await rename(at('f'), at('d', 'g'));
    await file.write(' and ended');
    await file.close();
    assert.equal(await readFile(at('d', 'g'), 'utf8'), 'begun and ended');
    assert.equal(await inode(at('d', 'g')), before);
    assert.deepEqual(await readdir(directory), ['d']);
    await failsWith('ENOENT', () => stat(at('f')), 'the old name');
  },

  'rename replaces a file, and who has that open keeps it': async ({ at }) => {
    await writeFile(at('old'), 'old');
    await writeFile(at('new'), 'new');
    const file = await open(at('old'), 'r');
    await rename(at('new'), at('old'));
    assert.equal(await readFile(at('old'), 'utf8'), 'new');
    assert.equal(await file.readFile('utf8'), 'old');
    assert.equal((await file.stat()).nlink, 0);
    await file.close();
    await failsWith('ENOENT', () => stat(at('new')), 'the old name');
  },

  'rename of one file to itself does nothing': async ({ at, directory }) => {
    await writeFile(at('f'), 'x');
    await rename(at('f'), at('f'));
    await link(at('f'), at('g'));
    await rename(at('f'), at('g'));
    assert.deepEqual((await readdir(directory)).toSorted(), ['f', 'g']);
    assert.equal((await stat(at('f'))).nlink, 2);
  },

  'rename moves directories with all that is in them': async ({ at, directory, actor }) => {
    await mkdir(at('a', 'b', 'c'), { recursive: true });
    await mkdir(at('x'));
    await writeFile(at('a', 'b', 'c', 'f'), 'deep');
    const other = await actor();
    await other.do('chdir', at('a', 'b'));
    await rename(at('a', 'b'), at('x', 'y'));
    assert.equal(await readFile(at('x', 'y', 'c', 'f'), 'utf8'), 'deep');
    assert.equal(await inode(at('x', 'y', '..')), await inode(at('x')));
    assert.deepEqual([(await stat(at('a'))).nlink, (await stat(at('x'))).nlink], [2, 3]);
    assert.deepEqual(await other.do('readdir', '.'), ['c'], 'a working directory moves along');
    await mkdir(at('empty'));
    await rename(at('x', 'y'), at('empty'));
    assert.deepEqual((await readdir(directory)).toSorted(), ['a', 'empty', 'x']);
    assert.equal(await readFile(at('empty', 'c', 'f'), 'utf8'), 'deep', 'over an empty directory');
  },

  'rename refuses what cannot be': async ({ at }) => {
    await mkdir(at('d', 'e', 'f'), { recursive: true });
    await mkdir(at('full', 'x'), { recursive: true });
    await writeFile(at('file'), 'x');
    await failsWith('EINVAL', () => rename(at('d'), at('d', 'g')), 'into itself');
    await failsWith('EINVAL', () => rename(at('d'), at('d', 'e', 'f', 'g')), 'into its own depth');
    await failsWith(['ENOTEMPTY', 'EEXIST'], () => rename(at('d'), at('full')), 'over a full directory');
    await failsWith(['ENOTEMPTY', 'EEXIST'], () => rename(at('d', 'e'), at('d')), 'over its parent');
    await failsWith('EISDIR', () => rename(at('file'), at('d')), 'a file over a directory');
    await failsWith('ENOTDIR', () => rename(at('d'), at('file')), 'a directory over a file');
    await failsWith('ENOTDIR', () => rename(`${at('file')}/`, at('g')), 'a trailing slash');
    await failsWith('ENOTDIR', () => rename(at('file'), `${at('g')}/`), 'a trailing slash of the target');
    await failsWith('ENOENT', () => rename(at('absent'), at('g')), 'nothing');
    await failsWith('ENOENT', () => rename(at('file'), at('no', 'g')), 'nowhere');
    await failsWith('EBUSY', () => rename(`${at('d')}/.`, at('g')), 'dot');
    await failsWith(['EBUSY', 'EINVAL'], () => rename(at('d'), `${at('full')}/..`), 'dot dot');
    assert.equal(await readFile(at('file'), 'utf8'), 'x');
  },

  'rename keeps the times of a file': async ({ at }) => {
    await writeFile(at('f'), 'x');
    await setTimes(at('f'), PAST, PAST);
    await rename(at('f'), at('g'));
    assert.equal(await modified(at('g')), PAST_MS);
  },

  'rename may be told to replace nothing': async ({ at }) => {
    await writeFile(at('f'), 'f');
    await writeFile(at('g'), 'g');
    await failsWith('EEXIST', () => renameWith(at('f'), at('g'), Rename.NOREPLACE), 'a name that is there');
    await failsWith('EEXIST', () => renameWith(at('f'), at('f'), Rename.NOREPLACE), 'itself');
    await renameWith(at('f'), at('h'), Rename.NOREPLACE);
    assert.deepEqual([await readFile(at('h'), 'utf8'), await readFile(at('g'), 'utf8')], ['f', 'g']);
    const both = Rename.NOREPLACE | Rename.EXCHANGE;
    await failsWith('EINVAL', () => renameWith(at('h'), at('g'), both), 'both flags');
  },

  'rename may exchange two names': async ({ at }) => {
    await writeFile(at('f'), 'f');
    await mkdir(at('d', 'e'), { recursive: true });
    await mkdir(at('x'));
    await renameWith(at('f'), at('d', 'e'), Rename.EXCHANGE);
    assert.equal(await readFile(at('d', 'e'), 'utf8'), 'f');
    assert((await stat(at('f'))).isDirectory());
    assert.equal((await stat(at('d'))).nlink, 2, 'links of directories move along');
    await renameWith(at('d'), at('x'), Rename.EXCHANGE);
    assert.equal(await readFile(at('x', 'e'), 'utf8'), 'f');
    await failsWith('ENOENT', () => renameWith(at('x'), at('absent'), Rename.EXCHANGE), 'nothing');
    await mkdir(at('x', 'y'));
    await failsWith('EINVAL', () => renameWith(at('x'), at('x', 'y'), Rename.EXCHANGE), 'with its own child');
  },

  'rename by many onto one name leaves one whole file': async ({ at, directory }) => {
    const texts = Array.from({ length: 30 }, (_, index) => `text ${index}`.repeat(100));
    await Promise.all(texts.map((text, index) => writeFile(at(`f${index}`), text)));
    await Promise.all(texts.map((_, index) => rename(at(`f${index}`), at('target'))));
    assert.deepEqual(await readdir(directory), ['target']);
    assert(texts.includes(await readFile(at('target'), 'utf8')));
  },
};

const limits: Readonly<Record<string, Change>> = {
  'names have up to 255 bytes': async ({ at, directory }) => {
    const [longest, longer] = ['n'.repeat(NAME_MAX), 'n'.repeat(NAME_MAX + 1)];
    const wide = '語'.repeat(85);
    await writeFile(at(longest), 'x');
    await rename(at(longest), at(wide));
    await link(at(wide), at(longest));
    assert.deepEqual((await readdir(directory)).toSorted(), [longest, wide].toSorted());
    const attempts: Readonly<Record<string, () => Promise<unknown>>> = {
      create: () => openRaw(at(longer), constants.O_CREAT | constants.O_WRONLY, 0o644),
      mkdir: () => mkdir(at(longer)),
      symlink: () => symlink('x', at(longer)),
      link: () => link(at(wide), at(longer)),
      rename: () => rename(at(wide), at(longer)),
      'rename from': () => rename(at(longer), at('x')),
      unlink: () => unlink(at(longer)),
      rmdir: () => rmdir(at(longer)),
      mknod: () => mknod(at(longer), 0o100644),
    };
    for (const [what, attempt] of Object.entries(attempts)) await failsWith('ENAMETOOLONG', attempt, what);
  },

  'paths have up to 4095 bytes': async ({ at }) => {
    const deep = `${at('x')}/`.padEnd(4_096, './');
    await failsWith('ENAMETOOLONG', () => mkdir(`${deep}xx`), 'mkdir');
    await failsWith('ENAMETOOLONG', () => writeFile(`${deep}xx`, ''), 'create');
    await failsWith('ENAMETOOLONG', () => rename(at('x'), `${deep}xx`), 'rename');
  },

  'names are any bytes': async ({ at, directory }) => {
    const names = [
      ...Array.from({ length: 255 }, (_, index) => Buffer.from([index + 1])).filter(
        (name) => !['/', '.'].includes(name.toString('latin1')),
      ),
      Buffer.from('...'),
      Buffer.from('..x'),
    ];
    const path = (name: Buffer): Buffer => Buffer.concat([Buffer.from(`${directory}/`), name]);
    for (const name of names) await writeFile(path(name), name);
    const listed = await readdir(directory, { encoding: 'buffer' });
    const sorted = (list: readonly Uint8Array[]): string[] =>
      list.map((name) => Buffer.from(name).toString('hex')).toSorted();
    assert.deepEqual(sorted(listed), sorted(names));
    for (const name of names) assert((await readFile(path(name))).equals(name), name.toString('hex'));
    await rm(at('...'));
  },
};

export const names: Readonly<Record<string, Change>> = { ...directories, ...links, ...renames, ...limits };
