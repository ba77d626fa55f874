/** The index by itself: numbers, kinds, the sweep of what is gone. */
import path from 'node:path';
import t from 'tap';
import type { VersionId } from '../../lib/base/brand.ts';
import { type Clock, systemClock } from '../../lib/base/clock.ts';
import type { Found } from '../../lib/origin/index/index-rows.ts';
import { NamespaceIndex } from '../../lib/origin/index/namespace-index.ts';
import { temporaryDirectory } from './origin-fixture.ts';

const directory: Found = { kind: 'directory', attributes: { modifiedNs: 0n, changedNs: 0n }, marked: false };

function file(tag: string, modifiedNs = 0n): Found {
  return {
    kind: 'file',
    version: {
      id: tag.padEnd(32, '0') as VersionId,
      objectKey: tag,
      objectVersion: undefined,
      entityTag: tag,
      sizeBytes: 10,
      storedS: undefined,
    },
    attributes: { modifiedNs, changedNs: modifiedNs },
    target: undefined,
  };
}

/** A clock whose `after` waits until the test lets it go. */
function steppedClock(): Clock & { step(): boolean } {
  const waiting: (() => void)[] = [];
  return {
    ...systemClock,
    after(_, run) {
      waiting.push(run);
      return () => void waiting.splice(waiting.indexOf(run), 1);
    },
    step() {
      const run = waiting.shift();
      run?.();
      return run !== undefined;
    },
  };
}

t.test('index sweeps what lay below a directory that is gone, also after a restart', async (t) => {
  const dataFile = path.join(await temporaryDirectory(t), 'index.sqlite');
  const clock = steppedClock();
  let index = new NamespaceIndex({ file: dataFile, clock });
  const { exportId } = await index.openExport('data', { identity: 'x', nowMs: 0 });
  const place = async (parent: number, name: string, found: Found | undefined) => {
    const key = { exportId, directory: parent };
    await index.place(key, [{ name, found }], { evidence: 'object' });
    return (await index.child(key, name))?.inode ?? 0;
  };
  const top = await place(1, 'top', directory);
  const inner = await place(top, 'inner', directory);
  const leaf = await place(inner, 'leaf', file('a'));
  for (let at = 0; at < 2_500; at++) await place(inner, `f${at}`, file(`f${at}`));
  t.match(index.totals(exportId), { inodes: 2_504, bytes: 25_010 });
  while (clock.step());
  const replaced = await place(1, 'top', file('b'));
  t.not(replaced, top);
  t.equal(await index.inode(exportId, top), undefined);
  t.ok(await index.inode(exportId, leaf), 'nothing leads to it, but it is still there');
  t.ok(clock.step());
  index.close();

  index = new NamespaceIndex({ file: dataFile, clock });
  await index.openExport('data', { identity: 'x', nowMs: 0 });
  while (clock.step());
  t.equal(await index.inode(exportId, leaf), undefined);
  t.match(index.totals(exportId), { inodes: 2, bytes: 10 });
  t.match(await index.inode(exportId, replaced), { name: 'top', kind: 'file' });
  index.close();
});

t.test('index keeps the finer of two times of one version', async (t) => {
  const index = new NamespaceIndex({ file: ':memory:', clock: systemClock });
  t.teardown(() => index.close());
  const { exportId } = await index.openExport('data', { identity: 'x', nowMs: 0 });
  const key = { exportId, directory: 1 };
  const times = [];
  for (const [evidence, found] of [
    ['listing', file('a', 5_123_000_000n)],
    ['object', file('a', 5_000_000_000n)],
    ['object', file('b', 5_000_000_000n)],
    ['object', file('b', -1n)],
  ] as const) {
    await index.place(key, [{ name: 'a', found }], { evidence });
    times.push((await index.child(key, 'a'))?.modifiedNs);
  }
  t.same(times, [5_123_000_000n, 5_123_000_000n, 5_000_000_000n, -1n]);
});

t.test('index forgets what was found under a directory that went meanwhile', async (t) => {
  const index = new NamespaceIndex({ file: ':memory:', clock: systemClock });
  t.teardown(() => index.close());
  const { exportId } = await index.openExport('data', { identity: 'x', nowMs: 0 });
  const placed = await index.place({ exportId, directory: 77 }, [{ name: 'a', found: file('a') }], {
    evidence: 'object',
  });
  t.same(placed, { done: [], refused: [] });
  t.match(index.totals(exportId), { inodes: 1 });
});
