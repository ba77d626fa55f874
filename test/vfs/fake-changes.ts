/**
 * Changes of a `FakeNamespace`, at once. A pending file stands in the tree without a version; its commit puts the bytes,
 * which come with the call.
 */
import type { InodeNumber } from '../../lib/base/brand.ts';
import type {
  BegunUpload,
  ChangedAttributes,
  CommittedContent,
  CreatedFile,
  NamePlace,
  NamespaceChanges,
  NewFile,
  OpenedWrite,
  RenameMode,
  WriteGrant,
} from '../../lib/namespace/changes.ts';
import { NamespaceError, type InodeAttributes } from '../../lib/namespace/namespace.ts';
import type { FakeEntry, FakeNamespace } from './fake-namespace.ts';

export class FakeChanges implements NamespaceChanges {
  readonly calls: string[] = [];
  /** What the next call of a name throws. */
  readonly failures = new Map<string, Error>();
  readonly #names: FakeNamespace;
  readonly #grants = new Map<InodeNumber, WriteGrant>();
  #lastToken = 0n;

  constructor(names: FakeNamespace) {
    this.#names = names;
  }

  async createFile({ parent, name }: NamePlace, file: NewFile): Promise<CreatedFile> {
    this.#called('createFile', name);
    const directory = this.#directory(parent);
    if (directory.children.has(name)) throw new NamespaceError('exists', name);
    const entry = this.#names.newEntry('file');
    entry.attributes = { ...entry.attributes, ...file, ...this.#now() };
    this.#attach(directory, name, entry);
    return { grant: this.#grant(entry.attributes.inode), attributes: entry.attributes };
  }

  async openWrite(inode: InodeNumber): Promise<OpenedWrite> {
    this.#called('openWrite');
    const { attributes } = this.#names.entry(inode);
    return { grant: this.#grant(inode), attributes };
  }

  beginUpload(): Promise<BegunUpload> {
    throw new Error('the fake takes bytes with the commit');
  }

  async commit(grant: WriteGrant, content: CommittedContent): Promise<InodeAttributes> {
    this.#called('commit');
    const entry = this.#names.entry(grant.inode);
    this.#names.commit(entry, content.content ?? new Uint8Array(0));
    const { extended = {}, ...attributes } = content.attributes;
    entry.attributes = { ...entry.attributes, ...attributes, extended: definite(extended) };
    return entry.attributes;
  }

  async endWrite({ inode }: WriteGrant): Promise<void> {
    this.#called('endWrite');
    this.#grants.delete(inode);
  }

  async reclaim(): Promise<ReadonlySet<string>> {
    return new Set();
  }

  adoptPending(): void {}

  async makeDirectory({ parent, name }: NamePlace, made: NewFile): Promise<InodeAttributes> {
    this.#called('makeDirectory', name);
    return this.#make({ parent, name }, { kind: 'directory', ...made });
  }

  async makeSymlink(
    { parent, name }: NamePlace,
    made: Omit<NewFile, 'mode'> & { readonly target: string },
  ): Promise<InodeAttributes> {
    this.#called('makeSymlink', name);
    return this.#make({ parent, name }, { kind: 'symlink', mode: 0o777, ...made });
  }

  async unlink({ parent, name }: NamePlace): Promise<InodeAttributes> {
    this.#called('unlink', name);
    const entry = this.#child({ parent, name });
    if (entry.attributes.kind === 'directory') throw new NamespaceError('is-directory', name);
    this.#detach(this.#directory(parent), name);
    this.#names.forgetInode(entry.attributes.inode);
    return entry.attributes;
  }

  async removeDirectory({ parent, name }: NamePlace): Promise<void> {
    this.#called('removeDirectory', name);
    const entry = this.#child({ parent, name });
    if (entry.attributes.kind !== 'directory') throw new NamespaceError('not-directory', name);
    if (entry.children.size > 0) throw new NamespaceError('not-empty', name);
    this.#detach(this.#directory(parent), name);
    this.#names.forgetInode(entry.attributes.inode);
  }

  async rename(
    from: NamePlace,
    to: NamePlace & { readonly mode: RenameMode },
  ): Promise<InodeAttributes | undefined> {
    this.#called('rename', `${from.name} ${to.name} ${to.mode}`);
    const [source, target] = [this.#directory(from.parent), this.#directory(to.parent)];
    const moved = this.#child(from);
    const replaced = target.children.get(to.name);
    if (isWithin(target, moved)) throw new NamespaceError('invalid', 'into itself');
    if (to.mode === 'exchange') {
      if (replaced === undefined) throw new NamespaceError('not-found', to.name);
      if (isWithin(source, replaced)) throw new NamespaceError('invalid', 'into itself');
      this.#attach(source, from.name, replaced);
      this.#attach(target, to.name, moved);
      this.#countDirectories(source, target);
      return undefined;
    }
    if (replaced !== undefined) refuseReplacing(moved, replaced, to.mode);
    this.#detach(source, from.name);
    this.#attach(target, to.name, moved);
    this.#countDirectories(source, target);
    if (replaced !== undefined) this.#names.forgetInode(replaced.attributes.inode);
    return replaced?.attributes;
  }

  async setAttributes(inode: InodeNumber, changes: ChangedAttributes): Promise<InodeAttributes> {
    this.#called('setAttributes');
    const entry = this.#names.entry(inode);
    const { extended, ...others } = changes;
    const merged = { ...entry.attributes.extended, ...extended };
    const { changedNs } = this.#now();
    entry.attributes = {
      ...entry.attributes,
      ...others,
      changedNs,
      extended: definite(merged),
    };
    return entry.attributes;
  }

  #called(call: string, detail = ''): void {
    this.calls.push(detail === '' ? call : `${call} ${detail}`);
    const failure = this.failures.get(call);
    this.failures.delete(call);
    if (failure !== undefined) throw failure;
  }

  #make(
    { parent, name }: NamePlace,
    made: Pick<InodeAttributes, 'kind' | 'mode' | 'uid' | 'gid'> & { readonly target?: string },
  ): InodeAttributes {
    const directory = this.#directory(parent);
    if (directory.children.has(name)) throw new NamespaceError('exists', name);
    const entry = this.#names.newEntry(made.kind);
    entry.attributes = { ...entry.attributes, ...made, ...this.#now() };
    this.#attach(directory, name, entry);
    this.#countDirectories(directory);
    return entry.attributes;
  }

  #grant(inode: InodeNumber): WriteGrant {
    const known = this.#grants.get(inode);
    if (known !== undefined) return known;
    const token = ++this.#lastToken;
    const grant = { write: `write-${token}`, token, exportName: 'test', inode };
    this.#grants.set(inode, grant);
    return grant;
  }

  #directory(inode: InodeNumber): FakeEntry {
    const entry = this.#names.entry(inode);
    if (entry.attributes.kind !== 'directory') throw new NamespaceError('not-directory', 'a file');
    return entry;
  }

  #child({ parent, name }: NamePlace): FakeEntry {
    const entry = this.#directory(parent).children.get(name);
    if (entry === undefined) throw new NamespaceError('not-found', name);
    return entry;
  }

