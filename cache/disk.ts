/**
 * The only door of the cache to the disk; what files being written need besides is in `file-calls.ts`.
 *
 * Blob data is read asynchronously, because a device can take its time, unless it lies in memory; names are made and removed
 * synchronously, because that is microseconds and keeps the order of events obvious. Only freeing the space of
 * a large file is left to the thread pool. What the system refuses is thrown as it is (an `ErrnoException`)
 * and sorted by `diskFault`.
 */
import * as fs from 'node:fs';
import { release } from 'node:os';
import { dirname, join } from 'node:path';
import { getSystemErrorName } from 'node:util';
import koffi from 'koffi';
import { type FileCalls, systemFileCalls } from './file-calls.ts';

/**
 * - `no-space`: the file system is full
 * - `device`: the device or its file system is failing
 * - `exhausted`: this process or host has no descriptors or memory left
 * - `missing`: the file is not there
 * - `gone`: the file of a blob was taken away from outside: nothing is wrong with the disk, only with this blob
 * - `other`: anything else
 */
export type DiskFault = 'no-space' | 'device' | 'exhausted' | 'missing' | 'gone' | 'other';

const FAULTS: Readonly<Record<string, DiskFault>> = {
  ENOSPC: 'no-space',
  EDQUOT: 'no-space',
  EIO: 'device',
  EROFS: 'device',
  ENXIO: 'device',
  ENODEV: 'device',
  EUCLEAN: 'device',
  ETIMEDOUT: 'device',
  EMFILE: 'exhausted',
  ENFILE: 'exhausted',
  ENOMEM: 'exhausted',
  ENOENT: 'missing',
  EGONE: 'gone',
};

/** Somebody removed the file of a blob under our feet. */
export class FileGoneError extends Error {
  readonly code = 'EGONE';
}

/** Looks along the chain of causes for what the system said. */
export function diskFault(error: unknown): DiskFault {
  for (let at: unknown = error, depth = 0; at instanceof Error && depth < 8; at = at.cause, depth++) {
    const code = (at as NodeJS.ErrnoException).code;
    if (code === undefined) continue;
    if (FAULTS[code] !== undefined) return FAULTS[code];
    if (code.startsWith('SQLITE_FULL')) return 'no-space';
    if (code.startsWith('SQLITE_IOERR') || code.startsWith('SQLITE_READONLY')) return 'device';
  }
  return 'other';
}

export interface DiskSpace {
  readonly totalBytes: number;
  /** What unprivileged writers may still take. */
  readonly availableBytes: number;
}

/** A file system as a whole. Failures to write to it are seen from the moment that this was made. */
export interface WholeSync {
  /** Resolves when whatever was written to any file before the call is on the device. */
  sync(): Promise<void>;
  close(): void;
}

export interface Disk extends FileCalls {
  /** Opens for reading and positional writes; `create` makes a new file, in place of one of that name. */
  open(path: string, options: { readonly create: boolean }): number;
  close(fd: number): void;
  /** Fills `buffer` from `position`; fewer bytes only at the end of the file. */
  read(fd: number, buffer: Uint8Array, position: number): Promise<number>;
  /** Fills `buffer` if all of it lies in the system's memory. False: it does not, or the system cannot say. Never waits. */
  readNow(fd: number, buffer: Uint8Array, position: number): boolean;
  /** Resolves when the file's data is on the device. */
  datasync(path: string): Promise<void>;
  /** Of the file system of a directory; undefined where the system cannot sync one and tell whether that worked. */
  whole(directory: string): WholeSync | undefined;
  /** Bytes of the device that a file takes now. */
  allocatedBytes(file: number | string): number;
  sizeBytes(fd: number): number;
  unlink(path: string): void;
  /** Takes the name away at once and frees the space in the background. */
  discard(path: string, trash: string): Promise<void>;
  space(directory: string): DiskSpace;
  /** Writes, syncs, reads back and removes a small file. */
  probe(path: string): Promise<void>;
  /** Names in a directory, or undefined if there is no such directory. */
  list(directory: string): { readonly name: string; readonly isFile: boolean }[] | undefined;
  makeDirectory(path: string): void;
  readText(path: string): string | undefined;
  /** Replaces a small file at once and durably. */
  writeText(path: string, text: string): void;
}

const PROBE_BYTES = 4096;
/** preadv2(2): fail rather than wait for a device. */
const RWF_NOWAIT = 8;

type ReadNow = (
  fd: number,
  pieces: { readonly base: Uint8Array; readonly length: number },
  count: number,
  position: number,
  flags: number,
) => number;

/** Undefined where the system has no such call. */
function systemReadNow(): ReadNow | undefined {
  try {
    const iovec = koffi.struct({ base: 'void *', length: 'size_t' });
    const types = ['int', koffi.pointer(iovec), 'int', 'long', 'int'];
    return koffi.load(null).func('preadv2', 'long', types) as ReadNow;
  } catch {
    return undefined;
  }
}

const readNow = systemReadNow();

interface Syncfs {
  async(fd: number, done: (error: Error | null, result: number) => void): void;
}

