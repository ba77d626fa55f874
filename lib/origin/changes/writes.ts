/**
 * Writes: the right to make the next version of a file, one at a time for each file and each name without one.
 *
 * Guarantees: of two who make the same name one wins; a commit with a stale token never happens. A write outlives its
 * session, and is taken away only when another satellite wants the file and the session has expired, so that a satellite
 * that was restarted, or an origin, changes nothing for a file that nobody else wants (`reclaim`). While the session
 * lives, others wait for a bounded time.
 * A file without a version exists here alone: nothing is in the store, and no row is in the index but that of its write,
 * with its place and the number that it will have.
 * Rows of writes are not synced to the disk one by one: one that the death of the host loses is refused later as fenced,
 * and its bytes are kept by its satellite.
 */
import type { SessionId } from '../../base/brand.ts';
import type { Clock } from '../../base/clock.ts';
import { randomId } from '../../base/prng.ts';
import type { ObjectMetadata, UploadedPart } from '../../store/object-store.ts';
import type { CarriedAttributes, IndexedInode } from '../index/index-rows.ts';
import type { ChangedRows, UploadRow, WriteCommit } from '../index/index-changes.ts';
import type { NamespaceIndex } from '../index/namespace-index.ts';
import type { WriteRow } from '../index/write-rows.ts';
import { OriginError } from '../origin.ts';
import { locateAt, type Place } from '../tree/export-paths.ts';
import type { ExportTree } from '../tree/export-tree.ts';
import { fenced, removed } from './commit-target.ts';
import type { Commits, Content } from './commit.ts';
import type { BegunUpload, Uploads } from './uploads.ts';
import { pendingInode, type WriteSeats } from './write-seats.ts';

/** How long somebody waits for another's write. */
export const WRITE_WAIT_MS_DEFAULT = 5_000;
/** Of one export. */
const WRITES_MAX = 100_000;
const WRITE_ID_BYTES = 16;

export interface Writer {
  /** Undefined: it has none that is good, so its write is anybody's. */
  readonly by: SessionId | undefined;
  readonly host: string;
}

export interface WriteToken {
  readonly write: string;
  readonly token: bigint;
}

export interface OpenedWrite {
  readonly row: WriteRow;
  /** What is committed; a file without a version has none. */
  readonly inode: IndexedInode;
}

/** What a commit makes of a file. */
export interface WriteContent {
  /** Bytes, or the parts of an upload. */
  readonly content:
    | { readonly kind: 'bytes'; readonly bytes: Uint8Array }
    | {
        readonly kind: 'parts';
        readonly upload: string;
        readonly parts: readonly UploadedPart[];
        readonly sizeBytes: number;
      };
  /** What changes of the attributes. @param before of the last version, or what the file was made with */
  readonly attributes: (before: CarriedAttributes) => CarriedAttributes;
  /** What the object can carry of them. */
  readonly metadata: (attributes: CarriedAttributes) => CarriedMetadata;
  readonly operation: string;
  readonly isLast: boolean;
  readonly by: SessionId | undefined;
}

export interface CarriedMetadata {
  readonly metadata: ObjectMetadata;
  /** Nothing is left out. */
  readonly isWhole: boolean;
}

export interface WritesOptions {
  readonly exportId: number;
  readonly index: NamespaceIndex;
  readonly tree: ExportTree;
  readonly seats: WriteSeats;
  readonly uploads: Uploads;
  readonly commits: Commits;
  readonly clock: Clock;
  readonly writeWaitMs: number;
}

export class Writes {
  readonly #options: WritesOptions;
  /** Commits under way, by write and operation: the same again waits for the first. */
  readonly #committing = new Map<string, Promise<IndexedInode>>();

  constructor(options: WritesOptions) {
    this.#options = options;
  }

  get count(): number {
    const { index, exportId } = this.#options;
    return index.changes.writes.count(exportId);
  }

  /** A file without a version. @throws OriginError `exists`, `not-found`, `not-directory`, `invalid` */
  async create(place: Place, attributes: CarriedAttributes, writer: Writer): Promise<OpenedWrite> {
    const { index, tree, exportId, seats } = this.#options;
    const { inode: existing } = await locateAt(tree, place);
    if (existing !== undefined) throw alreadyThere(place);
    const before = index.changes.writes.at({ exportId, directory: place.directory }, place.name);
    if (before !== undefined && seats.isAlive(before)) throw alreadyThere(place);
    if (before !== undefined) await this.#settle(before);
    const row = index.changes.quickly((rows) => {
      const key = { exportId, directory: place.directory };
      if (rows.directory(key) === undefined) throw removed();
      const now = rows.writes.at(key, place.name);
      const isFree = now === undefined || now.write === before?.write;
      if (rows.child(key, place.name) !== undefined || !isFree) throw alreadyThere(place);
      if (now !== undefined) rows.writes.delete(now);
      return this.#insert(rows, { inode: rows.newInode(), place, attributes }, writer);
    });
    return { row, inode: pendingInode(row) };
  }

