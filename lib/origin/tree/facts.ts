/**
 * Puts what the store was found to hold into the index, so that what satellites were told changes only through the
 * change gate.
 *
 * A fact is what the index has told: a row, or an absence (every one of a listed directory, and those in `absences`).
 * A finding about which nobody was told anything is placed silently; not while sessions of an earlier life are awaited,
 * for it is not known which absences they were told. One that differs from a fact is not placed: its
 * name goes through the gate, and while no satellite holds it the store is asked again, so that what is placed is
 * what lies there then, however long the gate took. Late answers: see open-questions.ts.
 */
import type { Absences } from './absences.ts';
import type { ChangeGate } from '../changes/change-gate.ts';
import type { ExportOptions } from '../export-options.ts';
import { isDisplaced } from '../index/index-merge.ts';
import type { Evidence, Found, IndexedDirectory, IndexedInode, Placement } from '../index/index-rows.ts';
import type { Effect, NamespaceIndex } from '../index/namespace-index.ts';
import type { OpenQuestions, Question } from './open-questions.ts';
import type { StoreProbe } from './store-probe.ts';

/** Names asked for at once inside the gate. */
const ASKED_AT_ONCE = 64;
/** A void answer is asked again so often; then the index answers. */
const ATTEMPTS_MAX = 3;

/** What the store's part of a name is hidden: its key belongs to something that was removed or renamed. */
export interface OccupiedKeys {
  has(key: string): boolean;
}

export interface AskedName {
  readonly name: string;
  /** What a listing that has passed the name says it is: saves a call. */
  readonly known?: 'file' | 'directory' | undefined;
}

/** How findings changed what the index told. */
export interface Differences {
  readonly added: number;
  readonly changed: number;
  readonly gone: number;
}

export class Facts {
  readonly #exportId: number;
  readonly #options: ExportOptions;
  readonly #index: NamespaceIndex;
  readonly #probe: StoreProbe;
  readonly #gate: ChangeGate;
  readonly #absences: Absences;
  readonly #questions: OpenQuestions;
  readonly #occupied: OccupiedKeys;

  constructor(options: {
    readonly exportId: number;
    readonly options: ExportOptions;
    readonly index: NamespaceIndex;
    readonly probe: StoreProbe;
    readonly gate: ChangeGate;
    readonly absences: Absences;
    readonly questions: OpenQuestions;
    readonly occupied: OccupiedKeys;
  }) {
    this.#exportId = options.exportId;
    this.#options = options.options;
    this.#index = options.index;
    this.#probe = options.probe;
    this.#gate = options.gate;
    this.#absences = options.absences;
    this.#questions = options.questions;
    this.#occupied = options.occupied;
  }

  /** Before the store is asked about a directory. */
  question(directory: number): Question {
    return this.#questions.ask(directory);
  }

  /** Asks the store for names, places what it says, and tells what each is now. @throws OriginError */
  async ask(directory: IndexedDirectory, names: readonly AskedName[]): Promise<(IndexedInode | undefined)[]> {
    await this.review(directory, names);
    const key = this.#key(directory.inode);
    return Promise.all(names.map(({ name }) => this.#index.child(key, name)));
  }

  /** Asks the store for names and places what it says. @throws OriginError */
  async review(directory: IndexedDirectory, names: readonly AskedName[]): Promise<Differences> {
    let left = names;
    let sum: Differences = { added: 0, changed: 0, gone: 0 };
    for (let attempt = 0; attempt < ATTEMPTS_MAX && left.length > 0; attempt++) {
      const question = this.question(directory.inode);
      try {
        const placements = await this.#findAll(directory, left);
        left = left.filter(({ name }) => question.isVoid(name));
        sum = plus(sum, await this.settle(directory, placements, { evidence: 'object', question }));
      } finally {
        question.end();
      }
    }
    return sum;
  }

  /** Places findings. @throws OriginError */
  async settle(
    directory: IndexedDirectory,
    placements: readonly Placement[],
    options: {
      readonly evidence: Evidence;
      readonly question: Question;
      readonly listedThrough?: string | undefined;
    },
  ): Promise<Differences> {
    const { evidence, question, listedThrough } = options;
    const { inode } = directory;
    const meant = placements.filter(
      ({ name, found }) =>
        !question.isVoid(name) && (evidence === 'object' || !this.#isOccupied(directory, name, found)),
    );
    const { done, refused } = await this.#index.place(this.#key(inode), meant, {
      evidence,
      listedThrough,
      admit: (effect, state) =>
        !this.#contradicts(effect, { directory: inode, isListed: state === 'listed' }),
    });
    const added = done.filter(({ kind }) => kind === 'insert').map(({ name }) => name);
    this.#questions.changed(inode, added, question);
    if (refused.length === 0) return { added: added.length, changed: 0, gone: 0 };
    const differences = await this.#change(
      inode,
      refused.map(({ name }) => name),
    );
    return plus(differences, { added: added.length, changed: 0, gone: 0 });
  }

