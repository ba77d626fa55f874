/**
 * The contract of the satellite's changes of names: what a writer asks of the namespace, beside `namespace.ts`.
 *
 * A change is acknowledged by the origin before its promise resolves, and from then on `Namespace` shows it on this
 * host as on every other. While it is under way the names that it touches are known to nobody here.
 *
 * **Files being written.** A write is this host's right to make the next version of one file; at most one host has it.
 * A file that is made has no version before its first commit: until then it is pending, its name is reserved for this
 * host and shown on this host alone, with `source` undefined. Renaming and removing work on pending names as on
 * others; elsewhere the name goes on meaning what it meant until the commit, which shows the file whole.
 * What a write's file is now (size, times, attributes) the namespace does not know: it shows what was last committed,
 * and of a pending file what it was made with.
 */
import type { InodeNumber } from '../base/brand.ts';
import type { InodeAttributes, NamespaceOptions } from './namespace.ts';

/** The right to make the next version of a file. Plain data; is kept in the journal and outlives the process. */
export interface WriteGrant {
  /** The origin's identity of it; not to be guessed. */
  readonly write: string;
  /** Fencing token: grows with each write of an export. */
  readonly token: bigint;
  readonly exportName: string;
  readonly inode: InodeNumber;
}

export interface NewFile {
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
}

/** What a committed inode may be given; what is absent stays. */
export interface ChangedAttributes {
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly modifiedNs?: bigint;
  /** By name with the prefix `user.`; undefined takes one away. */
  readonly extended?: Readonly<Record<string, Uint8Array | undefined>>;
}

/** What a commit makes of a file. */
export interface CommittedContent {
  readonly sizeBytes: number;
  /** Of the upload that `beginUpload` answered with; empty for an empty file, and with `content`. */
  readonly upload: string;
  readonly parts: readonly {
    readonly number: number;
    readonly entityTag: string;
    readonly sizeBytes: number;
  }[];
  /** The bytes themselves, of a file up to `INLINE_BYTES_MAX`, instead of parts: saves three calls of the store. */
  readonly content?: Uint8Array;
  readonly attributes: Required<Pick<ChangedAttributes, 'mode' | 'uid' | 'gid' | 'modifiedNs'>> &
    Pick<ChangedAttributes, 'extended'>;
  /** The write ends; else it goes on and may be committed again. */
  readonly isLast: boolean;
}

export interface BegunUpload {
  readonly upload: string;
  readonly storeUrl: string;
  readonly objectKey: string;
  readonly storeUpload: string;
}

export type RenameMode = 'replace' | 'keep' | 'exchange';

export interface NamePlace {
  readonly parent: InodeNumber;
  readonly name: string;
}

/**
 * Fail with `NamespaceError`; besides the codes of `namespace.ts`:
 * - `exists`, `not-empty`, `is-directory`: what stands in the way
 * - `busy`: another host writes this file, and did not end within the bound
 * - `fenced`: this write's token is stale: another host has taken the file over
 * - `upload-gone`: the upload of this commit is there no more: its bytes are to be sent anew, in another one
 * - `read-only`: the export takes no changes
 * - `invalid`: no such change can be made (a directory into itself, a name that no key can have)
 * - `no-space`: the store or the quota is full
 */
export interface NamespaceChanges {
  /**
   * A new file, pending, with the write of it. Whoever else makes it at the same time gets `exists`.
   * @throws `exists` also where the name is another host's pending file
   */
  createFile(place: NamePlace, file: NewFile, options?: NamespaceOptions): Promise<CreatedFile>;
  /** The write of a committed file. This host's own write that goes on is answered again. @throws `busy` */
  openWrite(inode: InodeNumber, options?: NamespaceOptions): Promise<OpenedWrite>;
  /** Where parts of the next version are to be sent. An upload that is not committed is forgotten by `endWrite`. */
  beginUpload(grant: WriteGrant, options?: NamespaceOptions): Promise<BegunUpload>;
  /**
   * Makes the version. The same again (after an answer was lost, or in a new life of this satellite) has the same
   * result. @throws `fenced`, `not-found` (the file or its directory was removed: nothing is left to commit)
   */
  commit(grant: WriteGrant, content: CommittedContent, options?: NamespaceOptions): Promise<InodeAttributes>;
  /** Gives the write back without a commit: a pending file vanishes. Never fails for a write that is gone. */
  endWrite(grant: WriteGrant, options?: NamespaceOptions): Promise<void>;
  /** Writes of an earlier life become this session's. Answers with those that are still good. */
  reclaim(grants: readonly WriteGrant[], options?: NamespaceOptions): Promise<ReadonlySet<string>>;
  /** A file of an earlier life that is still pending is shown again. */
  adoptPending(
    grant: WriteGrant,
    file: { readonly place: NamePlace; readonly attributes: InodeAttributes },
  ): void;

  makeDirectory(place: NamePlace, directory: NewFile, options?: NamespaceOptions): Promise<InodeAttributes>;
  makeSymlink(
    place: NamePlace,
    symlink: Omit<NewFile, 'mode'> & { readonly target: string },
    options?: NamespaceOptions,
  ): Promise<InodeAttributes>;
  /** A file or symlink, pending or not. Answers with what it was. @throws `is-directory` */
  unlink(place: NamePlace, options?: NamespaceOptions): Promise<InodeAttributes>;
  /** @throws `not-directory`, `not-empty` */
  removeDirectory(place: NamePlace, options?: NamespaceOptions): Promise<void>;
  /** Answers with what stood at the target and has no name now. */
  rename(
    from: NamePlace,
    to: NamePlace & { readonly mode: RenameMode },
    options?: NamespaceOptions,
  ): Promise<InodeAttributes | undefined>;
  /** Of a committed inode. */
  setAttributes(
    inode: InodeNumber,
    changes: ChangedAttributes,
    options?: NamespaceOptions,
  ): Promise<InodeAttributes>;
}

export interface CreatedFile {
  readonly grant: WriteGrant;
  /** Pending: `source` is undefined, the size 0. */
  readonly attributes: InodeAttributes;
}

export interface OpenedWrite {
  readonly grant: WriteGrant;
  /** What is committed now: the bytes to begin with. */
  readonly attributes: InodeAttributes;
}
