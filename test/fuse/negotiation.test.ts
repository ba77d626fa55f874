import t from 'tap';
import { encodeAgreement, InitFlag, negotiate, type Agreement } from '../../lib/fuse/negotiation.ts';

const kernel = { major: 7, minor: 45, readAheadBytesMax: 131_072, flags: 0xffff_ffff_ffff_ffffn };

function agreed(init: Partial<typeof kernel>, able = { locks: false }): Agreement {
  const result = negotiate({ ...kernel, ...init }, able);
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
  t.equal(bytes.readUInt32LE(32), 32 | 64, 'flags2: PASSTHROUGH, NO_EXPORT_SUPPORT');
  t.equal(bytes.readUInt32LE(36), 1, 'max_stack_depth');
});

t.test('negotiation never asks for what it leaves off on purpose', async (t) => {
  const { flags } = agreed({});
  const known = Object.values(InitFlag).reduce((all, flag) => all | flag, 0n);
  t.equal(flags & ~known, 0n);
});

t.test('negotiation asks for locks only of who can keep them', async (t) => {
  const locks = InitFlag.POSIX_LOCKS | InitFlag.FLOCK_LOCKS;
  t.equal(agreed({}).flags & locks, 0n);
  t.equal(agreed({}, { locks: true }).flags & locks, locks);
  t.equal(agreed({ flags: 0n }, { locks: true }).flags, 0n);
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
  t.same(negotiate({ ...kernel, major: 8 }, { locks: true }), { state: 'retry' });
  t.same(negotiate({ ...kernel, major: 6 }, { locks: true }), { state: 'too-old' });
  t.same(negotiate({ ...kernel, minor: 30 }, { locks: true }), { state: 'too-old' });
});
