/**
 * The satellite's changes of names: makes what a change concerns unknown here, asks the origin for the change, and lets
 * it be known again when that has answered.
 *
 * - A change that was asked for runs to its end, also if whoever wanted it is interrupted meanwhile; a write that nobody
 *   waits for any more is given back.
 * - An origin that cannot be reached is waited for within a bound (`origin-wait.ts`), and is asked again with the same
 *   operation, so that a change whose answer was lost happens once.
 * - If no answer came within the bound, the change may still happen: what it concerns stays unknown until the origin can
 *   no longer be at it.
 */
import type { InodeNumber, SessionId } from '../base/brand.ts';
import type { Clock } from '../base/clock.ts';
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
} from './changes.ts';
import type { HeldNames } from './held-names.ts';
import {
  type InodeAttributes,
  NamespaceError,
  type NamespaceErrorCode,
  type NamespaceOptions,
} from './namespace.ts';
import type { OriginWait } from './origin-wait.ts';
import type { ChangeAnswer, OwnChange } from './own-changes.ts';
import type { PendingFile } from './pending-files.ts';
import type { Changed, RemoteCall, RemoteChanges } from './remote-changes.ts';

/** After this an origin has done what it was asked, or never will: its longest wait for satellites and store. */
export const LATE_CHANGE_MS = 300_000;
/** A write that nobody waits for is given back within so many bounds of the wait for the origin. */
const GIVE_BACK_ATTEMPTS = 10;
/** Nobody asks for the mode of a symlink. */
const SYMLINK_MODE = 0o777;
const DOUBTFUL: ReadonlySet<NamespaceErrorCode> = new Set(['unavailable', 'timeout', 'protocol']);

export interface LeasedChangesOptions {
  readonly remote: RemoteChanges;
  readonly held: HeldNames;
  /** What the session's driver knows. */
  readonly term: { readonly session: SessionId | undefined };
  readonly wait: OriginWait;
  readonly clock: Clock;
  readonly nextTurn: (run: () => void) => void;
  /** Tells the operations of this life of the satellite from those of all others. */
  readonly life: string;
}

export class LeasedChanges implements NamespaceChanges {
  readonly #options: LeasedChangesOptions;
  /** Of an earlier life, and not adopted: what a commit would change here is not known. */
  readonly #reclaimed = new Set<string>();
  /** Writes that are just ending: an open that overtakes the end would be answered with the same write. */
  readonly #ending = new Map<InodeNumber, Promise<unknown>>();
  readonly #late = new Map<OwnChange, () => void>();
  #operations = 0;
  #isClosed = false;

  constructor(options: LeasedChangesOptions) {
    this.#options = options;
  }

  /** Changes whose end is not known. */
  get late(): number {
    return this.#late.size;
  }

  // --- Writes ---

