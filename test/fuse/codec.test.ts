/** Property tests: any bytes in give an errno, never a crash. fast-check prints the seed of a failure. */
import fc from 'fast-check';
import t from 'tap';
import { Opcode, OPCODE_MAX } from '../../lib/fuse/opcodes.ts';
import type { ErrnoError } from '../../lib/fuse/operations.ts';
import { DirectoryPacker, ReplyScratch } from '../../lib/fuse/reply-encoder.ts';
import { decodeHeader, decodeName } from '../../lib/fuse/request-decoder.ts';
import { conformanceTree } from '../conformance/tree.ts';
import { encodeRequest, FakeKernel, name, readBody, words } from './fake-kernel.ts';
import { MemoryFs } from './memory-fs.ts';

const small = conformanceTree.filter(({ path }) => !path.startsWith('many') && path !== 'large');
const noReply = new Set<number>([Opcode.FORGET, Opcode.BATCH_FORGET, Opcode.INTERRUPT]);
const u64 = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n });
const nearlyValid = fc.oneof(fc.bigInt({ min: 0n, max: 40n }), u64);

function errnoOf(run: () => unknown): number {
  try {
    run();
    return 0;
  } catch (error) {
    return (error as ErrnoError).errno;
  }
}

/** Bodies of the right shape with any numbers in them, and bodies of no shape at all. */
const body = fc.oneof(
  fc.uint8Array({ maxLength: 200 }),
  fc
    .tuple(nearlyValid, nearlyValid, fc.nat(70_000))
    .map(([handle, offset, length]) => readBody(handle, offset, length)),
  fc.constantFrom(...small.map(({ path }) => name(path.split('/').at(-1) ?? ''))),
  fc
    .tuple(fc.nat(300), fc.uint8Array({ maxLength: 300 }))
    .map(([room, text]) => Buffer.concat([words(room, 0), text, Buffer.alloc(1)])),
  fc.array(nearlyValid, { maxLength: 12 }).map((values) => words(...values)),
);
/** `struct fuse_setattr_in` with any fields, and the other structures that changes begin with, with names after them. */
const changes = fc.oneof(
  fc
    .tuple(fc.nat(8191), fc.array(nearlyValid, { minLength: 11, maxLength: 11 }))
    .map(([valid, values]) => Buffer.concat([words(valid, 0), words(...values).subarray(0, 80)])),
  fc
    .tuple(nearlyValid, nearlyValid, fc.uint8Array({ maxLength: 300 }), fc.integer({ min: -1, max: 1 }))
    .map(([handle, offset, bytes, wrong]) =>
      Buffer.concat([words(handle, offset, Math.max(0, bytes.length + wrong), 0, 0n, 0, 0), bytes]),
    ),
  fc
    .tuple(
      fc.integer({ min: 0, max: 4 }),
      fc.constantFrom('one', 'page', 'fresh', 'nested', 'other', '.', 'a/b'),
    )
    .chain(([count, first]) =>
      fc.tuple(
        fc.array(nearlyValid, { minLength: count, maxLength: count }),
        fc.constant(first),
        fc.constantFrom('fresh', 'one', '', 'x'.repeat(256)),
      ),
    )
    .map(([values, first, second]) => Buffer.concat([words(...values), name(first), name(second)])),
);
const request = fc.record({
  opcode: fc.oneof(fc.integer({ min: 0, max: OPCODE_MAX + 2 }), fc.nat(0xffff_ffff)),
  node: nearlyValid,
  body: fc.oneof(body, changes),
});

for (const writable of [false, true])
  t.test(
    `codec answers any request exactly once with an errno, ${writable ? 'writable' : 'read-only'}`,
    async (t) => {
      await fc.assert(
        fc.asyncProperty(fc.array(request, { minLength: 1, maxLength: 30 }), async (requests) => {
          const fs = new MemoryFs(small, { writable });
          const { writes, locks } = fs;
          const kernel = new FakeKernel(fs, { writes, locks });
          await kernel.init();
          const before = kernel.channel.replies.length;
          let wanted = 0;
          const asked = requests.map((fields) => {
            if (!noReply.has(fields.opcode)) wanted++;
            return kernel.post(fields);
          });
          await new Promise(setImmediate);
          // Who waits for a lock would wait for ever.
          for (const unique of asked)
            kernel.post({ opcode: Opcode.INTERRUPT, node: 0n, body: words(unique) });
          for (let turns = 0; kernel.channel.replies.length < before + wanted && turns < 100; turns++)
            await new Promise(setImmediate);
          const replies = kernel.channel.replies.slice(before);
          if (replies.length !== wanted) throw new Error(`${replies.length} replies to ${wanted} requests`);
          for (const { errno } of replies) if (errno < 0 || errno >= 512) throw new Error(`errno ${errno}`);
          if (kernel.session.nodes !== fs.held.size) throw new Error('lookup counts differ');
          if (kernel.session.openHandles !== fs.openFiles.size + fs.openDirectories.size)
            throw new Error('handles differ');
          if (!kernel.channel.reading) throw new Error('the session stopped reading');
          fs.dispose();
        }),
        { numRuns: 150 },
      );
      t.pass('no crash');
    },
  );

