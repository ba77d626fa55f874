/**
 * What every mount must do when it is read, as a list of named checks. The same list runs on a plain local
 * directory, on both drivers, and on the whole product: the caller makes `conformanceTree` appear under `root`.
 */
import assert from 'node:assert/strict';
import { constants } from 'node:fs';
import {
  chmod,
  chown,
  copyFile,
  link,
  lstat,
  mkdir,
  mkdtemp,
  open,
  readdir,
  readFile,
  readlink,
  realpath,
  rename,
  rm,
  rmdir,
  stat,
  statfs,
  symlink,
  truncate,
  unlink,
  utimes,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';
import {
  access,
  DirectoryStream,
  getExtendedAttribute,
  listExtendedAttributes,
  lseek,
  mknod,
  readMapped,
  removeExtendedAttribute,
  SEEK,
  setExtendedAttribute,
} from './posix.ts';
import { contentOf, MANY_FILES, type TreeEntry } from './tree.ts';

export interface ConformanceOptions {
  /** Where the tree is. */
  readonly root: string;
  readonly tree: readonly TreeEntry[];
  /** Every change is refused with EROFS. Otherwise changes are not tried. */
  readonly readOnly: boolean;
  /** Names of checks that do not apply and are left out, with the reason. */
  readonly skip?: Readonly<Record<string, string>>;
}

type Check = (root: string, tree: readonly TreeEntry[]) => Promise<void>;

const KIND_BITS = { directory: 0o040000, file: 0o100000, symlink: 0o120000 } as const;
const TYPE_BITS = 0o170000;

const filesOf = (tree: readonly TreeEntry[]): TreeEntry[] => tree.filter(({ kind }) => kind === 'file');
/** All but the directory with thousands of files. */
const few = (tree: readonly TreeEntry[]): TreeEntry[] => tree.filter(({ path }) => !path.startsWith('many/'));

function entryOf(tree: readonly TreeEntry[], path: string): TreeEntry {
  const entry = tree.find((each) => each.path === path);
  assert(entry, `the tree has ${path}`);
  return entry;
}

async function failsWith(code: string, run: () => Promise<unknown>, what: string): Promise<void> {
  await assert.rejects(run, (error: NodeJS.ErrnoException) => {
    assert.equal(error.code, code, what);
    return true;
  });
}

async function openFlags(path: string, flags: number): Promise<void> {
  const handle = await open(path, flags);
  await handle.close();
}

function childrenOf(tree: readonly TreeEntry[], directory: string): TreeEntry[] {
  const prefix = directory === '' ? '' : `${directory}/`;
  return tree.filter(({ path }) => path.startsWith(prefix) && !path.slice(prefix.length).includes('/'));
}

/** Checks that change nothing. */
const reads: Readonly<Record<string, Check>> = {
  'stat shows type, mode, size and time': async (root, tree) => {
    for (const entry of few(tree)) {
      const shown = await lstat(join(root, entry.path), { bigint: true });
      const mode = Number(shown.mode);
      assert.equal(mode & TYPE_BITS, KIND_BITS[entry.kind], `type of ${entry.path}`);
      assert.notEqual(shown.ino, 0n, `inode of ${entry.path}`);
      assert(shown.nlink >= 1n, `links of ${entry.path}`);
      if (entry.kind !== 'symlink') assert.equal(mode & 0o7777, entry.mode, `mode of ${entry.path}`);
      if (entry.kind !== 'directory')
        assert.equal(shown.mtimeMs, BigInt(entry.modifiedMs), `time of ${entry.path}`);
      if (entry.kind === 'file')
        assert.equal(shown.size, BigInt(entry.sizeBytes ?? 0), `size of ${entry.path}`);
    }
  },

  'stat of an open file agrees with stat of its path': async (root) => {
    const handle = await open(join(root, 'page'));
    try {
      const [opened, named] = await Promise.all([handle.stat(), stat(join(root, 'page'))]);
      for (const field of ['ino', 'size', 'mode', 'mtimeMs', 'nlink', 'dev'] as const)
        assert.equal(opened[field], named[field], field);
    } finally {
      await handle.close();
    }
  },

  'stat gives different files different inode numbers': async (root, tree) => {
    const entries = few(tree);
    const inodes = new Set<number>();
    for (const { path } of entries) inodes.add((await lstat(join(root, path))).ino);
    assert.equal(inodes.size, entries.length);
  },

  'readdir lists 3,000 entries exactly once': async (root) => {
    const names = await readdir(join(root, 'many'));
    assert.equal(names.length, MANY_FILES);
    assert.equal(new Set(names).size, MANY_FILES);
    assert(names.includes('file-000000') && names.includes(`file-00${MANY_FILES - 1}`));
  },

  'readdir tells types': async (root, tree) => {
    const stream = await DirectoryStream.open(root);
    const entries = new Map((await stream.rest()).map((entry) => [entry.name, entry]));
    await stream.close();
    assert(entries.has('.') && entries.has('..'));
    assert.equal(entries.size, childrenOf(tree, '').length + 2);
    for (const { path, kind } of childrenOf(tree, ''))
      assert.equal(entries.get(path)?.type, KIND_BITS[kind] >> 12, `type of ${path}`);
  },

  'readdir of an empty directory has only the dots': async (root) => {
    const stream = await DirectoryStream.open(join(root, 'empty-directory'));
    const names = (await stream.rest()).map(({ name }) => name).sort();
    await stream.close();
    assert.deepEqual(names, ['.', '..']);
  },

  'seekdir returns to where telldir was': async (root) => {
    const stream = await DirectoryStream.open(join(root, 'many'));
    const positions: { position: bigint; next: string }[] = [];
    for (let index = 0; index < 1_200; index++) {
      const position = await stream.tell();
      const entry = await stream.next();
      assert(entry);
      if (index % 100 === 0) positions.push({ position, next: entry.name });
    }
    for (const { position, next } of positions.reverse()) {
      await stream.seek(position);
      assert.equal((await stream.next())?.name, next);
    }
    await stream.close();
  },

  'rewinddir begins anew': async (root) => {
    const stream = await DirectoryStream.open(join(root, 'many'));
    const first = (await stream.rest()).map(({ name }) => name);
    await stream.rewind();
    const second = (await stream.rest()).map(({ name }) => name);
    await stream.close();
    assert.equal(first.length, MANY_FILES + 2);
    assert.deepEqual(second.toSorted(), first.toSorted());
  },

  'two listings of one directory do not disturb each other': async (root) => {
    const path = join(root, 'many');
    const [one, other] = await Promise.all([DirectoryStream.open(path), DirectoryStream.open(path)]);
    await one.next();
    const whole = await other.rest();
    assert.equal((await one.rest()).length, whole.length - 1);
    await Promise.all([one.close(), other.close()]);
  },

  'a walk finds the whole tree': async (root, tree) => {
    const found: string[] = [];
    const walk = async (directory: string): Promise<void> => {
      for (const entry of await readdir(join(root, directory), { withFileTypes: true })) {
        const path = directory === '' ? entry.name : `${directory}/${entry.name}`;
        found.push(path);
        if (entry.isDirectory()) await walk(path);
      }
    };
    await walk('');
    assert.equal(found.length, tree.length);
    assert.deepEqual(found.toSorted(), tree.map(({ path }) => path).toSorted());
  },

  'read returns every byte of every file': async (root, tree) => {
    for (const entry of few(filesOf(tree))) {
      const bytes = await readFile(join(root, entry.path));
      assert(bytes.equals(contentOf(entry)), `content of ${entry.path}`);
    }
    for (const entry of childrenOf(tree, 'many').slice(0, 50))
      assert((await readFile(join(root, entry.path))).equals(contentOf(entry)), entry.path);
  },

  'read at any offset returns the bytes there': async (root, tree) => {
    const entry = entryOf(tree, 'large');
    const content = contentOf(entry);
    const handle = await open(join(root, entry.path));
    const into = Buffer.alloc(70_001);
    try {
      const edges = [0, 1, 4095, 4096, 4097, 131_071, 131_072, 1_048_575, 1_048_576, content.length - 1];
      for (const offset of edges) {
        for (const length of [1, 511, 4096, 70_001]) {
          const { bytesRead } = await handle.read(into, 0, length, offset);
          const expected = content.subarray(offset, offset + length);
          assert.equal(bytesRead, expected.length, `${length} bytes at ${offset}`);
          assert(into.subarray(0, bytesRead).equals(expected), `${length} bytes at ${offset}`);
        }
      }
    } finally {
      await handle.close();
    }
  },

  'read at every offset of a small file': async (root, tree) => {
    const entry = entryOf(tree, 'private');
    const content = contentOf(entry);
    const handle = await open(join(root, entry.path));
    const into = Buffer.alloc(200);
    try {
      for (let offset = 0; offset <= content.length + 1; offset++) {
        const { bytesRead } = await handle.read(into, 0, 200, offset);
        assert(into.subarray(0, bytesRead).equals(content.subarray(offset)), `at ${offset}`);
      }
    } finally {
      await handle.close();
    }
  },

  'read beyond the end returns nothing': async (root, tree) => {
    for (const path of ['empty', 'one', 'page', 'large']) {
      const handle = await open(join(root, path));
      const size = entryOf(tree, path).sizeBytes ?? 0;
      const into = Buffer.alloc(10);
      for (const offset of [size, size + 1, size + 5000, 2 ** 40])
        assert.equal((await handle.read(into, 0, 10, offset)).bytesRead, 0, `${path} at ${offset}`);
      await handle.close();
    }
  },

  'reads in parallel do not mix': async (root, tree) => {
    const entry = entryOf(tree, 'large');
    const content = contentOf(entry);
    const handle = await open(join(root, entry.path));
    try {
      await Promise.all(
        Array.from({ length: 32 }, async (_, index) => {
          const offset = index * 97_003;
          const into = Buffer.alloc(65_536);
          const { bytesRead } = await handle.read(into, 0, into.length, offset);
          assert(into.subarray(0, bytesRead).equals(content.subarray(offset, offset + into.length)));
        }),
      );
    } finally {
      await handle.close();
    }
  },

  'many handles of one file read the same': async (root, tree) => {
    const content = contentOf(entryOf(tree, 'page'));
    const handles = await Promise.all(Array.from({ length: 64 }, () => open(join(root, 'page'))));
    for (const handle of handles) assert((await handle.readFile()).equals(content));
    await Promise.all(handles.map((handle) => handle.close()));
  },

  'a mapping shows the bytes of the file': async (root, tree) => {
    for (const path of ['one', 'page', 'page-and-one', 'large']) {
      const content = contentOf(entryOf(tree, path));
      const handle = await open(join(root, path));
      assert((await readMapped(handle.fd, content.length)).equals(content), path);
      await handle.close();
    }
  },

  'a copy equals the file': async (root, tree) => {
    const directory = await mkdtemp(join(tmpdir(), 'conformance-'));
    try {
      await copyFile(join(root, 'large'), join(directory, 'large'));
      assert((await readFile(join(directory, 'large'))).equals(contentOf(entryOf(tree, 'large'))));
    } finally {
      await rm(directory, { recursive: true });
    }
  },

  'lseek finds the end and no holes': async (root, tree) => {
    const size = entryOf(tree, 'large').sizeBytes ?? 0;
    const handle = await open(join(root, 'large'));
    try {
      assert.equal(await lseek(handle.fd, 0, SEEK.END), size);
      assert.equal(await lseek(handle.fd, 100, SEEK.DATA), 100);
      assert.equal(await lseek(handle.fd, 100, SEEK.HOLE), size);
      await failsWith('ENXIO', () => lseek(handle.fd, size, SEEK.DATA), 'data beyond the end');
    } finally {
      await handle.close();
    }
  },

  'fsync of what was only read succeeds': async (root) => {
    const handle = await open(join(root, 'page'));
    await handle.sync();
    await handle.datasync();
    await handle.close();
  },

  'readlink returns the target as it is': async (root, tree) => {
    for (const { path, target } of tree.filter(({ kind }) => kind === 'symlink'))
      assert.equal(await readlink(join(root, path)), target, path);
    await failsWith('EINVAL', () => readlink(join(root, 'page')), 'readlink of a file');
  },

  'symlinks are followed': async (root, tree) => {
    const deepest = entryOf(tree, 'nested/deeper/deepest/file');
    assert((await readFile(join(root, 'link-to-file'))).equals(contentOf(deepest)));
    assert((await readFile(join(root, 'link-to-directory/deepest/file'))).equals(contentOf(deepest)));
    assert((await readFile(join(root, 'nested/link-up'))).equals(contentOf(entryOf(tree, 'page'))));
    assert((await stat(join(root, 'link-to-directory'))).isDirectory());
    assert((await lstat(join(root, 'link-to-directory'))).isSymbolicLink());
    assert.equal(
      await realpath(join(root, 'link-to-directory/deepest')),
      join(await realpath(root), 'nested/deeper/deepest'),
    );
    await failsWith('ENOENT', () => stat(join(root, 'dangling')), 'a dangling link');
    await failsWith('ELOOP', () => stat(join(root, 'loop-a')), 'a loop');
  },

  'access answers for root': async (root) => {
    await access(join(root, 'page'), constants.F_OK);
    await access(join(root, 'page'), constants.R_OK);
    await access(join(root, 'tool'), constants.X_OK);
    await access(join(root, 'nested'), constants.R_OK | constants.X_OK);
    await failsWith('EACCES', () => access(join(root, 'page'), constants.X_OK), 'nobody may run it');
    await failsWith('ENOENT', () => access(join(root, 'absent'), constants.F_OK), 'no such file');
  },

  'statfs answers': async (root) => {
    const shown = await statfs(root);
    assert(shown.bsize > 0 && shown.blocks >= shown.bfree && shown.bfree >= shown.bavail);
    assert(shown.files >= shown.ffree);
  },

  'names that are not there are ENOENT': async (root) => {
    for (const path of ['absent', 'nested/absent', 'absent/absent', 'PAGE', 'page ', 'names/gruße.txt'])
      await failsWith('ENOENT', () => lstat(join(root, path)), path);
    await failsWith('ENOENT', () => open(join(root, 'absent')), 'open');
    await failsWith('ENOENT', () => readdir(join(root, 'absent')), 'readdir');
  },

  'a file has no children': async (root) => {
    await failsWith('ENOTDIR', () => lstat(`${root}/page/child`), 'stat');
    await failsWith('ENOTDIR', () => open(`${root}/page/child`), 'open');
    await failsWith('ENOTDIR', () => stat(`${root}/page/`), 'trailing slash');
    await failsWith('ENOTDIR', () => readdir(`${root}/page`), 'readdir');
  },

  'names can have 255 bytes and no more': async (root) => {
    await failsWith('ENAMETOOLONG', () => lstat(join(root, 'n'.repeat(256))), '256 bytes');
    await failsWith('ENAMETOOLONG', () => lstat(join(root, '語'.repeat(86))), '258 bytes of UTF-8');
    await failsWith('ENOENT', () => lstat(join(root, 'n'.repeat(255))), '255 bytes');
  },

  'names of any bytes are listed and found': async (root, tree) => {
    const names = childrenOf(tree, 'names');
    assert.deepEqual(
      (await readdir(join(root, 'names'))).toSorted(),
      names.map(({ path }) => path.slice('names/'.length)).toSorted(),
    );
    for (const entry of names)
      assert((await readFile(join(root, entry.path))).equals(contentOf(entry)), entry.path);
  },

  'open honours its flags': async (root) => {
    const { O_RDONLY, O_DIRECTORY, O_NOFOLLOW, O_CREAT, O_EXCL, O_WRONLY } = constants;
    const at = (path: string): string => join(root, path);
    await openFlags(at('nested'), O_RDONLY | O_DIRECTORY);
    await failsWith('ENOTDIR', () => openFlags(at('page'), O_RDONLY | O_DIRECTORY), 'O_DIRECTORY');
    await failsWith('ELOOP', () => openFlags(at('link-to-file'), O_RDONLY | O_NOFOLLOW), 'O_NOFOLLOW');
    await failsWith('EEXIST', () => openFlags(at('page'), O_WRONLY | O_CREAT | O_EXCL), 'O_EXCL');
    await failsWith('EISDIR', () => openFlags(at('nested'), O_WRONLY), 'write a directory');
    await failsWith('EISDIR', () => readFile(at('nested')), 'read a directory');
  },

  'extended attributes that are listed can be read': async (root, tree) => {
    for (const { path } of few(filesOf(tree)).slice(0, 8)) {
      const target = join(root, path);
      for (const name of await listExtendedAttributes(target)) {
        const { size } = await getExtendedAttribute(target, name, 0);
        const { value } = await getExtendedAttribute(target, name, 65_536);
        assert.equal(value.length, size, `${name} of ${path}`);
        if (size > 1)
          await failsWith('ERANGE', () => getExtendedAttribute(target, name, size - 1), 'too little room');
      }
    }
  },

  'an extended attribute that is not there is ENODATA': async (root) => {
    await failsWith('ENODATA', () => getExtendedAttribute(join(root, 'page'), 'user.absent', 100), 'absent');
  },
};

/** Checks that try to change everything there is. */
const refusals: Readonly<Record<string, Check>> = {
  'every change is refused with EROFS': async (root) => {
    const at = (path: string): string => join(root, path);
    const { O_WRONLY, O_RDWR, O_CREAT, O_TRUNC } = constants;
    const S_IFREG = 0o100000;
    const S_IFIFO = 0o010000;
    const attempts: Readonly<Record<string, () => Promise<unknown>>> = {
      chmod: () => chmod(at('page'), 0o600),
      chown: () => chown(at('page'), 1, 1),
      utimes: () => utimes(at('page'), 1, 1),
      truncate: () => truncate(at('page'), 0),
      'open to write': () => openFlags(at('page'), O_WRONLY),
      'open to read and write': () => openFlags(at('page'), O_RDWR),
      'open to truncate': () => openFlags(at('page'), O_WRONLY | O_TRUNC),
      create: () => openFlags(at('fresh'), O_WRONLY | O_CREAT),
      unlink: () => unlink(at('page')),
      mkdir: () => mkdir(at('fresh')),
      rmdir: () => rmdir(at('empty-directory')),
      rename: () => rename(at('page'), at('fresh')),
      link: () => link(at('page'), at('fresh')),
      symlink: () => symlink('page', at('fresh')),
      'mknod of a file': () => mknod(at('fresh'), S_IFREG | 0o644),
      'mknod of a pipe': () => mknod(at('fresh'), S_IFIFO | 0o644),
      setxattr: () => setExtendedAttribute(at('page'), 'user.fresh', Buffer.from('x')),
      removexattr: () => removeExtendedAttribute(at('page'), 'user.absent'),
    };
    for (const [what, attempt] of Object.entries(attempts)) await failsWith('EROFS', attempt, what);
  },

  'access to write is refused with EROFS': (root) =>
    failsWith('EROFS', () => access(join(root, 'page'), constants.W_OK), 'access'),
};

/** Runs the list as one subtest for each check. */
export async function runConformance(t: Test, options: ConformanceOptions): Promise<void> {
  const { root, tree, readOnly, skip = {} } = options;
  for (const [name, check] of Object.entries({ ...reads, ...(readOnly ? refusals : {}) })) {
    if (skip[name] === undefined) await t.test(name, () => check(root, tree));
    else t.comment(`left out: ${name}: ${skip[name]}`);
  }
}
