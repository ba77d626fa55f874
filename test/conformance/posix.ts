/**
 * System calls that Node does not have, for the conformance list. They run on the thread pool, so that a file
 * system served by the same process can answer them. A failed call rejects with `code`, the name of its errno.
 */
import { getSystemErrorMap } from 'node:util';
import koffi from 'koffi';

interface AsyncFunction {
  async(...values: unknown[]): void;
}

const libc = koffi.load(null);
const bind = (prototype: string): AsyncFunction => libc.func(prototype);

const calls = {
  getxattr: bind('int64 getxattr(const char *path, const char *name, _Out_ uint8 *value, uint64 size)'),
  listxattr: bind('int64 listxattr(const char *path, _Out_ uint8 *list, uint64 size)'),
  setxattr: bind(
    'int setxattr(const char *path, const char *name, const uint8 *value, uint64 size, int flags)',
  ),
  removexattr: bind('int removexattr(const char *path, const char *name)'),
  mknod: bind('int mknod(const char *path, uint32 mode, uint64 device)'),
  faccessat: bind('int faccessat(int directory, const char *path, int mode, int flags)'),
  lseek: bind('int64 lseek(int fd, int64 offset, int whence)'),
  opendir: bind('void *opendir(const char *path)'),
  readdir: bind('void *readdir(void *directory)'),
  telldir: bind('int64 telldir(void *directory)'),
  seekdir: bind('void seekdir(void *directory, int64 position)'),
  rewinddir: bind('void rewinddir(void *directory)'),
  closedir: bind('int closedir(void *directory)'),
  mmap: bind('void *mmap(void *address, uint64 length, int protection, int flags, int fd, int64 offset)'),
  munmap: bind('int munmap(void *address, uint64 length)'),
  memcpy: bind('void *memcpy(_Out_ uint8 *to, void *from, uint64 length)'),
};

const AT_FDCWD = -100;
const PROT_READ = 1;
const MAP_SHARED = 1;
const MAP_FAILED = 0xffff_ffff_ffff_ffffn;

function call<T>(name: keyof typeof calls, ...values: unknown[]): Promise<T> {
  return new Promise((resolve, reject) => {
    calls[name].async(...values, (error: Error | null, result: T) => {
      if (error !== null) reject(error);
      else if (Number(result) !== -1) resolve(result);
      else reject(failure(name, koffi.errno()));
    });
  });
}

function failure(name: string, errno: number): NodeJS.ErrnoException {
  const code = getSystemErrorMap().get(-errno)?.[0] ?? `E${errno}`;
  return Object.assign(new Error(`${name}: ${code}`), { code, errno: -errno });
}

export const lseek = (fd: number, offset: number, whence: number): Promise<number> =>
  call<number>('lseek', fd, offset, whence).then(Number);
export const SEEK = { END: 2, DATA: 3, HOLE: 4 } as const;

export const access = (path: string, mode: number): Promise<number> =>
  call('faccessat', AT_FDCWD, path, mode, 0);
export const mknod = (path: string, mode: number): Promise<number> => call('mknod', path, mode, 0);
export const setExtendedAttribute = (path: string, name: string, value: Buffer): Promise<number> =>
  call('setxattr', path, name, value, value.length, 0);
export const removeExtendedAttribute = (path: string, name: string): Promise<number> =>
  call('removexattr', path, name);

/** With `size` 0 only the size is asked for. */
export async function getExtendedAttribute(
  path: string,
  name: string,
  size: number,
): Promise<{ size: number; value: Buffer }> {
  const value = Buffer.alloc(Math.max(size, 1));
  const got = Number(await call<number>('getxattr', path, name, value, size));
  return { size: got, value: value.subarray(0, size === 0 ? 0 : got) };
}

export async function listExtendedAttributes(path: string): Promise<string[]> {
  const list = Buffer.alloc(65_536);
  const got = Number(await call<number>('listxattr', path, list, list.length));
  return list.subarray(0, got).toString().split('\0').filter(Boolean);
}

export interface RawEntry {
  readonly name: string;
  readonly inode: bigint;
  readonly type: number;
}

/** A directory stream as in opendir(3). */
export class DirectoryStream {
  readonly #directory: unknown;

  private constructor(directory: unknown) {
    this.#directory = directory;
  }

  static async open(path: string): Promise<DirectoryStream> {
    const directory = await call<unknown>('opendir', path);
    if (directory === null) throw failure('opendir', koffi.errno());
    return new DirectoryStream(directory);
  }

  /** Undefined at the end. */
  async next(): Promise<RawEntry | undefined> {
    const entry = await call<unknown>('readdir', this.#directory);
    if (entry === null) return undefined;
    const length = koffi.decode(entry, 16, 'uint16') as number;
    const bytes = Buffer.from(koffi.decode(entry, koffi.array('uint8', length)) as Uint8Array);
    const end = bytes.indexOf(0, 19);
    return {
      inode: bytes.readBigUInt64LE(0),
      type: bytes.readUInt8(18),
      name: bytes.toString('utf8', 19, end === -1 ? length : end),
    };
  }

  async rest(): Promise<RawEntry[]> {
    const entries: RawEntry[] = [];
    for (let entry = await this.next(); entry !== undefined; entry = await this.next()) entries.push(entry);
    return entries;
  }

  tell(): Promise<bigint> {
    return call<number | bigint>('telldir', this.#directory).then(BigInt);
  }

  async seek(position: bigint): Promise<void> {
    await call('seekdir', this.#directory, position);
  }

  async rewind(): Promise<void> {
    await call('rewinddir', this.#directory);
  }

  async close(): Promise<void> {
    await call('closedir', this.#directory);
  }
}

/** The bytes of a shared mapping of a file. */
export async function readMapped(fd: number, length: number): Promise<Buffer> {
  const mapped = await call<unknown>('mmap', null, length, PROT_READ, MAP_SHARED, fd, 0);
  if (koffi.address(mapped) === MAP_FAILED) throw failure('mmap', koffi.errno());
  const bytes = Buffer.alloc(length);
  await call('memcpy', bytes, mapped, length);
  await call('munmap', mapped, length);
  return bytes;
}
