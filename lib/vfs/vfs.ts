/**
 * POSIX semantics over inodes, versions and handles: what a driver calls. Changes are in `change-operations.ts`.
 *
 * - A file's node stands for one version, so a handle sees one version from open to close whatever others commit, and
 *   fstat shows that version.
 * - The version of a handle is the one that the lookup of the same open(2) found. When that one is gone from the object
 *   store before it could be fetched, the origin is told and the open is ESTALE, which makes the kernel walk the path
 *   once more.
 * - Reads go to the cache, or to the working copy of a file that is being written; those of passthrough handles do not
 *   come here at all, but would be answered.
 * - A mount that is not given the means to write answers every change by EROFS.
 *
 * Every wait has a deadline and ends when the program is interrupted. Every failure leaves as an `ErrnoError`, by the
 * one mapping of `errno-of.ts`; an EIO always has a log line with its cause.
 */
import type { BlockCache } from '../../cache/block-cache.ts';
import type { WriteBack, WriteMode } from '../../cache/working-copy.ts';
import { ROOT_INODE, type InodeNumber, type NodeId } from '../base/brand.ts';
import type { Clock } from '../base/clock.ts';
import { Errno } from '../fuse/errno.ts';
import {
  ErrnoError,
  type Answer,
  type AttributesReply,
  type BackingFile,
  type DirectoryPlusRecord,
  type DirectoryRecord,
  type DirectorySink,
  type DriverConnection,
  type EntryReply,
  type FileSystemOperations,
  type FileSystemStatistics,
  type OpenReply,
  type RequestContext,
} from '../fuse/operations.ts';
import type { LockOperations, WriteOperations } from '../fuse/write-operations.ts';
import type { NamespaceChanges } from '../namespace/changes.ts';
import type { Namespace } from '../namespace/namespace.ts';
import type { AccessObserver, UseListener } from '../prefetch/access-observer.ts';
import type { OwnPolicies } from '../policy/policy.ts';
import type { Logger } from '../telemetry/log.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { AttributeChanger } from './attribute-changes.ts';
import { isPermitted, WANT_WRITE } from './attributes.ts';
import { ChangeOperations } from './change-operations.ts';
import { DirectoryStream, type StreamRecord } from './directory-stream.ts';
import { isOurs, noAttribute, ourAttribute, setAttribute, type HeldState } from './extended-attributes.ts';
import { FileOpener } from './file-opener.ts';
import { HandleTable } from './handle-table.ts';
import { InodeLocks } from './inode-locks.ts';
import { KernelCache } from './kernel-cache.ts';
import { NameCalls } from './name-calls.ts';
import { NameOperations } from './name-operations.ts';
import { decodeName } from './names.ts';
import { NodeTable, pathOf, policySubjectOf, type Node } from './node-table.ts';
import { NodeView, noEntry } from './node-view.ts';
import { writes } from './open-flags.ts';
import { OperationGuard } from './operation-guard.ts';
import { Reader, type ReadRange } from './reader.ts';
import { StaleReports } from './stale-reports.ts';
import { statisticsOf } from './statistics.ts';
import type { VfsStat } from './vfs-stat.ts';
import { WorkingFiles } from './working-files.ts';
import { Writer } from './writer.ts';

/** The means to write. */
export interface VfsWriting {
  readonly changes: NamespaceChanges;
  readonly writeBack: WriteBack;
  /** Where no policy says otherwise. */
  readonly mode: WriteMode;
}

export interface VfsOptions {
  readonly namespace: Namespace;
  readonly cache: BlockCache;
  readonly observer: AccessObserver;
  /** None: nobody wants to know. */
  readonly uses?: UseListener;
  readonly clock: Clock;
  /** The clock of the leases: it counts suspension. */
  readonly leaseClock: Clock;
  readonly nextTurn: (run: () => void) => void;
  /** How long an operation may wait for names. */
  readonly namesDeadlineMs: number;
  readonly logger: Logger;
  readonly metrics: Metrics;
  /** A file up to this size is fetched whole inside open. */
  readonly wholeOnOpenBytes: number;
  /** None: defaults. */
  readonly policies?: OwnPolicies;
  /** None: the mount is read-only. */
  readonly writing?: VfsWriting;
  /** The directory that the mount shows; the export's root if absent. */
  readonly exportRoot?: InodeNumber;
}

