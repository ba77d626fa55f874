/**
 * Questions to the store that are under way, so that a late answer never overwrites a change.
 *
 * The rule: an answer says nothing about a name that changed after the question was asked, because it may tell what
 * was before the change. Whoever writes a name of the index says so here, for whatever reason it is written; whoever
 * asks looks here before he uses the answer. Where an answer that says nothing was wanted, the index answers instead.
 */
export class OpenQuestions {
  readonly #open = new Map<number, Set<Question>>();

  /** About names of one directory. To be ended, always. */
  ask(directory: number): Question {
    const questions = this.#open.get(directory) ?? new Set();
    this.#open.set(directory, questions);
    const question: Question = new Question(() => {
      questions.delete(question);
      if (questions.size === 0 && this.#open.get(directory) === questions) this.#open.delete(directory);
    });
    questions.add(question);
    return question;
  }

  /** @param by the question whose answer changed them: what it still says of them is later */
  changed(directory: number, names: Iterable<string>, by?: Question): void {
    const questions = this.#open.get(directory);
    if (questions === undefined) return;
    for (const name of names) {
      for (const question of questions) if (question !== by) question.changed(name);
    }
  }

  /** The keys of the directory are others now. */
  changedAll(directory: number): void {
    for (const question of this.#open.get(directory) ?? []) question.changedAll();
  }
}

export class Question {
  readonly #changed = new Set<string>();
  readonly #end: () => void;
  #all = false;

  constructor(end: () => void) {
    this.#end = end;
  }

  /** The answer says nothing about this name. */
  isVoid(name: string): boolean {
    return this.#all || this.#changed.has(name);
  }

  changed(name: string): void {
    this.#changed.add(name);
  }

  changedAll(): void {
    this.#all = true;
  }

  end(): void {
    this.#end();
  }
}