  createFile(place: NamePlace, file: NewFile, { signal }: NamespaceOptions = {}): Promise<CreatedFile> {
    const { held, remote } = this.#options;
    const ask = this.#operation((call) => remote.createFile(place, file, call));
    const created = ask().then((made) => {
      held.pending.add({ ...made, place });
      return made;
    });
    // Else the name would be nobody's for as long as the session lives.
    created.catch((error: unknown) => {
      if (mayStillHappen(error)) void this.#giveBack(ask);
    });
    return whileWanted(created, { signal, onUnwanted: () => this.#giveBack(() => created) });
  }

  async openWrite(inode: InodeNumber, { signal }: NamespaceOptions = {}): Promise<OpenedWrite> {
    const { remote } = this.#options;
    const ask = this.#operation((call) => remote.openWrite(inode, call));
    const ending = this.#ending.get(inode);
    return whileWanted(ending === undefined ? ask() : ending.then(ask, ask), { signal });
  }

  beginUpload(grant: WriteGrant, { signal }: NamespaceOptions = {}): Promise<BegunUpload> {
    const ask = this.#operation((call) => this.#options.remote.beginUpload(grant, call));
    return whileWanted(ask(), { signal });
  }

  commit(
    grant: WriteGrant,
    content: CommittedContent,
    { signal }: NamespaceOptions = {},
  ): Promise<InodeAttributes> {
    const { remote } = this.#options;
    const file = this.#pendingOf(grant);
    // Whose place is not known here, that is withdrawn from this satellite like from all others.
    const isToldLikeOthers = file === undefined && this.#reclaimed.has(grant.write);
    const change = this.#changeByCommit(grant, file);
    const committed = this.#change(
      isToldLikeOthers ? { names: [], inodes: [], isKernels: false } : change,
      (call) => remote.commit(grant, content, isToldLikeOthers ? { ...call, session: undefined } : call),
      (attributes, answer) => file && this.#committed(file, { attributes, change, answer }),
    );
    committed.catch((error: unknown) => {
      if (file !== undefined && isLost(error)) this.#options.held.pending.remove(file);
    });
    if (content.isLast) this.#noteEnding(grant, committed);
    return whileWanted(committed, { signal });
  }

  endWrite(grant: WriteGrant, { signal }: NamespaceOptions = {}): Promise<void> {
    const { held, remote } = this.#options;
    // Before the origin lets others have the name.
    const file = this.#pendingOf(grant);
    if (file !== undefined) held.pending.remove(file);
    const ended = this.#operation((call) => remote.endWrite(grant, call))();
    this.#noteEnding(grant, ended);
    return whileWanted(ended, { signal });
  }

  async reclaim(
    grants: readonly WriteGrant[],
    { signal }: NamespaceOptions = {},
  ): Promise<ReadonlySet<string>> {
    const ask = this.#operation((call) => this.#options.remote.reclaim(grants, call));
    const good = await whileWanted(ask(), { signal });
    for (const write of good) this.#reclaimed.add(write);
    return good;
  }

  adoptPending(
    grant: WriteGrant,
    file: { readonly place: NamePlace; readonly attributes: InodeAttributes },
  ): void {
    this.#options.held.pending.add({ grant, ...file });
  }

  // --- Names ---

  makeDirectory(
    place: NamePlace,
    directory: NewFile,
    { signal }: NamespaceOptions = {},
  ): Promise<InodeAttributes> {
    return this.#make(place, directory, signal);
  }

  makeSymlink(
    place: NamePlace,
    symlink: Omit<NewFile, 'mode'> & { readonly target: string },
    { signal }: NamespaceOptions = {},
  ): Promise<InodeAttributes> {
    return this.#make(place, { ...symlink, mode: SYMLINK_MODE }, signal);
  }

  unlink(place: NamePlace, { signal }: NamespaceOptions = {}): Promise<InodeAttributes> {
    const { held, remote } = this.#options;
    const file = held.pending.at(place.parent, place.name);
    const removed = this.#change(
      ofKernel([place]),
      (call) => remote.remove(place, { isDirectory: false }, call),
      () => file && held.pending.remove(file),
    );
    if (file === undefined) return whileWanted(removed, { signal });
    held.pending.change(file, removed);
    return whileWanted(
      removed.then(() => file.attributes),
      { signal },
    );
  }

