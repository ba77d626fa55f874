import t from 'tap';
import { MIB } from '../../lib/base/limits.ts';
import { TierError } from '../../lib/tiers/tier.ts';
import { CALM_MS, PROBE_PAUSE_MS } from '../../cache/health.ts';
import { BLOCK, openFixture, openVersion } from './fixture.ts';
import { FakeTier, sourceOf, trueBytes } from './fake-tier.ts';
import { faultyDisk } from './faulty-disk.ts';
import { ManualClock } from './manual-clock.ts';

/** Lets what the disk does in the background come back. */
async function until(condition: () => boolean, step: () => void = () => undefined): Promise<void> {
  for (let round = 0; round < 10_000; round++) {
    if (condition()) return;
    step();
    await new Promise((resolve) => setImmediate(resolve));
  }
  throw new Error('the condition did not come true');
}

t.test('disk that fails reads: reads go on, the cache goes down, is probed, and comes back', async (t) => {
  const { disk, faults } = faultyDisk();
  const clock = new ManualClock();
  const { cache, tier } = await openFixture(t, { disk, clock });
  const source = sourceOf(1, 8 * BLOCK);
  const handle = openVersion(cache, source);
  await handle.fill(0, source.sizeBytes, { priority: 'demand' });
  faults.read = 'EIO';
  faults.probe = 'EIO';
  for (let block = 0; block < 8; block++) {
    t.ok(trueBytes(source, block * BLOCK, BLOCK).equals(await handle.read(block * BLOCK, BLOCK)));
  }
  t.equal(cache.stat().health, 'down');
  t.ok(cache.stat().bypassedReads >= 8);
  t.equal(handle.backingFd(), undefined, 'nothing is handed to the kernel');
  const fills = tier.fills.length;
  await handle.fill(0, source.sizeBytes, { priority: 'demand' });
  t.equal(tier.fills.length, fills, 'nothing is written');
  clock.advance(10 * PROBE_PAUSE_MS);
  t.equal(cache.stat().health, 'down');
  delete faults.read;
  delete faults.probe;
  await until(
    () => cache.stat().health === 'unstable',
    () => clock.advance(PROBE_PAUSE_MS),
  );
  clock.advance(CALM_MS);
  t.equal(cache.stat().health, 'normal');
  await handle.fill(0, source.sizeBytes, { priority: 'demand' });
  t.type(handle.backingFd(), 'number');
  handle.close();
});

t.test('disk that refuses to open or to take bytes costs no read', async (t) => {
  for (const code of ['EIO', 'ENOSPC', 'EROFS', 'EMFILE']) {
    const { disk, faults } = faultyDisk();
    const { cache } = await openFixture(t, { disk });
    faults.open = code;
    for (let number = 0; number < 6; number++) {
      const source = sourceOf(number, 2 * BLOCK);
      const handle = openVersion(cache, source);
      await handle.fill(0, source.sizeBytes, { priority: 'demand' });
      t.equal(handle.backingFd(), undefined);
      t.ok(trueBytes(source, 5, BLOCK).equals(await handle.read(5, BLOCK)));
      handle.close();
    }
    t.equal(cache.stat().health, code === 'EMFILE' ? 'normal' : 'down');
    t.equal(cache.stat().usedBytes + cache.stat().reservedBytes, 0);
  }
});

t.test(
  'sink that refuses in the middle of a fill costs no read, and what is cached stays in use',
  async (t) => {
    const { cache, tier } = await openFixture(t);
    const here = sourceOf(1, BLOCK);
    const cached = openVersion(cache, here);
    await cached.read(0, 1);
    const cause = Object.assign(new Error('full'), { code: 'ENOSPC' });
    tier.failFill = () => new TierError('sink', 'the sink refused', { cause });
    for (let number = 2; number < 7; number++) {
      const source = sourceOf(number, 2 * BLOCK);
      const handle = openVersion(cache, source);
      t.ok(trueBytes(source, 0, BLOCK).equals(await handle.read(0, BLOCK)));
      handle.close();
    }
    t.equal(cache.stat().health, 'down');
    const reads = tier.reads.length;
    await cached.read(0, BLOCK);
    t.equal(tier.reads.length, reads, 'a full disk is still read');
    t.type(cached.backingFd(), 'number');
    cached.close();
  },
);

