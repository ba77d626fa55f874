/**
 * Opens and closes nodes' files, and keeps the kernel's rule: all open handles of one node are in one I/O mode.
 *
 * An idle node's first open chooses. A small file is fetched whole first; a complete, verified blob is handed to the
 * kernel; anything else is served. While an open waits for its fetch the node stays idle, and others may wait beside
 * it: the mode is chosen, and the handle counted, in one go without a wait between, so that the first to get there
 * chooses for all. The cache's handle is shared by the opens of a node and lives from the first pending open to the last
 * close.
 */
import { CacheError, type BlockCache, type CacheHandle } from '../../cache/block-cache.ts';
import { describeError, invariant } from '../base/errors.ts';
import type { Answer, BackingFile, RequestContext } from '../fuse/operations.ts';
import type { UseListener } from '../prefetch/access-observer.ts';
import { DEFAULT_SETTINGS, type OwnPolicies, type Settings } from '../policy/policy.ts';
import type { Logger } from '../telemetry/log.ts';
import { TierError } from '../tiers/tier.ts';
import { type Node, type NodeTable, pathOf, policySubjectOf } from './node-table.ts';
import { openVersionOf, type OpenFile, type Reader } from './reader.ts';

export interface FileOpenerOptions {
  readonly nodes: NodeTable;
  readonly cache: BlockCache;
  readonly reader: Reader;
  readonly logger: Logger;
  /** Where no policy says otherwise. */
  readonly wholeOnOpenBytes: number;
  /** None: defaults. */
  readonly policies?: OwnPolicies;
  /** None: nobody wants to know. */
  readonly uses?: UseListener;
}

export class FileOpener {
  readonly #options: FileOpenerOptions;
  #passthroughAble = false;
  #passthroughOpens = 0;
  #servedOpens = 0;

  constructor(options: FileOpenerOptions) {
    this.#options = options;
  }

  /** Whether the driver can hand files to the kernel. */
  set passthroughAble(able: boolean) {
    this.#passthroughAble = able;
  }

  get passthroughAble(): boolean {
    return this.#passthroughAble;
  }

  get opens(): { readonly passthroughOpens: number; readonly servedOpens: number } {
    return { passthroughOpens: this.#passthroughOpens, servedOpens: this.#servedOpens };
  }

  /** Counts one open of the node; undefined: its reads come to us. Balanced by `close`. */
  open(node: Node, context: RequestContext): Answer<BackingFile | undefined> {
    this.#options.nodes.hold(node);
    try {
      const file = this.#acquire(node);
      this.#tellOpened(file);
      return this.#wantsWhole(file) ? this.#openWhole(file, context) : this.#choose(file);
    } catch (error) {
      this.#release(node);
      throw error;
    }
  }

  async #openWhole(file: OpenFile, context: RequestContext): Promise<BackingFile | undefined> {
    try {
      await this.#fetchWhole(file, context);
      // From here to the return nothing waits.
      return this.#choose(file);
    } catch (error) {
      this.#release(file.node);
      throw error;
    }
  }

  /** Gives back one open. */
  close(node: Node): void {
    invariant(node.opens > 0, `node ${node.id} has no open handle to close`);
    node.opens -= 1;
    if (node.opens === 0) {
      node.mode = 'idle';
      node.backing = undefined;
      this.#options.reader.closed(node);
    }
    this.#release(node);
  }

  /**
   * Of an open node: whether it is served although its blob is complete by now, or in passthrough although its blob was
   * found bad since.
   */
  isOutdated({ mode, cached }: Node): boolean {
    if (!this.#passthroughAble || cached === undefined) return false;
    const isComplete = cached.cachedBytes >= cached.source.sizeBytes && cached.backingFd() !== undefined;
    return isComplete === (mode === 'served');
  }

  /** How the reads of an open of this node are, or would be, done. */
  modeOf(node: Node): 'passthrough' | 'served' {
    if (node.mode !== 'idle') return node.mode;
    if (!this.#passthroughAble) return 'served';
    const sizeBytes = node.attributes?.source?.sizeBytes ?? 0;
    return sizeBytes <= this.#wholeOnOpenBytes(node) || this.cachedBytesOf(node) >= sizeBytes
      ? 'passthrough'
      : 'served';
  }

  cachedBytesOf(node: Node): number {
    if (node.cached !== undefined) return node.cached.cachedBytes;
    const handle = this.#openCached(node, { isUse: false });
    const { cachedBytes } = handle;
    handle.close();
    return cachedBytes;
  }

  #acquire(node: Node): OpenFile {
    node.cached ??= this.#openCached(node, { isUse: true });
    return { node, cached: node.cached };
  }

  #tellOpened({ node, cached }: OpenFile): void {
    this.#options.uses?.opened({
      inode: node.inode,
      source: cached.source,
      directory: node.parent?.inode,
      name: node.name,
      path: () => pathOf(node),
      cachedBytes: () => cached.cachedBytes,
    });
  }

  #release(node: Node): void {
    // The last hold is about to go: nobody opens, nobody has it open.
    if (node.holds === 1) {
      node.cached?.close();
      node.cached = undefined;
    }
    this.#options.nodes.unhold(node);
  }

  #openCached(node: Node, { isUse }: { readonly isUse: boolean }): CacheHandle {
    const source = node.attributes?.source;
    invariant(source !== undefined, `file node ${node.id} has no version`);
    return this.#options.cache.open({ ...openVersionOf(node, source), isUse });
  }

  #wantsWhole({ node, cached }: OpenFile): boolean {
    const { sizeBytes } = cached.source;
    return (
      node.mode === 'idle' &&
      this.#passthroughAble &&
      sizeBytes > 0 &&
      cached.backingFd() === undefined &&
      sizeBytes <= this.#wholeOnOpenBytes(node)
    );
  }

  #wholeOnOpenBytes(node: Node): number {
    const settings: Settings =
      this.#options.policies?.decide(policySubjectOf(node)).settings ?? DEFAULT_SETTINGS;
    if (settings['cache.admit'] === 'never') return 0;
    return settings['cache.wholeOnOpen'] ?? this.#options.wholeOnOpenBytes;
  }

  /** Resolves too when the cache's disk is the trouble: the reads then go past it. */
  async #fetchWhole(file: OpenFile, context: RequestContext): Promise<void> {
    try {
      await this.#options.reader.fetchWhole(file, context);
    } catch (error) {
      const diskTrouble =
        (error instanceof CacheError && (error.code === 'disk' || error.code === 'no-space')) ||
        (error instanceof TierError && error.code === 'sink');
      if (!diskTrouble) throw error;
      const { version } = file.cached.source;
      this.#options.logger.debug({ version, cause: describeError(error) }, 'a file is served past the cache');
    }
  }

  #choose({ node, cached }: OpenFile): BackingFile | undefined {
    if (node.mode === 'idle') {
      const fd = this.#passthroughAble ? cached.backingFd() : undefined;
      node.mode = fd === undefined ? 'served' : 'passthrough';
      node.backing = fd === undefined ? undefined : { fd };
    }
    node.opens += 1;
    if (node.backing === undefined) this.#servedOpens += 1;
    else this.#passthroughOpens += 1;
    return node.backing;
  }
}
