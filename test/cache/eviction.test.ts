import { statSync } from 'node:fs';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { InodeNumber } from '../../lib/base/brand.ts';
import { seededPrng } from '../../lib/base/prng.ts';
import { BLOCK, openFixture, openVersion } from './fixture.ts';
import { sourceOf, trueBytes } from './fake-tier.ts';

function takenBytes(directory: string): number {
  const entries = readdirSync(join(directory, 'blobs'), { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile())
    .reduce((sum, entry) => sum + statSync(join(entry.parentPath, entry.name)).blocks * 512, 0);
}

t.test(
  'eviction keeps what blobs take below the capacity, whatever is read, and every read is right',
  async (t) => {
    const capacityBytes = 40 * BLOCK;
    const { cache, directory } = await openFixture(t, { capacityBytes });
    const prng = seededPrng(11);
    for (let step = 0; step < 400; step++) {
      const number = prng.below(step < 200 ? 12 : 40);
      const source = sourceOf(number, 1 + ((number * 7919 * 131) % (9 * BLOCK)));
      const handle = openVersion(cache, source);
      if (prng.below(2) === 0) await handle.fill(0, source.sizeBytes, { priority: 'demand' });
      const offset = prng.below(source.sizeBytes);
      t.ok(trueBytes(source, offset, 9999).equals(await handle.read(offset, 9999)));
      handle.close();
      const { usedBytes, reservedBytes } = cache.stat();
      t.ok(usedBytes + reservedBytes <= capacityBytes);
      if (step % 20 === 0) t.ok(takenBytes(directory) <= capacityBytes);
    }
  },
);

t.test('eviction never touches what is open or pinned', async (t) => {
  const { cache, tier } = await openFixture(t, { capacityBytes: 8 * BLOCK });
  const open = sourceOf(1, 3 * BLOCK);
  const pinned = sourceOf(2, 3 * BLOCK);
  const holder = openVersion(cache, open);
  await holder.fill(0, open.sizeBytes, { priority: 'demand' });
  const once = openVersion(cache, pinned);
  await once.fill(0, pinned.sizeBytes, { priority: 'demand' });
  once.close();
  cache.pin(pinned.version, true);
  t.equal(cache.stat().pinnedBytes, pinned.sizeBytes);
  t.same(cache.evict({}), { freedBytes: 0, keptBlobs: 2 });
  t.same(cache.evict({ version: pinned.version }), { freedBytes: 0, keptBlobs: 1 });
  for (let number = 10; number < 60; number++) {
    const handle = openVersion(cache, sourceOf(number, 2 * BLOCK));
    await handle.read(0, 2 * BLOCK);
    handle.close();
  }
  tier.fills.length = tier.reads.length = 0;
  for (const source of [open, pinned]) {
    const handle = openVersion(cache, source);
    await handle.read(0, source.sizeBytes);
    t.type(handle.backingFd(), 'number');
    handle.close();
  }
  t.equal(tier.fills.length + tier.reads.length, 0);
  holder.close();
  cache.pin(pinned.version, false);
  t.ok(cache.evict({}).freedBytes >= 6 * BLOCK);
  t.equal(cache.stat().usedBytes, 0);
});

t.test('eviction by path removes what is named and says how much', async (t) => {
  const { cache } = await openFixture(t);
  for (const number of [1, 2]) {
    const handle = openVersion(cache, sourceOf(number, BLOCK));
    await handle.read(0, 1);
    handle.close();
  }
  t.same(cache.evict({ path: '/data/object-1' }), { freedBytes: BLOCK, keptBlobs: 0 });
  t.match(
    cache.list({}).map((blob) => blob.path),
    ['/data/object-2'],
  );
  t.equal(cache.stat().evictedBytes, BLOCK);
});

t.test(
  'eviction and listing of a path mean the file and what is below it, not names that begin so',
  async (t) => {
    const { cache } = await openFixture(t);
    const paths = ['a', 'a!', 'a-b', 'a.b', 'a/x', 'a/é/y', 'a0', 'ab', 'ab/x', 'b/a/x', 'A/x', 'aé'];
    for (const [number, path] of paths.entries()) {
      const handle = cache.open({ source: sourceOf(number, 1000), inode: 42n as InodeNumber, path });
      await handle.read(0, 1);
      handle.close();
    }
    const listed = (path?: string): string[] =>
      cache.list(path === undefined ? {} : { path }).map((blob) => blob.path);
    t.same(listed('a'), ['a', 'a/x', 'a/é/y']);
    t.same(listed('a/é'), ['a/é/y']);
    t.same(listed('a/'), []);
    t.same(listed('%'), []);
    t.equal(listed().length, paths.length);
    t.equal(listed('').length, paths.length);
    t.match(await cache.verify({ path: 'ab' }), { blobs: 2 });
    cache.evict({ path: 'a' });
    t.same(listed(), ['A/x', 'a!', 'a-b', 'a.b', 'a0', 'ab', 'ab/x', 'aé', 'b/a/x']);
  },
);

t.test('pin refuses what is not cached and what leaves no room', async (t) => {
  const { cache } = await openFixture(t, { capacityBytes: 4 * BLOCK });
  t.throws(() => cache.pin('f'.repeat(32), true), { code: 'not-cached' });
  const source = sourceOf(1, 5 * BLOCK);
  const handle = openVersion(cache, source);
  await handle.read(0, 1);
  t.throws(() => cache.pin(source.version, true), { code: 'no-space', hint: /./ });
  handle.close();
});

t.test('pin survives a restart', async (t) => {
  const { cache, tier, directory } = await openFixture(t);
  const source = sourceOf(1, BLOCK);
  const handle = openVersion(cache, source);
  await handle.read(0, 1);
  handle.close();
  cache.pin(source.version, true);
  await cache.close();
  const again = await openFixture(t, { directory, tier });
  t.match(again.cache.list({}), [{ pinned: true, version: source.version, state: 'complete' }]);
  t.same(again.cache.evict({}), { freedBytes: 0, keptBlobs: 1 });
});

t.test('a file larger than the cache is read through it without thrashing', async (t) => {
  const { cache, tier } = await openFixture(t, { capacityBytes: 8 * BLOCK });
  const source = sourceOf(1, 40 * BLOCK);
  const handle = openVersion(cache, source);
  for (let pass = 0; pass < 2; pass++) {
    tier.fills.length = tier.reads.length = 0;
    for (let offset = 0; offset < source.sizeBytes; offset += BLOCK / 2) {
      t.ok(trueBytes(source, offset, BLOCK / 2).equals(await handle.read(offset, BLOCK / 2)));
    }
    t.equal(tier.fills.length, pass === 0 ? 8 : 0, 'what is there stays');
    t.ok(tier.reads.length <= 2, 'the rest comes in windows');
  }
  await handle.fill(0, source.sizeBytes, { priority: 'readahead' });
  t.equal(tier.fills.length, 0, 'a fill without room declines');
  handle.close();
});

t.test('a cache that was made smaller is evicted down at start', async (t) => {
  const { cache, tier, directory } = await openFixture(t, { capacityBytes: 32 * BLOCK });
  for (let number = 0; number < 30; number++) {
    const handle = openVersion(cache, sourceOf(number, BLOCK));
    await handle.read(0, 1);
    handle.close();
  }
  await cache.close();
  const again = await openFixture(t, { directory, tier, capacityBytes: 10 * BLOCK });
  t.ok(again.cache.stat().usedBytes <= 10 * BLOCK);
  t.ok(takenBytes(directory) <= 10 * BLOCK);
  t.ok(again.cache.stat().blobs >= 9);
});
