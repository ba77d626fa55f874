/** POSIX attributes in object metadata: what other tools write is read, what we write is read back. */
import fc from 'fast-check';
import t from 'tap';
import {
  formatPosixMetadata,
  parsePosixMetadata,
  type PosixAttributes,
} from '../../lib/store/posix-metadata.ts';

t.test('POSIX metadata of s3fs and rclone is understood', (t) => {
  t.strictSame(
    parsePosixMetadata({
      mode: '33188',
      uid: '1000',
      gid: '100',
      mtime: '1700000000',
      ctime: '1700000001.5',
    }),
    {
      kind: 'file',
      mode: 0o644,
      uid: 1000,
      gid: 100,
      modifiedNs: 1_700_000_000_000_000_000n,
      changedNs: 1_700_000_001_500_000_000n,
    },
    's3fs, a file',
  );
  t.match(parsePosixMetadata({ mode: '16877' }), { kind: 'directory', mode: 0o755 }, 's3fs, a directory');
  t.match(parsePosixMetadata({ mode: '41471' }), { kind: 'symlink', mode: 0o777 }, 's3fs, a symlink');
  t.strictSame(
    parsePosixMetadata({ mtime: '1700000000.123456789' }),
    { modifiedNs: 1_700_000_000_123_456_789n },
    'rclone',
  );
  t.end();
});

t.test('POSIX metadata that makes no sense is as if absent', (t) => {
  const nonsense = ['', ' ', 'x', '-', '1e5', '0x10', '99999999999999999999', '1.2.3', 'NaN', '+5'];
  for (const text of nonsense) {
    t.strictSame(
      parsePosixMetadata({ mode: text, uid: text, gid: text, mtime: text, ctime: text }),
      {},
      text,
    );
  }
  t.strictSame(parsePosixMetadata({ 'symlink-target': '' }), {});
  t.strictSame(parsePosixMetadata({ 'symlink-target': '%zz' }), {});
  t.strictSame(parsePosixMetadata({ 'symlink-target': 'a%00b' }), {});
  t.strictSame(parsePosixMetadata({ 'symlink-target': 'x'.repeat(4096) }), {});
  t.end();
});

t.test('POSIX metadata never throws, whatever the text', (t) => {
  const names = fc.constantFrom('mode', 'uid', 'gid', 'mtime', 'ctime', 'symlink-target');
  fc.assert(
    fc.property(fc.dictionary(names, fc.string({ unit: 'binary' })), (metadata) => {
      parsePosixMetadata(metadata);
    }),
  );
  t.end();
});

t.test('POSIX metadata that was written is read back', (t) => {
  const ns = fc.bigInt({ min: -4_000_000_000_000_000_000n, max: 8_000_000_000_000_000_000n });
  const file = fc.record(
    {
      mode: fc.integer({ min: 0, max: 0o7777 }),
      uid: fc.integer({ min: 0, max: 0xfffffffe }),
      gid: fc.integer({ min: 0, max: 0xfffffffe }),
      modifiedNs: ns,
      changedNs: ns,
    },
    { requiredKeys: ['mode'] },
  );
  fc.assert(
    fc.property(file, fc.constantFrom('file' as const, 'directory' as const), (attributes, kind) => {
      const given: PosixAttributes = { kind, ...attributes };
      t.same(parsePosixMetadata(formatPosixMetadata(given)), given);
    }),
  );
  const target = fc.string({ unit: 'grapheme', minLength: 1 }).filter((text) => !text.includes('\0'));
  fc.assert(
    fc.property(target, (symlinkTarget) => {
      const metadata = formatPosixMetadata({ symlinkTarget });
      t.match(metadata['symlink-target'], /^[\x21-\x7e]+$/, 'fits a header');
      t.same(parsePosixMetadata(metadata), { kind: 'symlink', symlinkTarget });
    }),
  );
  t.end();
});