  async removeDirectory(place: NamePlace, { signal }: NamespaceOptions = {}): Promise<void> {
    const { remote } = this.#options;
    // The origin takes it, and what is below it, out of the leases that cover it, as if it got another place.
    const removed = this.#change({ ...ofKernel([place]), moved: this.#directoriesAmong([place]) }, (call) =>
      remote.remove(place, { isDirectory: true }, call),
    );
    await whileWanted(removed, { signal });
  }

  rename(
    from: NamePlace,
    to: NamePlace & { readonly mode: RenameMode },
    { signal }: NamespaceOptions = {},
  ): Promise<InodeAttributes | undefined> {
    const { held, remote } = this.#options;
    const { pending } = held;
    const target = { parent: to.parent, name: to.name };
    const source = pending.at(from.parent, from.name);
    const replaced = pending.at(to.parent, to.name);
    const moved = this.#directoriesAmong(to.mode === 'exchange' ? [from, target] : [from]);
    const renamed = this.#change(
      { ...ofKernel([from, target]), moved },
      (call) => remote.rename(from, to, call),
      () => {
        const hasSource = source !== undefined && pending.has(source);
        const hasReplaced = replaced !== undefined && pending.has(replaced);
        if (to.mode === 'exchange' && hasSource && hasReplaced) return pending.exchange(source, replaced);
        if (hasReplaced && to.mode === 'exchange') return pending.move(replaced, from);
        if (hasReplaced) pending.remove(replaced);
        if (hasSource) pending.move(source, target);
      },
    );
    for (const file of [source, replaced]) if (file !== undefined) pending.change(file, renamed);
    const shown = to.mode === 'replace' ? replaced?.attributes : undefined;
    return whileWanted(
      renamed.then((answer) => shown ?? answer),
      { signal },
    );
  }

  setAttributes(
    inode: InodeNumber,
    changes: ChangedAttributes,
    { signal }: NamespaceOptions = {},
  ): Promise<InodeAttributes> {
    const { remote } = this.#options;
    const change = { names: [], inodes: [inode], isKernels: true };
    return whileWanted(
      this.#change(change, (call) => remote.setAttributes(inode, changes, call)),
      { signal },
    );
  }

  close(): void {
    this.#isClosed = true;
    for (const cancel of this.#late.values()) cancel();
    this.#late.clear();
  }

  // --- Within ---

  #make(
    place: NamePlace,
    made: NewFile & { readonly target?: string },
    signal: AbortSignal | undefined,
  ): Promise<InodeAttributes> {
    return whileWanted(
      this.#change(ofKernel([place]), (call) => this.#options.remote.make(place, made, call)),
      { signal },
    );
  }

  /**
   * A change of what others see, to its end.
   *
   * @param done called in the turn in which what the change concerns may be known again
   */
  async #change<Answer>(
    change: OwnChange,
    call: (call: RemoteCall) => Promise<Changed<Answer>>,
    done: (answer: Answer, how: ChangeAnswer) => void = () => undefined,
  ): Promise<Answer> {
    const { held, nextTurn } = this.#options;
    // What was read from the cache in this turn reaches the kernel before it is told to forget that.
    await new Promise<void>((resolve) => nextTurn(resolve));
    await held.begin(change);
    let asked = 0;
    try {
      const ask = this.#operation((options) => {
        asked = held.cache.own.session;
        return call(options);
      });
      const { answer, sequence } = await ask();
      const how = { sequence, session: asked };
      held.end(change, how);
      done(answer, how);
      return answer;
    } catch (error) {
      if (mayStillHappen(error)) this.#endLate(change);
      else held.end(change, undefined);
      throw error;
    }
  }

  /** The kernel is answered now, with a failure; the change may happen until its time has passed. */
  #endLate(change: OwnChange): void {
    const { held, clock } = this.#options;
    held.doubt(change);
    if (this.#isClosed) return;
    const cancel = clock.after(LATE_CHANGE_MS, () => {
      this.#late.delete(change);
      // Whatever was sent about the time before has come long since.
      held.end(change, undefined);
    });
    this.#late.set(change, cancel);
  }

  /** A file that is pending gets its name; one that has it may have got another one meanwhile. */
  #changeByCommit({ inode }: WriteGrant, file: PendingFile | undefined): OwnChange {
    if (file !== undefined) {
      const { place } = file;
      return { names: [place], inodes: [inode, place.parent], isKernels: false };
    }
    const known = this.#options.held.cache.inode(inode);
    const names = known === undefined ? [] : [{ parent: known.directory.inode, name: known.name }];
    return { names, inodes: [inode], isKernels: false };
  }

  #committed(
    file: PendingFile,
    how: { readonly attributes: InodeAttributes; readonly change: OwnChange; readonly answer: ChangeAnswer },
  ): void {
    const { held } = this.#options;
    if (!held.pending.has(file)) return;
    if (!how.change.names.includes(file.place)) {
      // Renamed meanwhile: what is known of the name that it has now, and that was hidden by it, may be as old.
      const renamed = this.#changeByCommit(file.grant, file);
      void held.begin(renamed);
      held.end(renamed, how.answer);
    }
    held.pending.committed(file, how.attributes);
  }

  /** One operation of the origin, asked again while that cannot be reached, within the bound; also each time it is called. */
  #operation<Answer>(call: (call: RemoteCall) => Promise<Answer>): () => Promise<Answer> {
    const { wait, term, life } = this.#options;
    const operation = `${life}-${(this.#operations += 1)}`;
    return () => wait.run(() => call({ session: term.session, operation }), undefined);
  }

  #pendingOf({ inode, write }: WriteGrant): PendingFile | undefined {
    const file = this.#options.held.pending.inode(inode);
    return file?.grant.write === write ? file : undefined;
  }

  #noteEnding({ inode, write }: WriteGrant, ended: Promise<unknown>): void {
    this.#ending.set(inode, ended);
    const done = (): void => {
      if (this.#ending.get(inode) === ended) this.#ending.delete(inode);
    };
    ended.then(() => {
      this.#reclaimed.delete(write);
      done();
    }, done);
  }

  /** A file that nobody will write, if it was made. */
  async #giveBack(created: () => Promise<CreatedFile>): Promise<void> {
    for (let attempt = 0; attempt < GIVE_BACK_ATTEMPTS && !this.#isClosed; attempt++) {
      try {
        const { grant } = await created();
        return await this.endWrite(grant);
      } catch (error) {
        if (!mayStillHappen(error)) return;
      }
    }
  }

  /** Of names that get another place. What is not known may be a directory. */
  #directoriesAmong(places: readonly NamePlace[]): NonNullable<OwnChange['moved']> {
    const { cache, pending } = this.#options.held;
    const directories: InodeNumber[] = [];
    for (const { parent, name } of places) {
      if (pending.at(parent, name) !== undefined) continue;
      const fact = cache.name(parent, name);
      if (fact?.state !== 'known') return 'unknown';
      if (fact.attributes.kind === 'directory') directories.push(fact.attributes.inode);
    }
    return directories;
  }
}

