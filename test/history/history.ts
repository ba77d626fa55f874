/**
 * What clients did and saw, in the order in which one observer saw it begin and end.
 *
 * The unit is the register: one name in one directory, whose value is a version, a directory, or nothing. Values that
 * are written are unique, so that a value seen tells which write it came from. An operation touches one register, or
 * two if it is a rename. Order is by stamps that the recorder gives, so two events of the same millisecond are ordered;
 * times are for people.
 */

/** Undefined: the name is absent. */
export type Value = string | undefined;

export type Effect =
  | { readonly kind: 'read'; readonly name: string; readonly value: Value }
  | { readonly kind: 'write'; readonly name: string; readonly value: Value }
  /** What was at `from` is at `to`, at one instant; a known value must have been at `from`. */
  | { readonly kind: 'move'; readonly from: string; readonly to: string; readonly value: Value };

/**
 * - `ok`: took effect between call and return
 * - `unknown`: may take effect at any time after the call, or never
 * A failed operation that certainly did nothing is in no history.
 */
export type Outcome = 'ok' | 'unknown';

export interface Operation {
  readonly client: string;
  /** For people: `stat d1/f2`. */
  readonly text: string;
  readonly effect: Effect;
  readonly outcome: Outcome;
  readonly start: number;
  /** Infinity where the outcome is unknown. */
  readonly end: number;
  readonly startMs: number;
  readonly endMs: number;
}

/** An operation that has begun. Ends once; what is never ended was never seen and had no effect. */
export interface Begun {
  /** Several effects are several operations in the same span: the names of a listing. */
  ok(...effects: readonly Effect[]): void;
  unknown(...effects: readonly Effect[]): void;
}

export class History {
  readonly operations: Operation[] = [];
  readonly #nowMs: () => number;
  #stamp = 0;

  constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
  }

  begin(client: string, text: string): Begun {
    const begun = { client, text, start: this.#stamp++, startMs: this.#nowMs() };
    return {
      ok: (...effects) => {
        const ended = { outcome: 'ok', end: this.#stamp++, endMs: this.#nowMs() } as const;
        for (const effect of effects) this.operations.push({ ...begun, ...ended, effect });
      },
      unknown: (...effects) => {
        const ended = { outcome: 'unknown', end: Infinity, endMs: Infinity } as const;
        for (const effect of effects) this.operations.push({ ...begun, ...ended, effect });
      },
    };
  }

  /** What a register holds before anybody has begun. */
  initially(name: string, value: Value): void {
    this.begin('before', `${name} is there`).ok({ kind: 'write', name, value });
  }
}

export function namesOf(effect: Effect): readonly string[] {
  return effect.kind === 'move' ? [effect.from, effect.to] : [effect.name];
}

/** One line for people. */
export function describeOperation({ client, text, effect, outcome, startMs, endMs }: Operation): string {
  const span = `${startMs.toFixed(1)} .. ${endMs === Infinity ? '?' : endMs.toFixed(1)} ms`;
  const what =
    effect.kind === 'move'
      ? `moved ${shown(effect.value)}`
      : `${effect.kind === 'read' ? 'saw' : 'wrote'} ${shown(effect.value)}`;
  const where = namesOf(effect).join(' to ');
  return `${span.padEnd(28)} ${client.padEnd(10)} ${text}: ${where}: ${what}${outcome === 'ok' ? '' : ' (outcome unknown)'}`;
}

function shown(value: Value): string {
  return value ?? 'nothing';
}
