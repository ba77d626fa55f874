/**
 * POSIX semantics, read side, over inodes, versions and handles: what a driver calls.
 *
 * - What the namespace holds is answered at once, and the kernel may keep it for as long as the namespace says: such an
 *   answer is read and handed on within one turn of the event loop. All else is asked for, and the kernel keeps nothing
 *   of it, unless the namespace holds it by then.
 * - A file's node stands for one version, so a handle sees one version from open to close whatever others commit, and
 *   fstat shows that version.
 * - The version of a handle is the one that the lookup of the same open(2) found. When that one is gone from the object
 *   store before it could be fetched, the origin is told and the open is ESTALE, which makes the kernel walk the path
 *   once more.
 * - Reads go to the cache; those of passthrough handles do not come here at all, but would be answered.
 * - Everything that changes is EROFS.
 *
 * Every wait has a deadline and ends when the program is interrupted. Every failure leaves as an `ErrnoError`, by the
 * one mapping of `errno-of.ts`; an EIO always has a log line with its cause.
 */
import type { BlockCache } from '../../cache/block-cache.ts';
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
import type {
  DirectoryEntry,
  InodeAttributes,
  KnownAttributes,
  KnownName,
  Namespace,
} from '../namespace/namespace.ts';
import type { AccessObserver, UseListener } from '../prefetch/access-observer.ts';
import type { OwnPolicies } from '../policy/policy.ts';
import type { Logger } from '../telemetry/log.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { isPermitted, nodeAttributes, NO_ATTRIBUTES, WANT_WRITE } from './attributes.ts';
import { bounded } from './bounded.ts';
import { DirectoryStream, type StreamRecord } from './directory-stream.ts';
import { errnoOf } from './errno-of.ts';
import { extendedAttribute, extendedAttributeNames, type HeldState } from './extended-attributes.ts';
import { FileOpener } from './file-opener.ts';
import { HandleTable } from './handle-table.ts';
import { KernelCache } from './kernel-cache.ts';
import { decodeName } from './names.ts';
import { NodeTable, pathOf, policySubjectOf, type Entry, type Node } from './node-table.ts';
import { OperationGuard } from './operation-guard.ts';
import { Reader, type ReadRange } from './reader.ts';
import { StaleReports } from './stale-reports.ts';
import { statisticsOf } from './statistics.ts';
import type { VfsStat } from './vfs-stat.ts';

/** Of open(2), from include/uapi/asm-generic/fcntl.h. */
const O_ACCMODE = 3;
const O_RDONLY = 0;
const O_TRUNC = 0o1000;

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
  readonly readOnly: boolean;
  /** The directory that the mount shows; the export's root if absent. */
  readonly exportRoot?: InodeNumber;
}

interface ShownAttributes {
  readonly attributes: InodeAttributes;
  readonly validForMs: number;
  /** No name is left. */
  readonly gone: boolean;
}

export interface Vfs extends FileSystemOperations {
  stat(): VfsStat;
  /** Closes what is open, ends what runs in the background. No operation follows. */
  close(): void;
}

export function createVfs(options: VfsOptions): Vfs {
  return new ReadOnlyVfs(options);
}