/** A change that the kernel asked for; the times of the directories change with their names. */
function ofKernel(names: readonly NamePlace[]): OwnChange {
  return { names, inodes: [...new Set(names.map(({ parent }) => parent))], isKernels: true };
}

/** The origin may be at it, or may have done it. */
function mayStillHappen(error: unknown): boolean {
  return !(error instanceof NamespaceError) || DOUBTFUL.has(error.code);
}

/** There will be no version of the write. */
function isLost(error: unknown): boolean {
  return error instanceof NamespaceError && (error.code === 'not-found' || error.code === 'fenced');
}

/** The answer, or the reason of the signal, whichever comes first. */
async function whileWanted<Answer>(
  answer: Promise<Answer>,
  options: { readonly signal: AbortSignal | undefined; readonly onUnwanted?: () => unknown },
): Promise<Answer> {
  const { signal, onUnwanted } = options;
  if (signal === undefined) return answer;
  const aborted = Promise.withResolvers<never>();
  const abort = (): void => aborted.reject(signal.reason as Error);
  if (signal.aborted) abort();
  else signal.addEventListener('abort', abort, { once: true });
  try {
    return await Promise.race([aborted.promise, answer]);
  } catch (error) {
    if (signal.aborted) answer.then(onUnwanted, () => undefined);
    throw error;
  } finally {
    signal.removeEventListener('abort', abort);
  }
}
