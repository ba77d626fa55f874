/** Many blobs are made durable by one sync of their file system; what that cannot do is done for each. */
import { join } from 'node:path';
import Database from 'better-sqlite3';
import t, { type Test } from 'tap';
import type { BlockCache } from '../../cache/block-cache.ts';
import { systemDisk, type WholeSync } from '../../cache/disk.ts';
import { SYNC_WHOLE_BLOBS_MIN } from '../../cache/limits.ts';
import { sourceOf } from './fake-tier.ts';
import { faultyDisk } from './faulty-disk.ts';
import { BLOCK, openFixture, openVersion, temporaryDirectory } from './fixture.ts';
import { ManualClock } from './manual-clock.ts';

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** A cache whose syncs the test decides on. */
async function watched(t: Test) {
  const wholes: { readonly done: () => void; readonly fail: (error: Error) => void }[] = [];
  const files: string[] = [];
  const whole = (): WholeSync => ({
    sync: () => new Promise<void>((done, fail) => wholes.push({ done, fail })),
    close: () => undefined,
  });
  const { disk } = faultyDisk({ whole, datasync: async (path) => void files.push(path) });
  const clock = new ManualClock();
  const { cache, directory } = await openFixture(t, { disk, clock });
  // What is still to be made durable at the end must not wait for a test that is over.
  t.teardown(() => wholes.forEach(({ done }) => done()));
  const complete = (): number => {
    cache.list({});
    const catalog = new Database(join(directory, 'catalog.db'), { readonly: true });
    const count = catalog.prepare("SELECT count(*) FROM blob WHERE state = 'complete'").pluck().get();
    catalog.close();
    return count as number;
  };
  const pass = async (): Promise<void> => {
    for (let ticks = 0; ticks < 40; ticks++) {
      clock.advance(500);
      await turn();
    }
  };
  return { cache, wholes, files, complete, pass };
}

async function fill(cache: BlockCache, numbers: Iterable<number>): Promise<void> {
  for (const number of numbers) {
    const handle = openVersion(cache, sourceOf(number, 1000));
    await handle.fill(0, BLOCK, { priority: 'demand' });
    handle.close();
  }
}

const range = (from: number, count: number): number[] =>
  Array.from({ length: count }, (_, index) => from + index);

t.test('cache makes many blobs durable by one sync, and none before it has ended', async (t) => {
  const { cache, wholes, files, complete, pass } = await watched(t);
  await fill(cache, range(100, SYNC_WHOLE_BLOBS_MIN));
  await pass();
  t.equal(wholes.length, 1);
  t.equal(complete(), 0);
  await fill(cache, range(200, SYNC_WHOLE_BLOBS_MIN));
  await pass();
  t.equal(wholes.length, 1, 'one at a time');
  wholes[0]!.done();
  await turn();
  t.equal(complete(), SYNC_WHOLE_BLOBS_MIN, 'those that were there when it began, no others');
  await pass();
  t.equal(wholes.length, 2);
  wholes[1]!.done();
  await turn();
  t.equal(complete(), 2 * SYNC_WHOLE_BLOBS_MIN);
  t.strictSame(files, []);
});

t.test('cache syncs few blobs each by itself', async (t) => {
  const { cache, wholes, files, complete, pass } = await watched(t);
  await fill(cache, range(300, SYNC_WHOLE_BLOBS_MIN - 1));
  await pass();
  t.equal(wholes.length, 0);
  t.equal(files.length, SYNC_WHOLE_BLOBS_MIN - 1);
  t.equal(complete(), SYNC_WHOLE_BLOBS_MIN - 1);
});

t.test('cache learns from each file what a failed sync of all does not tell', async (t) => {
  const { cache, wholes, files, complete, pass } = await watched(t);
  await fill(cache, range(400, SYNC_WHOLE_BLOBS_MIN));
  await pass();
  t.equal(files.length, 0);
  wholes[0]!.fail(Object.assign(new Error('syncfs'), { code: 'EIO' }));
  await pass();
  t.equal(new Set(files).size, SYNC_WHOLE_BLOBS_MIN);
  t.equal(complete(), SYNC_WHOLE_BLOBS_MIN);
});

t.test('disk syncs the file system of a directory', { skip: process.platform !== 'linux' }, async (t) => {
  const whole = systemDisk.whole(temporaryDirectory(t));
  t.ok(whole, 'this kernel tells of failures');
  await whole?.sync();
  whole?.close();
  await t.rejects(whole!.sync(), { code: 'EBADF' });
});
