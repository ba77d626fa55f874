/** Read-ahead and completion, as the cache sees them. */
import t from 'tap';
import { GIB, MIB } from '../../lib/base/limits.ts';
import { Errno } from '../../lib/fuse/errno.ts';
import { TierError } from '../../lib/tiers/tier.ts';
import { FakeMount, withErrno, type OpenFd } from './fake-mount.ts';

/** A file of which only the head exists: reads of the fake go no further. */
async function openHuge(mount: FakeMount, sizeBytes = GIB): Promise<OpenFd> {
  const { source } = mount.namespace.put('huge', 'x');
  mount.namespace.change('huge', { sizeBytes, ...(source && { source: { ...source, sizeBytes } }) });
  mount.cache.holdFetches();
  return mount.open('huge');
}

const readaheads = (mount: FakeMount) => mount.cache.fills.filter(({ priority }) => priority === 'readahead');
const backgrounds = (mount: FakeMount) =>
  mount.cache.fills.filter(({ priority }) => priority === 'background');

/** Starts reads whose answers are not waited for. */
function startReads(mount: FakeMount, file: OpenFd, offsets: Iterable<number>): Promise<unknown>[] {
  return Array.from(offsets, (offset) => mount.read(file, offset, MIB).catch((error: unknown) => error));
}

const megabytes = (from: number, to: number): number[] =>
  Array.from({ length: to - from }, (_, i) => (from + i) * MIB);

