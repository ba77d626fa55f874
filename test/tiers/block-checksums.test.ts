import { crc32 } from 'node:zlib';
import fc from 'fast-check';
import t from 'tap';
import { BlockChecksums } from '../../lib/tiers/block-checksums.ts';

t.test('block checksums do not depend on how the bytes arrive', async (t) => {
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 400 }),
      fc.integer({ min: 1, max: 64 }),
      fc.array(fc.nat(400), { maxLength: 20 }),
      (bytes, blockBytes, cuts) => {
        const checksums = new BlockChecksums(blockBytes);
        const edges = [0, ...cuts.filter((cut) => cut < bytes.length).sort((a, b) => a - b), bytes.length];
        edges.slice(1).forEach((to, index) => checksums.add(bytes.subarray(edges[index], to)));
        const expected: number[] = [];
        for (let at = 0; at < bytes.length; at += blockBytes) {
          expected.push(crc32(bytes.subarray(at, at + blockBytes)));
        }
        t.strictSame(checksums.finish(), expected);
      },
    ),
    { numRuns: 300 },
  );
});
