/**
 * In which order the kernel asks for what a program does: what a write path above may rely on. Lookups, attributes and
 * forgets are left out, since they depend on what is cached.
 */
import { spawnSync } from 'node:child_process';
import {
  closeSync,
  constants,
  fchmodSync,
  fsyncSync,
  ftruncateSync,
  openSync,
  renameSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { Mapping } from '../conformance/posix.ts';
import { type MountProcess, noMounts, startMount } from './mounting.ts';

const { O_RDWR, O_CREAT, O_EXCL, O_APPEND, O_WRONLY, O_TRUNC } = constants;

/** What one program does, and what it makes the kernel ask; `write` is asked for only of files that are served. */
interface Program {
  readonly run: (at: (name: string) => string) => unknown;
  readonly asks: readonly string[];
}

const programs: Readonly<Record<string, Program>> = {
  'create, write, close': {
    run: (at) => {
      const fd = openSync(at('a'), 'w');
      writeSync(fd, 'hello');
      closeSync(fd);
    },
    asks: ['create a', 'write 0+5', 'flush', 'release'],
  },
  'open with O_TRUNC, write, close: the truncation is part of the open': {
    run: (at) => {
      const fd = openSync(at('a'), O_WRONLY | O_TRUNC);
      writeSync(fd, 'hi');
      closeSync(fd);
    },
    asks: ['open truncating', 'write 0+2', 'flush', 'release'],
  },
  'append: the kernel knows the end': {
    run: (at) => {
      const fd = openSync(at('a'), O_WRONLY | O_APPEND);
      writeSync(fd, 'abc');
      writeSync(fd, 'def');
      closeSync(fd);
    },
    asks: ['open', 'write 2+3', 'write 5+3', 'flush', 'release'],
  },
  'safetensors: set the size, write, rename while open, no fsync': {
    run: (at) => {
      const fd = openSync(at('.tmp'), O_RDWR | O_CREAT | O_EXCL, 0o600);
      ftruncateSync(fd, 100);
      writeSync(fd, 'x'.repeat(100), 0);
      renameSync(at('.tmp'), at('final'));
      fchmodSync(fd, 0o644);
      closeSync(fd);
    },
    asks: [
      'create .tmp',
      'setattr sizeBytes=100 by handle',
      'write 0+100',
      'rename .tmp final replace',
      'setattr mode=420',
      'flush',
      'release',
    ],
  },
  'commit record of torch: fsync while empty, write, close, rename': {
    run: (at) => {
      const fd = openSync(at('.metadata.tmp'), 'w');
      fsyncSync(fd);
      writeSync(fd, 'record');
      closeSync(fd);
      renameSync(at('.metadata.tmp'), at('.metadata'));
    },
    asks: [
      'create .metadata.tmp',
      'fsync',
      'write 0+6',
      'flush',
      'release',
      'rename .metadata.tmp .metadata replace',
    ],
  },
  'unlink while open: the handle goes on': {
    run: (at) => {
      const fd = openSync(at('u'), 'w+');
      unlinkSync(at('u'));
      writeSync(fd, 'data');
      closeSync(fd);
    },
    asks: ['create u', 'unlink u', 'write 0+4', 'flush', 'release'],
  },
  'a descriptor that a child has too: each close is a flush, the last a release': {
    run: (at) => {
      const fd = openSync(at('d'), 'w+');
      spawnSync('sh', ['-c', 'printf child >&3; exec 3>&-'], { stdio: ['ignore', 'ignore', 'ignore', fd] });
      writeSync(fd, 'parent');
      closeSync(fd);
    },
    asks: ['create d', 'flush', 'write 0+5', 'flush', 'write 5+6', 'flush', 'release'],
  },
};

const UNRELATED = /^(lookup|attributes|forget|access|read\b)/;
/** The kernel writes by itself; what was between two flushes of one descriptor is gone with it. */
const withoutWrites = (asks: readonly string[]): readonly string[] =>
  asks
    .filter((asked) => !asked.startsWith('write '))
    .filter((asked, index, all) => asked !== 'flush' || all[index - 1] !== 'flush');

for (const passthrough of [false, true])
  t.test(
    `the kernel asks in order, ${passthrough ? 'passthrough' : 'served'}`,
    { skip: noMounts() },
    async (t) => {
      const mount = await startMount(t, { driver: 'kernel', writable: true, passthrough });
      for (const [what, { run, asks }] of Object.entries(programs)) {
        await mount.trace();
        run((name) => join(mount.mountpoint, name));
        t.same(await settled(mount, passthrough ? withoutWrites(asks) : asks), [], what);
      }
    },
  );

/** Empty, or what was asked instead of `expected`. A release may come a moment after its close. */
async function settled(mount: MountProcess, expected: readonly string[]): Promise<readonly string[]> {
  const deadline = performance.now() + 10_000;
  let seen: string[] = [];
  do {
    const more = (await mount.trace()).filter((each) => !UNRELATED.test(each));
    // How many descriptors a child closes on its way is its own business.
    seen = [...seen, ...more].filter((each, index, all) => each !== 'flush' || all[index - 1] !== 'flush');
  } while (seen.length < expected.length && performance.now() < deadline);
  return JSON.stringify(seen) === JSON.stringify(expected) ? [] : seen;
}

t.test('a mapping of a served file holds its handle', { skip: noMounts() }, async (t) => {
  const mount = await startMount(t, { driver: 'kernel', writable: true });
  const fd = openSync(join(mount.mountpoint, 'm'), 'w+');
  ftruncateSync(fd, 8_192);
  const mapping = await Mapping.open(fd, 8_192);
  closeSync(fd);
  await mount.trace();
  await mapping.write(0, Buffer.from('one'));
  await mapping.sync();
  t.same(await settled(mount, ['write 0+4096', 'fdatasync']), []);
  await mapping.write(5_000, Buffer.from('two'));
  await mapping.close();
  t.same(await settled(mount, ['write 4096+4096', 'release']), []);
});

// The reason for the read lease of write-operations.ts.
t.test('a mapping of a passthrough file goes on after its release', { skip: noMounts() }, async (t) => {
  const mount = await startMount(t, { driver: 'kernel', writable: true, passthrough: true });
  if (!(await mount.state()).passthrough) return void t.comment('this kernel has no passthrough');
  const path = join(mount.mountpoint, 'm');
  const fd = openSync(path, 'w+');
  ftruncateSync(fd, 8_192);
  const mapping = await Mapping.open(fd, 8_192);
  await mount.trace();
  closeSync(fd);
  t.same(await settled(mount, ['flush', 'release']), []);
  await mapping.write(0, Buffer.from('changed after release'));
  const again = openSync(path, 'r');
  const into = await Mapping.open(again, 8_192, 'private');
  t.equal((await into.read()).toString('utf8', 0, 21), 'changed after release');
  await into.close();
  closeSync(again);
  await mapping.close();
});
