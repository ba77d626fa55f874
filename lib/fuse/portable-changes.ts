/**
 * Answers the requests of libfuse that change something, which name paths, by write operations, which name nodes.
 *
 * What the library does not hand on is left out or as good as it can be: it does not tell who asks, so everything that is
 * made belongs to this process; it has no fallocate, no SEEK_HOLE, no rename flags, no locks, and names in UTF-8 only;
 * it gives the time of access for both times, to the millisecond; and it renames open files that are removed.
 */
import type { NodeId } from '../base/brand.ts';
import { NAME_BYTES_MAX } from '../base/limits.ts';
import { Errno } from './errno.ts';
import type { NativeHandlers } from './fuse-native.ts';
import { ErrnoError, type FileSystemOperations, type RequestContext } from './operations.ts';
import type { PathWalker } from './path-walker.ts';
import type { PortableFiles } from './portable-files.ts';
import type { AttributeChanges, Place, WriteOperations } from './write-operations.ts';

const MODE_BITS = 0o7777;
const TYPE_BITS = 0o170000;
const TYPE_FILE = 0o100000;
/** Of open(2): the library does not say which flags a create has. */
const O_RDWR_CREAT = 0o102;
/** chown(2) of only one of the two says this of the other. */
const UNCHANGED = 0xffff_ffff;
const NS_PER_MS = 1_000_000n;
/** XATTR_CREATE and XATTR_REPLACE. */
const SET_MODES = ['either', 'create', 'replace'] as const;

type Done<T = void> = (code: number, value?: T) => void;

/** Runs one operation and answers exactly once: 0 and its value, or a negative errno. */
export type Answer = <T>(op: string, done: Done<T>, run: () => Promise<T>) => void;

export interface PortableChangesOptions {
  readonly operations: FileSystemOperations;
  readonly writes: WriteOperations;
  readonly walker: PathWalker;
  readonly files: PortableFiles;
  readonly context: RequestContext;
  readonly answer: Answer;
}

export class PortableChanges {
  readonly #operations: FileSystemOperations;
  readonly #writes: WriteOperations;
  readonly #walker: PathWalker;
  readonly #files: PortableFiles;
  readonly #context: RequestContext;
  readonly #answer: Answer;

  constructor(options: PortableChangesOptions) {
    this.#operations = options.operations;
    this.#writes = options.writes;
    this.#walker = options.walker;
    this.#files = options.files;
    this.#context = options.context;
    this.#answer = options.answer;
  }

  handlers(): Partial<NativeHandlers> {
    return { ...this.#names(), ...this.#attributes(), ...this.#openFiles() };
  }

  #names(): Partial<NativeHandlers> {
    const [writes, context, answer] = [this.#writes, this.#context, this.#answer];
    const enter = (make: (place: Place) => Promise<{ readonly node: NodeId }>, path: string): Promise<void> =>
      this.#at(path, async (place) => this.#walker.release((await make(place)).node));
    return {
      mknod: (path: string, mode: number, _device: number, done: Done) =>
        answer('mknod', done, async () => {
          if ((mode & TYPE_BITS) !== TYPE_FILE)
            throw new ErrnoError(Errno.EPERM, 'only regular files can be made by mknod');
          await enter((place) => writes.makeFile(place, mode & MODE_BITS, context), path);
        }),
      mkdir: (path: string, mode: number, done: Done) =>
        answer('mkdir', done, () =>
          enter((place) => writes.makeDirectory(place, mode & MODE_BITS, context), path),
        ),
      symlink: (target: string, path: string, done: Done) =>
        answer('symlink', done, () =>
          enter((place) => writes.makeSymlink(place, Buffer.from(target), context), path),
        ),
      link: (from: string, path: string, done: Done) =>
        answer('link', done, () =>
          this.#walker.with(from, context, ({ node }) =>
            enter((place) => writes.link(node, place, context), path),
          ),
        ),
      unlink: (path: string, done: Done) =>
        answer('unlink', done, () => this.#at(path, (place) => writes.unlink(place, context))),
      rmdir: (path: string, done: Done) =>
        answer('rmdir', done, () => this.#at(path, (place) => writes.removeDirectory(place, context))),
      rename: (from: string, to: string, done: Done) =>
        answer('rename', done, () =>
          this.#at(from, (source) =>
            this.#at(to, (target) => writes.rename(source, { ...target, mode: 'replace' }, context)),
          ),
        ),
    };
  }

  #attributes(): Partial<NativeHandlers> {
    const [writes, context, answer] = [this.#writes, this.#context, this.#answer];
    const owner = (id: number): number | undefined => (id >>> 0 === UNCHANGED ? undefined : id >>> 0);
    return {
      chmod: (path: string, mode: number, done: Done) =>
        answer('setattr', done, () => this.#change(path, { mode: mode & MODE_BITS })),
      chown: (path: string, userId: number, groupId: number, done: Done) =>
        answer('setattr', done, () => {
          const [uid, gid] = [owner(userId), owner(groupId)];
          const changes = { ...(uid !== undefined && { uid }), ...(gid !== undefined && { gid }) };
          return this.#change(path, { ...changes, dropSetIds: true });
        }),
      utimens: (path: string, accessedMs: number, modifiedMs: number, done: Done) =>
        answer('setattr', done, () =>
          this.#change(path, {
            accessedNs: BigInt(accessedMs) * NS_PER_MS,
            modifiedNs: BigInt(modifiedMs) * NS_PER_MS,
          }),
        ),
      truncate: (path: string, sizeBytes: number, done: Done) =>
        answer('setattr', done, () => this.#change(path, { sizeBytes })),
      ftruncate: (_path: string, mapped: number, sizeBytes: number, done: Done) =>
        answer('setattr', done, async () => {
          const { node, handle } = this.#files.get(mapped);
          await writes.setAttributes(node, { sizeBytes, handle }, context);
        }),
      setxattr: (path: string, name: string, value: Buffer, _position: number, flags: number, done: Done) =>
        answer('setxattr', done, async () => {
          const mode = SET_MODES[flags];
          if (mode === undefined) throw new ErrnoError(Errno.EINVAL, 'flags of setxattr');
          const attribute = { name, value: Buffer.from(value), mode };
          await this.#walker.with(path, context, ({ node }) =>
            writes.setExtendedAttribute(node, attribute, context),
          );
        }),
      removexattr: (path: string, name: string, done: Done) =>
        answer('removexattr', done, () =>
          this.#walker.with(path, context, ({ node }) => writes.removeExtendedAttribute(node, name, context)),
        ),
    };
  }

