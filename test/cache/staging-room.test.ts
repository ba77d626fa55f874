import { execFileSync } from 'node:child_process';
import { closeSync, mkdirSync, openSync, statfsSync, truncateSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import koffi from 'koffi';
import t, { type Test } from 'tap';
import { FREE_SPACE_AGE_MS, WRITER_AHEAD_BYTES_MIN, WRITER_LOOK_MS } from '../../cache/limits.ts';
import type { NvmeBlockCache } from '../../cache/nvme-cache.ts';
import { MIB } from '../../lib/base/limits.ts';
import { needs, unmet } from '../support/requirements.ts';
import { sourceOf, trueBytes } from './fake-tier.ts';
import { BLOCK, openFixture, openVersion, temporaryDirectory } from './fixture.ts';
import { ManualClock } from './manual-clock.ts';
import { entryOf, sealingOf, writeOf } from './staged.ts';

const noSpace = { name: 'CacheError', code: 'no-space' };

/** Turns of the event loop that whatever is decided in one look needs. */
async function settled(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
}

async function fillWithBlobs(cache: NvmeBlockCache, bytes: number): Promise<void> {
  const each = 16 * BLOCK;
  for (let number = 0; number < bytes / each; number++) {
    const handle = openVersion(cache, sourceOf(100 + number, each));
    await handle.fill(0, each, { priority: 'demand' });
    handle.close();
  }
}

t.test('what the kernel writes by itself is seen, and room is kept ahead of it', async (t) => {
  const clock = new ManualClock();
  const { cache, directory } = await openFixture(t, { clock, capacityBytes: 512 * MIB });
  const { staging } = cache;
  const look = async (): Promise<void> => {
    clock.advance(WRITER_LOOK_MS);
    await settled();
  };
  const file = await staging.create(writeOf(1));
  t.same(staging.stat(), { files: 1, usedBytes: 0, aheadBytes: WRITER_AHEAD_BYTES_MIN });
  const kernel = openSync(join(directory, 'staging', writeOf(1)), 'r+');
  writeSync(kernel, Buffer.alloc(5 * MIB, 1));
  await look();
  t.same(staging.stat(), { files: 1, usedBytes: 5 * MIB, aheadBytes: 10 * MIB }, 'twice of what it took');
  t.match(cache.stat(), { usedBytes: 5 * MIB, dirtyBytes: 5 * MIB, reservedBytes: 10 * MIB });
  writeSync(kernel, Buffer.alloc(40 * MIB, 1));
  await look();
  t.equal(staging.stat().aheadBytes, 16 * MIB, 'a share of the capacity at most');
  await look();
  t.match(staging.stat(), { usedBytes: 45 * MIB, aheadBytes: 0 }, 'for who pauses none');
  writeSync(kernel, 'x');
  await look();
  t.equal(staging.stat().aheadBytes, WRITER_AHEAD_BYTES_MIN);
  closeSync(kernel);
  file.rest();
  t.equal(staging.stat().aheadBytes, 0);
  await staging.discard(file);
  t.match(cache.stat(), { usedBytes: 0, dirtyBytes: 0, reservedBytes: 0 });
});

t.test('many open files do not shut each other out', async (t) => {
  const { cache } = await openFixture(t, { capacityBytes: 8 * MIB });
  const files = await Promise.all(
    [...Array(200).keys()].map((number) => cache.staging.create(writeOf(number))),
  );
  await Promise.all(files.map((file) => file.write(0, Buffer.alloc(20_000, 1))));
  const { usedBytes, reservedBytes } = cache.stat();
  t.equal(usedBytes, 200 * 5 * 4096);
  t.ok(usedBytes + reservedBytes <= 8 * MIB);
});

t.test('blobs give way to writers, and writers to nobody', async (t) => {
  const { cache } = await openFixture(t, { capacityBytes: 32 * MIB });
  await fillWithBlobs(cache, 30 * MIB);
  const file = await cache.staging.create(writeOf(1));
  for (let at = 0; at < 30 * MIB; at += 1 * MIB) await file.write(at, Buffer.alloc(1 * MIB, 1));
  t.equal(cache.stat().dirtyBytes, 30 * MIB);
  t.ok(cache.stat().evictedBytes >= 26 * MIB);
  file.rest();
  const [version, bytes] = [sourceOf(1, 16 * BLOCK), 16 * BLOCK];
  for (let number = 0; number < 8; number++) await fillWithBlobs(cache, 8 * MIB);
  t.equal(cache.stat().dirtyBytes, 30 * MIB, 'whatever is read');
  const handle = openVersion(cache, version);
  t.ok(trueBytes(version, 0, bytes).equals(await handle.read(0, bytes)), 'and reads go on');
  handle.close();
});

t.test('writers are refused early, and what they have stays whole', async (t) => {
  const { cache } = await openFixture(t, { capacityBytes: 16 * MIB });
  const pinned = sourceOf(1, 2 * MIB);
  const handle = openVersion(cache, pinned);
  await handle.fill(0, pinned.sizeBytes, { priority: 'demand' });
  const file = await cache.staging.create(writeOf(1));
  let written = 0;
  await t.rejects(async () => {
    for (;;) written += await file.write(written, Buffer.alloc(1 * MIB, 7));
  }, noSpace);
  t.equal(written, 14 * MIB, 'all that there is beside an open version');
  t.equal(file.stat().sizeBytes, written);
  await t.rejects(file.allocate({ offset: 0, length: 20 * MIB }, 'reserve'), noSpace);
  await t.rejects(cache.staging.create(writeOf(2)), noSpace);
  await t.rejects(cache.staging.copyUp(writeOf(3), handle), noSpace);
  t.match(cache.staging.stat(), { files: 1 }, 'who was refused leaves nothing');
  await file.record(entryOf(1), { durable: true });
  handle.close();
  t.equal(await file.write(written, Buffer.alloc(1 * MIB, 7)), 1 * MIB, 'until somebody gives way');
  await cache.staging.discard(file);
  t.equal(cache.stat().dirtyBytes, 0);
});

t.test('a wish that cannot be met costs nobody its place', async (t) => {
  const { cache } = await openFixture(t, { capacityBytes: 128 * MIB });
  await fillWithBlobs(cache, 60 * MIB);
  const file = await cache.staging.create(writeOf(1));
  await file.allocate({ offset: 0, length: 40 * MIB }, 'reserve');
  await t.rejects(file.allocate({ offset: 40 * MIB, length: 100 * MIB }, 'reserve'), noSpace);
  t.equal(cache.stat().evictedBytes, 0);
});

t.test('a version with holes is charged for them, or gives its place up', async (t) => {
  const { cache } = await openFixture(t, { capacityBytes: 16 * MIB });
  await fillWithBlobs(cache, 2 * MIB);
  for (const [sizeBytes, outcome] of [[4 * MIB, 'sealed'] as const, [64 * MIB, 'dropped'] as const]) {
    const file = await cache.staging.create(writeOf(1));
    await file.truncate(sizeBytes);
    file.rest();
    const sealing = sealingOf(file, { number: 1, bytes: Buffer.alloc(sizeBytes), blockBytes: BLOCK });
    t.equal(await cache.staging.seal(file, sealing), outcome);
  }
  t.match(cache.stat(), { usedBytes: 6 * MIB, evictedBytes: 0, dirtyBytes: 0 });
});

const libc = koffi.load(null);
const mmap = libc.func('void *mmap(void *at, size_t bytes, int protection, int flags, int fd, long offset)');
const munmap = libc.func('int munmap(void *at, size_t bytes)');

t.test('a mapping keeps a file from being sealed, also after its descriptor is closed', async (t) => {
  const { cache, directory } = await openFixture(t);
  const file = await cache.staging.create(writeOf(1));
  await file.truncate(4096);
  file.rest();
  const fd = openSync(join(directory, 'staging', writeOf(1)), 'r+');
  const [PROT_READ_WRITE, MAP_SHARED] = [3, 1];
  const at: unknown = mmap(null, 4096, PROT_READ_WRITE, MAP_SHARED, fd, 0);
  closeSync(fd);
  t.ok(cache.staging.isWritten(file));
  munmap(at, 4096);
  t.notOk(cache.staging.isWritten(file));
});

/** Mounts a file system of its own for as long as the test runs. */
function fileSystem(t: Test, sizeBytes: number, make: readonly string[]): string {
  const place = temporaryDirectory(t);
  const [image, mountpoint] = [join(place, 'image'), join(place, 'mount')];
  mkdirSync(mountpoint);
  writeFileSync(image, '');
  truncateSync(image, sizeBytes);
  const run = (command: string, ...args: string[]): unknown => execFileSync(command, args, { stdio: 'pipe' });
  run(make[0]!, ...make.slice(1), image);
  run('mount', '-o', 'loop', image, mountpoint);
  t.teardown(() => run('umount', mountpoint));
  return mountpoint;
}

const onExt4 = { skip: unmet(needs.loop, needs.mkfs) };
t.test('a disk smaller than the capacity: writers are refused before it is full', onExt4, async (t) => {
  const directory = fileSystem(t, 24 * MIB, ['mkfs.ext4', '-q', '-F', '-m', '0']);
  const { cache } = await openFixture(t, { directory, capacityBytes: 512 * MIB });
  await fillWithBlobs(cache, 8 * MIB);
  const file = await cache.staging.create(writeOf(1));
  let written = 0;
  await t.rejects(async () => {
    for (;;) written += await file.write(written, Buffer.alloc(256 * 1024, 3));
  }, noSpace);
  const { bavail, bsize } = statfsSync(directory);
  t.ok(bavail * bsize > 0.01 * 24 * MIB, `${bavail * bsize} bytes are left to others`);
  t.ok(written > 12 * MIB, `${written} bytes of a file, where blobs were`);
  await file.record(entryOf(1, { state: 'closed' }), { durable: true });
  await cache.close();

  const next = await openFixture(t, { directory, capacityBytes: 512 * MIB });
  const recovered = next.cache.staging.recovered[0]!.file;
  t.equal(recovered.stat().sizeBytes, written);
  t.ok(Buffer.alloc(written, 3).equals(await recovered.read(0, written)));
  await next.cache.staging.discard(recovered);
  await fillWithBlobs(next.cache, 8 * MIB);
  t.ok(next.cache.stat().usedBytes > 7 * MIB, 'its room is free again');
  await next.cache.close();
});

t.test('a disk that the kernel fills up: the journal still says what is there', onExt4, async (t) => {
  const directory = fileSystem(t, 24 * MIB, ['mkfs.ext4', '-q', '-F', '-m', '0']);
  const clock = new ManualClock();
  const { cache } = await openFixture(t, { directory, clock, capacityBytes: 512 * MIB });
  const file = await cache.staging.create(writeOf(1));
  const kernel = openSync(join(directory, 'staging', writeOf(1)), 'r+');
  let written = 0;
  t.throws(
    () => {
      for (;;) written += writeSync(kernel, Buffer.alloc(64 * 1024, 3));
    },
    { code: 'ENOSPC' },
  );
  closeSync(kernel);
  const recorded = await file.record(entryOf(1), { durable: true }).then(
    () => true,
    (error: unknown) => {
      t.match(error, noSpace, 'or it says that it could not');
      return false;
    },
  );
  clock.advance(FREE_SPACE_AGE_MS);
  await t.rejects(cache.staging.create(writeOf(2)), noSpace);
  await cache.close();
  const { staging } = (await openFixture(t, { directory, capacityBytes: 512 * MIB })).cache;
  t.equal(staging.recovered.length, recorded ? 1 : 0);
  if (recorded) t.ok(staging.recovered[0]!.file.stat().sizeBytes >= written);
  await staging.close();
});

const onXfs = { skip: unmet(needs.loop, needs.mkfsXfs) };
t.test('copy-up shares bytes where the file system can', onXfs, async (t) => {
  const directory = fileSystem(t, 320 * MIB, ['mkfs.xfs', '-q', '-m', 'reflink=1']);
  const { cache } = await openFixture(t, { directory, capacityBytes: 200 * MIB });
  const source = sourceOf(1, 64 * MIB);
  const handle = openVersion(cache, source);
  await handle.fill(0, source.sizeBytes, { priority: 'demand' });
  const free = (): number => statfsSync(directory).bavail * statfsSync(directory).bsize;
  const before = free();
  const file = await cache.staging.copyUp(writeOf(1), handle);
  t.ok(before - free() < 4 * MIB, `it took ${before - free()} bytes`);
  await file.write(5, Buffer.from('changed'));
  t.ok(trueBytes(source, 0, 1000).equals(await handle.read(0, 1000)), 'the version does not change');
  t.same(Buffer.from(await file.read(5, 7)).toString(), 'changed');
  const tail = source.sizeBytes - 1000;
  t.ok(trueBytes(source, tail, 1000).equals(await file.read(tail, 1000)));
  handle.close();
  await cache.close();
});
