import fc from 'fast-check';
import t from 'tap';
import { GIB, KIB, MIB } from '../../lib/base/limits.ts';
import type { AccessAdvice } from '../../lib/prefetch/access-observer.ts';
import {
  COMPLETE_AFTER_BYTES,
  initialStreams,
  STREAMS_MAX,
  stepStreams,
  WINDOW_BYTES_MAX,
  WINDOW_BYTES_MIN,
} from '../../lib/prefetch/sequential-streams.ts';

interface Read {
  readonly offset: number;
  readonly length: number;
}

/** Feeds reads, and answers what was advised, with the invariants checked at each step. */
function run(sizeBytes: number, reads: Iterable<Read>, stepMs = 1) {
  let state = initialStreams(sizeBytes);
  let nowMs = 0;
  const steps: { read: Read; effects: readonly AccessAdvice[] }[] = [];
  for (const read of reads) {
    nowMs += stepMs;
    const step = stepStreams(state, { kind: 'read', ...read, windowBytesMax: WINDOW_BYTES_MAX }, nowMs);
    state = step.state;
    if (state.streams.length > STREAMS_MAX) throw new Error('too many streams');
    for (const effect of step.effects) {
      if (effect.offset < 0 || effect.offset > sizeBytes) throw new Error('advice outside of the file');
      if (effect.kind === 'fill' && effect.length <= 0) throw new Error('advice of nothing');
      if (effect.kind === 'fill' && effect.offset + effect.length > sizeBytes) {
        throw new Error('advice beyond the end');
      }
    }
    steps.push({ read, effects: step.effects });
  }
  return { state, steps, fills: fillsOf(steps.flatMap(({ effects }) => effects)) };
}

function fillsOf(effects: readonly AccessAdvice[]): Read[] {
  return effects.flatMap((e) => (e.kind === 'fill' ? [{ offset: e.offset, length: e.length }] : []));
}

function* sequence(from: number, to: number, length: number): Generator<Read> {
  for (let offset = from; offset < to; offset += length) {
    yield { offset, length: Math.min(length, to - offset) };
  }
}

/** Whether [offset, offset + length) lies in the union of ranges. */
function covered(ranges: readonly Read[], { offset, length }: Read): boolean {
  let at = offset;
  for (;;) {
    if (at >= offset + length) return true;
    const next = ranges.find((r) => r.offset <= at && at < r.offset + r.length);
    if (next === undefined) return false;
    at = next.offset + next.length;
  }
}

