/**
 * The part of the door to the disk that files being written need; `disk.ts` is the other.
 *
 * Whatever can wait for a device runs on the thread pool; what only touches an inode in memory is synchronous. Calls
 * that Node lacks go to libc through an FFI library; where the system has not got one, it fails with ENOTSUP.
 * Failures are thrown as the system says them (an `ErrnoException`).
 */
import * as fs from 'node:fs';
import { getSystemErrorName } from 'node:util';
import koffi from 'koffi';
import { invariant } from '../lib/base/errors.ts';

export interface FileTimes {
  readonly accessedNs: bigint;
  readonly modifiedNs: bigint;
}

export interface FileStat extends FileTimes {
  readonly sizeBytes: number;
  readonly changedNs: bigint;
  /** Of 512 bytes. */
  readonly blocks: number;
}

export type FileAllocation = 'reserve' | 'reserve-beyond' | 'punch' | 'zero' | 'zero-beyond';

export interface FileCalls {
  /** A new file to read and write; EEXIST if there is one of that name. */
  create(path: string): number;
  openToRead(path: string): number;
  fileStat(fd: number): FileStat;
  /** Writes all of it, or as much as there was room for, which is at least something. */
  write(fd: number, bytes: Uint8Array, position: number): Promise<number>;
  truncate(fd: number, sizeBytes: number): Promise<void>;
  allocate(
    fd: number,
    range: { readonly offset: number; readonly length: number },
    mode: FileAllocation,
  ): Promise<void>;
  /** Where data, or a hole, begins at or after `offset`; undefined: nowhere before the end. */
  seek(fd: number, offset: number, kind: 'data' | 'hole'): Promise<number | undefined>;
  /** Copies within the system, sharing what can be shared; answers with how much, 0 at the end of the source. */
  copyRange(
    from: { readonly fd: number; readonly offset: number },
    to: { readonly fd: number; readonly offset: number; readonly length: number },
  ): Promise<number>;
  /** Makes an empty file share all bytes of another. False: the file system cannot. */
  clone(fromFd: number, toFd: number): Promise<boolean>;
  setTimes(fd: number, times: FileTimes): void;
  /** Resolves when the data of an open file is on the device. */
  datasyncOpen(fd: number): Promise<void>;
  /** Resolves when the names in a directory are on the device. */
  syncDirectory(path: string): Promise<void>;
  rename(from: string, to: string): void;
  /** Takes the name away and frees the space. No error if there is no such file. */
  remove(path: string): Promise<void>;
  /** Copies a whole file to a new one. */
  copyFile(from: string, to: string): Promise<void>;
  /**
   * Whether anybody has a file open for writing, or has mapped it so. Of a descriptor for reading alone. True where the
   * system cannot tell, though the kernel may write to it by itself.
   */
  isOpenForWriting(readFd: number): boolean;
}

const ALLOCATION_FLAGS: Readonly<Record<FileAllocation, number>> = {
  reserve: 0,
  'reserve-beyond': 0x01,
  punch: 0x02 | 0x01,
  zero: 0x10,
  'zero-beyond': 0x10 | 0x01,
};
const SEEK = { data: 3, hole: 4 } as const;
const FICLONE = 0x40049409;
const F_SETSIG = 10;
const F_SETLEASE = 1024;
const F_RDLCK = 0;
const F_UNLCK = 2;
/** Ignored unless asked for; the default of a broken lease, SIGIO, would end the process. */
const SIGURG = 23;

interface NativeCall {
  (...values: unknown[]): number;
  async(...values: unknown[]): void;
}

const CALLS = {
  fallocate: 'int fallocate(int fd, int mode, long offset, long length)',
  lseek: 'long lseek(int fd, long offset, int whence)',
  copy_file_range:
    'long copy_file_range(int from, void *fromOffset, int to, void *toOffset, size_t length, uint flags)',
  ioctl: 'int ioctl(int fd, ulong request, long argument)',
  fcntl: 'int fcntl(int fd, int command, int argument)',
  futimens: 'int futimens(int fd, void *times)',
} as const;

function systemCall(name: keyof typeof CALLS): NativeCall | undefined {
  try {
    return koffi.load(null).func(CALLS[name]);
  } catch {
    return undefined;
  }
}

const calls = Object.fromEntries(
  (Object.keys(CALLS) as (keyof typeof CALLS)[]).map((name) => [name, systemCall(name)]),
) as Record<keyof typeof CALLS, NativeCall | undefined>;

function systemError(call: string, code: string): NodeJS.ErrnoException {
  return Object.assign(new Error(`${call}: ${code}`), { code });
}

function lastError(call: string): NodeJS.ErrnoException {
  return systemError(call, getSystemErrorName(-koffi.errno()));
}

