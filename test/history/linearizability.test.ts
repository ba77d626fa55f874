import t from 'tap';
import { seededPrng } from '../../lib/base/prng.ts';
import { type Effect, History, type Operation, type Value } from './history.ts';
import { checkLinearizable, UNTOLD } from './linearizability.ts';

const read = (value: Value, name = 'n'): Effect => ({ kind: 'read', name, value });
const write = (value: Value, name = 'n'): Effect => ({ kind: 'write', name, value });
const move = (from: string, to: string, value: Value): Effect => ({ kind: 'move', from, to, value });

/** `[effect, start, end]`; without an end the outcome is unknown. */
type Sketch = readonly [effect: Effect, start: number, end?: number];

function operationsOf(sketches: readonly Sketch[]): Operation[] {
  return sketches.map(([effect, start, end], at) => ({
    client: `c${at}`,
    text: effect.kind,
    effect,
    outcome: end === undefined ? 'unknown' : 'ok',
    start,
    end: end ?? Infinity,
    startMs: start,
    endMs: end ?? Infinity,
  }));
}

const isRight = (...sketches: readonly Sketch[]): boolean => {
  const { violations, undecided } = checkLinearizable(operationsOf(sketches));
  t.equal(undecided.length, 0);
  return violations.length === 0;
};

t.test('a history is right if an order explains it', async (t) => {
  t.ok(isRight([write('a'), 0, 1], [read('a'), 2, 3]), 'a read after a write sees it');
  t.ok(isRight([write('a'), 0, 5], [read(undefined), 1, 2], [read('a'), 3, 4]), 'a write in between');
  t.ok(
    isRight([write('a'), 0], [read(undefined), 1, 2], [read('a'), 3, 4]),
    'an unknown one that happened late',
  );
  t.ok(isRight([write('a'), 0], [read(undefined), 1, 2], [read(undefined), 3, 4]), 'or never did');
  t.ok(isRight([write('a'), 0, 1], [write(undefined), 2, 3], [read(undefined), 4, 5]), 'a removal');
  t.ok(
    isRight(
      [write('a', 'x'), 0, 1],
      [move('x', 'y', 'a'), 2, 5],
      [read('a', 'y'), 3, 4],
      [read(undefined, 'x'), 3, 4],
    ),
  );
  t.ok(
    isRight([write(UNTOLD), 0], [read('z'), 1, 2], [read('z'), 3, 4]),
    'an untold value is the first one seen',
  );
});

t.test('a history is wrong if no order explains it', async (t) => {
  t.notOk(isRight([write('a'), 0, 1], [read(undefined), 2, 3]), 'an absence after a write');
  t.notOk(isRight([write('a'), 0, 1], [write('b'), 2, 3], [read('a'), 4, 5]), 'an old version');
  t.notOk(isRight([write('a'), 0, 9], [read('a'), 1, 2], [read(undefined), 3, 4]), 'time runs backwards');
  t.notOk(
    isRight([write('a'), 0], [read('a'), 1, 2], [read(undefined), 3, 4]),
    'so it does with an unknown write',
  );
  t.notOk(isRight([read('a'), 0, 1]), 'a value that nobody wrote');
  t.notOk(isRight([write('a'), 0, 1], [write(undefined), 2, 3], [read('a'), 4, 5]), 'a removed version');
  t.notOk(isRight([write(UNTOLD), 0], [read('z'), 1, 2], [read('y'), 3, 4]), 'an untold value is one value');
  const halfMoved: Sketch[] = [
    [write('a', 'x'), 0, 1],
    [move('x', 'y', 'a'), 2, 9],
  ];
  t.notOk(isRight(...halfMoved, [read('a', 'y'), 3, 4], [read('a', 'x'), 5, 6]), 'a rename seen half');
  t.notOk(isRight(...halfMoved, [read(undefined, 'x'), 3, 4], [read(undefined, 'y'), 5, 6]), 'or as neither');
});

t.test('a violation names the operations that cannot be explained, and no others', async (t) => {
  const noise: Sketch[] = Array.from({ length: 40 }, (_, at) => [read('b'), 20 + at, 21 + at]);
  const { violations } = checkLinearizable(
    operationsOf([
      [write('a'), 0, 1],
      [read('a'), 2, 3],
      [write('b'), 4, 5],
      ...noise,
      [read('a'), 90, 91],
      [read('b'), 92, 93],
    ]),
  );
  t.equal(violations.length, 1);
  t.same(
    violations[0]?.operations.map(({ effect, start }) => [effect.kind, start]),
    [
      ['write', 0],
      ['write', 4],
      ['read', 90],
    ],
  );
});