t.test('sequential streams', async (t) => {
  t.test('a sequential reader finds all but its first reads asked for already', async () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 300 * MIB }),
        fc.constantFrom(128 * KIB, 256 * KIB, MIB),
        fc.integer({ min: 0, max: 64 * MIB }),
        (sizeBytes, length, from) => {
          const done: Read[] = [];
          const { steps } = run(sizeBytes, sequence(from, sizeBytes, length));
          for (const [index, { read, effects }] of steps.entries()) {
            if (index >= 2 && !covered(done, read)) return false;
            done.push(...fillsOf(effects));
          }
          return true;
        },
      ),
      { numRuns: 50 },
    );
  });

  t.test('the window opens with the second read and grows to its limit', async (t) => {
    const { steps } = run(GIB, sequence(0, GIB, MIB));
    t.same(steps[0]?.effects, [], 'one read is no pattern: its first bytes come without competition');
    let ahead = 0;
    let largest = 0;
    for (const { read, effects } of steps) {
      for (const fill of fillsOf(effects)) ahead = Math.max(ahead, fill.offset + fill.length);
      if (read.offset === MIB) t.ok(ahead - 2 * MIB >= WINDOW_BYTES_MIN);
      largest = Math.max(largest, ahead - read.offset - read.length);
    }
    t.equal(ahead, GIB);
    t.ok(largest >= WINDOW_BYTES_MAX, `${largest} reaches the limit`);
    t.ok(largest <= WINDOW_BYTES_MAX + 4 * MIB, `${largest} does not exceed the limit by more than a block`);
  });

  t.test('a stream never asks for the same byte twice', async () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 200 * MIB }), (sizeBytes) => {
        const { fills } = run(sizeBytes, sequence(0, sizeBytes, MIB));
        return fills.every((fill, i) => i === 0 || fill.offset >= end(fills[i - 1] as Read));
      }),
      { numRuns: 50 },
    );
  });

  t.test('four interleaved streams through one handle all get windows', async () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 0, max: 3 }), { minLength: 200, maxLength: 400 }),
        fc.constantFrom(4 * KIB, 128 * KIB, MIB),
        (turns, length) => {
          const stride = 512 * MIB;
          const next = [0, 1, 2, 3].map((i) => i * stride);
          const count = [0, 0, 0, 0];
          const reads = turns.map((i) => {
            const offset = next[i] as number;
            next[i] = offset + length;
            count[i] = (count[i] as number) + 1;
            return { offset, length };
          });
          const { fills } = run(4 * stride, reads);
          return next.every(
            (offset, i) =>
              (count[i] as number) < 2 || covered(fills, { offset, length: WINDOW_BYTES_MIN / 2 }),
          );
        },
      ),
      { numRuns: 50 },
    );
  });

  t.test('the streams of a version share its windows', async (t) => {
    const streams = 8;
    const stride = 512 * MIB;
    function* interleaved(): Generator<Read> {
      for (let offset = 0; offset < 256 * MIB; offset += MIB) {
        for (let i = 0; i < streams; i++) yield { offset: i * stride + offset, length: MIB };
      }
    }
    const { fills } = run(streams * stride, interleaved());
    const asked = fills.reduce((bytes, fill) => bytes + fill.length, 0);
    t.ok(asked <= streams * 256 * MIB + 1.5 * WINDOW_BYTES_MAX, `${asked - streams * 256 * MIB} bytes ahead`);
  });

  t.test('reads that the kernel sends out of order are one stream', async () => {
    fc.assert(
      fc.property(fc.array(fc.boolean(), { minLength: 60, maxLength: 60 }), (swaps) => {
        const reads = [...sequence(0, 60 * MIB, MIB)];
        for (let i = 4; i + 1 < reads.length; i += 2) {
          if (swaps[i]) [reads[i], reads[i + 1]] = [reads[i + 1] as Read, reads[i] as Read];
        }
        return run(GIB, reads).state.streams.length === 1;
      }),
      { numRuns: 50 },
    );
  });

  t.test('random reads of a huge file are hardly ever taken for streams', async () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 0, max: 64 * GIB }), { minLength: 500, maxLength: 500, size: 'max' }),
        (offsets) => {
          const { fills } = run(
            64 * GIB,
            offsets.map((offset) => ({ offset: offset - (offset % 4096), length: 4096 })),
          );
          return fills.length <= 5;
        },
      ),
      { numRuns: 20 },
    );
  });

  t.test('random reads do not push out a stream that is being read', async (t) => {
    const reads = [...sequence(0, 64 * MIB, MIB)].flatMap((read, i) => [
      read,
      ...Array.from({ length: 20 }, (_, j) => ({
        offset: (100 + (((i * 20 + j) * 7919) % 60_000)) * MIB,
        length: 4096,
      })),
    ]);
    const { fills } = run(64 * GIB, reads);
    t.ok(covered(fills, { offset: 2 * MIB, length: 62 * MIB }));
  });

  t.test('a reader that asks for the same header again is no stream', async (t) => {
    const header = { offset: 0, length: 4096 };
    t.same(run(GIB, [header, header, header, header]).fills, []);
  });

  t.test('probes of head and tail are no streams', async (t) => {
    const reads = [
      { offset: 0, length: 4096 },
      { offset: GIB - 22, length: 22 },
      { offset: GIB - 42, length: 42 },
      { offset: GIB - 1331, length: 1331 },
    ];
    const asked = run(GIB, reads).fills.reduce((bytes, fill) => bytes + fill.length, 0);
    t.ok(asked < MIB, `${asked} bytes asked for`);
  });

  t.test('completion is advised once, after enough was read in sequence', async (t) => {
    const { steps } = run(GIB, sequence(0, 200 * MIB, MIB));
    const at = steps.findIndex(({ effects }) => effects.some(({ kind }) => kind === 'complete'));
    t.equal((steps[at]?.read.offset ?? 0) + MIB, COMPLETE_AFTER_BYTES);
    const all = steps.flatMap(({ effects }) => effects).filter(({ kind }) => kind === 'complete');
    t.equal(all.length, 1);
  });

  t.test('a stream that is idle for long makes room for others', async (t) => {
    function* pairs(streams: number): Generator<Read> {
      for (let i = 0; i < streams; i++) yield* sequence(i * GIB, i * GIB + 2 * MIB, MIB);
    }
    const busy = run(64 * GIB, pairs(STREAMS_MAX + 4));
    t.equal(busy.fills.length, STREAMS_MAX, 'while all are active, newcomers wait');
    const idle = run(64 * GIB, pairs(STREAMS_MAX + 4), 5_000);
    t.equal(idle.fills.length, STREAMS_MAX + 4);
  });

  t.test('any reads at all keep the invariants', async () => {
    const anyRead = fc.record({
      offset: fc.integer({ min: 0, max: 40 * MIB }),
      length: fc.integer({ min: 0, max: 2 * MIB }),
    });
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 32 * MIB }), fc.array(anyRead), (sizeBytes, reads) => {
        run(sizeBytes, reads);
      }),
      { numRuns: 300 },
    );
  });
});

function end(range: Read): number {
  return range.offset + range.length;
}
