/**
 * Answers to changes, for those who ask again because they did not hear: the same operation is performed once.
 *
 * Bounded, and in memory: an origin that was restarted performs it again. What failed is not remembered. Commits of
 * writes are remembered in the index (lib/origin/changes/writes.ts).
 */
const ANSWERS_MAX = 10_000;

export class AnsweredOperations {
  readonly #answers = new Map<string, Promise<unknown>>();

  /** @param operation whose, which call, and the caller's own identity of it; empty: it is not to be remembered */
  run<T>(operation: string, perform: () => Promise<T>): Promise<T> {
    if (operation === '') return perform();
    const known = this.#answers.get(operation) as Promise<T> | undefined;
    if (known !== undefined) return known;
    const answer = perform();
    this.#answers.set(operation, answer);
    const [oldest] = this.#answers.size > ANSWERS_MAX ? this.#answers.keys() : [];
    if (oldest !== undefined) this.#answers.delete(oldest);
    answer.catch(() => {
      if (this.#answers.get(operation) === answer) this.#answers.delete(operation);
    });
    return answer;
  }
}
