import fc from 'fast-check';
import t from 'tap';
import { FillWatermark, splitFill } from '../../lib/tiers/fill-parts.ts';

const ranges = fc
  .record({
    blockBytes: fc.integer({ min: 1, max: 50 }),
    getBytesMax: fc.integer({ min: 1, max: 200 }),
    firstBlock: fc.nat(20),
    length: fc.integer({ min: 1, max: 1000 }),
  })
  .map(({ firstBlock, ...rest }) => ({ ...rest, offset: firstBlock * rest.blockBytes }));

t.test('fill parts are contiguous, cover the range, and begin at block boundaries', async (t) => {
  fc.assert(
    fc.property(ranges, ({ offset, length, ...limits }) => {
      const parts = splitFill({ offset, length }, limits);
      let at = offset;
      for (const part of parts) {
        t.equal(part.offset, at);
        t.equal(part.offset % limits.blockBytes, 0);
        t.ok(part.length > 0 && part.length <= Math.max(limits.blockBytes, limits.getBytesMax));
        at += part.length;
      }
      t.equal(at, offset + length);
      if (length <= limits.getBytesMax) t.equal(parts.length, 1, 'what one GET may fetch is not split');
    }),
    { numRuns: 300 },
  );
});

t.test('fill watermark never goes back and never passes a byte that was not reported', async (t) => {
  const reports = fc.array(fc.tuple(fc.nat(1000), fc.nat(1000)), { maxLength: 60 });
  fc.assert(
    fc.property(ranges, reports, ({ offset, length, ...limits }, steps) => {
      const parts = splitFill({ offset, length }, limits);
      const watermark = new FillWatermark(parts);
      const filled = new Set<number>();
      let value = offset;
      for (const [which, amount] of steps) {
        const index = which % parts.length;
        const part = parts[index]!;
        const filledTo = part.offset + (amount % (part.length + 1));
        for (let byte = part.offset; byte < filledTo; byte++) filled.add(byte);
        const next = watermark.advance(index, filledTo);
        let expected = offset;
        while (filled.has(expected)) expected++;
        t.equal(next ?? value, expected);
        if (next !== undefined) t.ok(next > value);
        value = expected;
      }
    }),
    { numRuns: 300 },
  );
});
