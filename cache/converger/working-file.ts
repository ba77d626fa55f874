/**
 * One working copy: its bytes, what is owed of it, and what of it is a version already.
 *
 * Life: `open` (handles of this host exist) ⇄ `resting` (none do; it may still be owed, or be opened again) → `ending`
 * (it becomes a blob, or nothing, and its write is given back) → `ended`.
 *
 * Owed is what the journal keeps for the next life: content that a writer was told is safe, and no version has. It is
 * numbered: a commit that took its bytes after the n-th promise settles all promises up to n.
 *
 * Invariants: nothing is owed of a file that was unlinked; a row of the journal is never taken back before a commit was
 * answered for; grants are exchanged only when the old one is stale.
 */
import type { InodeAttributes } from '../../lib/namespace/namespace.ts';
import type { VersionSource } from '../../lib/tiers/tier.ts';
import { invariant } from '../../lib/base/errors.ts';
import type { Clock } from '../../lib/base/clock.ts';
import { CacheError } from '../block-cache.ts';
import type { FileStamp, JournalEntry, StagedAllocation, StagedFile } from '../staging/staging.ts';
import type {
  DirtyFile,
  WorkingAttributes,
  WorkingCopy,
  WorkingStat,
  WriteGrant,
  WriteMode,
} from '../working-copy.ts';
import type { Instant, InstantTaker } from './instant.ts';
import { isSameStamp, stampOf } from './stamps.ts';

export type Life = 'open' | 'resting' | 'ending' | 'ended';

/** A promise to writers that no version has fulfilled yet. */
export interface Owed {
  /** `closed` asks to be converged; `synced` only must not be lost. */
  readonly state: 'synced' | 'closed';
  /** Of the publication that it was made for. */
  readonly number: number;
  readonly sinceMs: number;
  readonly sizeBytes: number;
}

/** What a version has. */
export interface Base {
  readonly stamp: FileStamp;
  readonly isSettled: boolean;
  /** Of the attributes. */
  readonly revision: number;
  /** Undefined: of a version that this copy began with. */
  readonly blockChecksums: readonly number[] | undefined;
  /** Undefined: as above, or an empty file, which has no blob. */
  readonly source: VersionSource | undefined;
}

/** What an attempt to converge set out with. */
export interface Attempted {
  readonly number: number;
  readonly revision: number;
  readonly attributes: WorkingAttributes;
}

export type Progress = Exclude<DirtyFile['state'], 'open'>;

/** Who publishes for the file. */
export interface WorkingFileOwner {
  publish(file: WorkingFile, mode: WriteMode, signal: AbortSignal | undefined): Promise<void>;
  released(file: WorkingFile): void;
  reopened(file: WorkingFile, signal: AbortSignal | undefined): Promise<boolean>;
  renamed(file: WorkingFile): void;
  unlinked(file: WorkingFile): void;
}

export interface WorkingFileOptions {
  readonly file: StagedFile;
  readonly taker: InstantTaker;
  readonly owner: WorkingFileOwner;
  readonly clock: Clock;
  readonly entry: Omit<JournalEntry, 'state' | 'publication' | 'committed' | 'sinceMs'>;
  /** What it began with; undefined: with something that no version has. */
  readonly base: Base | undefined;
}

export class WorkingFile implements WorkingCopy {
  readonly file: StagedFile;
  readonly taker: InstantTaker;
  readonly #owner: WorkingFileOwner;
  readonly #clock: Clock;
  #grant: WriteGrant;
  #path: string;
  #attributes: WorkingAttributes;
  #revision = 0;
  #base: Base | undefined;
  #isCommitted: boolean;
  #owed: Owed | undefined;
  #publication = 0;
  #covered = 0;
  /** Once its bytes are on their way to be a blob's. */
  #lastStat: WorkingStat | undefined;
  life: Life = 'open';
  /** Programs that wait for a version of it. */
  waiters = 0;
  isUnlinked = false;
  progress: Progress = 'waiting';
  failure: string | undefined;

