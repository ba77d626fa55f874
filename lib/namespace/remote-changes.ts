/**
 * What the origin is asked to change: one call each. A call with the same operation as one before is that one, asked
 * again: it has the same answer, and happens once. Beside `remote-names.ts`.
 */
import type { InodeNumber, SessionId } from '../base/brand.ts';
import type { Sequence } from '../lease/lease.ts';
import type {
  BegunUpload,
  ChangedAttributes,
  CommittedContent,
  CreatedFile,
  NamePlace,
  NewFile,
  OpenedWrite,
  RenameMode,
  WriteGrant,
} from './changes.ts';
import type { InodeAttributes } from './namespace.ts';

export interface RemoteCall {
  /** Withdraws nothing from this session, which has done so itself; undefined: the caller is told like all others. */
  readonly session: SessionId | undefined;
  readonly operation: string;
}

/** The answer to a change of what others see. */
export interface Changed<Answer> {
  readonly answer: Answer;
  /** Of the last message that the origin had sent to the session when the change was done. */
  readonly sequence: Sequence;
}

/** Every call ends within its own deadline, with an answer or a `NamespaceError`. See `changes.ts` for what they do. */
export interface RemoteChanges {
  createFile(place: NamePlace, file: NewFile, call: RemoteCall): Promise<CreatedFile>;
  openWrite(inode: InodeNumber, call: RemoteCall): Promise<OpenedWrite>;
  beginUpload(grant: WriteGrant, call: RemoteCall): Promise<BegunUpload>;
  commit(grant: WriteGrant, content: CommittedContent, call: RemoteCall): Promise<Changed<InodeAttributes>>;
  endWrite(grant: WriteGrant, call: RemoteCall): Promise<void>;
  reclaim(grants: readonly WriteGrant[], call: RemoteCall): Promise<ReadonlySet<string>>;
  /** With a target a symlink, else a directory. */
  make(
    place: NamePlace,
    made: NewFile & { readonly target?: string },
    call: RemoteCall,
  ): Promise<Changed<InodeAttributes>>;
  remove(
    place: NamePlace,
    what: { readonly isDirectory: boolean },
    call: RemoteCall,
  ): Promise<Changed<InodeAttributes>>;
  rename(
    from: NamePlace,
    to: NamePlace & { readonly mode: RenameMode },
    call: RemoteCall,
  ): Promise<Changed<InodeAttributes | undefined>>;
  setAttributes(
    inode: InodeNumber,
    changes: ChangedAttributes,
    call: RemoteCall,
  ): Promise<Changed<InodeAttributes>>;
}