class ReadOnlyVfs implements Vfs {
  readonly #options: VfsOptions;
  readonly #ended = new AbortController();
  readonly #operations: OperationGuard;
  readonly #nodes: NodeTable;
  readonly #handles = new HandleTable();
  readonly #reader: Reader;
  readonly #opener: FileOpener;
  readonly #kernel: KernelCache;
  /** Orders what the namespace is asked. */
  #lastAsked = 0;

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
  }

  connected(connection: DriverConnection): void {
    this.#kernel.connect(connection);
    this.#opener.passthroughAble = connection.abilities.passthrough;
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
    return {
      passthrough: this.#opener.passthroughAble,
      openFiles: this.#handles.files,
      nodes: this.#nodes.size,
      ...this.#opener.opens,
      servedBytes: this.#reader.servedBytes,
    };
  }

  lookup(parent: NodeId, name: Uint8Array, context: RequestContext): Answer<EntryReply> {
    return this.#operations.answer('lookup', () => {
      const directory = this.#directory(parent);
      const text = decodeName(name);
      if (text === undefined) return noEntry(0);
      const at = { parent: directory, name: text, asked: ++this.#lastAsked };
      const known = this.#options.namespace.knownName(directory.inode, text);
      return known === undefined ? this.#lookUp(at, context) : this.#found(known, at);
    });
  }

  async #lookUp(at: Omit<Entry, 'validForMs'>, context: RequestContext): Promise<EntryReply> {
    const { namespace } = this.#options;
    const directory = at.parent.inode;
    const attributes = await this.#ask(context, (signal) => namespace.lookup(directory, at.name, { signal }));
    return this.#found(namespace.knownName(directory, at.name) ?? { attributes, validForMs: 0 }, at);
  }

  #found({ attributes, validForMs }: KnownName, at: Omit<Entry, 'validForMs'>): EntryReply {
    if (attributes === undefined) return noEntry(this.#kernel.absenceFor(at.parent, validForMs));
    return this.#enter(attributes, { ...at, validForMs });
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
    return this.#operations.answer('getattr', () => {
      const node = this.#node(id);
      const isHeld = this.#options.namespace.knownAttributes(node.inode) !== undefined;
      if (handle !== undefined && node.attributes !== undefined && !isHeld) {
        // Before a read through the handle: the version says it all, and no origin is needed.
        return { attributes: nodeAttributes(node.attributes), validForMs: 0 };
      }
      const shown = this.#attributes(node, context);
      return shown instanceof Promise ? shown.then(attributesReply) : attributesReply(shown);
    });
  }

  readLink(id: NodeId, _context: RequestContext): Promise<Uint8Array> {
    return this.#operations.run('readlink', async () => {
      const node = this.#node(id);
      const target = node.attributes?.target;
      if (node.kind !== 'symlink' || target === undefined) {
        throw new ErrnoError(Errno.EINVAL, 'not a symbolic link');
      }
      return Buffer.from(target, 'utf8');
    });
  }

  access(id: NodeId, mask: number, context: RequestContext): Promise<void> {
    return this.#operations.run('access', async () => {
      const { attributes } = await this.#attributes(this.#node(id), context);
      if (!isPermitted(attributes, mask, context)) {
        throw new ErrnoError(Errno.EACCES, 'the permission bits say no');
      }
      if ((mask & WANT_WRITE) !== 0) throw this.#refusal('write access');
    });
  }

  open(id: NodeId, flags: number, context: RequestContext): Answer<OpenReply> {
    return this.#operations.answer('open', () => {
      const node = this.#node(id);
      if (node.kind === 'directory') throw new ErrnoError(Errno.EISDIR, 'a directory');
      if (node.kind === 'symlink') throw new ErrnoError(Errno.EINVAL, 'a symbolic link');
      if ((flags & O_ACCMODE) !== O_RDONLY || (flags & O_TRUNC) !== 0)
        throw this.#refusal('an open for write');
      const backing = this.#opener.open(node, context);
      return backing instanceof Promise
        ? backing.then((each) => this.#opened(node, each))
        : this.#opened(node, backing);
    });
  }

  #opened(node: Node, backing: BackingFile | undefined): OpenReply {
    if (this.#ended.signal.aborted) {
      this.#opener.close(node);
      throw new ErrnoError(Errno.ENODEV, 'the mount is gone');
    }
    const handle = this.#handles.add({ kind: 'file', node });
    // The node's pages are those of one version: they stay right for every later open.
    return { handle, noFlush: true, keepCache: true, ...(backing && { backing }) };
  }

  read(handle: bigint, range: ReadRange, context: RequestContext): Promise<Uint8Array> {
    return this.#operations.run('read', async () => {
      const { node } = this.#handles.file(handle);
      if (node.cached === undefined) throw new ErrnoError(Errno.EBADF, 'the handle is closed');
      return this.#reader.read({ node, cached: node.cached }, range, context);
    });
  }

  async flush(_handle: bigint, _context: RequestContext): Promise<void> {}

  release(handle: bigint): void {
    this.#close(handle);
  }

  openDirectory(id: NodeId, context: RequestContext): Answer<OpenReply> {
    return this.#operations.answer('opendir', () => {
      const node = this.#directory(id);
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
        sink({ ...record, entry: () => entry && this.#listed(node, entry) });
      return stream.read(offset, take, context);
    });
  }

  releaseDirectory(handle: bigint): void {
    this.#close(handle);
  }

  statistics(context: RequestContext): Promise<FileSystemStatistics> {
    return this.#operations.run('statfs', async () => {
      const usage = await this.#ask(context, (signal) => this.#options.namespace.usage({ signal }));
      return statisticsOf(usage);
    });
  }

  getExtendedAttribute(id: NodeId, name: string, _context: RequestContext): Promise<Uint8Array> {
    return this.#operations.run('getxattr', async () =>
      extendedAttribute(name, this.#heldState(this.#node(id))),
    );
  }

  listExtendedAttributes(id: NodeId, _context: RequestContext): Promise<readonly string[]> {
    return this.#operations.run('listxattr', async () => extendedAttributeNames(this.#node(id).kind));
  }

  refuseChange(operation: string, _node: NodeId, _context: RequestContext): Promise<never> {
    return Promise.reject(this.#refusal(operation));
  }

  /** Of the node's own version, with what belongs to the inode as it is now. */
  #attributes(node: Node, context: RequestContext): Answer<ShownAttributes> {
    const own = node.attributes;
    if (own !== undefined && node.kind !== 'directory' && node.isLookedUpEachTime) {
      // Within a walk along a path the kernel has just looked this up, so the answer is of this very call; without one
      // it is about an open file, and that shows what its open found. (A directory may be where a walk begins.)
      return { attributes: own, validForMs: 0, gone: false };
    }
    const asked = ++this.#lastAsked;
    const known = this.#options.namespace.knownAttributes(node.inode);
    return known === undefined ? this.#askAndShow(node, asked, context) : this.#shown(node, asked, known);
  }

  async #askAndShow(node: Node, asked: number, context: RequestContext): Promise<ShownAttributes> {
    let answer: KnownAttributes;
    try {
      answer = await this.#askAttributes(node, context);
    } catch (error) {
      return { attributes: knownAfter(error, node), validForMs: 0, gone: errnoOf(error) === Errno.ENOENT };
    }
    return this.#shown(node, asked, answer);
  }

  #shown(node: Node, asked: number, { attributes: now, validForMs }: KnownAttributes): ShownAttributes {
    const own = node.attributes;
    if (own === undefined || (now.kind === node.kind && now.source?.version === node.version)) {
      if (asked >= node.asked) {
        node.attributes = now;
        node.asked = asked;
      }
      return { attributes: now, validForMs: this.#kernel.attributesFor(node, validForMs), gone: false };
    }
    // Superseded: who asks by path has just been told of this version; who has it open stays with it.
    const { mode, uid, gid } = now;
    return { attributes: { ...own, mode, uid, gid }, validForMs: 0, gone: false };
  }

  async #askAttributes(node: Node, context: RequestContext): Promise<KnownAttributes> {
    const { namespace } = this.#options;
    const attributes = await this.#ask(context, (signal) => namespace.attributes(node.inode, { signal }));
    return namespace.knownAttributes(node.inode) ?? { attributes, validForMs: 0 };
  }

  #enter(attributes: InodeAttributes, at: Entry): EntryReply {
    const node = this.#nodes.enter(attributes, at);
    return {
      node: node.id,
      entryValidForMs: this.#kernel.entryFor(at.parent, at.validForMs),
      validForMs: this.#kernel.attributesFor(node, at.validForMs),
      attributes: nodeAttributes(attributes),
    };
  }

  /** The page may have been listed a while ago: what is held now counts, else the kernel must ask again. */
  #listed(parent: Node, { name, attributes }: DirectoryEntry): EntryReply {
    const known = this.#options.namespace.knownName(parent.inode, name);
    if (known?.attributes === undefined) {
      return this.#enter(attributes, { parent, name, asked: 0, validForMs: 0 });
    }
    const { validForMs } = known;
    return this.#enter(known.attributes, { parent, name, asked: ++this.#lastAsked, validForMs });
  }

  #heldState(node: Node): HeldState {
    return {
      kind: node.kind,
      version: node.version,
      lease: () => {
        const directory = node.kind === 'directory' ? node : node.parent;
        return directory === undefined ? 'none' : this.#options.namespace.leaseText(directory.inode);
      },
      cachedBytes: () => this.#opener.cachedBytesOf(node),
      mode: () => this.#opener.modeOf(node),
      policies: () => this.#options.policies?.decide(policySubjectOf(node)).deciding ?? [],
    };
  }

  #close(id: bigint): void {
    const handle = this.#handles.remove(id);
    if (handle === undefined) return;
    if (handle.kind === 'file') return this.#opener.close(handle.node);
    handle.stream.close();
    this.#nodes.unhold(handle.node);
  }

  #node(id: NodeId): Node {
    const node = this.#nodes.get(id);
    if (node === undefined) throw new ErrnoError(Errno.ESTALE, `no node ${id}`);
    return node;
  }

  #directory(id: NodeId): Node {
    const node = this.#node(id);
    if (node.kind !== 'directory') throw new ErrnoError(Errno.ENOTDIR, 'not a directory');
    return node;
  }

  #refusal(what: string): ErrnoError {
    const why = this.#options.readOnly ? 'the mount is read-only' : 'a mount of this release is read-only';
    return new ErrnoError(Errno.EROFS, `${what} refused: ${why}`);
  }

  #ask<T>(context: RequestContext, run: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const { clock, namesDeadlineMs } = this.#options;
    return bounded(clock, { signal: context.signal, deadlineMs: namesDeadlineMs }, run);
  }
}

/**
 * What is shown when the namespace has no answer. An inode without a name shows what it was, as an unlinked local file
 * does; and so does the version of an open handle, which needs no origin. All else fails.
 */
function knownAfter(error: unknown, node: Node): InodeAttributes {
  const own = node.attributes;
  const errno = errnoOf(error);
  const isOpenOffline = errno === Errno.ETIMEDOUT && node.opens > 0;
  if (own === undefined || (errno !== Errno.ENOENT && !isOpenOffline)) throw error;
  return own;
}

function attributesReply({ attributes, validForMs, gone }: ShownAttributes): AttributesReply {
  return { attributes: nodeAttributes(attributes, { gone }), validForMs };
}

function noEntry(validForMs: number): EntryReply {
  return { node: 0n as NodeId, entryValidForMs: validForMs, attributes: NO_ATTRIBUTES, validForMs: 0 };
}
