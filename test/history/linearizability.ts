/**
 * Decides whether there is one order of all operations in which each takes effect between its call and its return and
 * every read sees what was last written (Herlihy and Wing; the search is Wing and Gong's with Lowe's memo).
 *
 * Names that no rename joins are judged apart, because a history is linearizable if each of its objects is. A state of
 * the search is: which operations have taken effect, and what the registers hold. A read that sees what is there is
 * taken at once, for it cannot be in the way of another; only writes are branched on. An operation with an unknown
 * outcome may be left out. The search of one group is bounded; what it could not decide is said, never passed over.
 */
import { type Effect, namesOf, type Operation, type Value } from './history.ts';

/** States of one group's search, before it gives up. */
const STATES_MAX = 200_000;
/** Histories that are tried to make a wrong one smaller. */
const TRIES_MAX = 500;

export interface Violation {
  readonly names: readonly string[];
  /** The last of these cannot have taken effect between its call and its return, given the others. */
  readonly operations: readonly Operation[];
}

export interface Verdict {
  readonly violations: readonly Violation[];
  /** Groups of names whose search was given up. */
  readonly undecided: readonly (readonly string[])[];
}

export function checkLinearizable(operations: readonly Operation[]): Verdict {
  const violations: Violation[] = [];
  const undecided: (readonly string[])[] = [];
  for (const group of groups(operations)) {
    const names = [...new Set(group.flatMap(({ effect }) => namesOf(effect)))].sort();
    const found = new Search(group).run();
    if (found === 'undecided') undecided.push(names);
    if (found === 'no') violations.push({ names, operations: smallest(group) });
  }
  return { violations, undecided };
}

/** Operations by names that renames join. */
function groups(operations: readonly Operation[]): Operation[][] {
  const leader = new Map<string, string>();
  const find = (name: string): string => {
    const up = leader.get(name) ?? name;
    return up === name ? name : find(up);
  };
  for (const { effect } of operations) {
    const [first, second] = namesOf(effect).map(find);
    if (first !== undefined && second !== undefined && first !== second) leader.set(first, second);
  }
  const byLeader = Map.groupBy(operations, ({ effect }) => find(namesOf(effect)[0] ?? ''));
  return [...byLeader.values()].map((group) => group.toSorted((a, b) => a.start - b.start));
}

type Registers = ReadonlyMap<string, Value>;

/** How far a search has come. Operations are numbered in the order of their calls. */
interface Progress {
  /** All certain operations before this one have taken effect. */
  readonly base: number;
  /** Others that have. */
  readonly ahead: ReadonlySet<number>;
  readonly registers: Registers;
}

/** What a write of unknown outcome wrote, if its value was never told. */
export const UNTOLD = '?';

type Found = 'yes' | 'no' | 'undecided';

class Search {
  readonly #operations: readonly Operation[];
  readonly #unknown: readonly number[];
  /** Values that a known write has written; UNTOLD is none of them. */
  readonly #told: ReadonlySet<Value>;

