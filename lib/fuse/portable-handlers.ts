/**
 * Answers the requests of libfuse, which name paths, by operations, which name nodes.
 *
 * After `end` nothing is called and everything gets ENOTCONN. What changes something is answered by `PortableChanges`,
 * where there are such operations.
 */
import { describeError } from '../base/errors.ts';
import type { DriverOptions } from './driver-options.ts';
import { Errno, errnoName } from './errno.ts';
import type { NativeHandlers, NativeStat, NativeStatistics } from './fuse-native.ts';
import {
  ErrnoError,
  type AttributesReply,
  type FileSystemStatistics,
  type NodeAttributes,
  type RequestContext,
} from './operations.ts';
import { PathWalker } from './path-walker.ts';
import { type Answer, PortableChanges } from './portable-changes.ts';
import { PortableFiles } from './portable-files.ts';

/** Names of one directory that libfuse is handed in one piece. */
const LIST_ENTRIES_MAX = 4_000_000;

/** What would change the file system: the name of libfuse's request, and of the kernel's. */
const CHANGES: readonly (readonly [string, string])[] = [
  ['truncate', 'setattr'],
  ['ftruncate', 'setattr'],
  ['utimens', 'setattr'],
  ['chown', 'setattr'],
  ['chmod', 'setattr'],
  ['mknod', 'mknod'],
  ['setxattr', 'setxattr'],
  ['removexattr', 'removexattr'],
  ['write', 'write'],
  ['create', 'create'],
  ['unlink', 'unlink'],
  ['rename', 'rename'],
  ['link', 'link'],
  ['symlink', 'symlink'],
  ['mkdir', 'mkdir'],
  ['rmdir', 'rmdir'],
];

export class PortableHandlers {
  readonly #options: DriverOptions;
  readonly #walker: PathWalker;
  readonly #files = new PortableFiles();
  readonly #abort = new AbortController();
  readonly #context: RequestContext;

  constructor(options: DriverOptions) {
    this.#options = options;
    this.#walker = new PathWalker(options.operations);
    // libfuse knows who asks, the library does not tell.
    const [uid, gid] = [process.getuid?.() ?? 0, process.getgid?.() ?? 0];
    this.#context = { uid, gid, pid: 0, signal: this.#abort.signal };
  }

  get ended(): boolean {
    return this.#abort.signal.aborted;
  }

  end(): void {
    this.#abort.abort(new ErrnoError(Errno.ENOTCONN, 'the mount has ended'));
  }