/** Undefined where the system has no such call, or, before Linux 5.8, none that tells of failures. */
function systemSyncfs(): Syncfs | undefined {
  const [major = 0, minor = 0] = release().split('.').map(Number);
  if (process.platform !== 'linux' || major < 5 || (major === 5 && minor < 8)) return undefined;
  try {
    return koffi.load(null).func('syncfs', 'int', ['int']);
  } catch {
    return undefined;
  }
}

const syncfs = systemSyncfs();

function syncWhole(call: Syncfs, fd: number): Promise<void> {
  return new Promise((resolve, reject) => {
    call.async(fd, (error, result) => {
      if (error === null && result === 0) return resolve();
      const code = error === null ? getSystemErrorName(-koffi.errno()) : undefined;
      reject(Object.assign(new Error(`syncfs: ${code}`, { cause: error }), { code }));
    });
  });
}

/**
 * With its parents. Not by `recursive`: that never returns where the parent exists and yet answers ENOENT, as
 * under /proc.
 */
function makeDirectory(path: string): void {
  try {
    fs.mkdirSync(path, { mode: 0o700 });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST' && fs.statSync(path).isDirectory()) return;
    const parent = dirname(path);
    if (code !== 'ENOENT' || parent === path || fs.existsSync(parent)) throw error;
    makeDirectory(parent);
    fs.mkdirSync(path, { mode: 0o700 });
  }
}

export const systemDisk: Disk = {
  ...systemFileCalls,
  open(path, { create }) {
    const { O_RDWR, O_CREAT, O_EXCL, O_NOFOLLOW } = fs.constants;
    const openNow = (): number =>
      fs.openSync(path, O_RDWR | O_NOFOLLOW | (create ? O_CREAT | O_EXCL : 0), 0o600);
    try {
      return openNow();
    } catch (error) {
      if (!create || (error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
      fs.unlinkSync(path);
      return openNow();
    }
  },
  close: (fd) => fs.closeSync(fd),
  read: (fd, buffer, position) =>
    new Promise((resolve, reject) => {
      let filled = 0;
      const next = (): void =>
        fs.read(fd, buffer, filled, buffer.length - filled, position + filled, (error, bytes) => {
          if (error !== null) return reject(error);
          filled += bytes;
          if (bytes === 0 || filled === buffer.length) return resolve(filled);
          next();
        });
      next();
    }),
  readNow: (fd, buffer, position) =>
    readNow?.(fd, { base: buffer, length: buffer.length }, 1, position, RWF_NOWAIT) === buffer.length,
  async datasync(path) {
    const file = await fs.promises.open(path, 'r');
    try {
      await file.datasync();
    } finally {
      await file.close();
    }
  },
  whole(directory) {
    const call = syncfs;
    if (call === undefined) return undefined;
    const fd = fs.openSync(directory, fs.constants.O_RDONLY | fs.constants.O_DIRECTORY);
    return { sync: () => syncWhole(call, fd), close: () => fs.closeSync(fd) };
  },
  allocatedBytes: (file) => (typeof file === 'number' ? fs.fstatSync(file) : fs.statSync(file)).blocks * 512,
  sizeBytes: (fd) => fs.fstatSync(fd).size,
  unlink(path) {
    try {
      fs.unlinkSync(path);
    } catch (error) {
      if (diskFault(error) !== 'missing') throw error;
    }
  },
  async discard(path, trash) {
    try {
      fs.renameSync(path, trash);
    } catch (error) {
      if (diskFault(error) === 'missing') return;
      throw error;
    }
    await fs.promises.rm(trash, { force: true });
  },
  space(directory) {
    const { blocks, bavail, bsize } = fs.statfsSync(directory);
    return { totalBytes: blocks * bsize, availableBytes: bavail * bsize };
  },
  async probe(path) {
    const bytes = Buffer.alloc(PROBE_BYTES, 0xa5);
    const file = await fs.promises.open(path, 'w+');
    try {
      await file.write(bytes, 0, bytes.length, 0);
      await file.datasync();
      const back = await file.read(Buffer.alloc(bytes.length), 0, bytes.length, 0);
      if (!back.buffer.equals(bytes))
        throw Object.assign(new Error('read back other bytes'), { code: 'EIO' });
    } finally {
      await file.close();
    }
    await fs.promises.rm(path, { force: true });
  },
  list(directory) {
    try {
      const entries = fs.readdirSync(directory, { withFileTypes: true });
      return entries.map((entry) => ({ name: entry.name, isFile: entry.isFile() }));
    } catch (error) {
      if (diskFault(error) === 'missing') return undefined;
      throw error;
    }
  },
  makeDirectory,
  readText(path) {
    try {
      return fs.readFileSync(path, 'utf8');
    } catch (error) {
      if (diskFault(error) === 'missing') return undefined;
      throw error;
    }
  },
  writeText(path, text) {
    const draft = `${path}.draft`;
    const fd = fs.openSync(draft, 'w', 0o600);
    try {
      fs.writeFileSync(fd, text);
      fs.fsyncSync(fd);
    } finally {
      fs.closeSync(fd);
    }
    fs.renameSync(draft, path);
    const parent = fs.openSync(join(path, '..'), 'r');
    try {
      fs.fsyncSync(parent);
    } finally {
      fs.closeSync(parent);
    }
  },
};
