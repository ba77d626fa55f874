/** The door to the disk, where it does more than one call of the system. */
import fs from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { systemDisk } from '../../cache/disk.ts';

t.test(
  'disk reads at once what lies in memory, whole or not at all',
  { skip: process.platform !== 'linux' },
  async (t) => {
    const path = join(t.testdir({}), 'blob');
    const fd = systemDisk.open(path, { create: true });
    t.teardown(() => systemDisk.close(fd));
    const written = Buffer.from(Array.from({ length: 10_000 }, (_, index) => index % 251));
    fs.writeSync(fd, written, 0, written.length, 4096);
    const memory = Buffer.alloc(6_000, 0xee);
    t.ok(systemDisk.readNow(fd, memory.subarray(1_000, 4_000), 5_000));
    t.ok(memory.subarray(1_000, 4_000).equals(written.subarray(904, 3_904)));
    t.ok(
      memory.subarray(0, 1_000).every((byte) => byte === 0xee),
      'nothing before',
    );
    t.ok(
      memory.subarray(4_000).every((byte) => byte === 0xee),
      'nothing behind',
    );
    t.notOk(systemDisk.readNow(fd, memory, 4096 + written.length - 10), 'over the end');
    t.notOk(systemDisk.readNow(-1, memory, 0), 'what fails is left to a read that says why');
  },
);

t.test('disk makes a new file in place of one that is there', async (t) => {
  const path = join(t.testdir({ blob: 'left over' }), 'blob');
  const old = fs.openSync(path, 'r');
  const fd = systemDisk.open(path, { create: true });
  t.equal(fs.fstatSync(fd).size, 0);
  t.equal(fs.fstatSync(old).size, 9, 'who has the old one keeps it');
  systemDisk.close(fd);
  fs.closeSync(old);
  t.throws(() => systemDisk.open(`${path}-absent`, { create: false }), { code: 'ENOENT' });
});

t.test('disk removes a file that is not there without a word', async (t) => {
  const path = join(t.testdir({ blob: '' }), 'blob');
  systemDisk.unlink(path);
  systemDisk.unlink(path);
  t.notOk(fs.existsSync(path));
  t.throws(() => systemDisk.unlink(t.testdirName), { code: /EISDIR|EPERM/ });
});