  /** Of a file that has a version, or its own that has none yet. @throws OriginError `busy`, `is-directory`, `not-found` */
  async open(inode: number, writer: Writer): Promise<OpenedWrite> {
    const { index, tree, exportId, seats, clock, writeWaitMs } = this.#options;
    const deadlineMs = clock.nowMs() + writeWaitMs;
    for (;;) {
      const current = index.changes.writes.ofInode(exportId, inode);
      const isOwn = current !== undefined && current.session !== '' && current.session === writer.by;
      if (isOwn && current.place !== undefined) return { row: current, inode: pendingInode(current) };
      const found = await tree.attributes(inode);
      if (found.kind === 'directory') throw new OriginError('is-directory', 'a directory is not written');
      if (found.kind === 'symlink') throw new OriginError('invalid', 'a symlink is not written');
      if (isOwn) return { row: current, inode: found };
      if (current !== undefined && seats.isAlive(current)) {
        if (clock.nowMs() >= deadlineMs) throw busy(current);
        await seats.wait(current, deadlineMs);
        continue;
      }
      if (current !== undefined) await this.#settle(current);
      const row = index.changes.quickly((rows) => this.#takeOver(rows, { inode, current }, writer));
      if (row === undefined) continue;
      if (current !== undefined) await this.#forgetUploads(current.write);
      return { row, inode: await tree.attributes(inode) };
    }
  }

  /** Where parts of the next version are to be sent. @throws OriginError `fenced`, `not-found` */
  async beginUpload(
    token: WriteToken,
    metadata: (attributes: CarriedAttributes) => CarriedMetadata,
  ): Promise<BegunUpload> {
    const { uploads } = this.#options;
    const row = this.#expect(token);
    const { place, attributes } = await this.#stateOf(row);
    return uploads.beginFor(row.write, { place, metadata: metadata(attributes).metadata });
  }

  /**
   * Makes the version. The same operation again has the same result, also in another life of the origin.
   *
   * @throws OriginError `fenced`, `not-found`, `upload-gone`
   */
  async commit(token: WriteToken, content: WriteContent): Promise<IndexedInode> {
    const { index, exportId } = this.#options;
    const { operation } = content;
    const known = index.changes.writes.get(token.write);
    if (known?.committed?.operation === operation && this.#isFor(known, token)) {
      const inode = await index.inode(exportId, known.inode);
      if (inode === undefined) throw removed();
      // What others have made of it since is another version.
      return { ...inode, version: known.committed.version };
    }
    const key = `${token.write} ${operation}`;
    const running =
      this.#committing.get(key) ?? this.#commit(token, content).finally(() => this.#committing.delete(key));
    this.#committing.set(key, running);
    return running;
  }

  /** Without a commit: a file without a version vanishes. One that is gone is no error. */
  async end(token: WriteToken): Promise<void> {
    const { index, seats } = this.#options;
    const known = index.changes.writes.get(token.write);
    if (known === undefined || !this.#isFor(known, token)) return;
    await this.#settle(known);
    index.changes.quickly((rows) => {
      const row = rows.writes.get(token.write);
      if (row !== undefined && row.endedMs === undefined) seats.drop(rows, row);
    });
    await this.#forgetUploads(token.write);
    seats.ended(token.write);
  }

  /** Those that are still good go on under this session. */
  reclaim(tokens: readonly WriteToken[], writer: Writer): string[] {
    const { index } = this.#options;
    return index.changes.quickly(({ writes }) => {
      const good = tokens.filter(({ write, token }) => {
        const row = writes.get(write);
        return row !== undefined && row.endedMs === undefined && this.#isFor(row, { write, token });
      });
      for (const { write } of good) {
        writes.setSession(write, { session: writer.by ?? '', host: writer.host });
      }
      return good.map(({ write }) => write);
    });
  }

  /** A satellite goes on with another session. */
  succeed(earlier: SessionId, session: SessionId): void {
    this.#options.index.changes.quickly(({ writes }) => writes.succeed(earlier, session));
  }

  async #commit(token: WriteToken, given: WriteContent): Promise<IndexedInode> {
    const { commits, seats, uploads } = this.#options;
    const known = this.#expect(token);
    // An earlier commit of it may still be unknown.
    await this.#settle(known);
    const row = this.#expect(token);
    const { attributes: before } = await this.#stateOf(row);
    const { upload, content } = this.#contentOf(row, given, before);
    const inode = await commits.run(upload, { content, by: given.by });
    if (given.isLast) {
      await uploads.abortOf(row.write);
      seats.ended(row.write);
    }
    return inode;
  }

  #contentOf(
    row: WriteRow,
    given: WriteContent,
    before: CarriedAttributes,
  ): { readonly upload: UploadRow; readonly content: Content } {
    const { uploads } = this.#options;
    const attributes = given.attributes(before);
    const commitOf = (isOwn: boolean): WriteCommit => ({
      operation: given.operation,
      isLast: given.isLast,
      attributes: { ...attributes, isOwn },
    });
    if (given.content.kind === 'parts') {
      const { upload, parts, sizeBytes } = given.content;
      const taken = uploads.take(upload, { write: row.write, parts, sizeBytes });
      // The object carries what was known when the upload began.
      return { upload: { ...taken, commit: commitOf(true) }, content: { kind: 'parts', parts } };
    }
    const { metadata, isWhole } = given.metadata(attributes);
    const { bytes } = given.content;
    const draft = uploads.draftFor(row.write, metadata);
    return {
      upload: { ...draft, commit: commitOf(!isWhole) },
      content: { kind: 'bytes', bytes, isNew: false },
    };
  }

