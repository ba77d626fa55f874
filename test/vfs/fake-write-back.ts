/**
 * Working copies in plain files of a temporary directory, committed whole. In write-back a publication waits until
 * `converge`; in write-through it can be made to fail. What was released and is clean is no copy any more.
 */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { CacheError } from '../../cache/block-cache.ts';
import type {
  DirtyFile,
  WorkingAttributes,
  WorkingCopy,
  WorkingStat,
  WriteBack,
  WriteBackStat,
  WriteMode,
} from '../../cache/working-copy.ts';
import type { InodeNumber } from '../../lib/base/brand.ts';
import type { NamespaceChanges, WriteGrant } from '../../lib/namespace/changes.ts';

type Begun = Parameters<WriteBack['begin']>[1];

export class FakeWriteBack implements WriteBack {
  #directory: string | undefined;
  readonly copies = new Map<InodeNumber, FakeCopy>();
  /** What was asked of copies, in order. */
  readonly calls: string[] = [];
  /** What publications in write-through fail with. */
  publishFailure: Error | undefined;
  /** Copies take their time to become blobs: until `converge`. */
  lingers = false;
  readonly changes: NamespaceChanges;

  constructor(changes: NamespaceChanges) {
    this.changes = changes;
  }

  async begin(grant: WriteGrant, file: Begun): Promise<WorkingCopy> {
    if (this.copies.has(grant.inode)) throw new Error('a second copy of one inode');
    this.#directory ??= fs.mkdtempSync(path.join(os.tmpdir(), 'perigee-fake-'));
    const name = path.join(this.#directory, grant.write);
    const bytes = await file.from?.read(0, file.from.source.sizeBytes);
    fs.writeFileSync(name, bytes ?? '');
    const copy = new FakeCopy(this, { grant, name, begun: file });
    this.copies.set(grant.inode, copy);
    return copy;
  }

  of(inode: InodeNumber): WorkingCopy | undefined {
    return this.copies.get(inode);
  }

  /** Commits what is owed, and ends what nobody has open. */
  async converge(): Promise<void> {
    for (const copy of this.copies.values()) await copy.converge();
  }

  list(): readonly DirtyFile[] {
    return [];
  }

  stat(): WriteBackStat {
    return {
      dirtyBytes: 0,
      dirtyFiles: 0,
      openFiles: 0,
      oldestMs: 0,
      convergedFiles: 0,
      convergedBytes: 0,
      conflicts: [],
      failing: 0,
    };
  }

  async flush(below: string): Promise<void> {
    this.calls.push(`flush ${below}`);
    await this.converge();
  }

  async close(): Promise<void> {
    if (this.#directory !== undefined) fs.rmSync(this.#directory, { recursive: true, force: true });
  }
}

class FakeCopy implements WorkingCopy {
  readonly grant: WriteGrant;
  path: string;
  attributes: WorkingAttributes;
  fd: number;
  readonly #owner: FakeWriteBack;
  readonly #name: string;
  #isOpen = true;
  #isGone = false;
  #isOwed = false;
  #isDirtyByUs: boolean;
  #published: string;

  constructor(
    owner: FakeWriteBack,
    options: { readonly grant: WriteGrant; readonly name: string; readonly begun: Begun },
  ) {
    const { grant, name, begun } = options;
    this.#owner = owner;
    this.grant = grant;
    this.#name = name;
    this.path = begun.path;
    this.attributes = begun.attributes;
    this.fd = fs.openSync(name, 'r+');
    if (begun.modifiedNs !== undefined) this.setTimes({ modifiedNs: begun.modifiedNs });
    this.#isDirtyByUs = !begun.isCommitted;
    this.#published = this.#stamp();
  }

  stat(): WorkingStat {
    const { size, mtimeNs, ctimeNs, atimeNs, blocks } = fs.statSync(this.#name, { bigint: true });
    return {
      sizeBytes: Number(size),
      modifiedNs: mtimeNs,
      changedNs: ctimeNs,
      accessedNs: atimeNs,
      blocks: Number(blocks),
    };
  }

  get isDirty(): boolean {
    return this.#isDirtyByUs || this.#stamp() !== this.#published;
  }

  setAttributes(changes: Partial<WorkingAttributes>, options?: { readonly isCommitted: boolean }): void {
    this.attributes = { ...this.attributes, ...changes };
    if (options?.isCommitted !== true) this.#isDirtyByUs = true;
    // Moves the time of change.
    fs.chmodSync(this.#name, 0o600);
  }

  setTimes(
    times: { readonly accessedNs?: bigint; readonly modifiedNs?: bigint },
    options?: { readonly isCommitted: boolean },
  ): void {
    const wasClean = !this.isDirty;
    const { accessedNs, modifiedNs } = { ...this.stat(), ...times };
    fs.utimesSync(this.#name, seconds(accessedNs), seconds(modifiedNs));
    if (wasClean && options?.isCommitted === true) this.#published = this.#stamp();
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    const buffer = Buffer.alloc(length);
    return buffer.subarray(0, fs.readSync(this.fd, buffer, 0, length, offset));
  }

  async write(offset: number, bytes: Uint8Array): Promise<number> {
    return fs.writeSync(this.fd, bytes, 0, bytes.length, offset);
  }

  async truncate(sizeBytes: number): Promise<void> {
    fs.ftruncateSync(this.fd, sizeBytes);
    this.#isDirtyByUs = true;
  }

  async allocate(): Promise<void> {
    throw new CacheError('unsupported', 'not by the fake');
  }

  async seek(offset: number, kind: 'data' | 'hole'): Promise<number | undefined> {
    const { sizeBytes } = this.stat();
    if (offset >= sizeBytes) return undefined;
    return kind === 'data' ? offset : sizeBytes;
  }

  async copyFrom(
    fd: number,
    { from, to, length }: { readonly from: number; readonly to: number; readonly length: number },
  ): Promise<number> {
    const buffer = Buffer.alloc(length);
    const read = fs.readSync(fd, buffer, 0, length, from);
    return read === 0 ? 0 : fs.writeSync(this.fd, buffer, 0, read, to);
  }

  async sync(): Promise<void> {
    this.#owner.calls.push(`sync ${this.path}`);
    fs.fdatasyncSync(this.fd);
  }

  async publish(mode: WriteMode): Promise<void> {
    if (!this.isDirty) return;
    this.#owner.calls.push(`publish ${mode} ${this.path}`);
    this.#isOwed = true;
    if (mode === 'back') return;
    if (this.#owner.publishFailure !== undefined) throw this.#owner.publishFailure;
    await this.#commit();
  }

  release(mode: WriteMode): void {
    this.#owner.calls.push(`release ${mode} ${this.path}`);
    if (!this.#isOpen) throw new Error('released twice');
    this.#isOpen = false;
    fs.closeSync(this.fd);
    if (this.#isGone || (!this.isDirty && !this.#owner.lingers)) this.#end();
  }

  async reopen(): Promise<boolean> {
    this.#owner.calls.push(`reopen ${this.path}`);
    if (this.#owner.copies.get(this.grant.inode) !== this) return false;
    if (this.#isOpen) throw new Error('reopened while open');
    this.#isOpen = true;
    this.fd = fs.openSync(this.#name, 'r+');
    return true;
  }

  unlinked(): void {
    this.#owner.calls.push(`unlinked ${this.path}`);
    this.#isGone = true;
    if (!this.#isOpen) this.#end();
  }

  async converge(): Promise<void> {
    if (this.#isOwed && !this.#isGone) await this.#commit();
    if (!this.#isOpen && !this.isDirty) this.#end();
  }

  async #commit(): Promise<void> {
    const { sizeBytes, modifiedNs } = this.stat();
    this.#isOwed = this.#isDirtyByUs = false;
    this.#published = this.#stamp();
    const content = fs.readFileSync(this.#name);
    await this.#owner.changes.commit(this.grant, {
      sizeBytes,
      upload: '',
      parts: [],
      content,
      attributes: { ...this.attributes, modifiedNs },
      isLast: false,
    });
  }

  #stamp(): string {
    const { size, mtimeNs } = fs.statSync(this.#name, { bigint: true });
    return `${size} ${mtimeNs}`;
  }

  #end(): void {
    this.#owner.copies.delete(this.grant.inode);
    fs.rmSync(this.#name, { force: true });
    void this.#owner.changes.endWrite(this.grant);
  }
}

function seconds(ns: bigint): number {
  return Number(ns) / 1e9;
}