t.test('reader', async (t) => {
  t.test('asks for its own bytes first, then ahead, without waiting', async (t) => {
    const mount = new FakeMount({ wholeOnOpenBytes: 0, blockBytes: 4 * MIB });
    const file = await openHuge(mount);
    startReads(mount, file, [0]);
    t.same(mount.cache.fills, [], 'one read is no pattern');
    startReads(mount, file, [MIB]);
    t.equal(mount.cache.reads.length, 2);
    t.match(readaheads(mount), [{ offset: 2 * MIB, priority: 'readahead' }]);
    startReads(mount, file, megabytes(2, 30));
    t.ok(readaheads(mount).length > 3, 'several are under way at once');
    mount.vfs.close();
  });

  t.test('ends its read-ahead with the last handle', async (t) => {
    const mount = new FakeMount({ wholeOnOpenBytes: 0, blockBytes: 4 * MIB });
    const file = await openHuge(mount);
    const other = await mount.openNode(file.node);
    startReads(mount, file, megabytes(0, 4));
    t.ok(readaheads(mount).length > 0);
    mount.release(file);
    t.ok(
      readaheads(mount).every(({ signal }) => signal?.aborted === false),
      'another handle is open',
    );
    mount.release(other);
    t.ok(readaheads(mount).every(({ signal }) => signal?.aborted === true));
    mount.vfs.close();
  });

  t.test('reads ahead for four interleaved streams of one handle', async (t) => {
    const mount = new FakeMount({ wholeOnOpenBytes: 0, blockBytes: 4 * MIB });
    const file = await openHuge(mount);
    const starts = [0, 256, 512, 768].map((start) => start * MIB);
    for (let i = 0; i < 3; i++) {
      startReads(
        mount,
        file,
        starts.map((start) => start + i * MIB),
      );
    }
    for (const start of starts) {
      t.ok(
        readaheads(mount).some(({ offset }) => offset === start + 2 * MIB),
        `a window at ${start / MIB} MiB`,
      );
    }
    mount.vfs.close();
  });

  t.test('bounds what is under way in the whole mount', async (t) => {
    const mount = new FakeMount({ wholeOnOpenBytes: 0, blockBytes: 4 * MIB });
    mount.cache.holdFetches();
    for (let n = 0; n < 24; n++) {
      const { source } = mount.namespace.put(`huge${n}`, 'x');
      mount.namespace.change(`huge${n}`, {
        sizeBytes: GIB,
        ...(source && { source: { ...source, sizeBytes: GIB } }),
      });
      startReads(mount, await mount.open(`huge${n}`), megabytes(0, 40));
    }
    const bytes = readaheads(mount).reduce((sum, { length }) => sum + length, 0);
    t.ok(bytes > 512 * MIB && bytes <= 1024 * MIB, `${bytes / MIB} MiB`);
    const { values } = await mount.metrics.limitReached.get();
    t.match(values, [{ labels: { limit: 'readahead_bytes' } }], 'and counts what it left out');
    mount.vfs.close();
  });

  t.test('a read-ahead that fails troubles nobody', async (t) => {
    const mount = new FakeMount({ wholeOnOpenBytes: 0 });
    mount.namespace.put('file', 'x'.repeat(100_000));
    mount.cache.fillFailure = new TierError('unavailable', 'away');
    const file = await mount.open('file');
    for (let offset = 0; offset < 50_000; offset += 1000) {
      t.equal((await mount.read(file, offset, 1000)).length, 1000);
    }
    t.ok(readaheads(mount).length > 0);
  });

  t.test('a sequential reader’s file is completed in the background', async (t) => {
    const mount = new FakeMount({ wholeOnOpenBytes: 0, blockBytes: 4 * MIB });
    const file = await openHuge(mount);
    startReads(mount, file, megabytes(100, 115));
    t.same(backgrounds(mount), []);
    startReads(mount, file, megabytes(115, 118));
    const started = backgrounds(mount);
    t.ok(started.length > 0 && started.length <= 4, 'a few ranges at once');
    t.ok((started[0]?.offset ?? 0) >= 118 * MIB, 'beginning ahead of the reader');
    t.equal(mount.cache.openHandles, 2, 'with a hold of its own');
    mount.vfs.close();
    await new Promise(setImmediate);
    t.equal(mount.cache.openHandles, 0);
  });

  t.test('the rest is given up with the last handle, unless most of the file is there', async (t) => {
    for (const mostlyThere of [false, true]) {
      const mount = new FakeMount({ wholeOnOpenBytes: 0, blockBytes: 4 * MIB });
      const file = await openHuge(mount, 64 * MIB);
      startReads(mount, file, megabytes(0, 20));
      const { source } = (await mount.namespace.lookup(1n as never, 'huge')) ?? {};
      if (mostlyThere && source) mount.cache.complete(source.version);
      t.ok(backgrounds(mount).length > 0);
      mount.release(file);
      t.ok(backgrounds(mount).every(({ signal }) => signal?.aborted === !mostlyThere));
      mount.cache.releaseFetches();
      await new Promise(setImmediate);
      t.equal(mount.cache.openHandles, 0);
      mount.vfs.close();
    }
  });

  t.test('a bounded number of files is completed at once', async (t) => {
    const mount = new FakeMount({ wholeOnOpenBytes: 0, blockBytes: 4 * MIB });
    mount.cache.holdFetches();
    for (let n = 0; n < 8; n++) {
      const { source } = mount.namespace.put(`huge${n}`, 'x');
      mount.namespace.change(`huge${n}`, {
        sizeBytes: GIB,
        ...(source && { source: { ...source, sizeBytes: GIB } }),
      });
      startReads(mount, await mount.open(`huge${n}`), megabytes(0, 20));
    }
    t.equal(new Set(backgrounds(mount).map(({ version }) => version)).size, 4);
    mount.vfs.close();
    await new Promise(setImmediate);
    t.equal(mount.cache.openHandles, 0);
  });

  t.test('a complete file is read without advice', async (t) => {
    const mount = new FakeMount({ wholeOnOpenBytes: 0, passthrough: false });
    const { source } = mount.namespace.put('file', 'x'.repeat(100_000));
    const file = await mount.open('file');
    if (source) mount.cache.complete(source.version);
    for (let offset = 0; offset < 100_000; offset += 10_000) await mount.read(file, offset, 10_000);
    t.same(mount.cache.fills, []);
    t.equal(mount.vfs.stat().servedBytes, 100_000);
  });

  t.test('an interrupted read is EINTR, and the next one works', async (t) => {
    const mount = new FakeMount({ wholeOnOpenBytes: 0 });
    mount.namespace.put('file', 'bytes');
    const file = await mount.open('file');
    mount.cache.holdFetches();
    const interrupt = new AbortController();
    const reading = mount.read(file, 0, 5, interrupt.signal);
    interrupt.abort();
    await t.rejects(reading, withErrno(Errno.EINTR));
    mount.cache.releaseFetches();
    t.equal(await mount.read(file, 0, 5), 'bytes');
  });
});