  /** Where the file is now, and with what. @throws OriginError `not-found` */
  async #stateOf(row: WriteRow): Promise<{ readonly place: Place; readonly attributes: CarriedAttributes }> {
    if (row.place !== undefined) return { place: row.place, attributes: row.attributes };
    const { index, exportId } = this.#options;
    const inode = await index.inode(exportId, row.inode);
    if (inode === undefined) throw removed();
    const { parent: directory, name, mode, uid, gid, modifiedNs, changedNs, extended } = inode;
    return { place: { directory, name }, attributes: { mode, uid, gid, modifiedNs, changedNs, extended } };
  }

  #isFor({ exportId, token }: WriteRow, given: WriteToken): boolean {
    return exportId === this.#options.exportId && BigInt(token) === given.token;
  }

  /** @throws OriginError `fenced`, `not-found` */
  #expect(token: WriteToken): WriteRow {
    const row = this.#options.index.changes.writes.get(token.write);
    if (row === undefined || !this.#isFor(row, token)) throw fenced();
    if (row.endedMs === undefined) return row;
    throw row.committed === undefined ? removed() : fenced();
  }

  #insert(
    rows: ChangedRows,
    file: Pick<WriteRow, 'inode' | 'place' | 'attributes'>,
    writer: Writer,
  ): WriteRow {
    const { exportId, clock } = this.#options;
    if (this.count >= WRITES_MAX) {
      throw new OriginError('unavailable', `${WRITES_MAX} files are being written already`);
    }
    const row: WriteRow = {
      ...file,
      exportId,
      write: randomId(WRITE_ID_BYTES),
      token: rows.writes.nextToken(exportId),
      session: writer.by ?? '',
      host: writer.host,
      committed: undefined,
      begunMs: Math.round(clock.wallMs()),
      endedMs: undefined,
    };
    rows.writes.insert(row);
    return row;
  }

  /** @returns undefined if another was faster */
  #takeOver(
    rows: ChangedRows,
    { inode, current }: { readonly inode: number; readonly current: WriteRow | undefined },
    writer: Writer,
  ): WriteRow | undefined {
    const { exportId, seats } = this.#options;
    const now = rows.writes.ofInode(exportId, inode);
    if (now?.write !== current?.write || (now !== undefined && seats.isAlive(now))) return undefined;
    const row = rows.inode(exportId, inode);
    if (row === undefined) return undefined;
    if (now !== undefined) rows.writes.delete(now);
    const { mode, uid, gid, modifiedNs, changedNs } = row;
    return this.#insert(
      rows,
      { inode, place: undefined, attributes: { mode, uid, gid, modifiedNs, changedNs } },
      writer,
    );
  }

  /** The outcome of its commits is known, under way or not. @throws OriginError */
  async #settle({ write }: WriteRow): Promise<void> {
    const running = [...this.#committing].filter(([key]) => key.startsWith(`${write} `));
    await Promise.allSettled(running.map(([, commit]) => commit));
    await this.#options.commits.settleWrite(write);
  }

  async #forgetUploads(write: string): Promise<void> {
    // What is left is aborted by its age.
    await this.#options.uploads.abortOf(write).catch(() => undefined);
  }
}

function alreadyThere({ name }: Place): OriginError {
  return new OriginError('exists', `there is ${JSON.stringify(name)} already`);
}

function busy({ host }: WriteRow): OriginError {
  return new OriginError('busy', `${host} is writing this file`, { hint: 'try again when it has closed it' });
}