  constructor(operations: readonly Operation[]) {
    const seen = new Set(
      operations.map(({ effect }) => (effect.kind === 'write' ? undefined : effect.value)),
    );
    // What an unknown write has written and nobody saw may as well not have been written, unless it was moved unseen.
    const isMovedUnseen = operations.some(
      ({ effect }) => effect.kind === 'move' && effect.value === undefined,
    );
    this.#operations = operations.filter(
      ({ effect, outcome }) =>
        outcome === 'ok' ||
        effect.kind !== 'write' ||
        isMovedUnseen ||
        seen.has(effect.value) ||
        effect.value === UNTOLD,
    );
    this.#unknown = this.#operations.flatMap(({ outcome }, index) => (outcome === 'unknown' ? [index] : []));
    this.#told = new Set(
      operations.map(({ effect }) => (effect.kind === 'write' ? effect.value : undefined)),
    );
  }

  run(): Found {
    const seen = new Set<string>();
    const stack: Progress[] = [this.#advanced({ base: 0, ahead: new Set(), registers: new Map() })];
    for (let at = stack.pop(); at !== undefined; at = stack.pop()) {
      const progress = this.#withReads(at);
      if (progress.base === this.#operations.length) return 'yes';
      const key = keyOf(progress);
      if (seen.has(key)) continue;
      if (seen.size >= STATES_MAX) return 'undecided';
      seen.add(key);
      const next: Progress[] = [];
      for (const index of this.#candidates(progress)) {
        const registers = this.#applied(index, progress.registers);
        if (registers !== undefined) next.push(this.#taken({ ...progress, registers }, index));
      }
      // Certain operations are tried first, the earliest call first of all.
      stack.push(...next.reverse());
    }
    return 'no';
  }

  /** Operations that may take effect next: called before any of the others has returned. */
  #candidates({ base, ahead }: Progress): number[] {
    let firstReturn = Infinity;
    const certain: number[] = [];
    for (let index = base; index < this.#operations.length; index++) {
      const operation = this.#operations[index];
      if (operation === undefined || operation.start > firstReturn) break;
      if (ahead.has(index) || operation.outcome === 'unknown') continue;
      firstReturn = Math.min(firstReturn, operation.end);
      certain.push(index);
    }
    const isOpen = (index: number): boolean =>
      !ahead.has(index) && (this.#operations[index]?.start ?? Infinity) <= firstReturn;
    return [...certain.filter(isOpen), ...this.#unknown.filter(isOpen)];
  }

  /** With every read that sees what is there. */
  #withReads(start: Progress): Progress {
    for (let progress = start; ;) {
      const before = progress;
      for (const index of this.#candidates(before)) {
        const effect = this.#operations[index]?.effect;
        const fits = effect?.kind === 'read' && before.registers.get(effect.name) === effect.value;
        if (fits) progress = this.#taken(progress, index);
      }
      if (progress === before) return progress;
    }
  }

  #taken(progress: Progress, index: number): Progress {
    return this.#advanced({ ...progress, ahead: new Set(progress.ahead).add(index) });
  }

  #advanced(progress: Progress): Progress {
    const ahead = new Set(progress.ahead);
    let { base } = progress;
    for (; base < this.#operations.length; base++) {
      if (this.#operations[base]?.outcome === 'ok' && !ahead.delete(base)) break;
    }
    return { base, ahead, registers: progress.registers };
  }

  /** Undefined: it cannot take effect now, or would change nothing. */
  #applied(index: number, registers: Registers): Registers | undefined {
    const effect = this.#operations[index]?.effect;
    if (effect === undefined) return undefined;
    switch (effect.kind) {
      case 'read': {
        const isTold = effect.value === undefined || this.#told.has(effect.value);
        if (registers.get(effect.name) !== UNTOLD || isTold) return undefined;
        return new Map(registers).set(effect.name, effect.value);
      }
      case 'write':
        return new Map(registers).set(effect.name, effect.value);
      case 'move': {
        const value = registers.get(effect.from);
        if (value === undefined) return undefined;
        if (effect.value !== undefined && value !== effect.value && value !== UNTOLD) return undefined;
        return new Map(registers).set(effect.from, undefined).set(effect.to, effect.value ?? value);
      }
    }
  }
}

function keyOf({ base, ahead, registers }: Progress): string {
  const held = [...registers].filter(([, value]) => value !== undefined).sort(([a], [b]) => (a < b ? -1 : 1));
  return `${base}|${[...ahead].sort((a, b) => a - b).join(',')}|${held.flat().join('|')}`;
}

/**
 * The shortest history that is still wrong: cut off at the first return that makes it so, then without what does not
 * matter. What is left out keeps a right history right: reads, and a write together with all reads of its value.
 */
function smallest(group: readonly Operation[]): readonly Operation[] {
  const returns = group
    .map(({ end }) => end)
    .filter((end) => end < Infinity)
    .sort((a, b) => a - b);
  let low = 0;
  let high = returns.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (isWrong(cutOff(group, returns[middle] ?? Infinity))) high = middle;
    else low = middle + 1;
  }
  let left = cutOff(group, returns[low] ?? Infinity);
  let tries = 0;
  const without = (goes: (operation: Operation) => boolean): void => {
    const fewer = left.filter((operation) => !goes(operation));
    if (fewer.length < left.length && tries++ < TRIES_MAX && isWrong(fewer)) left = fewer;
  };
  const reads = left.filter(({ effect }) => effect.kind === 'read');
  for (let size = reads.length; size >= 1; size = Math.floor(size / 2)) {
    for (let from = 0; from < reads.length; from += size) {
      const some = new Set(reads.slice(from, from + size));
      without((operation) => some.has(operation));
    }
  }
  const moved = new Set(group.map(({ effect }) => (effect.kind === 'move' ? effect.value : undefined)));
  const areValuesTold = !group.some(({ effect }) => effect.kind === 'move' && effect.value === undefined);
  for (const { effect } of [...left]) {
    if (effect.kind !== 'write' || moved.has(effect.value) || !areValuesTold) continue;
    without(({ effect: other }) => other.kind !== 'move' && sameValue(other, effect));
  }
  return left.toSorted((a, b) => Math.min(a.end, 1e15) - Math.min(b.end, 1e15));
}

function sameValue(a: Effect & { readonly name: string }, b: Effect & { readonly name: string }): boolean {
  return a.name === b.name && a.value === b.value;
}

/** The history as it was known at one instant: what had not returned has an unknown outcome, and reads of it are not known. */
function cutOff(group: readonly Operation[], end: number): Operation[] {
  return group.flatMap((operation) => {
    if (operation.start > end) return [];
    if (operation.end <= end) return [operation];
    if (operation.effect.kind === 'read') return [];
    return [{ ...operation, outcome: 'unknown' as const, end: Infinity, endMs: Infinity }];
  });
}

function isWrong(operations: readonly Operation[]): boolean {
  return new Search(operations.toSorted((a, b) => a.start - b.start)).run() === 'no';
}
