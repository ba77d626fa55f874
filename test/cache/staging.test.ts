import { closeSync, existsSync, openSync, readdirSync, readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { systemDisk } from '../../cache/disk.ts';
import { KIB, MIB } from '../../lib/base/limits.ts';
import { sourceOf, trueBytes } from './fake-tier.ts';
import { faultyDisk } from './faulty-disk.ts';
import { BLOCK, openFixture, openVersion } from './fixture.ts';
import { entryOf, sealingOf, writeOf } from './staged.ts';

const noSpace = { name: 'CacheError', code: 'no-space' };

t.test('staged file takes what a local file takes', async (t) => {
  const { cache } = await openFixture(t);
  const file = await cache.staging.create(writeOf(1));
  t.equal(await file.write(3 * MIB, Buffer.from('behind')), 6);
  t.equal(await file.write(0, Buffer.from('front')), 5);
  t.equal(file.stat().sizeBytes, 3 * MIB + 6);
  t.equal(Buffer.from(await file.read(3 * MIB, 100)).toString(), 'behind', 'short at the end');
  t.same(await file.read(5, 3), Buffer.alloc(3), 'a hole reads as zeros');
  const into = Buffer.alloc(8);
  t.equal((await file.read(0, 5, into)).buffer, into.buffer, 'into the memory that was given');
  t.equal(await file.seek(1 * MIB, 'data'), 3 * MIB);
  t.equal(await file.seek(3 * MIB, 'hole'), 3 * MIB + 6, 'the end counts as a hole');
  t.equal(await file.seek(4 * MIB, 'data'), undefined);
  await file.truncate(2);
  await file.truncate(4);
  t.same(await file.read(0, 9), Buffer.from('fr\0\0'));
  file.setTimes({ accessedNs: 1_234_567_890_123_456_789n, modifiedNs: -1n });
  t.match(file.stat(), { accessedNs: 1_234_567_890_123_456_789n, modifiedNs: -1n }, 'to the nanosecond');
});

t.test('staged file allocates, punches and zeroes', async (t) => {
  const { cache } = await openFixture(t);
  const file = await cache.staging.create(writeOf(1));
  const everything = { offset: 0, length: 1 * MIB };
  await file.allocate(everything, 'reserve-beyond');
  t.match(file.stat(), { sizeBytes: 0, blocks: (1 * MIB) / 512 });
  await file.allocate(everything, 'reserve');
  t.equal(file.stat().sizeBytes, 1 * MIB);
  await file.write(0, Buffer.alloc(1 * MIB, 'x'));
  await file.allocate({ offset: 10, length: 100 }, 'zero');
  t.same(await file.read(9, 102), Buffer.from(`x${'\0'.repeat(100)}x`));
  await file.allocate({ offset: 0, length: 512 * KIB }, 'punch');
  t.match(file.stat(), { sizeBytes: 1 * MIB, blocks: (512 * KIB) / 512 });
  t.equal(cache.stat().dirtyBytes, 512 * KIB, 'what was punched counts no more');
  await t.rejects(file.allocate({ offset: 0, length: 2 ** 50 }, 'reserve'), noSpace);
});

t.test('staged file copies ranges of other files and of itself', async (t) => {
  const { cache } = await openFixture(t);
  const [from, to] = [await cache.staging.create(writeOf(1)), await cache.staging.create(writeOf(2))];
  const bytes = trueBytes(sourceOf(1, 300_000), 0, 300_000);
  await from.write(0, bytes);
  t.equal(await to.copyFrom(from.readFd, { from: 100, to: 5, length: 1 * MIB }), 299_900, 'to its end');
  t.same(await to.read(5, 1 * MIB), bytes.subarray(100));
  t.equal(await to.copyFrom(to.readFd, { from: 5, to: 400_000, length: 10 }), 10);
  t.same(await to.read(400_000, 10), bytes.subarray(100, 110));
});

t.test('staged file copies by itself where the file system cannot', async (t) => {
  const { disk, faults } = faultyDisk();
  faults.copyRange = 'EXDEV';
  const { cache } = await openFixture(t, { disk });
  const [from, to] = [await cache.staging.create(writeOf(1)), await cache.staging.create(writeOf(2))];
  const bytes = trueBytes(sourceOf(1, 5 * MIB), 0, 5 * MIB);
  await from.write(0, bytes);
  t.equal(await to.copyFrom(from.readFd, { from: 1, to: 0, length: 9 * MIB }), 5 * MIB - 1);
  t.ok(bytes.subarray(1).equals(await to.read(0, 5 * MIB)));
});

t.test('staging refuses names that are no identities, and one that is taken', async (t) => {
  const { cache, directory } = await openFixture(t);
  for (const name of ['../blobs/x', '', 'a/b', '.', 'x'.repeat(129)])
    await t.rejects(cache.staging.create(name), { code: 'disk' }, JSON.stringify(name));
  const file = await cache.staging.create(writeOf(1));
  await file.write(0, Buffer.from('kept'));
  await t.rejects(cache.staging.create(writeOf(1)), { code: 'disk' });
  t.equal(readFileSync(join(directory, 'staging', writeOf(1)), 'utf8'), 'kept');
});

t.test('copy-up brings the bytes of a version, wherever they are', async (t) => {
  for (const how of ['here', 'in the store', 'shared', 'read around the cache'] as const) {
    const { disk, faults } = faultyDisk(how === 'shared' ? {} : { clone: async () => false });
    const shares: string[] = [];
    const cloning = {
      ...disk,
      clone: async (from: number, to: number) => {
        shares.push('asked');
        if (how !== 'shared') return false;
        // What a file system that shares does, seen from outside.
        for (let at = 0; at < source.sizeBytes;)
          at += await systemDisk.copyRange(
            { fd: from, offset: at },
            { fd: to, offset: at, length: source.sizeBytes },
          );
        return true;
      },
    };
    const { cache } = await openFixture(t, { disk: cloning });
    const source = sourceOf(7, 5 * BLOCK + 17);
    const handle = openVersion(cache, source);
    if (how === 'here') await handle.fill(0, source.sizeBytes, { priority: 'demand' });
    if (how === 'read around the cache') faults.open = 'EIO';
    const file = await cache.staging.copyUp(writeOf(1), handle);
    t.equal(file.stat().sizeBytes, source.sizeBytes, how);
    t.ok(trueBytes(source, 0, source.sizeBytes).equals(await file.read(0, source.sizeBytes)));
    t.same(shares, how === 'read around the cache' ? [] : ['asked']);
    await file.write(0, Buffer.from('changed'));
    t.ok(trueBytes(source, 0, 100).equals(await handle.read(0, 100)), 'the version does not change');
    handle.close();
  }
});

t.test('copy-up keeps the holes of a version, and ends when it is told to', async (t) => {
  const { cache, directory } = await openFixture(t);
  const sparse = await cache.staging.create(writeOf(1));
  await sparse.write(1 * MIB, Buffer.alloc(BLOCK, 1));
  await sparse.truncate(4 * MIB);
  sparse.rest();
  const bytes = Buffer.from(await sparse.read(0, 4 * MIB));
  const sealing = sealingOf(sparse, { number: 3, bytes, blockBytes: BLOCK });
  t.equal(await cache.staging.seal(sparse, sealing), 'sealed');
  const handle = openVersion(cache, sealing.source);
  const file = await cache.staging.copyUp(writeOf(2), handle);
  t.ok(bytes.equals(await file.read(0, 4 * MIB)));
  t.equal(file.stat().blocks * 512, BLOCK);
  const signal = AbortSignal.abort(new Error('given up'));
  await t.rejects(cache.staging.copyUp(writeOf(3), handle, { signal }), /given up/);
  t.same(readdirSync(join(directory, 'staging')), [writeOf(2)]);
  handle.close();
});

t.test('a file of which nothing was recorded is gone after a restart', async (t) => {
  const { cache, directory } = await openFixture(t);
  const file = await cache.staging.create(writeOf(1));
  await file.write(0, Buffer.from('nobody was told'));
  await cache.close();
  const next = (await openFixture(t, { directory })).cache;
  t.same(next.staging.recovered, []);
  t.same(readdirSync(join(directory, 'staging')), []);
  t.equal(next.stat().dirtyBytes, 0);
});

t.test('recorded files come back, the longest owed first, with all that is known of them', async (t) => {
  const { cache, directory } = await openFixture(t);
  const kept = [
    entryOf(1, { state: 'synced', sinceMs: 30 }),
    entryOf(2, {
      state: 'closed',
      sinceMs: 10,
      isCommitted: true,
      publication: 3,
      committed: { sizeBytes: 5, modifiedNs: -7n, changedNs: 2n ** 62n },
    }),
  ];
  const ended = [entryOf(3, { state: 'begun' }), entryOf(4, { state: 'committed' })];
  for (const [index, entry] of [...kept, ...ended].entries()) {
    const file = await cache.staging.create(writeOf(index + 1));
    await file.write(0, Buffer.alloc(1000, index + 1));
    await file.record(entry, { durable: index % 2 === 0 });
  }
  await cache.close();

  const { staging } = (await openFixture(t, { directory })).cache;
  t.same(
    staging.recovered.map(({ entry }) => entry),
    [kept[1], kept[0]],
  );
  t.same(staging.ended, ended);
  t.same(readdirSync(join(directory, 'staging')), [writeOf(1), writeOf(2)]);
  t.equal(staging.stat().usedBytes, 2 * 4096, 'they take room');
  const { file } = staging.recovered[0]!;
  t.same(await file.read(0, 2000), Buffer.alloc(1000, 2));
  t.throws(() => file.fd, { code: 'closed' }, 'it rests');
  await file.resume();
  await file.write(1000, Buffer.from('more'));
  t.equal(file.stat().sizeBytes, 1004);
  for (const entry of staging.ended) staging.forget(entry);
  t.same(staging.ended, []);
  await staging.discard(file);
  t.same(readdirSync(join(directory, 'staging')), [writeOf(1)]);
});

t.test('later records win, also over durable ones that take longer', async (t) => {
  const gate = Promise.withResolvers<void>();
  const { disk } = faultyDisk({ datasyncOpen: (fd) => gate.promise.then(() => systemDisk.datasyncOpen(fd)) });
  const { cache, directory } = await openFixture(t, { disk });
  const file = await cache.staging.create(writeOf(1));
  await file.write(0, Buffer.from('bytes'));
  const slow = file.record(entryOf(1, { publication: 1 }), { durable: true });
  await file.record(entryOf(1, { publication: 2, state: 'closed' }), { durable: false });
  gate.resolve();
  await slow;
  await cache.close();
  const { staging } = (await openFixture(t, { directory })).cache;
  t.match(staging.recovered[0]?.entry, { publication: 2, state: 'closed' });
});

t.test('a file whose bytes become another file keeps its place in the journal', async (t) => {
  const { cache, directory } = await openFixture(t);
  const file = await cache.staging.create(writeOf(1));
  await file.record(entryOf(1), { durable: true });
  await file.record(entryOf(9, { path: 'run/checkpoint-1.pt.conflict' }), { durable: true });
  await cache.close();
  const { staging } = (await openFixture(t, { directory })).cache;
  t.equal(staging.recovered.length, 1);
  t.match(staging.recovered[0], {
    file: { name: writeOf(1) },
    entry: { grant: { write: writeOf(9) }, path: 'run/checkpoint-1.pt.conflict' },
  });
});

t.test('a file that is owed may be cut, and its row then asks for no more', async (t) => {
  const { cache, directory } = await openFixture(t);
  const file = await cache.staging.create(writeOf(1));
  await file.write(0, Buffer.alloc(10_000, 1));
  await file.record(entryOf(1), { durable: true });
  await file.truncate(10);
  await cache.close();
  const { staging } = (await openFixture(t, { directory })).cache;
  t.equal(staging.recovered[0]?.file.stat().sizeBytes, 10);
});

t.test('a device that refused to sync a file is not believed of it afterwards', async (t) => {
  const { disk, faults } = faultyDisk();
  const { cache } = await openFixture(t, { disk });
  const [bad, good] = [await cache.staging.create(writeOf(1)), await cache.staging.create(writeOf(2))];
  await bad.write(0, Buffer.from('bytes'));
  faults.datasyncOpen = 'EIO';
  await t.rejects(bad.record(entryOf(1), { durable: true }), { code: 'disk' });
  delete faults.datasyncOpen;
  await t.rejects(bad.record(entryOf(1), { durable: true }), { code: 'disk' }, 'it might lie now');
  await bad.record(entryOf(1, { state: 'committed' }), { durable: false });
  bad.rest();
  const sealing = sealingOf(bad, { number: 1, bytes: Buffer.from('bytes'), blockBytes: BLOCK });
  t.equal(await cache.staging.seal(bad, sealing), 'dropped');
  await good.record(entryOf(2), { durable: true });
});

t.test('a journal that could not be synced vouches for nothing any more', async (t) => {
  const { disk, faults } = faultyDisk();
  const { cache } = await openFixture(t, { disk });
  const file = await cache.staging.create(writeOf(1));
  faults.datasync = 'EMFILE';
  await t.rejects(file.record(entryOf(1), { durable: true }), { code: 'disk' });
  delete faults.datasync;
  await file.record(entryOf(1), { durable: true });
  t.pass('a shortage of descriptors says nothing of the device');
  faults.datasync = 'EIO';
  await t.rejects(file.record(entryOf(1), { durable: true }), { code: 'disk' });
  delete faults.datasync;
  await t.rejects(file.record(entryOf(1), { durable: true }), { code: 'disk' });
});

t.test('concurrent durable records share the syncs of the journal', async (t) => {
  let syncs = 0;
  const { disk } = faultyDisk({
    datasync: (path) => {
      if (path.endsWith('journal.db-wal')) syncs++;
      return systemDisk.datasync(path);
    },
  });
  const { cache } = await openFixture(t, { disk });
  const files = await Promise.all(
    [...Array(40).keys()].map((number) => cache.staging.create(writeOf(number))),
  );
  await Promise.all(files.map((file, number) => file.record(entryOf(number), { durable: true })));
  t.ok(syncs >= 1 && syncs <= 20, `${syncs} syncs for 40 records`);
});

t.test('a staged file becomes the blob of its version', async (t) => {
  const { cache, directory, tier } = await openFixture(t);
  const source = sourceOf(5, 3 * BLOCK + 100);
  const bytes = trueBytes(source, 0, source.sizeBytes);
  const file = await cache.staging.create(writeOf(5));
  await file.write(0, bytes);
  await file.record(entryOf(5, { state: 'closed' }), { durable: true });
  const sealing = sealingOf(file, { number: 5, bytes, blockBytes: cache.staging.blockBytes });
  await t.rejects(cache.staging.seal(file, sealing), { code: 'invariant' }, 'what is owed is no blob');
  await file.record(entryOf(5, { state: 'committed', committed: sealing.committed }), { durable: false });
  t.equal(await cache.staging.seal(file, sealing), 'written', 'it does not rest');
  file.rest();
  t.equal(await cache.staging.seal(file, sealing), 'sealed');
  t.same(readdirSync(join(directory, 'staging')), []);
  t.match(cache.stat(), { completeBlobs: 1, dirtyBytes: 0, usedBytes: 3 * BLOCK + 4096 });

  const handle = openVersion(cache, source);
  t.ok(handle.backingFd() !== undefined, 'the kernel may have it at once');
  t.ok(bytes.equals(await handle.read(0, source.sizeBytes)));
  handle.close();
  await cache.close();
  const next = (await openFixture(t, { directory, tier })).cache;
  t.same([next.staging.recovered, next.staging.ended], [[], []]);
  t.match(next.stat(), { completeBlobs: 1, usedBytes: 3 * BLOCK + 4096 });
  t.match(await next.verify({}), { blobs: 1, badBlocks: 0, missingBlobs: 0 });
  t.same([...tier.fills, ...tier.reads], [], 'nothing was fetched');
});

t.test('a file that anybody can still write to is not sealed', async (t) => {
  const { cache, directory } = await openFixture(t);
  const bytes = Buffer.from('as committed');
  const file = await cache.staging.create(writeOf(1));
  await file.write(0, bytes);
  file.rest();
  const sealing = sealingOf(file, { number: 1, bytes, blockBytes: BLOCK });
  t.notOk(cache.staging.isWritten(file));
  const other = openSync(join(directory, 'staging', writeOf(1)), 'r+');
  t.ok(cache.staging.isWritten(file));
  t.equal(await cache.staging.seal(file, sealing), 'written');
  writeSync(other, 'AS');
  closeSync(other);
  t.notOk(cache.staging.isWritten(file));
  t.equal(await cache.staging.seal(file, sealing), 'written', 'it is not what was committed');
  await file.resume();
  t.ok(cache.staging.isWritten(file));
});

t.test('a version that is here already, or is empty, needs no second file', async (t) => {
  const { cache, directory } = await openFixture(t);
  const source = sourceOf(1, 2 * BLOCK);
  const handle = openVersion(cache, source);
  await handle.fill(0, 1, { priority: 'demand' });
  const usedBytes = cache.stat().usedBytes;
  for (const [number, sizeBytes] of [[1, 2 * BLOCK] as const, [2, 0] as const]) {
    const file = await cache.staging.create(writeOf(number));
    const bytes = trueBytes(source, 0, sizeBytes);
    await file.write(0, bytes);
    await file.record(entryOf(number, { state: 'committed' }), { durable: true });
    file.rest();
    t.equal(await cache.staging.seal(file, sealingOf(file, { number, bytes, blockBytes: BLOCK })), 'dropped');
  }
  t.same(readdirSync(join(directory, 'staging')), []);
  t.match(cache.stat(), { usedBytes, dirtyBytes: 0 });
  handle.close();
});

t.test('a disk that will not move a file keeps nothing half', async (t) => {
  const { disk, faults } = faultyDisk();
  const { cache, directory } = await openFixture(t, { disk });
  const bytes = trueBytes(sourceOf(1, 2 * BLOCK), 0, 2 * BLOCK);
  const file = await cache.staging.create(writeOf(1));
  await file.write(0, bytes);
  file.rest();
  faults.rename = 'EIO';
  t.equal(
    await cache.staging.seal(file, sealingOf(file, { number: 1, bytes, blockBytes: BLOCK })),
    'dropped',
  );
  delete faults.rename;
  t.match(cache.stat(), { blobs: 0, usedBytes: 0, dirtyBytes: 0 });
  t.same(cache.list({}), []);
  t.notOk(existsSync(join(directory, 'staging', writeOf(1))));
});

t.test('policies decide whether what was written stays', async (t) => {
  const keeping = { admit: 'never', rank: 0, ttlMs: undefined, pinned: false } as const;
  const { cache } = await openFixture(t, { keepingOf: () => keeping });
  const bytes = Buffer.alloc(BLOCK, 1);
  const file = await cache.staging.create(writeOf(1));
  await file.write(0, bytes);
  file.rest();
  t.equal(
    await cache.staging.seal(file, sealingOf(file, { number: 1, bytes, blockBytes: BLOCK })),
    'dropped',
  );
  t.match(cache.stat(), { blobs: 0, usedBytes: 0 });
});

t.test('descriptors are given back once nobody uses them', async (t) => {
  const { cache } = await openFixture(t);
  const open = (): number => readdirSync('/proc/self/fd').length;
  const before = open();
  const files = await Promise.all(
    [...Array(20).keys()].map((number) => cache.staging.create(writeOf(number))),
  );
  for (const file of files) {
    await file.write(0, Buffer.alloc(100_000, 1));
    file.rest();
    file.park();
  }
  t.equal(open(), before, 'parked files have none');
  t.same(await files[3]?.read(99_999, 5), Buffer.of(1), 'and are opened when somebody asks');
  const late = files.map((file) => file.read(0, 100_000));
  for (const file of files) await cache.staging.discard(file);
  await Promise.all(late);
  t.equal(open(), before);
  await t.rejects(files[0]!.read(0, 1), { code: 'closed' });
  await t.rejects(files[0]!.record(entryOf(0), { durable: false }), { code: 'closed' });
});
