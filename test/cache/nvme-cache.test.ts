import { readSync, statSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import t from 'tap';
import { BLOCK, openFixture, openVersion } from './fixture.ts';
import { faultyDisk } from './faulty-disk.ts';
import { ManualClock } from './manual-clock.ts';
import { sourceOf, trueBytes } from './fake-tier.ts';

t.test('cache serves every byte of a version and fetches each block once', async (t) => {
  const { cache, tier } = await openFixture(t);
  const source = sourceOf(1, 5 * BLOCK + 1234);
  const handle = openVersion(cache, source);
  for (let offset = 0; offset < source.sizeBytes; offset += 10_000) {
    t.same(Buffer.from(await handle.read(offset, 10_000)), trueBytes(source, offset, 10_000));
  }
  t.equal((await handle.read(source.sizeBytes, 10)).length, 0, 'nothing behind the end');
  t.equal(tier.fills.length, 6);
  t.equal(handle.cachedBytes, source.sizeBytes);
  const fd = handle.backingFd();
  t.type(fd, 'number', 'complete at once, without waiting for the disk');
  const bytes = Buffer.alloc(source.sizeBytes);
  t.equal(readSync(fd!, bytes, 0, bytes.length, 0), bytes.length);
  t.same(bytes, trueBytes(source, 0, source.sizeBytes));
  handle.close();
});

t.test('cache concurrent requests for one block are one fetch', async (t) => {
  const { cache, tier } = await openFixture(t);
  tier.hold = true;
  const source = sourceOf(2, 4 * BLOCK);
  const handles = Array.from({ length: 20 }, () => openVersion(cache, source));
  const reads = handles.map((handle) => handle.read(BLOCK + 5, 100));
  const filled = handles[0]!.fill(0, source.sizeBytes, { priority: 'background' });
  await tier.untilHeld(3);
  t.same(
    tier.held.map((held) => [
      held.request.offset / BLOCK,
      held.request.length / BLOCK,
      held.request.priority,
    ]),
    [
      [1, 1, 'demand'],
      [0, 1, 'background'],
      [2, 2, 'background'],
    ],
  );
  for (const held of tier.held) held.finish();
  for (const bytes of await Promise.all(reads)) t.same(Buffer.from(bytes), trueBytes(source, BLOCK + 5, 100));
  await filled;
  t.equal(tier.fills.length, 3);
  for (const handle of handles) handle.close();
});

t.test('cache serves a reader below the mark of a fill that is still running', async (t) => {
  const { cache, tier } = await openFixture(t);
  tier.hold = true;
  const source = sourceOf(3, 2 * BLOCK);
  const handle = openVersion(cache, source);
  const first = handle.read(0, 1000);
  await tier.untilHeld(1);
  tier.held[0]!.give(4096);
  t.same(Buffer.from(await first), trueBytes(source, 0, 1000));
  t.equal(handle.cachedBytes, 0, 'the block itself is not present yet');
  t.equal(handle.backingFd(), undefined);
  tier.held[0]!.finish();
  handle.close();
});

t.test('cache a read hit writes nothing', async (t) => {
  const { cache, directory } = await openFixture(t);
  const source = sourceOf(6, BLOCK);
  const handle = openVersion(cache, source);
  await handle.fill(0, BLOCK, { priority: 'demand' });
  cache.list({});
  const log = join(directory, 'catalog.db-wal');
  const { mtimeMs, size } = statSync(log);
  for (let read = 0; read < 50; read++) await handle.read(0, 100);
  handle.close();
  openVersion(cache, source).close();
  t.match(statSync(log), { mtimeMs, size });
  t.match(cache.list({}), [{ uses: 2, state: 'complete', open: false }]);
});

t.test('cache records a blob as complete only after its bytes are on the device', async (t) => {
  const synced: (() => void)[] = [];
  const { disk } = faultyDisk({ datasync: () => new Promise<void>((resolve) => synced.push(resolve)) });
  const clock = new ManualClock();
  const { cache, directory } = await openFixture(t, { disk, clock });
  const handle = openVersion(cache, sourceOf(7, BLOCK));
  await handle.fill(0, BLOCK, { priority: 'demand' });
  t.equal(cache.stat().completeBlobs, 1, 'complete for this process at once');
  const recorded = (): unknown => {
    cache.list({});
    const catalog = new Database(join(directory, 'catalog.db'), { readonly: true });
    const states = catalog.prepare('SELECT state FROM blob').pluck().all();
    catalog.close();
    return states;
  };
  t.same(recorded(), ['filling']);
  while (synced.length === 0) {
    clock.advance(500);
    await new Promise((resolve) => setImmediate(resolve));
  }
  t.same(recorded(), ['filling']);
  synced[0]!();
  await new Promise((resolve) => setImmediate(resolve));
  t.same(recorded(), ['complete']);
  handle.close();
});

t.test('cache large blob of an earlier run is verified in the background while it is served', async (t) => {
  const { cache, tier, directory } = await openFixture(t);
  const source = sourceOf(8, 60 * BLOCK);
  const handle = openVersion(cache, source);
  await handle.fill(0, source.sizeBytes, { priority: 'demand' });
  handle.close();
  await cache.close();
  const again = await openFixture(t, { directory, tier, wholeOnOpenBytes: BLOCK });
  const reader = openVersion(again.cache, source);
  t.equal(reader.backingFd(), undefined);
  t.same(Buffer.from(await reader.read(31 * BLOCK, 10)), trueBytes(source, 31 * BLOCK, 10));
  for (let round = 0; reader.backingFd() === undefined; round++) {
    if (round === 100_000) throw new Error('never verified');
    await new Promise((resolve) => setImmediate(resolve));
  }
  t.equal(tier.fills.filter((fill) => fill.source === source).length > 0, true);
  t.equal(again.cache.stat().fetchedBytes, 0);
  reader.close();
});

t.test('cache second open of the same directory serves without any tier call', async (t) => {
  const { cache, tier, directory } = await openFixture(t);
  const small = sourceOf(4, 3 * BLOCK - 7);
  const large = sourceOf(5, 40 * BLOCK);
  for (const source of [small, large]) {
    const handle = openVersion(cache, source);
    await handle.fill(0, source.sizeBytes, { priority: 'demand' });
    handle.close();
  }
  await cache.close();
  tier.fills.length = 0;
  const again = await openFixture(t, { directory, tier, wholeOnOpenBytes: 4 * BLOCK });
  t.equal(again.cache.stat().completeBlobs, 2);
  const handle = openVersion(again.cache, small);
  t.equal(handle.backingFd(), undefined, 'not before it was verified');
  await handle.fill(0, small.sizeBytes, { priority: 'demand' });
  t.type(handle.backingFd(), 'number');
  handle.close();
  const other = openVersion(again.cache, large);
  t.same(Buffer.from(await other.read(BLOCK, BLOCK)), trueBytes(large, BLOCK, BLOCK));
  await again.cache.verify({});
  t.type(other.backingFd(), 'number');
  other.close();
  t.equal(tier.fills.length + tier.reads.length, 0);
  t.equal(again.cache.stat().fetchedBytes, 0);
});
