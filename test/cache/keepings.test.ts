import t from 'tap';
import { KEEP_AS_USUAL, type Keeping } from '../../cache/keeping.ts';
import type { InodeNumber } from '../../lib/base/brand.ts';
import { nextTurn } from '../../lib/base/clock.ts';
import { BLOCK, openFixture, openVersion, temporaryDirectory } from './fixture.ts';
import { sourceOf } from './fake-tier.ts';
import { ManualClock } from './manual-clock.ts';

type Cache = Awaited<ReturnType<typeof openFixture>>['cache'];

function keeping(changes: Partial<Keeping>): Keeping {
  return { ...KEEP_AS_USUAL, ...changes };
}

/** Reads one block whole. */
async function read(cache: Cache, number: number): Promise<void> {
  const handle = openVersion(cache, sourceOf(number, BLOCK));
  await handle.read(0, BLOCK);
  handle.close();
}

async function readAll(cache: Cache, numbers: readonly number[]): Promise<void> {
  for (const number of numbers) await read(cache, number);
}

function range(from: number, count: number): number[] {
  return Array.from({ length: count }, (_, at) => from + at);
}

function numbersIn(cache: Cache): number[] {
  const numbers = cache.list({}).map(({ path }) => Number(path.replace('/data/object-', '')));
  return numbers.sort((a, b) => a - b);
}

/** Ways to keep by the number of the object; the test may exchange them. */
function byNumber(ways: Map<(number: number) => boolean, Keeping>) {
  return ({ path }: { readonly path: string }): Keeping => {
    const number = Number(path.replace('/data/object-', ''));
    for (const [isMeant, way] of ways) if (isMeant(number)) return way;
    return KEEP_AS_USUAL;
  };
}

t.test('a file that is never let in is read around the tier, right and again', async (t) => {
  const never = keeping({ admit: 'never' });
  const { cache, tier } = await openFixture(t, { keepingOf: () => never });
  await readAll(cache, [1, 1]);
  const handle = openVersion(cache, sourceOf(1, BLOCK));
  await handle.fill(0, BLOCK, { priority: 'demand' });
  t.equal(handle.cachedBytes, 0);
  t.equal(handle.backingFd(), undefined);
  handle.close();
  t.equal(tier.fills.length, 0);
  t.equal(cache.stat().usedBytes, 0);
});

t.test('a file that is let in at its second miss takes no room before', async (t) => {
  const second = keeping({ admit: 'second-miss' });
  const { cache } = await openFixture(t, { keepingOf: () => second });
  await readAll(cache, [1, 2]);
  t.equal(cache.stat().usedBytes, 0);
  const source = sourceOf(1, BLOCK);
  const looks = cache.open({ source, inode: 42n as InodeNumber, path: '/data/object-1', isUse: false });
  await looks.fill(0, BLOCK, { priority: 'background' });
  t.equal(looks.cachedBytes, 0, 'what works ahead of a program is no use');
  looks.close();
  await read(cache, 1);
  t.same(numbersIn(cache), [1]);
});

t.test('what policies pin stays, whatever is read, up to what pins may take together', async (t) => {
  const pinned = keeping({ pinned: true });
  const ways = new Map([[(number: number) => number < 20, pinned]]);
  const { cache } = await openFixture(t, { capacityBytes: 20 * BLOCK, keepingOf: byNumber(ways) });
  await readAll(cache, range(0, 20));
  t.equal(cache.stat().pinnedBytes, 18 * BLOCK, 'nine tenths of the room');
  for (let round = 0; round < 5; round++) await readAll(cache, range(100, 5));
  const kept = numbersIn(cache).filter((number) => number < 20);
  t.ok(kept.length >= 18, `${kept.length} stay`);
  t.equal(cache.evict({}).keptBlobs, 18, 'not even by hand');
  t.equal(
    cache.list({}).every(({ pinned: isPinned }) => isPinned),
    true,
    'shown as pinned',
  );
  ways.clear();
  cache.reconsider();
  t.equal(cache.stat().pinnedBytes, 0);
  t.equal(cache.evict({}).keptBlobs, 0);
});

t.test('a newcomer takes the room of lower ranks, never that of higher ones', async (t) => {
  const [low, high] = [keeping({ rank: -1 }), keeping({ rank: 1 })];
  const ways = new Map([
    [(number: number) => number < 100, high],
    [(number: number) => number >= 200, low],
  ]);
  const { cache } = await openFixture(t, { capacityBytes: 10 * BLOCK, keepingOf: byNumber(ways) });
  await readAll(cache, [...range(200, 5), ...range(100, 5)]);
  await readAll(cache, range(0, 3));
  t.same(
    numbersIn(cache),
    [0, 1, 2, ...range(100, 5), 203, 204],
    'the lowest rank first, its longest idle first',
  );
  await readAll(cache, range(3, 7));
  t.same(numbersIn(cache), range(0, 10), 'then the middle one');
  for (let round = 0; round < 10; round++) await readAll(cache, [...range(200, 2), ...range(100, 2)]);
  t.same(numbersIn(cache), range(0, 10), 'however often the lower ones are used');
});

