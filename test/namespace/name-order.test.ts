import fc from 'fast-check';
import t from 'tap';
import { compareNames, indexAbove } from '../../lib/namespace/name-order.ts';

t.test('names are in the order of their UTF-8 bytes', async () => {
  const name = fc.string({
    unit: fc.constantFrom('a', 'b', 'é', '\ud7ff', '\ue000', '\uffff', '😀', '\u{10ffff}'),
  });
  fc.assert(
    fc.property(name, name, (a, b) => {
      return Math.sign(compareNames(a, b)) === Buffer.compare(Buffer.from(a), Buffer.from(b));
    }),
    { numRuns: 1000 },
  );
});

t.test('the first name above another is found', async () => {
  fc.assert(
    fc.property(fc.uniqueArray(fc.string()), fc.string(), (names, name) => {
      const ordered = names.filter((each) => each.isWellFormed()).sort(compareNames);
      return indexAbove(ordered, name) === ordered.filter((each) => compareNames(each, name) <= 0).length;
    }),
  );
});
