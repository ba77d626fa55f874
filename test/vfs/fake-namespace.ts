/**
 * A namespace in memory, with changes "by another client" that take effect at once, and the object store behind it:
 * `bytesOf` answers a version's bytes until the version is lost. Calls are counted, can be made to fail, and can be held.
 */
import type { InodeNumber, VersionId } from '../../lib/base/brand.ts';
import { ROOT_INODE } from '../../lib/base/brand.ts';
import {
  NamespaceError,
  type ExportUsage,
  type InodeAttributes,
  type InodeKind,
  type KnownAttributes,
  type KnownName,
  type ListPage,
  type Namespace,
  type NamespaceOptions,
  type NamesListener,
} from '../../lib/namespace/namespace.ts';
import type { VersionSource } from '../../lib/tiers/tier.ts';

export interface FakeEntry {
  attributes: InodeAttributes;
  readonly children: Map<string, FakeEntry>;
}

type Call = 'lookup' | 'attributes' | 'list' | 'usage' | 'reportStale';

export class FakeNamespace implements Namespace {
  readonly calls: Record<Call, number> = { lookup: 0, attributes: 0, list: 0, usage: 0, reportStale: 0 };
  readonly stale: VersionSource[] = [];
  /** What a call throws from now on. */
  readonly failures = new Map<Call, Error>();
  /** What a call waits for. */
  readonly gates = new Map<Call, Promise<void>>();
  /** Runs when a version is reported stale: the origin looking again. */
  onStale: (source: VersionSource) => void = () => undefined;
  /** For how long what it knows may be used; 0: everything must be asked for. */
  validForMs = 0;
  listener: NamesListener | undefined;
  readonly #root: FakeEntry;
  readonly #inodes = new Map<InodeNumber, FakeEntry>();
  readonly #bytes = new Map<VersionId, Uint8Array>();
  #lastInode = 1n;
  #lastVersion = 0;

  constructor() {
    this.#root = this.#newEntry('directory', ROOT_INODE);
  }

  /** The object store: undefined once the version is lost. */
  bytesOf(version: VersionId): Uint8Array | undefined {
    return this.#bytes.get(version);
  }

  /** A commit: makes the file, or gives it a new version. */
  put(path: string, bytes: Uint8Array | string): InodeAttributes {
    const content = typeof bytes === 'string' ? Buffer.from(bytes) : bytes;
    const entry = this.#make(path, 'file');
    this.commit(entry, content);
    return entry.attributes;
  }

