/**
 * The only door to the kernel: `/dev/fuse`, mount(2), umount2(2), the ioctls of FUSE, and the files under `/proc`
 * and `/sys` that say what is mounted. System calls that Node lacks go through an FFI library.
 *
 * Requests are read on the thread pool (one thread waits for each outstanding read), replies are written at once
 * by the calling thread. Calls that can wait for answers of our own (umount2, statfs) never run on that thread.
 */
import {
  constants,
  closeSync,
  openSync,
  read,
  readFileSync,
  write,
  writeFileSync,
  writevSync,
} from 'node:fs';
import { readdir, readlink, realpath, stat, statfs } from 'node:fs/promises';
import { getSystemErrorMap } from 'node:util';
import koffi from 'koffi';

const DEVICE_PATH = '/dev/fuse';
const MOUNT_INFO_PATH = '/proc/self/mountinfo';
const CONTROL_PATH = '/sys/fs/fuse/connections';
const IOCTL_CLONE = 0x8004e500;
const IOCTL_BACKING_OPEN = 0x4010e501;
const IOCTL_BACKING_CLOSE = 0x4004e502;

export const MountFlag = { RDONLY: 1, NOSUID: 2, NODEV: 4 } as const;
export const UnmountFlag = { FORCE: 1, DETACH: 2, NOFOLLOW: 8 } as const;

/** A failed system call. `code` is the errno's name. */
export class SystemCallError extends Error {
  readonly errno: number;
  readonly code: string;
  constructor(call: string, errno: number) {
    const [code, text] = getSystemErrorMap().get(-errno) ?? [`E${errno}`, 'unknown error'];
    super(`${call}: ${text} (${code})`);
    this.name = 'SystemCallError';
    this.errno = errno;
    this.code = code;
  }
}

/** The name of the errno in anything that a system call threw. */
export function systemErrorCode(error: unknown): string | undefined {
  const code = (error as { code?: unknown } | null)?.code;
  return typeof code === 'string' ? code : undefined;
}

export interface MountArguments {
  readonly source: string;
  readonly target: string;
  readonly type: string;
  readonly flags: number;
  readonly data: string;
}

/** The system calls that Node does not have. */
export class SystemCalls {
  readonly #mount;
  readonly #umount2;
  readonly #ioctl;
  readonly #clone = Buffer.alloc(4);
  readonly #backing = Buffer.alloc(16);