export interface Vfs extends FileSystemOperations {
  /** Neither on a read-only mount. */
  readonly writes: WriteOperations | undefined;
  readonly locks: LockOperations | undefined;
  stat(): VfsStat;
  /** Closes what is open, ends what runs in the background. No operation follows. */
  close(): void;
}

export function createVfs(options: VfsOptions): Vfs {
  return new NodeVfs(options);
}

class NodeVfs implements Vfs {
  readonly writes: WriteOperations | undefined;
  readonly locks: LockOperations | undefined;
  readonly #options: VfsOptions;
  readonly #ended = new AbortController();
  readonly #operations: OperationGuard;
  readonly #nodes: NodeTable;
  readonly #handles = new HandleTable();
  readonly #reader: Reader;
  readonly #opener: FileOpener;
  readonly #kernel: KernelCache;
  readonly #view: NodeView;
  readonly #writer: Writer | undefined;

  constructor(options: VfsOptions) {
    const { namespace, clock, logger } = options;
    this.#options = options;
    this.#operations = new OperationGuard({ logger, clock });
    this.#nodes = new NodeTable({
      rootInode: options.exportRoot ?? ROOT_INODE,
      isOutdated: (node) => this.#opener.isOutdated(node),
    });
    this.#kernel = new KernelCache({ ...options, nodes: this.#nodes, clock: options.leaseClock });
    namespace.listen(this.#kernel);
    const reports = new StaleReports({ ...options, signal: this.#ended.signal });
    this.#reader = new Reader({ ...options, reports });
    this.#opener = new FileOpener({ ...options, nodes: this.#nodes, reader: this.#reader });
    const { writing } = options;
    const parts = { ...options, nodes: this.#nodes, kernel: this.#kernel, handles: this.#handles, reports };
    const working = writing && new WorkingFiles({ ...options, ...writing });
    this.#view = new NodeView({ ...parts, working });
    if (writing === undefined || working === undefined) return;
    const ended = this.#ended.signal;
    const calls = new NameCalls({ ...parts, view: this.#view, ended });
    const shared = { ...parts, ...writing, view: this.#view, working, calls, ended };
    const names = new NameOperations(shared);
    const writer = (this.#writer = new Writer({ ...shared, names }));
    const attributes = new AttributeChanger({ ...shared, writer });
    this.writes = new ChangeOperations({
      guard: this.#operations,
      handles: this.#handles,
      names,
      attributes,
      writer,
      read: (handle, range, context) => this.#read(handle, range, context),
    });
    this.locks = new InodeLocks(parts.nodes);
  }

  connected(connection: DriverConnection): void {
    this.#kernel.connect(connection);
    this.#opener.passthroughAble = connection.abilities.passthrough;
    if (this.#writer !== undefined) this.#writer.passthroughAble = connection.abilities.passthrough;
  }

  disconnected(): void {
    this.#kernel.connect(undefined);
    this.#ended.abort();
    for (const id of this.#handles.ids()) this.#close(id);
  }

  close(): void {
    this.disconnected();
    this.#reader.close();
    this.#operations.close();
  }

  stat(): VfsStat {
    const { passthroughOpens, servedOpens } = this.#opener.opens;
    const written = this.#writer?.opens;
    return {
      passthrough: this.#opener.passthroughAble,
      openFiles: this.#handles.files,
      nodes: this.#nodes.size,
      passthroughOpens: passthroughOpens + (written?.passthroughOpens ?? 0),
      servedOpens: servedOpens + (written?.servedOpens ?? 0),
      servedBytes: this.#reader.servedBytes,
    };
  }

  lookup(parent: NodeId, name: Uint8Array, context: RequestContext): Answer<EntryReply> {
    return this.#operations.answer('lookup', () => {
      const directory = this.#view.directory(parent);
      const text = decodeName(name);
      return text === undefined ? noEntry(0) : this.#view.lookup(directory, text, context);
    });
  }

  forget(node: NodeId, count: bigint): void {
    if (!this.#nodes.forget(node, count)) {
      this.#options.logger.error(
        { node: String(node), count: String(count) },
        'more lookups given back than taken',
      );
    }
  }

  attributes(id: NodeId, handle: bigint | undefined, context: RequestContext): Answer<AttributesReply> {
    return this.#operations.answer('getattr', () =>
      this.#view.attributes(this.#view.node(id), handle, context),
    );
  }

  readLink(id: NodeId, _context: RequestContext): Promise<Uint8Array> {
    return this.#operations.run('readlink', async () => {
      const node = this.#view.node(id);
      const target = node.attributes?.target;
      if (node.kind !== 'symlink' || target === undefined) {
        throw new ErrnoError(Errno.EINVAL, 'not a symbolic link');
      }
      return Buffer.from(target, 'utf8');
    });
  }

  access(id: NodeId, mask: number, context: RequestContext): Promise<void> {
    return this.#operations.run('access', async () => {
      const attributes = await this.#view.inode(this.#view.node(id), context);
      if (!isPermitted(attributes, mask, context)) {
        throw new ErrnoError(Errno.EACCES, 'the permission bits say no');
      }
      if ((mask & WANT_WRITE) !== 0 && this.writes === undefined) throw refusal('write access');
    });
  }

  open(id: NodeId, flags: number, context: RequestContext): Answer<OpenReply> {
    return this.#operations.answer('open', () => {
      const node = this.#view.node(id);
      if (node.kind === 'directory') throw new ErrnoError(Errno.EISDIR, 'a directory');
      if (node.kind === 'symlink') throw new ErrnoError(Errno.EINVAL, 'a symbolic link');
      if (writes(flags) && this.#writer === undefined) throw refusal('an open for write');
      const written = this.#writer?.open(node, flags, context);
      if (written instanceof Promise) {
        return written.then((reply) => reply ?? this.#openVersion(node, context));
      }
      return this.#openVersion(node, context);
    });
  }

  #openVersion(node: Node, context: RequestContext): Answer<OpenReply> {
    const backing = this.#opener.open(node, context);
    return backing instanceof Promise
      ? backing.then((each) => this.#opened(node, each))
      : this.#opened(node, backing);
  }

  #opened(node: Node, backing: BackingFile | undefined): OpenReply {
    if (this.#ended.signal.aborted) {
      this.#opener.close(node);
      throw new ErrnoError(Errno.ENODEV, 'the mount is gone');
    }
    const handle = this.#handles.add({ kind: 'file', node, isWriter: false });
    // The node's pages are those of one version: they stay right for every later open.
    return { handle, noFlush: true, keepCache: true, ...(backing && { backing }) };
  }

  read(handle: bigint, range: ReadRange, context: RequestContext): Promise<Uint8Array> {
    return this.#operations.run('read', () => this.#read(handle, range, context));
  }

  flush(handle: bigint, _context: RequestContext): Promise<void> {
    return this.#operations.run('flush', async () => this.#writer?.flush(this.#handles.file(handle)));
  }

  release(handle: bigint): void {
    this.#close(handle);
  }

  openDirectory(id: NodeId, context: RequestContext): Answer<OpenReply> {
    return this.#operations.answer('opendir', () => {
      const node = this.#view.directory(id);
      const { namespace, clock, namesDeadlineMs, logger } = this.#options;
      const stream = new DirectoryStream(node, {
        namespace,
        clock,
        deadlineMs: namesDeadlineMs,
        drops: () => this.#kernel.drops(node),
        onLooseEnd: () => this.#kernel.dropListing(node),
        onBadName: (name) => logger.debug({ directory: String(node.inode), name }, 'a name cannot be shown'),
      });
      this.#options.uses?.listed({ inode: node.inode, path: () => pathOf(node) });
      const opened = (): OpenReply => {
        this.#nodes.hold(node);
        const keepCache = namespace.isListingHeld(node.inode) && this.#kernel.keepListing(node);
        return { handle: this.#handles.add({ kind: 'directory', node, stream }), keepCache };
      };
      // It will be read in any case, and most directories are held whole with their first page.
      const isHeldAfterLoad = namespace.isLeased && !namespace.isListingHeld(node.inode);
      return isHeldAfterLoad ? stream.load(context).then(opened) : opened();
    });
  }

  readDirectory(
    handle: bigint,
    offset: bigint,
    sink: DirectorySink<DirectoryRecord>,
    context: RequestContext,
  ): Promise<void> {
    return this.#operations.run('readdir', () =>
      this.#handles.directory(handle).stream.read(offset, (record) => sink(record), context),
    );
  }

  readDirectoryPlus(
    handle: bigint,
    offset: bigint,
    sink: DirectorySink<DirectoryPlusRecord>,
    context: RequestContext,
  ): Promise<void> {
    return this.#operations.run('readdirplus', () => {
      const { node, stream } = this.#handles.directory(handle);
      const take = ({ entry, ...record }: StreamRecord): boolean =>
        sink({ ...record, entry: () => entry && this.#view.enter(node, entry) });
      return stream.read(offset, take, context);
    });
  }

  releaseDirectory(handle: bigint): void {
    this.#close(handle);
  }

  statistics(context: RequestContext): Promise<FileSystemStatistics> {
    return this.#operations.run('statfs', async () => {
      const usage = await this.#view.ask(context, (signal) => this.#options.namespace.usage({ signal }));
      return statisticsOf(usage);
    });
  }

  getExtendedAttribute(id: NodeId, name: string, context: RequestContext): Promise<Uint8Array> {
    return this.#operations.run('getxattr', async () => {
      const node = this.#view.node(id);
      if (isOurs(name)) return ourAttribute(name, this.#heldState(node));
      // The kernel asks for attributes of its own too often for that.
      if (!name.startsWith('user.')) throw noAttribute(name);
      return setAttribute(name, await this.#view.inode(node, context));
    });
  }

  listExtendedAttributes(id: NodeId, context: RequestContext): Promise<readonly string[]> {
    return this.#operations.run('listxattr', async () => {
      const { extended = {} } = await this.#view.inode(this.#view.node(id), context);
      return Object.keys(extended);
    });
  }

  refuseChange(operation: string, _node: NodeId, _context: RequestContext): Promise<never> {
    return Promise.reject(refusal(operation));
  }

  async #read(handle: bigint, range: ReadRange, context: RequestContext): Promise<Uint8Array> {
    const { node, copy } = this.#handles.file(handle);
    if (copy !== undefined) return copy.read(range.offset, range.length, range.into);
    if (node.cached === undefined) throw new ErrnoError(Errno.EBADF, 'the handle is closed');
    return this.#reader.read({ node, cached: node.cached }, range, context);
  }

  #heldState(node: Node): HeldState {
    return {
      kind: node.kind,
      version: node.attributes?.source?.version,
      lease: () => {
        const directory = node.kind === 'directory' ? node : node.parent;
        return directory === undefined ? 'none' : this.#options.namespace.leaseText(directory.inode);
      },
      cachedBytes: () =>
        node.copy === undefined ? this.#opener.cachedBytesOf(node) : node.copy.stat().sizeBytes,
      mode: () => (node.copy?.isDirty === true ? 'dirty' : this.#opener.modeOf(node)),
      policies: () => this.#options.policies?.decide(policySubjectOf(node)).deciding ?? [],
    };
  }

  #close(id: bigint): void {
    const handle = this.#handles.remove(id);
    if (handle === undefined) return;
    if (handle.kind === 'file') {
      if (handle.copy === undefined) this.#opener.close(handle.node);
      else this.#writer?.closed(handle.node, handle.copy);
      return;
    }
    handle.stream.close();
    this.#nodes.unhold(handle.node);
  }
}

function refusal(what: string): ErrnoError {
  return new ErrnoError(Errno.EROFS, `${what} refused: the mount is read-only`);
}