  constructor({ file, taker, owner, clock, entry, base }: WorkingFileOptions) {
    this.file = file;
    this.taker = taker;
    this.#owner = owner;
    this.#clock = clock;
    this.#grant = entry.grant;
    this.#path = entry.path;
    this.#attributes = entry.attributes;
    this.#isCommitted = entry.isCommitted;
    this.#base = base;
  }

  get grant(): WriteGrant {
    return this.#grant;
  }

  get fd(): number {
    return this.file.fd;
  }

  get attributes(): WorkingAttributes {
    return this.#attributes;
  }

  get path(): string {
    return this.#path;
  }

  set path(path: string) {
    if (path === this.#path) return;
    this.#path = path;
    if (this.#owed !== undefined) this.#owner.renamed(this);
  }

  get owed(): Owed | undefined {
    return this.#owed;
  }

  get base(): Base | undefined {
    return this.#base;
  }

  get isCommitted(): boolean {
    return this.#isCommitted;
  }

  /** All that was asked for up to this number is in a version. */
  get covered(): number {
    return this.#covered;
  }

  stat(): WorkingStat {
    return this.#lastStat ?? this.file.stat();
  }

  get isDirty(): boolean {
    if (this.isUnlinked || this.#lastStat !== undefined) return false;
    return this.#owed !== undefined || !this.looksCommitted() || !this.#base!.isSettled;
  }

  /** As far as stamps tell, which is certain only if the base is settled. */
  looksCommitted(): boolean {
    const base = this.#base;
    return (
      base !== undefined && base.revision === this.#revision && isSameStamp(base.stamp, this.file.stat())
    );
  }

  setAttributes(
    changes: Partial<WorkingAttributes>,
    { isCommitted }: { readonly isCommitted: boolean } = { isCommitted: false },
  ): void {
    this.#attributes = { ...this.#attributes, ...changes };
    if (!isCommitted) this.#revision += 1;
  }

  setTimes(
    times: { readonly accessedNs?: bigint; readonly modifiedNs?: bigint },
    { isCommitted }: { readonly isCommitted: boolean } = { isCommitted: false },
  ): void {
    const wasCommitted = this.looksCommitted();
    const { accessedNs, modifiedNs } = this.file.stat();
    this.file.setTimes({ accessedNs, modifiedNs, ...times });
    // Who wrote in this very tick left no other stamp: the bytes are compared once it has passed.
    if (isCommitted && wasCommitted)
      this.#base = { ...this.#base!, stamp: stampOf(this.file.stat()), isSettled: false };
  }

  read(offset: number, length: number, into?: Uint8Array): Promise<Uint8Array> {
    return this.file.read(offset, length, into);
  }

  write(offset: number, bytes: Uint8Array): Promise<number> {
    return this.file.write(offset, bytes);
  }

  truncate(sizeBytes: number): Promise<void> {
    return this.file.truncate(sizeBytes);
  }

  allocate(
    range: { readonly offset: number; readonly length: number },
    mode: StagedAllocation,
  ): Promise<void> {
    return this.file.allocate(range, mode);
  }

  seek(offset: number, kind: 'data' | 'hole'): Promise<number | undefined> {
    return this.file.seek(offset, kind);
  }

  copyFrom(
    fd: number,
    range: { readonly from: number; readonly to: number; readonly length: number },
  ): Promise<number> {
    return this.file.copyFrom(fd, range);
  }

  async sync(): Promise<void> {
    if (this.isUnlinked) return;
    this.#owe(this.#owed?.state ?? 'synced');
    await this.record({ durable: true });
  }

  publish(mode: WriteMode, { signal }: { readonly signal?: AbortSignal } = {}): Promise<void> {
    return this.#owner.publish(this, mode, signal);
  }

  release(): void {
    invariant(this.life === 'open', 'a working copy is released once');
    this.life = 'resting';
    this.file.rest();
    this.#owner.released(this);
  }

  reopen({ signal }: { readonly signal?: AbortSignal } = {}): Promise<boolean> {
    return this.#owner.reopened(this, signal);
  }

  unlinked(): void {
    if (this.isUnlinked) return;
    this.isUnlinked = true;
    this.#owed = undefined;
    this.#owner.unlinked(this);
  }

  // What follows is for the converger.

  /** It rests, a version has all of it, and it is about to become a blob, or nothing. */
  end(): void {
    invariant(this.life === 'resting', 'only a file that rests ends');
    this.#lastStat = this.file.stat();
    this.life = 'ending';
  }

  /** It was still written to. */
  restAgain(): void {
    this.#lastStat = undefined;
    this.life = 'resting';
  }

  /** From now on its content is to become a version, and must not be lost before: `record` it. */
  oweClosed(): void {
    this.#owe('closed');
  }

  /** Goes on where an earlier life ended. */
  recover({ state, publication, sinceMs }: JournalEntry): void {
    this.life = 'resting';
    this.#publication = publication;
    const { sizeBytes } = this.file.stat();
    if (state === 'synced' || state === 'closed')
      this.#owed = { state: 'closed', number: publication, sinceMs, sizeBytes };
  }

  /** A program waits for a version with what is here now. Answers with the number that a commit must have covered. */
  want(): number {
    return ++this.#publication;
  }

  beginAttempt(): Attempted {
    return { number: this.#publication, revision: this.#revision, attributes: this.#attributes };
  }

  /** Whether a version has these bytes and attributes already. */
  isInBase({ stamp, blockChecksums }: Instant, { revision }: Attempted): boolean {
    const base = this.#base;
    return (
      base?.blockChecksums !== undefined &&
      base.revision === revision &&
      base.stamp.sizeBytes === stamp.sizeBytes &&
      base.stamp.modifiedNs === stamp.modifiedNs &&
      base.blockChecksums.every((value, index) => value === blockChecksums[index])
    );
  }

  /** A version has these bytes. @param attributes undefined: it had them already */
  commit(instant: Omit<Instant, 'content'>, attempted: Attempted, attributes?: InodeAttributes): void {
    this.#isCommitted = true;
    this.#base = {
      ...{ stamp: stampOf(instant.stamp), isSettled: instant.isSettled, revision: attempted.revision },
      blockChecksums: instant.blockChecksums,
      source: attributes === undefined ? this.#base?.source : attributes.source,
    };
    this.#covered = attempted.number;
    if (this.#owed !== undefined && this.#owed.number <= attempted.number) this.#owed = undefined;
  }

  /** The same bytes go on to be another file, which has no version yet. */
  becomeConflict(grant: WriteGrant, path: string): void {
    this.#grant = grant;
    this.#path = path;
    this.#isCommitted = false;
    this.#base = undefined;
    this.#owe('closed');
  }

  /** Tells the journal. @throws CacheError */
  async record({ durable }: { readonly durable: boolean }): Promise<void> {
    if (this.life === 'ended') throw new CacheError('closed', `${this.#path} is no working copy any more`);
    const state = this.#owed?.state ?? (this.#base?.blockChecksums === undefined ? 'begun' : 'committed');
    await this.file.record(
      {
        grant: this.#grant,
        path: this.#path,
        attributes: this.#attributes,
        isCommitted: this.#isCommitted,
        state,
        publication: this.#publication,
        committed: this.#base?.stamp,
        sinceMs: this.#owed?.sinceMs ?? this.#clock.wallMs(),
      },
      { durable },
    );
  }

  /** For people. */
  describe(): DirtyFile {
    const isOwed = this.#owed?.state === 'closed';
    // Its descriptor may be closed for now, and shall stay so.
    const sizeBytes = isOwed && this.life === 'resting' ? this.#owed!.sizeBytes : this.stat().sizeBytes;
    return {
      path: this.#path,
      inode: this.#grant.inode,
      sizeBytes,
      ageMs: isOwed ? Math.max(0, this.#clock.wallMs() - this.#owed!.sinceMs) : 0,
      state: isOwed || this.progress !== 'waiting' ? this.progress : 'open',
      isDirty: this.isDirty,
      sentBytes: Math.min(sizeBytes, this.taker.sentBytes),
      failure: this.failure,
    };
  }

  #owe(state: Owed['state']): void {
    this.#publication += 1;
    this.#owed = {
      state: this.#owed?.state === 'closed' ? 'closed' : state,
      number: this.#publication,
      sinceMs: this.#owed?.sinceMs ?? this.#clock.wallMs(),
      sizeBytes: this.file.stat().sizeBytes,
    };
  }
}