  constructor() {
    const libc = koffi.load(null);
    this.#mount = libc.func(
      'int mount(const char *source, const char *target, const char *type, unsigned long flags, const char *data)',
    );
    this.#umount2 = libc.func('int umount2(const char *target, int flags)');
    this.#ioctl = libc.func('int ioctl(int fd, unsigned long request, void *argument)');
  }

  mount(mount: MountArguments): void {
    const result = this.#mount(mount.source, mount.target, mount.type, mount.flags, mount.data) as number;
    if (result !== 0) throw new SystemCallError('mount', koffi.errno());
  }

  /** On a thread of the pool, since it may wait for pages that we have yet to answer. */
  unmount(target: string, flags: number): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#umount2.async(target, flags, (error: Error | null, result: number) => {
        if (error !== null) reject(error);
        else if (result !== 0) reject(new SystemCallError('umount2', koffi.errno()));
        else resolve();
      });
    });
  }

  /** On the calling thread: only for what needs no answer of ours, or has its connection cut by FORCE. */
  unmountNow(target: string, flags: number): void {
    if ((this.#umount2(target, flags) as number) !== 0) throw new SystemCallError('umount2', koffi.errno());
  }

  /**
   * Ends a connection whatever still uses it. Where the control file system is not mounted, as in containers, it is
   * mounted for as long as this takes.
   * @param minor of the mount's device number.
   */
  abortConnection(minor: number): void {
    const abort = (): void => writeFileSync(`${CONTROL_PATH}/${minor}/abort`, '1\n');
    try {
      abort();
    } catch (error) {
      if (systemErrorCode(error) !== 'ENOENT') throw error;
      this.mount({ source: 'fusectl', target: CONTROL_PATH, type: 'fusectl', flags: 0, data: '' });
      try {
        abort();
      } finally {
        this.unmountNow(CONTROL_PATH, UnmountFlag.DETACH);
      }
    }
  }

  /** Makes a freshly opened device another end of the connection that `session` is an end of. */
  clone(fresh: FuseDevice, session: FuseDevice): void {
    this.#clone.writeUInt32LE(session.fd);
    if ((this.#ioctl(fresh.fd, IOCTL_CLONE, this.#clone) as number) !== 0)
      throw new SystemCallError('FUSE_DEV_IOC_CLONE', koffi.errno());
  }

  /** Registers an open file for passthrough. The kernel keeps a reference of its own: `fd` may be closed. */
  backingOpen(device: FuseDevice, fd: number): number {
    this.#backing.fill(0);
    this.#backing.writeInt32LE(fd);
    const id = this.#ioctl(device.fd, IOCTL_BACKING_OPEN, this.#backing) as number;
    if (id < 0) throw new SystemCallError('FUSE_DEV_IOC_BACKING_OPEN', koffi.errno());
    return id;
  }

  backingClose(device: FuseDevice, id: number): void {
    this.#clone.writeInt32LE(id);
    if ((this.#ioctl(device.fd, IOCTL_BACKING_CLOSE, this.#clone) as number) !== 0)
      throw new SystemCallError('FUSE_DEV_IOC_BACKING_CLOSE', koffi.errno());
  }
}

export type ReceiveCallback = (error: NodeJS.ErrnoException | null, bytes: number) => void;

/** One end of a connection to the kernel. A reply must go out by the end through which its request came in. */
export interface RequestChannel {
  /** Reads one request. */
  receive(into: Buffer, done: ReceiveCallback): void;
  /** Reads one request if one waits, on this thread; 0 if none does. Only of a channel that never waits. */
  tryReceive(into: Buffer): number;
  /** Writes one reply at once. 0, or the errno. */
  send(header: Uint8Array, body: Uint8Array | undefined): number;
  /** Writes one notification from a thread of the pool: it may wait for locks of the kernel. */
  notify(message: Uint8Array, done: (error: NodeJS.ErrnoException | null) => void): void;
  /** No read may be outstanding. */
  close(): void;
}

/** Replies up to this size go out as one piece. */
const MESSAGE_BYTES = 512;

/** An open `/dev/fuse`. */
export class FuseDevice implements RequestChannel {
  readonly fd: number;
  readonly #tryRead: ((fd: number, into: Buffer, bytes: number) => number) | undefined;
  readonly #write: (fd: number, from: Buffer, bytes: number) => number;
  readonly #message = Buffer.alloc(MESSAGE_BYTES);
  #open = true;

  /** @param options.neverWaits for `tryReceive` alone */
  constructor(options: { readonly neverWaits?: boolean } = {}) {
    const neverWaits = options.neverWaits === true;
    this.fd = openSync(DEVICE_PATH, neverWaits ? constants.O_RDWR | constants.O_NONBLOCK : 'r+');
    const libc = koffi.load(null);
    // Node's own read throws when nothing waits, which costs more than the read.
    if (neverWaits) this.#tryRead = libc.func('long read(int fd, void *into, size_t bytes)');
    this.#write = libc.func('long write(int fd, const void *from, size_t bytes)');
  }

  receive(into: Buffer, done: ReceiveCallback): void {
    read(this.fd, into, 0, into.length, null, done);
  }

  tryReceive(into: Buffer): number {
    return Math.max(0, this.#tryRead?.(this.fd, into, into.length) ?? 0);
  }

  send(header: Uint8Array, body: Uint8Array | undefined): number {
    const bytes = header.length + (body?.length ?? 0);
    if (bytes > MESSAGE_BYTES) return this.#sendLarge([header, body!]);
    // Most replies are this small, and this takes half the time of a call of Node's.
    this.#message.set(header);
    if (body !== undefined) this.#message.set(body, header.length);
    return this.#write(this.fd, this.#message, bytes) === bytes ? 0 : koffi.errno();
  }

  #sendLarge(parts: Uint8Array[]): number {
    try {
      writevSync(this.fd, parts);
      return 0;
    } catch (error) {
      return Math.abs((error as NodeJS.ErrnoException).errno ?? 5);
    }
  }

  notify(message: Uint8Array, done: (error: NodeJS.ErrnoException | null) => void): void {
    write(this.fd, message, done);
  }

  close(): void {
    if (this.#open) closeSync(this.fd);
    this.#open = false;
  }
}

/** Empty where there is no such table. */
export function readMountInfo(): string {
  try {
    return readFileSync(MOUNT_INFO_PATH, 'utf8');
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return '';
    throw error;
  }
}

const signalBit = (signal: number): bigint => 1n << BigInt(signal - 1);
/** Left to themselves these do not end a program: SIGCHLD, SIGCONT, SIGURG, SIGWINCH, and those that stop it. */
const HARMLESS_SIGNALS = [17, 18, 19, 20, 21, 22, 23, 28].reduce((all, one) => all | signalBit(one), 0n);

/** Whether a signal is pending that ends the program of a thread. One that cannot be seen from here counts as such. */
export function isBeingKilled(thread: number): boolean {
  let status: string;
  try {
    status = readFileSync(`/proc/${thread}/status`, 'utf8');
  } catch {
    return true;
  }
  const signals = (set: string): bigint =>
    BigInt(`0x${new RegExp(`^${set}:\\s*([0-9a-f]+)$`, 'm').exec(status)?.[1] ?? '0'}`);
  const harmless = signals('SigBlk') | signals('SigIgn') | signals('SigCgt') | HARMLESS_SIGNALS;
  return ((signals('SigPnd') | signals('ShdPnd')) & ~harmless) !== 0n;
}

/** Sets the readahead of a mount, in KiB. @param device `major:minor` from the mount table. */
export function writeReadAhead(device: string, kib: number): void {
  writeFileSync(`/sys/class/bdi/${device}/read_ahead_kb`, `${kib}\n`);
}

/** Opens this program's own file, which is the one regular file that is sure to exist. */
export function withProbeFile<T>(use: (fd: number) => T): T {
  const fd = openSync(process.execPath, 'r');
  try {
    return use(fd);
  } finally {
    closeSync(fd);
  }
}

/** Effective capabilities of this process, as in `/proc/self/status`. */
export function readCapabilities(): bigint {
  const hex = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '0';
  return BigInt(`0x${hex}`);
}

export function readKernelRelease(): string {
  return readFileSync('/proc/sys/kernel/osrelease', 'utf8').trim();
}

/** What a path is: `empty-directory`, `directory`, `other`, or the errno's name that stat gave. */
export async function inspectPath(path: string): Promise<string> {
  try {
    if (!(await stat(path)).isDirectory()) return 'other';
    return (await readdir(path)).length === 0 ? 'empty-directory' : 'directory';
  } catch (error) {
    return systemErrorCode(error) ?? 'EIO';
  }
}

/** Asks the file system at `path` itself, never a cache: undefined if it answers, else the errno's name. */
export async function askFileSystem(path: string): Promise<string | undefined> {
  try {
    await statfs(path);
    return undefined;
  } catch (error) {
    return systemErrorCode(error) ?? 'EIO';
  }
}

export function deviceError(): string | undefined {
  try {
    closeSync(openSync(DEVICE_PATH, 'r+'));
    return undefined;
  } catch (error) {
    return systemErrorCode(error) ?? 'EIO';
  }
}

/** The path without links, as the mount table writes it; the last part is not entered, since it may be a dead mount. */
export async function resolveMountpoint(absolute: string): Promise<string> {
  const cut = absolute.lastIndexOf('/');
  const [parent, name] = [absolute.slice(0, cut) || '/', absolute.slice(cut + 1)];
  if (name === '') return '/';
  const resolvedParent = await realpath(parent);
  const resolved = resolvedParent === '/' ? `/${name}` : `${resolvedParent}/${name}`;
  try {
    await readlink(resolved);
  } catch {
    // Not a link, or not there, or a dead mount: the path as it is.
    return resolved;
  }
  return realpath(resolved);
}