  #attach(directory: FakeEntry, name: string, entry: FakeEntry): void {
    directory.children.set(name, entry);
    this.#touch(directory);
  }

  #detach(directory: FakeEntry, name: string): void {
    directory.children.delete(name);
    this.#countDirectories(directory);
    this.#touch(directory);
  }

  #touch(directory: FakeEntry): void {
    directory.attributes = { ...directory.attributes, ...this.#now() };
  }

  #countDirectories(...directories: readonly FakeEntry[]): void {
    for (const directory of directories) {
      const below = [...directory.children.values()].filter(
        ({ attributes: { kind } }) => kind === 'directory',
      );
      directory.attributes = { ...directory.attributes, links: 2 + below.length };
    }
  }

  #now(): Pick<InodeAttributes, 'modifiedNs' | 'changedNs'> {
    const ns = BigInt(Date.now()) * 1_000_000n;
    return { modifiedNs: ns, changedNs: ns };
  }
}

function refuseReplacing(moved: FakeEntry, replaced: FakeEntry, mode: RenameMode): void {
  const [one, other] = [moved.attributes.kind === 'directory', replaced.attributes.kind === 'directory'];
  if (mode === 'keep') throw new NamespaceError('exists', 'the target');
  if (one && !other) throw new NamespaceError('not-directory', 'the target');
  if (!one && other) throw new NamespaceError('is-directory', 'the target');
  if (replaced.children.size > 0) throw new NamespaceError('not-empty', 'the target');
}

function definite(extended: Readonly<Record<string, Uint8Array | undefined>>): Record<string, Uint8Array> {
  const kept = Object.entries(extended).filter((each): each is [string, Uint8Array] => each[1] !== undefined);
  return Object.fromEntries(kept);
}

function isWithin(entry: FakeEntry, ancestor: FakeEntry): boolean {
  return entry === ancestor || [...ancestor.children.values()].some((child) => isWithin(entry, child));
}
