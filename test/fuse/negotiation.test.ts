import t from 'tap';
import { encodeAgreement, InitFlag, negotiate, type Agreement } from '../../lib/fuse/negotiation.ts';

const kernel = { major: 7, minor: 45, readAheadBytesMax: 131_072, flags: 0xffff_ffff_ffff_ffffn };

function agreed(init: Partial<typeof kernel>): Agreement {
  const result = negotiate({ ...kernel, ...init });
  if (result.state !== 'agreed') throw new Error(result.state);
  return result.agreement;
}

t.test('negotiation asks a new kernel for passthrough and 1 MiB reads', async (t) => {
  const agreement = agreed({});
  t.match(agreement, { minor: 45, passthrough: true, epoch: true, readBytesMax: 1_048_576 });
  const bytes = Buffer.from(encodeAgreement(agreement));
  t.equal(bytes.length, 64);
  t.same([bytes.readUInt32LE(0), bytes.readUInt32LE(4)], [7, 45]);
  t.equal(bytes.readUInt32LE(20), 1_048_576, 'max_write');
  t.equal(bytes.readUInt16LE(28), 256, 'max_pages');
  t.equal(bytes.readUInt32LE(32), 32, 'flags2: PASSTHROUGH');
  t.equal(bytes.readUInt32LE(36), 1, 'max_stack_depth');
});

t.test('negotiation never asks for what it leaves off on purpose', async (t) => {
  const { flags } = agreed({});
  const known = Object.values(InitFlag).reduce((all, flag) => all | flag, 0n);
  t.equal(flags & ~known, 0n);
});

t.test('negotiation falls back where the kernel does not offer something', async (t) => {
  t.match(agreed({ flags: 0n }), { passthrough: false, readBytesMax: 131_072, flags: 0n });
  t.match(agreed({ minor: 40 }), { minor: 40, epoch: false, passthrough: true });
  t.match(agreed({ minor: 99 }), { minor: 45 });
  t.match(
    agreed({ flags: kernel.flags & ~InitFlag.INIT_EXT }),
    { passthrough: false },
    'no second word of flags, no passthrough',
  );
});

t.test('negotiation refuses versions it cannot speak', async (t) => {
  t.same(negotiate({ ...kernel, major: 8 }), { state: 'retry' });
  t.same(negotiate({ ...kernel, major: 6 }), { state: 'too-old' });
  t.same(negotiate({ ...kernel, minor: 30 }), { state: 'too-old' });
});
