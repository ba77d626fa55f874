import fc from 'fast-check';
import t from 'tap';
import { BlockGeometry, BlockSet, bytesOf } from '../../cache/block-map.ts';

const geometries = fc
  .record({ sizeBytes: fc.nat({ max: 5_000_000 }), blockBytes: fc.integer({ min: 1, max: 300_000 }) })
  .filter(({ sizeBytes, blockBytes }) => sizeBytes / blockBytes < 10_000)
  .map(({ sizeBytes, blockBytes }) => new BlockGeometry(sizeBytes, blockBytes));

t.test('geometry blocks partition the version', async () => {
  fc.assert(
    fc.property(geometries, (geometry) => {
      let at = 0;
      for (let block = 0; block < geometry.blocks; block++) {
        if (geometry.start(block) !== at || geometry.length(block) < 1) return false;
        at = geometry.end(block);
      }
      return at === geometry.sizeBytes;
    }),
    { numRuns: 100 },
  );
});

t.test('geometry span is exactly the blocks that a range touches', async () => {
  fc.assert(
    fc.property(
      geometries,
      fc.nat({ max: 6_000_000 }),
      fc.nat({ max: 2_000_000 }),
      (geometry, offset, length) => {
        const { first, end } = geometry.span(offset, length);
        for (let block = 0; block < geometry.blocks; block++) {
          const touches =
            length > 0 && geometry.start(block) < offset + length && geometry.end(block) > offset;
          if (touches !== (block >= first && block < end)) return false;
        }
        return true;
      },
    ),
    { numRuns: 100 },
  );
});

t.test('geometry charge of all blocks is the sum of their charges, in whole pages', async () => {
  fc.assert(
    fc.property(geometries, (geometry) => {
      let sum = 0;
      for (let block = 0; block < geometry.blocks; block++) sum += geometry.charge(block);
      return sum === geometry.chargeAll() && sum % 4096 === 0 && sum >= geometry.sizeBytes;
    }),
    { numRuns: 100 },
  );
});

t.test('block set agrees with a plain set', async () => {
  const steps = fc.array(fc.tuple(fc.constantFrom('add', 'delete', 'addAll'), fc.nat({ max: 99 })), {
    maxLength: 200,
  });
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 100 }), steps, (size, commands) => {
      const geometry = new BlockGeometry(size * 10 - 3, 10);
      const blocks = new BlockSet(size);
      const model = new Set<number>();
      for (const [command, number] of commands) {
        const block = number % size;
        if (command === 'add') {
          if (blocks.add(block) === model.has(block)) return false;
          model.add(block);
        } else if (command === 'delete') {
          if (blocks.delete(block) !== model.delete(block)) return false;
        } else if (number === 0) {
          blocks.addAll();
          for (let each = 0; each < size; each++) model.add(each);
        }
      }
      let bytes = 0;
      for (const block of model) bytes += geometry.length(block);
      const again = new BlockSet(size, Uint8Array.from(blocks.bits));
      const members = Array.from({ length: size }, (_, block) => block).filter((block) => again.has(block));
      return (
        blocks.count === model.size &&
        again.count === model.size &&
        members.every((block) => model.has(block)) &&
        blocks.full === (model.size === size) &&
        blocks.hasAll(0, size) === blocks.full &&
        bytesOf(blocks, geometry) === bytes
      );
    }),
  );
});

t.test('block set refuses blocks beyond the end', async (t) => {
  t.throws(() => new BlockSet(3).add(3), { code: 'invariant' });
  t.throws(() => new BlockSet(9, new Uint8Array(1)), { code: 'invariant' });
  t.throws(() => new BlockSet(3, Uint8Array.of(0xff)), { code: 'invariant' });
});