t.test('codec drops bytes that are no request and goes on', async (t) => {
  const fs = new MemoryFs(small);
  t.teardown(() => fs.dispose());
  const kernel = new FakeKernel(fs);
  await kernel.init();
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 300 }), async (bytes) => {
      kernel.channel.deliver(bytes);
      const { errno } = await kernel.ask({ opcode: Opcode.STATFS });
      if (errno !== 0 || !kernel.channel.reading) throw new Error('the session did not survive');
    }),
    { numRuns: 300 },
  );
  t.pass('no crash');
});

t.test('codec decodes every valid name and no other', async (t) => {
  const decode = (bytes: Uint8Array): Buffer => {
    const request = encodeRequest({ opcode: Opcode.LOOKUP, body: bytes });
    const view = new DataView(request.buffer, request.byteOffset, request.byteLength);
    return decodeName({ bytes: request, view, end: request.length });
  };
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 1, maxLength: 255 }), (bytes) => {
      const text = Buffer.from(bytes);
      const valid = !text.includes(0) && !text.includes(0x2f) && !/^\.\.?$/.test(text.toString('latin1'));
      try {
        const decoded = decode(Buffer.concat([text, Buffer.alloc(1)]));
        return valid && decoded.equals(text);
      } catch {
        return !valid;
      }
    }),
  );
  t.equal(
    errnoOf(() => decode(Buffer.from('unterminated'))),
    22,
  );
  t.equal(
    errnoOf(() => decode(Buffer.from('\0'))),
    22,
  );
  t.equal(
    errnoOf(() => decode(Buffer.alloc(0))),
    22,
  );
  t.equal(
    errnoOf(() => decode(name('n'.repeat(256)))),
    36,
  );
  t.equal(
    errnoOf(() => decode(name('..'))),
    22,
  );
});

t.test('codec refuses headers whose length is wrong', async (t) => {
  const bytes = encodeRequest({ opcode: Opcode.GETATTR, body: Buffer.alloc(16) });
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  t.match(decodeHeader(view, bytes.length), {
    opcode: Opcode.GETATTR,
    node: 1n,
    uid: 1000,
    gid: 1001,
    pid: 1002,
    end: 56,
  });
  t.equal(decodeHeader(view, bytes.length - 1), undefined);
  t.equal(decodeHeader(view, 39), undefined);
  bytes.writeUInt16LE(1, 36);
  t.match(decodeHeader(view, bytes.length), { end: 48 }, 'extensions are left out of the body');
  bytes.writeUInt16LE(100, 36);
  t.equal(decodeHeader(view, bytes.length), undefined);
});

t.test('codec packs whole records only, aligned to 8 bytes', async (t) => {
  fc.assert(
    fc.property(
      fc.array(fc.uint8Array({ minLength: 1, maxLength: 255 }), { maxLength: 50 }),
      fc.integer({ min: 0, max: 4096 }),
      (names, room) => {
        const packer = new DirectoryPacker(room);
        const taken: Uint8Array[] = [];
        for (const [index, each] of names.entries()) {
          const record = { name: each, inode: 7n, type: 8, nextOffset: BigInt(index + 1) };
          if (!packer.add(record)) break;
          taken.push(each);
        }
        const packed = Buffer.from(packer.packed);
        let at = 0;
        for (const [index, each] of taken.entries()) {
          const length = packed.readUInt32LE(at + 16);
          if (packed.readBigUInt64LE(at + 8) !== BigInt(index + 1)) return false;
          if (!packed.subarray(at + 24, at + 24 + length).equals(each)) return false;
          at += (24 + length + 7) & ~7;
        }
        return at === packed.length && packed.length <= room;
      },
    ),
  );
  t.pass('every record can be read back');
});

t.test('codec encodes attributes as the kernel lays them out', async (t) => {
  const bytes = Buffer.from(
    new ReplyScratch().entry({
      node: 0x1122334455667788n as never,
      entryValidForMs: 1500.25,
      validForMs: -1,
      attributes: {
        inode: 42n,
        sizeBytes: 5_000_000_001,
        modifiedNs: -1n,
        accessedNs: 1_500_000_000_000_000_001n,
        changedNs: 0n,
        mode: 0o100644,
        links: 3,
        uid: 4,
        gid: 5,
        device: 6,
        blockBytes: 1_048_576,
      },
    }),
  );
  t.equal(bytes.length, 128);
  t.equal(bytes.readBigUInt64LE(0), 0x1122334455667788n);
  t.equal(bytes.readBigUInt64LE(16), 1n, 'entry_valid');
  t.equal(bytes.readUInt32LE(32), 500_250_000, 'entry_valid_nsec');
  t.equal(bytes.readBigUInt64LE(24), 0n, 'attr_valid of a negative time');
  const attributes = bytes.subarray(40);
  t.equal(attributes.readBigUInt64LE(0), 42n);
  t.equal(attributes.readBigUInt64LE(8), 5_000_000_001n, 'size');
  t.equal(attributes.readBigUInt64LE(16), 9_765_626n, 'blocks of 512 bytes');
  t.equal(attributes.readBigInt64LE(24), 1_500_000_000n, 'atime');
  t.equal(attributes.readUInt32LE(48), 1, 'atimensec');
  t.equal(attributes.readBigInt64LE(32), -1n, 'mtime before 1970');
  t.equal(attributes.readUInt32LE(52), 999_999_999, 'mtimensec');
  t.same(
    [60, 64, 68, 72, 76, 80].map((at) => attributes.readUInt32LE(at)),
    [0o100644, 3, 4, 5, 6, 1_048_576],
  );
});
