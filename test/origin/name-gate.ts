/** A change gate for an export whose names nobody holds: changes that share a name take turns. */
import type { Change, ChangeGate } from '../../lib/origin/changes/change-gate.ts';

export class NameGate implements ChangeGate {
  readonly isGrace = false;
  readonly #underWay = new Map<string, Promise<void>>();

  async run<T>(change: Change, perform: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    const keys = change.names.map(({ directory, name }) => `${directory}/${name}`);
    for (;;) {
      signal?.throwIfAborted();
      const busy = keys.flatMap((key) => this.#underWay.get(key) ?? []);
      if (busy.length === 0) break;
      await Promise.all(busy);
    }
    let end = (): void => undefined;
    const ended = new Promise<void>((resolve) => (end = resolve));
    for (const key of keys) this.#underWay.set(key, ended);
    try {
      return await perform();
    } finally {
      for (const key of keys) this.#underWay.delete(key);
      end();
    }
  }

  underWay(directory: number, name: string): Promise<void> | undefined {
    return this.#underWay.get(`${directory}/${name}`);
  }

  withdrawnNames(directory: number): readonly string[] {
    const prefix = `${directory}/`;
    return [...this.#underWay.keys()]
      .filter((key) => key.startsWith(prefix))
      .map((key) => key.slice(prefix.length));
  }
}
