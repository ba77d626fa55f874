/** How far a listing by keys has settled the order of names. */
import fc from 'fast-check';
import t from 'tap';
import { compareBytes, settledBelow, unsettledNames } from '../../lib/origin/tree/listing-order.ts';

t.test('unsettled names are those whose slash sorts behind', async (t) => {
  t.same(unsettledNames('a-b/'), ['a']);
  t.same(unsettledNames('part-0001.bin'), ['part', 'part-0001', 'part-0001.bin']);
  t.same(unsettledNames('abc/'), []);
  t.same(unsettledNames('abc'), ['abc']);
  t.equal(settledBelow('a-b', new Set()), 'a');
  t.equal(settledBelow('a-b', new Set(['a'])), 'a-b');
  t.equal(settledBelow('a-b', new Set(['a', 'a-b'])), 'a-b\0');
});

t.test('settled names are final whatever the rest of the listing brings', async () => {
  const name = fc.string({ unit: fc.constantFrom('a', 'b', '-', '.', '0', 'é'), minLength: 1, maxLength: 6 });
  const item = fc.tuple(name, fc.boolean()).map(([text, isDirectory]) => (isDirectory ? `${text}/` : text));
  fc.assert(
    fc.property(
      fc.uniqueArray(item, { minLength: 1, maxLength: 30 }),
      fc.nat(),
      fc.nat(),
      (items, cut, askedCount) => {
        const sorted = [...items].sort(compareBytes);
        const at = cut % sorted.length;
        const through = sorted[at] ?? '';
        const asked = new Set(unsettledNames(through).slice(0, askedCount % 7));
        const bound = settledBelow(through, asked);
        for (const rest of sorted.slice(at + 1)) {
          const restName = rest.endsWith('/') ? rest.slice(0, -1) : rest;
          // What was asked for by itself is known already.
          if (rest.endsWith('/') && asked.has(restName)) continue;
          if (compareBytes(restName, bound) < 0)
            throw new Error(`${rest} comes after ${through}, below ${bound}`);
        }
      },
    ),
  );
});