t.test('what was not used for its ttl gives way first, and not before', async (t) => {
  const clock = new ManualClock();
  const brief = keeping({ ttlMs: 500, rank: 5 });
  const ways = new Map([[(number: number) => number < 100, brief]]);
  const { cache } = await openFixture(t, { capacityBytes: 4 * BLOCK, keepingOf: byNumber(ways), clock });
  await readAll(cache, range(0, 4));
  // The scrub, which holds a blob, comes after a second.
  clock.advance(400);
  await read(cache, 2);
  await read(cache, 100);
  t.same(numbersIn(cache), [0, 1, 2, 3], 'nothing has expired');
  clock.advance(200);
  await readAll(cache, range(101, 4));
  t.same(
    numbersIn(cache).filter((number) => number < 100),
    [2],
    'only what was used since then stays',
  );
});

t.test('room is made for nobody in particular out of the lowest rank', async (t) => {
  const high = keeping({ rank: 1 });
  const pinned = keeping({ pinned: true });
  const ways = new Map([
    [(number: number) => number < 100, high],
    [(number: number) => number >= 200, pinned],
  ]);
  const { cache } = await openFixture(t, { capacityBytes: 10 * BLOCK, keepingOf: byNumber(ways) });
  await readAll(cache, [...range(0, 5), ...range(100, 5)]);
  await readAll(cache, range(200, 5));
  t.same(numbersIn(cache), [...range(0, 5), ...range(200, 5)]);
});

t.test('how blobs of an earlier run are kept is asked anew, some in each turn', async (t) => {
  const directory = temporaryDirectory(t);
  const first = await openFixture(t, { directory, capacityBytes: 2_000 * BLOCK });
  await readAll(first.cache, range(0, 1_200));
  await first.cache.close();
  const pinned = keeping({ pinned: true });
  const again = await openFixture(t, { directory, capacityBytes: 2_000 * BLOCK, keepingOf: () => pinned });
  t.equal(again.cache.stat().pinnedBytes, 0);
  again.cache.reconsider();
  const afterOneTurn = again.cache.stat().pinnedBytes;
  t.ok(afterOneTurn < 1_200 * BLOCK, 'not all at once');
  for (let turn = 0; turn < 10; turn++) await new Promise<void>((resolve) => nextTurn(resolve));
  t.equal(again.cache.stat().pinnedBytes, 1_200 * BLOCK);
});

t.test(
  'what will be read soon has a place in a full cache, but not of higher ranks or of what waits like it',
  async (t) => {
    const high = keeping({ rank: 1 });
    const ways = new Map([[(number: number) => number < 100, high]]);
    const { cache } = await openFixture(t, { capacityBytes: 4 * BLOCK, keepingOf: byNumber(ways) });
    await readAll(cache, [0, 1, 100, 101]);
    await read(cache, 102);
    t.same(numbersIn(cache), [0, 1, 100, 101], 'a newcomer without a record has none');
    const expect = async (number: number) => {
      const handle = cache.open({
        ...{ source: sourceOf(number, BLOCK), inode: 42n as InodeNumber, path: `/data/object-${number}` },
        ...{ isUse: false, isExpected: true },
      });
      await handle.fill(0, BLOCK, { priority: 'background' });
      return handle;
    };
    const handles = [await expect(103), await expect(104)];
    const refused = await expect(105);
    t.equal(refused.cachedBytes, 0, 'what is left is of a higher rank, or waits itself');
    t.same(
      handles.map(({ cachedBytes }) => cachedBytes),
      [BLOCK, BLOCK],
    );
    t.same(
      numbersIn(cache).filter((number) => number < 105),
      [0, 1, 103, 104],
    );
    for (const handle of [...handles, refused]) handle.close();
  },
);

t.test('what is let in at its second miss is let in when it will be read soon', async (t) => {
  const { cache } = await openFixture(t, { keepingOf: () => keeping({ admit: 'second-miss' }) });
  const handle = cache.open({
    ...{ source: sourceOf(1, BLOCK), inode: 42n as InodeNumber, path: '/data/object-1' },
    ...{ isUse: false, isExpected: true },
  });
  await handle.fill(0, BLOCK, { priority: 'background' });
  t.equal(handle.cachedBytes, BLOCK);
  handle.close();
});