  /** While no satellite holds the names, asks again and places what there is. */
  #change(directory: number, names: readonly string[]): Promise<Differences> {
    return this.#gate.run({ names: names.map((name) => ({ directory, name })) }, async () => {
      const sum = { added: 0, changed: 0, gone: 0 };
      for (let at = 0; at < names.length; at += ASKED_AT_ONCE) {
        const piece = names.slice(at, at + ASKED_AT_ONCE);
        const key = this.#key(directory);
        const parent = await this.#index.directory(key);
        if (parent === undefined) return sum;
        const placements = await this.#findAll(
          parent,
          piece.map((name) => ({ name })),
        );
        this.#questions.changed(directory, piece);
        const { done } = await this.#index.place(key, placements, { evidence: 'object' });
        for (const { kind, existing, name, found } of done) {
          if (kind === 'insert') sum.added += 1;
          else if (kind === 'visible') sum[found === undefined ? 'gone' : 'changed'] += 1;
          if (found !== undefined) this.#absences.drop(directory, name);
          else if (existing !== undefined) this.#absences.remember(directory, name);
        }
      }
      return sum;
    });
  }

  /** The finding is not what a satellite may have been told. */
  #contradicts(
    { name, existing, kind }: Effect,
    at: { readonly directory: number; readonly isListed: boolean },
  ): boolean {
    switch (kind) {
      case 'none':
      case 'quiet':
        return false;
      case 'insert':
        return at.isListed || this.#gate.isGrace || this.#absences.has(at.directory, name);
      case 'visible':
        return existing === undefined || !this.#isUntold(existing);
    }
  }

  /** A listing met the object, but before its attributes are told, the object itself is asked. */
  #isUntold(row: IndexedInode): boolean {
    if (row.resolved) return false;
    return this.#options.attributes === 'head' || row.version?.sizeBytes === 0;
  }

  /** A listing shows what is to be deleted or moved as long as it lies there. */
  #isOccupied({ keyPrefix }: IndexedDirectory, name: string, found: Found | undefined): boolean {
    return this.#occupied.has(keyPrefix + name + (found?.kind === 'directory' ? '/' : ''));
  }

  /** What lies under a name: where its bytes are if the index knows, else at its own key unless that is occupied. */
  async #find(directory: IndexedDirectory, { name, known }: AskedName): Promise<Found | undefined> {
    const naturalKey = directory.keyPrefix + name;
    const row = await this.#index.child(this.#key(directory.inode), name);
    if (row?.kind === 'directory') {
      const own = await this.#index.directory(this.#key(row.inode));
      if (own !== undefined && own.keyPrefix !== `${naturalKey}/`) {
        return this.#probe.find(own.keyPrefix.slice(0, -1), { only: 'directory' });
      }
    } else if (row?.version !== undefined && isDisplaced(row, naturalKey)) {
      return this.#probe.find(row.version.objectKey, { only: 'object' });
    }
    const noObject = this.#occupied.has(naturalKey);
    const noDirectory = this.#occupied.has(`${naturalKey}/`);
    if (noObject && noDirectory) return undefined;
    if (noObject) return this.#probe.find(naturalKey, { only: 'directory' });
    if (noDirectory) return this.#probe.find(naturalKey, { only: 'object' });
    return this.#probe.find(naturalKey, { known });
  }

  #findAll(directory: IndexedDirectory, names: readonly AskedName[]): Promise<Placement[]> {
    return Promise.all(
      names.map(async (asked) => ({ name: asked.name, found: await this.#find(directory, asked) })),
    );
  }

  #key(directory: number) {
    return { exportId: this.#exportId, directory };
  }
}

function plus(a: Differences, b: Differences): Differences {
  return { added: a.added + b.added, changed: a.changed + b.changed, gone: a.gone + b.gone };
}