t.test('disk that refuses to sync loses the blob, not a read', async (t) => {
  const { disk, faults } = faultyDisk();
  const { cache, tier } = await openFixture(t, { disk });
  faults.datasync = 'EIO';
  const source = sourceOf(1, BLOCK);
  const handle = openVersion(cache, source);
  await handle.fill(0, BLOCK, { priority: 'demand' });
  await cache.close();
  handle.close();
  delete faults.datasync;
  t.equal(tier.fills.length, 1);
});

t.test('errors of the tier reach the reader as they are, and the next read tries again', async (t) => {
  const { cache, tier } = await openFixture(t);
  const source = sourceOf(1, BLOCK);
  const handle = openVersion(cache, source);
  for (const code of ['stale', 'unavailable', 'denied', 'timeout', 'corrupt'] as const) {
    tier.failFill = () => new TierError(code, 'no');
    await t.rejects(handle.read(0, 10), { code });
    await t.rejects(handle.fill(0, BLOCK, { priority: 'demand' }), { code });
  }
  t.equal(cache.stat().health, 'normal');
  t.equal(cache.stat().reservedBytes, 0);
  tier.failFill = undefined;
  t.same(Buffer.from(await handle.read(0, 10)), trueBytes(source, 0, 10));
  handle.close();
});

t.test('reader that is interrupted leaves, and a fetch that nobody wants is given up', async (t) => {
  const { cache, tier } = await openFixture(t);
  tier.hold = true;
  const source = sourceOf(1, 4 * BLOCK);
  const handle = openVersion(cache, source);
  const [one, other] = [new AbortController(), new AbortController()];
  const reads = [handle.read(0, 10, { signal: one.signal }), handle.read(5, 10, { signal: other.signal })];
  await tier.untilHeld(1);
  one.abort(new Error('interrupted'));
  await t.rejects(reads[0]!, { message: 'interrupted' });
  t.notOk(tier.held[0]!.options.signal!.aborted, 'somebody still waits');
  other.abort(new Error('interrupted'));
  await t.rejects(reads[1]!, { message: 'interrupted' });
  t.ok(tier.held[0]!.options.signal!.aborted);
  const filling = new AbortController();
  const fill = handle.fill(BLOCK, BLOCK, { priority: 'readahead', signal: filling.signal });
  await tier.untilHeld(2);
  const joined = handle.read(BLOCK, 10);
  await new Promise((resolve) => setImmediate(resolve));
  filling.abort(new Error('enough'));
  await t.rejects(fill, { message: 'enough' });
  t.notOk(tier.held[1]!.options.signal!.aborted, 'a reader has joined');
  tier.held[1]!.finish();
  t.same(Buffer.from(await joined), trueBytes(source, BLOCK, 10));
  handle.close();
  t.equal(cache.stat().reservedBytes, 0);
});

t.test('fill that somebody else gave up is fetched again for who still wants it', async (t) => {
  const { cache, tier } = await openFixture(t);
  tier.hold = true;
  const source = sourceOf(1, BLOCK);
  const handle = openVersion(cache, source);
  const given = new AbortController();
  const first = handle.fill(0, BLOCK, { priority: 'readahead', signal: given.signal });
  await tier.untilHeld(1);
  given.abort(new Error('enough'));
  const fill = handle.fill(0, BLOCK, { priority: 'demand' });
  const read = handle.read(0, 10);
  await t.rejects(first, { message: 'enough' });
  await tier.untilHeld(2);
  tier.held[1]!.finish();
  await fill;
  t.same(Buffer.from(await read), trueBytes(source, 0, 10));
  t.equal(tier.fills.length, 2);
  handle.close();
});

t.test('reads and handles outlive the descriptor that they use, not longer', async (t) => {
  const { cache } = await openFixture(t);
  const source = sourceOf(1, BLOCK);
  const handle = openVersion(cache, source);
  await handle.fill(0, BLOCK, { priority: 'demand' });
  const read = handle.read(0, BLOCK);
  handle.close();
  t.same(Buffer.from(await read), trueBytes(source, 0, BLOCK));
  const other = openVersion(cache, source);
  const late = other.read(0, BLOCK);
  const closed = cache.close();
  t.same(Buffer.from(await late), trueBytes(source, 0, BLOCK));
  await closed;
  await t.rejects(other.read(0, BLOCK), { code: 'closed' });
  other.close();
});

