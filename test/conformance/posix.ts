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
  open: bind('int open(const char *path, int flags, uint32 mode)'),
  close: bind('int close(int fd)'),
  read: bind('int64 read(int fd, _Out_ uint8 *into, uint64 length)'),
  write: bind('int64 write(int fd, const uint8 *bytes, uint64 length)'),
  linkat: bind('int linkat(int from, const char *path, int to, const char *fresh, int flags)'),
  renameat2: bind('int renameat2(int from, const char *path, int to, const char *fresh, uint32 flags)'),
  utimensat: bind('int utimensat(int directory, const char *path, const uint8 *times, int flags)'),
  fallocate: bind('int fallocate(int fd, int mode, int64 offset, int64 length)'),
  copy_file_range: bind(
    'int64 copy_file_range(int from, _Inout_ int64 *at, int to, _Inout_ int64 *target, uint64 length, uint32 flags)',
  ),
  fcntl: bind('int fcntl(int fd, int command, _Inout_ uint8 *lock)'),
  flock: bind('int flock(int fd, int operation)'),
  msync: bind('int msync(void *address, uint64 length, int flags)'),
  mmap: bind('void *mmap(void *address, uint64 length, int protection, int flags, int fd, int64 offset)'),
  munmap: bind('int munmap(void *address, uint64 length)'),
  memcpy: bind('void *memcpy(_Out_ uint8 *to, void *from, uint64 length)'),
};
/** The same function in the other direction. */
const store = bind('void *memmove(void *to, const uint8 *from, uint64 length)');

const AT_FDCWD = -100;
const PROT_READ = 1;
const PROT_WRITE = 2;
const MAP_SHARED = 1;
const MS_SYNC = 4;
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

/** Node has no name for it. */
const EDEADLK = 35;

function failure(name: string, errno: number): NodeJS.ErrnoException {
  const code = errno === EDEADLK ? 'EDEADLK' : (getSystemErrorMap().get(-errno)?.[0] ?? `E${errno}`);
  return Object.assign(new Error(`${name}: ${code}`), { code, errno: -errno });
}

export const lseek = (fd: number, offset: number, whence: number): Promise<number> =>
  call<number>('lseek', fd, offset, whence).then(Number);
export const SEEK = { END: 2, DATA: 3, HOLE: 4 } as const;

export const access = (path: string, mode: number): Promise<number> =>
  call('faccessat', AT_FDCWD, path, mode, 0);
/** As the effective user. */
export const accessAsIs = (path: string, mode: number): Promise<number> =>
  call('faccessat', AT_FDCWD, path, mode, 0x200);
export const mknod = (path: string, mode: number): Promise<number> => call('mknod', path, mode, 0);
/** `mode` XATTR_CREATE 1, XATTR_REPLACE 2. */
export const setExtendedAttribute = (
  path: string,
  name: string,
  value: Uint8Array,
  mode = 0,
): Promise<number> => call('setxattr', path, name, value, value.length, mode);
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

/** A descriptor as a plain number, for flags that Node does not let through. */
export const openRaw = (path: string, flags: number, mode = 0): Promise<number> =>
  call('open', path, flags, mode);
export const closeRaw = (fd: number): Promise<number> => call('close', fd);
/** From where the descriptor is; so is `writeRaw` to there. */
export async function readRaw(fd: number, length: number): Promise<string> {
  const bytes = Buffer.alloc(length);
  return bytes.subarray(0, Number(await call<number>('read', fd, bytes, length))).toString();
}
export const writeRaw = (fd: number, text: string): Promise<number> =>
  call<number>('write', fd, Buffer.from(text), Buffer.byteLength(text)).then(Number);

export const Rename = { NOREPLACE: 1, EXCHANGE: 2 } as const;
export const renameWith = (from: string, to: string, flags: number): Promise<number> =>
  call('renameat2', AT_FDCWD, from, AT_FDCWD, to, flags);
/** A link to what the link points to, as for /proc/self/fd. */
export const linkFollowing = (from: string, to: string): Promise<number> =>
  call('linkat', AT_FDCWD, from, AT_FDCWD, to, 0x400);

