/** Lets whoever waits for a condition look again whenever something has changed. */
export class Changed {
  readonly #waiting = new Set<() => void>();

  notify(): void {
    for (const look of [...this.#waiting]) look();
  }

  /** Resolves once `isSo` says so: asked now and after every change. Rejects with the signal's reason. */
  async until(isSo: () => boolean, signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    if (isSo()) return;
    await new Promise<void>((resolve, reject) => {
      const done = (): void => {
        this.#waiting.delete(look);
        signal?.removeEventListener('abort', abort);
      };
      const look = (): void => {
        if (!isSo()) return;
        done();
        resolve();
      };
      const abort = (): void => {
        done();
        reject(signal?.reason);
      };
      this.#waiting.add(look);
      signal?.addEventListener('abort', abort, { once: true });
    });
  }
}