/** By the definition: every order of the certain and every choice of the unknown ones. */
function isExplained(operations: readonly Operation[]): boolean {
  const step = (left: readonly Operation[], registers: ReadonlyMap<string, Value>): boolean => {
    if (left.every(({ outcome }) => outcome === 'unknown')) return true;
    return left.some((operation) => {
      const others = left.filter((other) => other !== operation);
      if (others.some(({ end }) => end < operation.start)) return false;
      const { effect } = operation;
      if (effect.kind === 'read')
        return registers.get(effect.name) === effect.value && step(others, registers);
      if (effect.kind === 'write') return step(others, new Map(registers).set(effect.name, effect.value));
      const value = registers.get(effect.from);
      if (value === undefined || (effect.value ?? value) !== value) return false;
      return step(others, new Map(registers).set(effect.from, undefined).set(effect.to, value));
    });
  };
  return step(operations, new Map());
}

t.test('the search agrees with the definition on every small history', async (t) => {
  // Two writes of one name and two reads: all values, all ways in which four spans can overlap.
  const stamps = [0, 1, 2, 3, 4, 5, 6, 7];
  let histories = 0;
  let wrong = 0;
  const spans = function* (left: readonly number[]): Generator<[number, number][]> {
    if (left.length === 0) return yield [];
    const [start = 0, ...rest] = left;
    for (const end of rest) {
      for (const others of spans(rest.filter((stamp) => stamp !== end))) yield [[start, end], ...others];
    }
  };
  const effects = [undefined, 'a', 'b'].flatMap((x) => [undefined, 'a', 'b'].map((y) => [x, y] as const));
  for (const places of spans(stamps)) {
    for (const [x, y] of effects) {
      for (const order of [
        [0, 1, 2, 3],
        [0, 2, 1, 3],
        [2, 0, 3, 1],
        [2, 3, 0, 1],
        [0, 2, 3, 1],
        [2, 0, 1, 3],
      ]) {
        for (const unknown of [false, true]) {
          const kinds: Effect[] = [write('a'), write('b'), read(x), read(y)];
          const sketches = order.map((kind, at): Sketch => {
            const [start, end] = places[at] ?? [0, 0];
            const isUnknown = unknown && kind === 1;
            return isUnknown ? [kinds[kind] ?? read(x), start] : [kinds[kind] ?? read(x), start, end];
          });
          const operations = operationsOf(sketches);
          const expected = isExplained(operations);
          histories += 1;
          if (!expected) wrong += 1;
          if ((checkLinearizable(operations).violations.length === 0) !== expected) {
            t.same(sketches, `explained: ${expected}`);
            return;
          }
        }
      }
    }
  }
  t.ok(wrong > histories / 10 && wrong < histories, `${wrong} of ${histories} are wrong`);
});

t.test('the search agrees with the definition on random histories with renames', async (t) => {
  const prng = seededPrng(7);
  let wrong = 0;
  for (let round = 0; round < 20_000; round++) {
    const names = ['x', 'y'];
    const name = (): string => names[prng.below(2)] ?? 'x';
    const values = [undefined, 'a', 'b'];
    const value = (): Value => values[prng.below(3)];
    const sketches = Array.from({ length: 2 + prng.below(5) }, (_, at): Sketch => {
      const start = prng.below(10) + at / 100;
      const end = start + 1 + prng.below(6) + 0.5;
      const kind = prng.below(6);
      const from = name();
      const effect =
        kind === 0
          ? move(from, from === 'x' ? 'y' : 'x', prng.below(2) === 0 ? undefined : value())
          : kind < 3
            ? write(value(), name())
            : read(value(), name());
      return effect.kind !== 'read' && prng.below(4) === 0 ? [effect, start] : [effect, start, end];
    });
    const operations = operationsOf(sketches);
    const expected = isExplained(operations);
    if (!expected) wrong += 1;
    const { violations, undecided } = checkLinearizable(operations);
    if (undecided.length > 0 || (violations.length === 0) !== expected) {
      t.same({ violations, undecided }, { round, sketches, expected });
      return;
    }
  }
  t.ok(wrong > 1_000, `${wrong} are wrong`);
});

t.test('a thousand operations of one name are judged in moments', async (t) => {
  const prng = seededPrng(3);
  const history = new History(() => 0);
  let value: Value;
  const open: (() => void)[] = [];
  for (let at = 0; at < 1_000; at++) {
    const begun = history.begin(`c${at % 8}`, 'x');
    if (prng.below(5) === 0) {
      const written = `v${at}`;
      open.push(() => ((value = written), begun.ok(write(written))));
    } else {
      open.push(() => begun.ok(read(value)));
    }
    if (open.length === 8) open.splice(prng.below(8), 1)[0]?.();
  }
  for (const end of open) end();
  t.same(checkLinearizable(history.operations), { violations: [], undecided: [] });
});