t.test("descriptors that run out cost no read and are not the disk's fault", async (t) => {
  const { disk, faults } = faultyDisk();
  const { cache, tier, directory } = await openFixture(t);
  const source = sourceOf(1, 2 * BLOCK);
  const handle = openVersion(cache, source);
  await handle.fill(0, source.sizeBytes, { priority: 'demand' });
  handle.close();
  await cache.close();
  const again = await openFixture(t, { directory, tier, disk });
  faults.open = 'EMFILE';
  const reader = openVersion(again.cache, source);
  await reader.fill(0, source.sizeBytes, { priority: 'demand' });
  t.same(Buffer.from(await reader.read(5, 100)), trueBytes(source, 5, 100));
  t.equal(again.cache.stat().health, 'normal');
  delete faults.open;
  await reader.fill(0, source.sizeBytes, { priority: 'demand' });
  t.type(reader.backingFd(), 'number');
  t.equal(tier.fills.length, 1, 'nothing was lost');
  reader.close();
});

t.test('reader never waits longer than the bound for a fetch that does not move', async (t) => {
  const clock = new ManualClock();
  const { cache, tier } = await openFixture(t, { clock });
  tier.hold = true;
  const handle = openVersion(cache, sourceOf(1, BLOCK));
  const read = handle.read(0, 10);
  await tier.untilHeld(1);
  clock.advance(60_000);
  tier.held[0]!.give(5);
  clock.advance(60_000);
  tier.held[0]!.give(9);
  clock.advance(60_000);
  t.equal(tier.held[0]!.options.signal!.aborted, false, 'slow is not stuck');
  clock.advance(130_000);
  await t.rejects(read, { code: 'timeout' });
  handle.close();
});

t.test('small reads all over a huge file fetch only themselves until a pattern shows', async (t) => {
  const { cache, tier } = await openFixture(t, { capacityBytes: 1024 * MIB, blockBytes: MIB });
  const source = sourceOf(1, 512 * MIB);
  const handle = openVersion(cache, source);
  for (const at of [300, 17, 480, 99])
    t.ok(trueBytes(source, at * MIB + 9, 4096).equals(await handle.read(at * MIB + 9, 4096)));
  t.equal(tier.fills.length, 0);
  t.equal(tier.reads.length, 4);
  await handle.read(300 * MIB + 500_000, 4096);
  t.equal(tier.fills.length, 1, 'a second touch of a block fills it');
  await handle.read(200 * MIB, 4096);
  await handle.read(200 * MIB + 4096, 4096);
  t.equal(tier.fills.length, 2, 'so does a sequence');
  await openVersion(cache, source).read(0, 4096);
  t.equal(tier.fills.length, 3, 'and a beginning');
});

t.test(
  'closed cache and closed handle refuse in words, and closing does not wait for the store',
  async (t) => {
    const tier = new FakeTier();
    const { cache } = await openFixture(t, { tier });
    tier.hold = true;
    const handle = openVersion(cache, sourceOf(1, BLOCK));
    const read = handle.read(0, 1);
    await tier.untilHeld(1);
    const closed = cache.close();
    await t.rejects(read, { code: 'closed' });
    await closed;
    t.throws(() => openVersion(cache, sourceOf(2, 1)), { code: 'closed' });
    handle.close();
    await t.rejects(handle.read(0, 1), { code: 'closed' });
  },
);

t.test('empty version is complete without a fetch', async (t) => {
  const { cache, tier } = await openFixture(t);
  const handle = openVersion(cache, sourceOf(1, 0));
  await handle.fill(0, 0, { priority: 'demand' });
  t.equal((await handle.read(0, 100)).length, 0);
  t.type(handle.backingFd(), 'number');
  handle.close();
  t.equal(tier.fills.length, 0);
  t.equal(cache.stat().blobs, 0);
});
