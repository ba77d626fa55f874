/**
 * Work that serves everybody who asked for it before it began, such as a sync: who asks while it runs shares the next
 * run. Invariant: a call resolves only by a run that began after it.
 */
export class SharedRun {
  readonly #work: () => Promise<void>;
  #running: Promise<void> | undefined;
  #next: Promise<void> | undefined;

  constructor(work: () => Promise<void>) {
    this.#work = work;
  }

  run(): Promise<void> {
    if (this.#running === undefined) return this.#start();
    const follow = (): Promise<void> => {
      this.#next = undefined;
      return this.#start();
    };
    return (this.#next ??= this.#running.then(follow, follow));
  }

  #start(): Promise<void> {
    const running = this.#work().finally(() => {
      if (this.#running === running) this.#running = undefined;
    });
    return (this.#running = running);
  }
}
