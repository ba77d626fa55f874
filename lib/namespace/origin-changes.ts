/**
 * Changes asked of the origin: one call each, with the guarantees of `origin-names.ts`. A call lasts longer than a
 * question, because a change waits for satellites that do not answer and for the store.
 */
import type { InodeNumber, SessionId } from '../base/brand.ts';
import type { Inode, Write } from '../rpc/gen/origin_pb.js';
import type { OriginClient } from '../rpc/origin-client.ts';
import type {
  ChangedAttributes,
  CommittedContent,
  NamePlace,
  NewFile,
  RenameMode,
  WriteGrant,
} from './changes.ts';
import { attributesOf, check, safeNumber, translated } from './origin-answers.ts';
import type { RemoteCall, RemoteChanges } from './remote-changes.ts';

/** Of a call whose caller is told of its change like all others. */
const NO_SESSION = '' as SessionId;

export class OriginChanges implements RemoteChanges {
  readonly #client: OriginClient;
  readonly #exportName: string;

  constructor(options: { readonly client: OriginClient; readonly exportName: string }) {
    this.#client = options.client;
    this.#exportName = options.exportName;
  }

  createFile(place: NamePlace, { mode, uid, gid }: NewFile, call: RemoteCall) {
    return translated(async () => {
      const create = { mode, uid, gid };
      const answer = await this.#client.openWrite({ ...this.#of(call), place, create });
      const grant = this.#grantOf(answer.write);
      return { grant, attributes: this.#attributesOf(answer.inode, { of: grant.inode, isPending: true }) };
    });
  }

  openWrite(inode: InodeNumber, call: RemoteCall) {
    return translated(async () => {
      const answer = await this.#client.openWrite({ ...this.#of(call), inode });
      const grant = this.#grantOf(answer.write);
      check(grant.inode === inode, 'a write is of the file that was asked for');
      return { grant, attributes: this.#attributesOf(answer.inode, { of: inode }) };
    });
  }

  beginUpload(grant: WriteGrant, call: RemoteCall) {
    const request = {
      exportName: this.#exportName,
      session: call.session ?? NO_SESSION,
      write: writeOf(grant),
    };
    return translated(async () => {
      const { upload, storeUrl, objectKey, storeUpload } = await this.#client.beginWriteUpload(request);
      check(upload !== '' && objectKey !== '' && storeUpload !== '', 'an upload has an identity and a key');
      return { upload, storeUrl, objectKey, storeUpload };
    });
  }

  commit(grant: WriteGrant, content: CommittedContent, call: RemoteCall) {
    const { upload, parts, content: bytes = new Uint8Array(), sizeBytes, attributes, isLast } = content;
    return translated(async () => {
      const answer = await this.#client.commitWrite({
        ...this.#of(call),
        write: writeOf(grant),
        upload,
        parts: parts.map((part) => ({ ...part, sizeBytes: BigInt(part.sizeBytes) })),
        content: bytes,
        sizeBytes: BigInt(sizeBytes),
        attributes: attributesFor(attributes),
        last: isLast,
      });
      return this.#changed(answer, this.#attributesOf(answer.inode, { of: grant.inode }));
    });
  }

  async endWrite(grant: WriteGrant, call: RemoteCall) {
    const request = {
      exportName: this.#exportName,
      session: call.session ?? NO_SESSION,
      write: writeOf(grant),
    };
    await translated(() => this.#client.endWrite(request));
  }

  async reclaim(grants: readonly WriteGrant[], call: RemoteCall) {
    const session = call.session ?? NO_SESSION;
    const request = { exportName: this.#exportName, session, writes: grants.map(writeOf) };
    const { writes } = await translated(() => this.#client.reclaimWrites(request));
    return new Set(writes);
  }

  make(place: NamePlace, made: NewFile & { readonly target?: string }, call: RemoteCall) {
    return translated(async () => {
      const answer = await this.#client.makeName({ ...this.#of(call), place, attributes: made });
      const attributes = this.#attributesOf(answer.inode);
      const kind = made.target === undefined ? 'directory' : 'symlink';
      check(attributes.kind === kind, 'what was made is what was asked for');
      return this.#changed(answer, attributes);
    });
  }

  remove(place: NamePlace, { isDirectory }: { readonly isDirectory: boolean }, call: RemoteCall) {
    return translated(async () => {
      const answer = await this.#client.removeName({ ...this.#of(call), place, directory: isDirectory });
      return this.#changed(answer, this.#nameless(answer.inode));
    });
  }

  rename(from: NamePlace, to: NamePlace & { readonly mode: RenameMode }, call: RemoteCall) {
    const { parent, name, mode } = to;
    return translated(async () => {
      const answer = await this.#client.renameName({ ...this.#of(call), from, to: { parent, name }, mode });
      const replaced = answer.replaced === undefined ? undefined : this.#nameless(answer.replaced);
      return this.#changed(answer, replaced);
    });
  }

  setAttributes(inode: InodeNumber, changes: ChangedAttributes, call: RemoteCall) {
    return translated(async () => {
      const attributes = attributesFor(changes);
      const answer = await this.#client.setAttributes({ ...this.#of(call), inode, attributes });
      return this.#changed(answer, this.#attributesOf(answer.inode, { of: inode }));
    });
  }

  #of({ session = NO_SESSION, operation }: RemoteCall) {
    return { exportName: this.#exportName, session, operation };
  }

  #changed<Answer>({ sequence }: { readonly sequence: bigint }, answer: Answer) {
    return { answer, sequence: safeNumber(sequence) };
  }

  /** A file that had no version yet has none. */
  #nameless(inode: Inode | undefined) {
    return this.#attributesOf(inode, { isPending: inode?.kind === 'file' && inode.version === undefined });
  }

  #attributesOf(
    inode: Inode | undefined,
    { of, isPending = false }: { readonly of?: InodeNumber; readonly isPending?: boolean } = {},
  ) {
    const attributes = attributesOf(inode, this.#exportName, { isPending });
    check(of === undefined || attributes.inode === of, 'an answer is about the inode that was asked for');
    return attributes;
  }

  #grantOf(write: Write | undefined): WriteGrant {
    check(
      write !== undefined && write.write !== '' && write.inode > 0n,
      'a write has an identity and a file',
    );
    const { token, inode } = write;
    check(token > 0n, 'a fencing token is positive');
    return { write: write.write, token, exportName: this.#exportName, inode: inode as InodeNumber };
  }
}

function writeOf({ write, token, inode }: WriteGrant) {
  return { write, token, inode };
}

function attributesFor({ extended = {}, ...others }: ChangedAttributes) {
  const entries = Object.entries(extended);
  const set = entries.filter((entry): entry is [string, Uint8Array] => entry[1] !== undefined);
  const removed = entries.filter(([, value]) => value === undefined).map(([name]) => name);
  return { ...others, extended: Object.fromEntries(set), extendedRemoved: removed };
}
