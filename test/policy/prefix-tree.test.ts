import fc from 'fast-check';
import t from 'tap';
import { PrefixTree } from '../../lib/policy/prefix-tree.ts';

t.test('prefix tree finds exactly the keys that a text begins with, shorter ones first', async () => {
  const text = fc.stringMatching(/^[ab]{0,8}$/);
  fc.assert(
    fc.property(fc.array(text, { maxLength: 30 }), text, (keys, wanted) => {
      const tree = new PrefixTree<string>();
      for (const key of keys) tree.add(key, key);
      const found: string[] = [];
      tree.forEachPrefixOf(wanted, (key) => found.push(key));
      const expected = keys.filter((key) => wanted.startsWith(key)).sort((a, b) => a.length - b.length);
      return JSON.stringify(found) === JSON.stringify(expected);
    }),
    { numRuns: 5_000 },
  );
});