/** On a thread of the pool. */
function inPool(name: keyof typeof CALLS, ...values: unknown[]): Promise<number> {
  const call = calls[name];
  if (call === undefined) return Promise.reject(systemError(name, 'ENOTSUP'));
  return new Promise((resolve, reject) => {
    call.async(...values, (error: Error | null, result: number) => {
      if (error !== null) reject(error);
      else if (result < 0) reject(lastError(name));
      else resolve(result);
    });
  });
}

function codeOf(error: unknown): string | undefined {
  return (error as NodeJS.ErrnoException).code;
}

/** Where one file system cannot share bytes of two files. */
const CANNOT_CLONE = new Set(['EOPNOTSUPP', 'ENOTSUP', 'ENOTTY', 'EINVAL', 'EXDEV', 'ENOSYS', 'EPERM']);

function pointerTo(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigInt64LE(BigInt(value));
  return bytes;
}

function settle(resolve: () => void, reject: (error: Error) => void): (error: Error | null) => void {
  return (error) => (error === null ? resolve() : reject(error));
}

export const systemFileCalls: FileCalls = {
  create(path) {
    const { O_RDWR, O_CREAT, O_EXCL, O_NOFOLLOW } = fs.constants;
    return fs.openSync(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
  },
  openToRead: (path) => fs.openSync(path, fs.constants.O_RDONLY | fs.constants.O_NOFOLLOW),
  fileStat(fd) {
    const stat = fs.fstatSync(fd, { bigint: true });
    return {
      sizeBytes: Number(stat.size),
      accessedNs: stat.atimeNs,
      modifiedNs: stat.mtimeNs,
      changedNs: stat.ctimeNs,
      blocks: Number(stat.blocks),
    };
  },
  write: (fd, bytes, position) =>
    new Promise((resolve, reject) => {
      let written = 0;
      const next = (): void =>
        fs.write(fd, bytes, written, bytes.length - written, position + written, (error, count) => {
          if (error !== null) return written > 0 ? resolve(written) : reject(error);
          written += count;
          if (written === bytes.length || count === 0) return resolve(written);
          next();
        });
      next();
    }),
  truncate: (fd, sizeBytes) =>
    new Promise((resolve, reject) => fs.ftruncate(fd, sizeBytes, settle(resolve, reject))),
  async allocate(fd, { offset, length }, mode) {
    await inPool('fallocate', fd, ALLOCATION_FLAGS[mode], offset, length);
  },
  async seek(fd, offset, kind) {
    try {
      return await inPool('lseek', fd, offset, SEEK[kind]);
    } catch (error) {
      if (codeOf(error) === 'ENXIO') return undefined;
      throw error;
    }
  },
  async copyRange(from, to) {
    const offsets = { from: pointerTo(from.offset), to: pointerTo(to.offset) };
    const count = await inPool(
      'copy_file_range',
      ...[from.fd, offsets.from, to.fd, offsets.to, to.length, 0],
    );
    // The system moves both on; reading them here also keeps them in memory as long as it does.
    invariant(offsets.to.readBigInt64LE() === BigInt(to.offset + count), 'a copy tells where it ended');
    return count;
  },
  async clone(fromFd, toFd) {
    try {
      await inPool('ioctl', toFd, FICLONE, fromFd);
      return true;
    } catch (error) {
      if (CANNOT_CLONE.has(codeOf(error) ?? '')) return false;
      throw error;
    }
  },
  setTimes(fd, { accessedNs, modifiedNs }) {
    const second = 1_000_000_000n;
    const times = new BigInt64Array(4);
    for (const [index, ns] of [accessedNs, modifiedNs].entries()) {
      const nanoseconds = ((ns % second) + second) % second;
      times[2 * index] = (ns - nanoseconds) / second;
      times[2 * index + 1] = nanoseconds;
    }
    if (calls.futimens === undefined) throw systemError('futimens', 'ENOTSUP');
    if (calls.futimens(fd, times) !== 0) throw lastError('futimens');
  },
  datasyncOpen: (fd) => new Promise((resolve, reject) => fs.fdatasync(fd, settle(resolve, reject))),
  async syncDirectory(path) {
    const directory = await fs.promises.open(path, 'r');
    try {
      await directory.sync();
    } finally {
      await directory.close();
    }
  },
  rename: (from, to) => fs.renameSync(from, to),
  remove: (path) => fs.promises.rm(path, { force: true }),
  copyFile: (from, to) =>
    fs.promises.copyFile(from, to, fs.constants.COPYFILE_EXCL | fs.constants.COPYFILE_FICLONE),
  isOpenForWriting(readFd) {
    // Only Linux lets the kernel write to a file by itself.
    if (process.platform !== 'linux') return false;
    const { fcntl } = calls;
    if (fcntl === undefined) return true;
    fcntl(readFd, F_SETSIG, SIGURG);
    if (fcntl(readFd, F_SETLEASE, F_RDLCK) !== 0) return true;
    fcntl(readFd, F_SETLEASE, F_UNLCK);
    return false;
  },
};
