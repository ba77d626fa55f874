/**
 * Loads the optional library that the portable driver is built on, and describes the part of it that is used.
 * What is missing is said in words, with what to install.
 */
import { describeError } from '../base/errors.ts';
import { FuseError } from './operations.ts';

/** A negative errno, or 0. */
type Code = number;

export interface NativeStat {
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  readonly dev: number;
  readonly nlink: number;
  readonly ino: number;
  readonly rdev: number;
  readonly blksize: number;
  readonly blocks: number;
  /** Milliseconds. */
  readonly atime: number;
  readonly mtime: number;
  readonly ctime: number;
}

/** Every value has 32 bits. */
export interface NativeStatistics {
  readonly bsize: number;
  readonly frsize: number;
  readonly blocks: number;
  readonly bfree: number;
  readonly bavail: number;
  readonly files: number;
  readonly ffree: number;
  readonly favail: number;
  readonly fsid: number;
  readonly flag: number;
  readonly namemax: number;
}

type Done<T = void> = (code: Code, value?: T) => void;

/** Handlers of requests. Handles have 31 bits and are never 0. */
export interface NativeHandlers {
  getattr(path: string, done: Done<NativeStat>): void;
  fgetattr(path: string, handle: number, done: Done<NativeStat>): void;
  readlink(path: string, done: Done<string>): void;
  open(path: string, flags: number, done: Done<number>): void;
  /** `done` takes the bytes read, or a negative errno. */
  read(
    path: string,
    handle: number,
    into: Buffer,
    length: number,
    offset: number,
    done: (count: number) => void,
  ): void;
  flush(path: string, handle: number, done: Done): void;
  release(path: string, handle: number, done: Done): void;
  readdir(path: string, done: (code: Code, names?: string[], stats?: NativeStat[]) => void): void;
  statfs(path: string, done: Done<NativeStatistics>): void;
  getxattr(path: string, name: string, position: number, done: Done<Buffer>): void;
  listxattr(path: string, done: Done<string[]>): void;
  readonly [change: string]: (...values: never[]) => void;
}

export interface NativeOptions {
  readonly fsname: string;
  readonly subtype: string;
  readonly allowOther: boolean;
  readonly defaultPermissions: boolean;
  readonly entryTimeout: string;
  readonly attrTimeout: string;
  /** False: requests take as long as they take. */
  readonly timeout: false;
}

export interface NativeMount {
  mount(done: (error: Error | null) => void): void;
  /** Lets go of the library's thread; the mount itself must be gone. */
  unmount(done: (error: Error | null) => void): void;
}

export interface NativeLibrary {
  new (mountpoint: string, handlers: NativeHandlers, options: NativeOptions): NativeMount;
}

const LIBRARY = 'fuse-native';
/** -ERANGE. */
const TOO_SMALL = -34;

/** Answers one request: a count or negative errno, and the memory that was filled. */
type Signal = (code: Code, memory: ArrayBufferLike) => void;

/**
 * The library answers with more bytes than the caller has room for when an extended attribute is asked for with a
 * small buffer, which makes libfuse read beyond it. Such callers get ERANGE here.
 */
function withChecked(library: NativeLibrary): NativeLibrary {
  // The library's own way to unmount is a shell command with the path in it: the driver does it before.
  (library as unknown as { unmount: unknown }).unmount = (_path: string, done: (error: null) => void) =>
    done(null);
  const Checked = class extends (library as unknown as new (...values: unknown[]) => {
    ops: NativeHandlers;
  }) {
    _op_getxattr(signal: Signal, path: string, name: string, into: Buffer, position: number): void {
      this.ops.getxattr(path, name, position, (code, value) => {
        if (code !== 0 || value === undefined) return signal(code, into.buffer);
        if (into.length > 0 && value.length > into.length) return signal(TOO_SMALL, into.buffer);
        value.copy(into);
        signal(value.length, into.buffer);
      });
    }

    _op_listxattr(signal: Signal, path: string, into: Buffer): void {
      this.ops.listxattr(path, (code, names) => {
        if (code !== 0 || names === undefined) return signal(code, into.buffer);
        const list = Buffer.from(names.map((name) => `${name}\0`).join(''));
        if (into.length > 0 && list.length > into.length) return signal(TOO_SMALL, into.buffer);
        list.copy(into);
        signal(list.length, into.buffer);
      });
    }
  };
  return Checked as unknown as NativeLibrary;
}

/** @throws FuseError `fuse-native-missing`, `libfuse-missing` */
export async function loadNativeLibrary(
  load: () => Promise<unknown> = () => import(LIBRARY),
): Promise<NativeLibrary> {
  try {
    return withChecked(((await load()) as { default: NativeLibrary }).default);
  } catch (error) {
    if (/libfuse|osxfuse|macfuse/i.test(describeError(error)))
      throw new FuseError('libfuse-missing', 'the portable driver needs libfuse 2', {
        cause: error,
        hint: process.platform === 'darwin' ? 'install macFUSE' : 'install it: apt-get install libfuse2 fuse',
      });
    throw new FuseError('fuse-native-missing', 'the portable driver needs the package fuse-native', {
      cause: error,
      hint: 'install it: npm install fuse-native',
    });
  }
}