  /** Gives a file a new version. */
  commit(entry: FakeEntry, content: Uint8Array): void {
    const version = (++this.#lastVersion).toString(16).padStart(32, '0') as VersionId;
    this.#bytes.set(version, content);
    const source: VersionSource = {
      version,
      exportName: 'test',
      objectKey: `key of ${version}`,
      objectVersion: undefined,
      entityTag: `"${version}"`,
      sizeBytes: content.length,
    };
    const timeNs = BigInt(this.#lastVersion) * 1_000_000_000n;
    entry.attributes = {
      ...entry.attributes,
      sizeBytes: content.length,
      modifiedNs: timeNs,
      changedNs: timeNs,
      source,
    };
  }

  find(path: string): InodeAttributes | undefined {
    let at: FakeEntry | undefined = this.#root;
    for (const name of path.split('/')) at = at?.children.get(name);
    return at?.attributes;
  }

  entry(inode: InodeNumber): FakeEntry {
    return this.#inode(inode);
  }

  newEntry(kind: InodeKind): FakeEntry {
    return this.#newEntry(kind, ++this.#lastInode as InodeNumber);
  }

  forgetInode(inode: InodeNumber): void {
    this.#inodes.delete(inode);
  }

  mkdir(path: string): InodeAttributes {
    return this.#make(path, 'directory').attributes;
  }

  symlink(path: string, target: string): void {
    const entry = this.#make(path, 'symlink');
    entry.attributes = { ...entry.attributes, target, mode: 0o777 };
  }

  change(path: string, change: Partial<InodeAttributes>): void {
    const entry = this.#at(path);
    entry.attributes = { ...entry.attributes, ...change };
  }

  remove(path: string): void {
    const { parent, name } = this.#split(path);
    const entry = parent.children.get(name);
    if (entry === undefined) throw new Error(`no ${path}`);
    this.#inodes.delete(entry.attributes.inode);
    parent.children.delete(name);
  }

  /** The object behind a version goes, and nobody tells the origin. */
  lose(version: VersionId): void {
    this.#bytes.delete(version);
  }

  /** The same version lies at another key, as after a rename. */
  move(path: string, objectKey: string, bytes: string): void {
    const { source } = this.#at(path).attributes;
    if (source === undefined) throw new Error(`${path} has no version`);
    this.change(path, { source: { ...source, objectKey } });
    this.#bytes.set(source.version, Buffer.from(bytes));
  }

  knownName(parent: InodeNumber, name: string): KnownName | undefined {
    const { validForMs } = this;
    if (validForMs === 0) return undefined;
    return { attributes: this.#inode(parent).children.get(name)?.attributes, validForMs };
  }

  knownAttributes(inode: InodeNumber): KnownAttributes | undefined {
    const { validForMs } = this;
    const attributes = this.#inodes.get(inode)?.attributes;
    return validForMs === 0 || attributes === undefined ? undefined : { attributes, validForMs };
  }

  async lookup(
    parent: InodeNumber,
    name: string,
    options?: NamespaceOptions,
  ): Promise<InodeAttributes | undefined> {
    await this.#enter('lookup', options);
    return this.#inode(parent).children.get(name)?.attributes;
  }

  async attributes(inode: InodeNumber, options?: NamespaceOptions): Promise<InodeAttributes> {
    await this.#enter('attributes', options);
    return this.#inode(inode).attributes;
  }

  get isLeased(): boolean {
    return this.validForMs > 0;
  }

  isListingHeld(): boolean {
    return this.validForMs > 0;
  }

  leaseText(): string {
    return this.validForMs === 0 ? 'none' : 'directory';
  }

  listen(listener: NamesListener): void {
    this.listener = listener;
  }

  async list(
    directory: InodeNumber,
    page: { readonly after?: string; readonly entriesMax: number },
    options?: NamespaceOptions,
  ): Promise<ListPage> {
    await this.#enter('list', options);
    const after = Buffer.from(page.after ?? '');
    const sorted = [...this.#inode(directory).children]
      .map(([name, { attributes }]) => ({ name, attributes, bytes: Buffer.from(name) }))
      .filter(({ bytes }) => Buffer.compare(bytes, after) > 0)
      .sort((a, b) => Buffer.compare(a.bytes, b.bytes));
    const entries = sorted.slice(0, page.entriesMax).map(({ name, attributes }) => ({ name, attributes }));
    const next = sorted.length > entries.length ? entries.at(-1)?.name : undefined;
    return { entries, next, isHeld: this.validForMs > 0 };
  }

  async usage(options?: NamespaceOptions): Promise<ExportUsage> {
    await this.#enter('usage', options);
    return { bytesTotal: 1n << 50n, bytesUsed: 1n << 40n, inodesTotal: 1_000_000n, inodesUsed: 1_000n };
  }

  async reportStale(_inode: InodeNumber, source: VersionSource, options?: NamespaceOptions): Promise<void> {
    await this.#enter('reportStale', options);
    this.stale.push(source);
    this.onStale(source);
  }

  async close(): Promise<void> {}

  async #enter(call: Call, options?: NamespaceOptions): Promise<void> {
    this.calls[call] += 1;
    const gate = this.gates.get(call);
    if (gate !== undefined) await abortable(gate, options?.signal);
    options?.signal?.throwIfAborted();
    const failure = this.failures.get(call);
    if (failure !== undefined) throw failure;
  }

  #inode(inode: InodeNumber): FakeEntry {
    const entry = this.#inodes.get(inode);
    if (entry === undefined) throw new NamespaceError('not-found', `no inode ${inode}`);
    return entry;
  }

  #split(path: string): { parent: FakeEntry; name: string } {
    const cut = path.lastIndexOf('/');
    const parent = cut === -1 ? this.#root : this.#at(path.slice(0, cut));
    return { parent, name: path.slice(cut + 1) };
  }

  #at(path: string): FakeEntry {
    let at: FakeEntry | undefined = this.#root;
    for (const name of path.split('/')) at = at?.children.get(name);
    if (at === undefined) throw new Error(`no ${path}`);
    return at;
  }

  #make(path: string, kind: InodeKind): FakeEntry {
    const { parent, name } = this.#split(path);
    let entry = parent.children.get(name);
    if (entry === undefined) {
      entry = this.#newEntry(kind, ++this.#lastInode as InodeNumber);
      parent.children.set(name, entry);
    }
    return entry;
  }

  #newEntry(kind: InodeKind, inode: InodeNumber): FakeEntry {
    const entry: FakeEntry = {
      attributes: {
        inode,
        kind,
        mode: kind === 'directory' ? 0o755 : 0o644,
        uid: 1000,
        gid: 1000,
        links: kind === 'directory' ? 2 : 1,
        sizeBytes: 0,
        modifiedNs: 0n,
        changedNs: 0n,
        source: undefined,
        target: undefined,
      },
      children: new Map(),
    };
    this.#inodes.set(inode, entry);
    return entry;
  }
}

/** `wait`, or the signal's reason as soon as it aborts. */
export function abortable<T>(wait: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return wait;
  return new Promise((resolve, reject) => {
    const abort = (): void => reject(signal.reason as Error);
    if (signal.aborted) return abort();
    signal.addEventListener('abort', abort, { once: true });
    wait.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort));
  });
}