  #openFiles(): Partial<NativeHandlers> {
    const [writes, context, answer] = [this.#writes, this.#context, this.#answer];
    return {
      create: (path: string, mode: number, done: Done<number>) =>
        answer('create', done, () => this.#create(path, mode & MODE_BITS)),
      write: (
        _path: string,
        mapped: number,
        bytes: Buffer,
        length: number,
        offset: number,
        done: (count: number) => void,
      ) =>
        answer<number>(
          'write',
          (code, count) => done(code === 0 ? (count ?? 0) : code),
          async () => {
            const range = { offset, bytes: bytes.subarray(0, length), dropSetIds: true };
            return writes.write(this.#files.get(mapped).handle, range, context);
          },
        ),
      fsync: (_path: string, dataOnly: number, mapped: number, done: Done) =>
        answer('fsync', done, async () =>
          writes.sync(this.#files.get(mapped).handle, { dataOnly: dataOnly !== 0 }, context),
        ),
      fsyncdir: (path: string, dataOnly: number, _mapped: number, done: Done) =>
        answer('fsyncdir', done, () => this.#syncDirectory(path, dataOnly !== 0)),
    };
  }

  async #create(path: string, mode: number): Promise<number> {
    return this.#at(path, async (place) => {
      const how = { mode, flags: O_RDWR_CREAT };
      const { entry, open } = await this.#writes.create(place, how, this.#context);
      return this.#files.add({ node: entry.node, handle: open.handle });
    });
  }

  #syncDirectory(path: string, dataOnly: boolean): Promise<void> {
    return this.#walker.with(path, this.#context, async ({ node }) => {
      const { handle } = await this.#operations.openDirectory(node, this.#context);
      try {
        await this.#writes.syncDirectory(handle, { dataOnly }, this.#context);
      } finally {
        this.#operations.releaseDirectory(handle);
      }
    });
  }

  #change(path: string, changes: AttributeChanges): Promise<void> {
    return this.#walker.with(path, this.#context, async ({ node }) => {
      await this.#writes.setAttributes(node, changes, this.#context);
    });
  }

  /** Walks to the directory of a path, which must have a name in it. */
  async #at<T>(path: string, use: (place: Place) => Promise<T>): Promise<T> {
    const cut = path.lastIndexOf('/');
    const name = Buffer.from(path.slice(cut + 1));
    if (name.length > NAME_BYTES_MAX) throw new ErrnoError(Errno.ENAMETOOLONG, 'name longer than 255 bytes');
    return this.#walker.with(path.slice(0, Math.max(cut, 0)), this.#context, ({ node }) =>
      use({ parent: node, name }),
    );
  }
}