export const Time = { NOW: 0x3fff_ffff, OMIT: 0x3fff_fffe } as const;
export interface TimeSpec {
  readonly seconds: number;
  /** Or one of `Time`. */
  readonly nanoseconds: number;
}
/** Of the path itself, also if it is a link. */
export function setTimes(path: string, accessed: TimeSpec, modified: TimeSpec): Promise<number> {
  const bytes = Buffer.alloc(32);
  for (const [index, time] of [accessed, modified].entries()) {
    bytes.writeBigInt64LE(BigInt(time.seconds), index * 16);
    bytes.writeBigInt64LE(BigInt(time.nanoseconds), index * 16 + 8);
  }
  return call('utimensat', AT_FDCWD, path, bytes, 0x100);
}

export const Allocate = { KEEP_SIZE: 1, PUNCH_HOLE: 2, ZERO_RANGE: 16 } as const;
export const fallocate = (fd: number, mode: number, offset: number, length: number): Promise<number> =>
  call('fallocate', fd, mode, offset, length);

export const copyRange = (
  from: { readonly fd: number; readonly offset: number },
  to: { readonly fd: number; readonly offset: number; readonly length: number },
): Promise<number> =>
  call<number>('copy_file_range', from.fd, [from.offset], to.fd, [to.offset], to.length, 0).then(Number);

export interface PosixLock {
  readonly kind: 'read' | 'write' | 'none';
  readonly start: number;
  /** 0: to the end. */
  readonly length: number;
}
const LOCK_COMMANDS = { test: 5, set: 6, wait: 7 } as const;
const LOCK_KINDS = ['read', 'write', 'none'] as const;

/** fcntl(2). With `test` the lock that is in the way, or kind `none`; EAGAIN is what `set` fails with. */
export async function lock(
  fd: number,
  command: keyof typeof LOCK_COMMANDS,
  wanted: PosixLock,
): Promise<PosixLock & { readonly pid: number }> {
  const bytes = Buffer.alloc(32);
  bytes.writeInt16LE(LOCK_KINDS.indexOf(wanted.kind), 0);
  bytes.writeBigInt64LE(BigInt(wanted.start), 8);
  bytes.writeBigInt64LE(BigInt(wanted.length), 16);
  await call('fcntl', fd, LOCK_COMMANDS[command], bytes);
  return {
    kind: LOCK_KINDS[bytes.readInt16LE(0)] ?? 'none',
    start: Number(bytes.readBigInt64LE(8)),
    length: Number(bytes.readBigInt64LE(16)),
    pid: bytes.readInt32LE(24),
  };
}

const FLOCK = { shared: 1, exclusive: 2, none: 8 } as const;
const LOCK_NB = 4;
/** flock(2); fails with EAGAIN unless it may wait. */
export const flock = (
  fd: number,
  kind: keyof typeof FLOCK,
  options: { readonly wait?: boolean } = {},
): Promise<number> => call('flock', fd, FLOCK[kind] | (options.wait === true ? 0 : LOCK_NB));

/** A mapping that can be written to. */
export class Mapping {
  readonly #address: unknown;
  readonly #length: number;

  private constructor(address: unknown, length: number) {
    this.#address = address;
    this.#length = length;
  }

  static async open(fd: number, length: number, kind: 'shared' | 'private' = 'shared'): Promise<Mapping> {
    const flags = kind === 'shared' ? MAP_SHARED : 2;
    const mapped = await call<unknown>('mmap', null, length, PROT_READ | PROT_WRITE, flags, fd, 0);
    if (koffi.address(mapped) === MAP_FAILED) throw failure('mmap', koffi.errno());
    return new Mapping(mapped, length);
  }

  async write(offset: number, bytes: Uint8Array): Promise<void> {
    const to = koffi.address(this.#address) + BigInt(offset);
    await new Promise<void>((resolve, reject) => {
      store.async(to, bytes, bytes.length, (error: Error | null) =>
        error === null ? resolve() : reject(error),
      );
    });
  }

  async read(): Promise<Buffer> {
    const bytes = Buffer.alloc(this.#length);
    await call('memcpy', bytes, this.#address, this.#length);
    return bytes;
  }

  async sync(): Promise<void> {
    await call('msync', this.#address, this.#length, MS_SYNC);
  }

  async close(): Promise<void> {
    await call('munmap', this.#address, this.#length);
  }
}