  handlers(): NativeHandlers {
    const { operations } = this.#options;
    const context = this.#context;
    return {
      ...this.#changes(),
      getattr: (path, done) => this.#answer('getattr', done, () => this.#attributes(path)),
      fgetattr: (path, handle, done) => this.#answer('getattr', done, () => this.#ofHandle(path, handle)),
      readlink: (path, done) =>
        this.#answer('readlink', done, () =>
          this.#walker.with(path, context, async ({ node }) =>
            Buffer.from(await operations.readLink(node, context)).toString(),
          ),
        ),
      open: (path, flags, done) => this.#answer('open', done, () => this.#open(path, flags)),
      read: (_path, handle, into, length, offset, done) =>
        this.#answer(
          'read',
          (code, count) => done(code === 0 ? (count ?? 0) : code),
          async () => {
            const bytes = await operations.read(this.#files.get(handle).handle, { offset, length }, context);
            into.set(bytes.length <= length ? bytes : bytes.subarray(0, length));
            return Math.min(bytes.length, length);
          },
        ),
      flush: (_path, handle, done) =>
        this.#answer('flush', done, () => operations.flush(this.#files.get(handle).handle, context)),
      release: (_path, handle, done) => this.#answer('release', done, async () => this.#release(handle)),
      readdir: (path, done) =>
        this.#answer(
          'readdir',
          (code, records) => done(code, records?.names, records?.stats),
          () => this.#list(path),
        ),
      statfs: (_path, done) =>
        this.#answer('statfs', done, async () => nativeStatistics(await operations.statistics(context))),
      getxattr: (path, name, _position, done) =>
        this.#answer('getxattr', done, () =>
          this.#walker.with(path, context, async ({ node }) =>
            Buffer.from(await operations.getExtendedAttribute(node, name, context)),
          ),
        ),
      listxattr: (path, done) =>
        this.#answer('listxattr', done, () =>
          this.#walker.with(path, context, async ({ node }) => [
            ...(await operations.listExtendedAttributes(node, context)),
          ]),
        ),
    };
  }

  /** Without write operations every change is refused. */
  #changes(): NativeHandlers {
    const { operations, writes } = this.#options;
    const [context, walker, files] = [this.#context, this.#walker, this.#files];
    if (writes !== undefined) {
      const answer: Answer = (op, done, run) => this.#answer(op, done, run);
      const changes = new PortableChanges({ operations, writes, walker, files, context, answer });
      return changes.handlers() as NativeHandlers;
    }
    const refusals = CHANGES.map(([name, operation]) => [
      name,
      (path: string, ...rest: unknown[]) =>
        this.#answer(operation, rest.at(-1) as (code: number) => void, () =>
          walker.with(parentOf(path), context, ({ node }) =>
            operations.refuseChange(operation, node, context),
          ),
        ),
    ]);
    return Object.fromEntries(refusals) as NativeHandlers;
  }

  /** Runs one operation and answers exactly once: 0 and its value, or a negative errno. */
  #answer<T>(op: string, done: (code: number, value?: T) => void, run: () => Promise<T>): void {
    const { metrics, clock } = this.#options;
    const startedMs = clock.nowMs();
    const finish = (errno: number, value?: T): void => {
      metrics.fuseRequests.labels({ op, errno: errno === 0 ? 'OK' : errnoName(errno) }).inc();
      metrics.fuseRequestSeconds.labels({ op }).observe((clock.nowMs() - startedMs) / 1000);
      done(-errno, value);
    };
    if (this.ended) return finish(Errno.ENOTCONN);
    run().then(
      (value) => finish(0, value),
      (error: unknown) => finish(this.#errnoOf(op, error)),
    );
  }

  #errnoOf(op: string, error: unknown): number {
    if (error instanceof ErrnoError && error.errno > 0) return error.errno;
    this.#options.logger.error({ op, error: describeError(error) }, 'operation failed');
    return Errno.EIO;
  }

  async #attributes(path: string): Promise<NativeStat> {
    return this.#walker.with(path, this.#context, async ({ node, attributes }) =>
      nativeStat(attributes ?? (await this.#options.operations.attributes(node, undefined, this.#context))),
    );
  }

  async #ofHandle(path: string, handle: number): Promise<NativeStat> {
    const file = this.#files.find(handle);
    if (file === undefined) return this.#attributes(path);
    return nativeStat(await this.#options.operations.attributes(file.node, file.handle, this.#context));
  }

  async #open(path: string, flags: number): Promise<number> {
    const { node } = await this.#walker.walk(path, this.#context);
    try {
      const { handle } = await this.#options.operations.open(node, flags, this.#context);
      return this.#files.add({ handle, node });
    } catch (error) {
      this.#walker.release(node);
      throw error;
    }
  }

  #release(mapped: number): void {
    const { handle, node } = this.#files.remove(mapped);
    try {
      this.#options.operations.release(handle);
    } finally {
      this.#walker.release(node);
    }
  }

  /** The whole directory at once: libfuse keeps it, and makes stable offsets of its own. */
  async #list(path: string): Promise<{ names: string[]; stats: NativeStat[] }> {
    const { operations } = this.#options;
    const context = this.#context;
    return this.#walker.with(path, context, async ({ node }) => {
      const { handle } = await operations.openDirectory(node, context);
      const names: string[] = [];
      const stats: NativeStat[] = [];
      try {
        let offset = 0n;
        for (let before = -1; before < names.length && names.length < LIST_ENTRIES_MAX;) {
          before = names.length;
          await operations.readDirectory(
            handle,
            offset,
            (record) => {
              names.push(Buffer.from(record.name).toString());
              stats.push(typeOnly(record.type));
              offset = record.nextOffset;
              return true;
            },
            context,
          );
        }
      } finally {
        operations.releaseDirectory(handle);
      }
      return { names, stats };
    });
  }
}

function parentOf(path: string): string {
  return path.slice(0, Math.max(path.lastIndexOf('/'), 0));
}

/** libfuse takes only the type of an entry out of a listing. */
function typeOnly(type: number): NativeStat {
  return {
    mode: type << 12,
    uid: 0,
    gid: 0,
    size: 0,
    dev: 0,
    nlink: 1,
    ino: 0,
    rdev: 0,
    blksize: 0,
    blocks: 0,
    atime: 0,
    mtime: 0,
    ctime: 0,
  };
}

/** Whole milliseconds; times before 1970 cannot be said. */
function milliseconds(ns: bigint): number {
  return ns > 0n ? Number(ns / 1_000_000n) : 0;
}

function nativeStat(reply: AttributesReply): NativeStat {
  const attributes: NodeAttributes = reply.attributes;
  return {
    mode: attributes.mode,
    uid: attributes.uid,
    gid: attributes.gid,
    size: attributes.sizeBytes,
    dev: 0,
    nlink: attributes.links,
    ino: Number(attributes.inode & 0xffff_ffffn),
    rdev: attributes.device,
    blksize: attributes.blockBytes,
    blocks: Math.ceil(attributes.sizeBytes / 512),
    atime: milliseconds(attributes.accessedNs),
    mtime: milliseconds(attributes.modifiedNs),
    ctime: milliseconds(attributes.changedNs),
  };
}

/** Counts have 32 bits there: larger file systems are shown in larger blocks. */
function nativeStatistics(statistics: FileSystemStatistics): NativeStatistics {
  let shift = 0n;
  while (statistics.blocks >> shift > 0xffff_ffffn) shift++;
  const scale = 2 ** Number(shift);
  const counted = (blocks: bigint): number => Number(blocks >> shift);
  const inodes = (files: bigint): number => Number(files > 0xffff_ffffn ? 0xffff_ffffn : files);
  return {
    bsize: statistics.blockBytes * scale,
    frsize: statistics.fragmentBytes * scale,
    blocks: counted(statistics.blocks),
    bfree: counted(statistics.blocksFree),
    bavail: counted(statistics.blocksAvailable),
    files: inodes(statistics.files),
    ffree: inodes(statistics.filesFree),
    favail: inodes(statistics.filesFree),
    fsid: 0,
    flag: 0,
    namemax: statistics.nameBytesMax,
  };
}
