/**
 * Finds out which names of a directory are opened one after the other, and says which come next.
 *
 * Names are told apart by what is around their last number: `part-0003.tar` is the 3 of `part-*.tar`, of four digits. Opens
 * of loader processes interleave, so what is looked for is not the last open and the one before, but a step by which this
 * open follows from earlier ones, about in the order of time: three in a row that follow each other directly, or four among the
 * last ones. The smallest such step counts: the steps of processes that share a directory are multiples of it.
 *
 * Pure and bounded: `DIRECTORIES_MAX` directories with `SHAPES_MAX` shapes of names each, the least recent go first.
 */
import type { InodeNumber } from '../base/brand.ts';

const DIRECTORIES_MAX = 1_000;
const SHAPES_MAX = 16;
/** Opens of one shape that are remembered. */
const RECENT_MAX = 64;
const STEP_MAX = 64;
/** Opens that make a sequence when they follow each other directly, and when others are between them. */
const IN_A_ROW = 3;
const AMONG_OTHERS = 4;
/** Places by which opens of several processes may overtake each other. */
const DISORDER = 4;
/** Digits that a number has at most. */
const DIGITS_MAX = 15;

interface Shape {
  /** Numbers in the order of their opens. */
  readonly recent: number[];
  /** Digits of numbers that are filled up with zeros; 0: they are not. */
  width: number;
}

export class NameSequences {
  readonly #directories = new Map<InodeNumber, Map<string, Shape>>();

  /** Names that come next, nearest first; empty: there is no pattern. */
  opened(directory: InodeNumber, name: string, ahead: number): readonly string[] {
    const match = /^(.*?)(\d+)(\D*)$/s.exec(name);
    if (match === null) return [];
    const [, before = '', digits = '', behind = ''] = match;
    if (digits.length > DIGITS_MAX) return [];
    const number = Number(digits);
    const shape = this.#shape(directory, `${before}/${behind}`);
    const { recent } = shape;
    if (digits.length > 1 && digits.startsWith('0')) shape.width = digits.length;
    if (recent.at(-1) !== number) recent.push(number);
    if (recent.length > RECENT_MAX) recent.shift();
    const step = stepOf(recent);
    if (step === undefined) return [];
    const names: string[] = [];
    for (let count = 1; count <= ahead && number + count * step >= 0; count++) {
      names.push(before + String(number + count * step).padStart(shape.width, '0') + behind);
    }
    return names;
  }

  #shape(directory: InodeNumber, key: string): Shape {
    const shapes = newest(this.#directories, directory, {
      max: DIRECTORIES_MAX,
      make: () => new Map<string, Shape>(),
    });
    return newest(shapes, key, { max: SHAPES_MAX, make: (): Shape => ({ recent: [], width: 0 }) });
  }
}

/** The smallest step by which the last number follows from others before it. */
function stepOf(recent: readonly number[]): number | undefined {
  const last = recent.at(-1)!;
  const place = new Map(recent.map((number, at) => [number, at]));
  const isSequence = (step: number): boolean => {
    let at = recent.length - 1;
    let isDirect = true;
    for (let count = 1; count < AMONG_OTHERS; count++) {
      const earlier = place.get(last - count * step);
      if (earlier === undefined || earlier >= at + DISORDER) return false;
      isDirect &&= earlier === at - 1;
      at = earlier;
      if (isDirect && count === IN_A_ROW - 1) return true;
    }
    return true;
  };
  for (let step = 1; step <= STEP_MAX; step++) {
    if (isSequence(step)) return step;
    if (isSequence(-step)) return -step;
  }
  return undefined;
}

/** The value of a key, made if it is missing, and the most recent one from now on. */
function newest<Key, Value>(
  map: Map<Key, Value>,
  key: Key,
  { max, make }: { readonly max: number; readonly make: () => Value },
): Value {
  const value = map.get(key) ?? make();
  map.delete(key);
  if (map.size >= max) map.delete(map.keys().next().value as Key);
  map.set(key, value);
  return value;
}
