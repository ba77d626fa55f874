/**
 * Absences that satellites may have been told, in directories that are not listed.
 *
 * They are facts like names that are there: as long as one is remembered here, the name appears only through the
 * change gate. The memory is bounded; what is forgotten first goes through the gate itself, after which no satellite
 * holds it. Not kept over a restart: satellites drop such absences then too.
 */
import type { ChangeGate } from '../changes/change-gate.ts';

/** Some 100 bytes each. */
const ABSENCES_MAX = 500_000;
/** Forgotten at once. */
const FORGOTTEN_AT_ONCE = 1_000;

interface Absence {
  readonly directory: number;
  readonly name: string;
}

export class Absences {
  readonly #gate: ChangeGate;
  readonly #max: number;
  /** Oldest first. */
  readonly #absences = new Map<string, Absence>();
  #forgetting: Promise<void> | undefined;

  constructor(options: { readonly gate: ChangeGate; readonly max?: number }) {
    this.#gate = options.gate;
    this.#max = options.max ?? ABSENCES_MAX;
  }

  get size(): number {
    return this.#absences.size;
  }

  has(directory: number, name: string): boolean {
    return this.#absences.has(keyOf(directory, name));
  }

  remember(directory: number, name: string): void {
    this.#absences.set(keyOf(directory, name), { directory, name });
  }

  /** The name is there. */
  drop(directory: number, name: string): void {
    this.#absences.delete(keyOf(directory, name));
  }

  /** Resolves when there is room for more, so that whoever tells absences cannot outrun the forgetting. */
  async room(): Promise<void> {
    while (this.#absences.size > this.#max) {
      this.#forgetting ??= this.#forget().finally(() => (this.#forgetting = undefined));
      await this.#forgetting;
    }
  }

  async #forget(): Promise<void> {
    const names = [...this.#absences.values()].slice(0, FORGOTTEN_AT_ONCE);
    await this.#gate.run({ names }, async () => {
      for (const { directory, name } of names) this.drop(directory, name);
    });
  }
}

function keyOf(directory: number, name: string): string {
  return `${directory}/${name}`;
}
