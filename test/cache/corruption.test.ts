import { closeSync, openSync, readdirSync, readSync, rmSync, truncateSync, writeSync } from 'node:fs';
import { Writable } from 'node:stream';
import { join } from 'node:path';
import { pino } from 'pino';
import t from 'tap';
import { SCRUB_INTERVAL_MS } from '../../cache/limits.ts';
import { ManualClock } from './manual-clock.ts';
import { BLOCK, openFixture, openVersion } from './fixture.ts';
import type { Logger } from '../../lib/telemetry/log.ts';
import { sourceOf, trueBytes } from './fake-tier.ts';

function blobFile(directory: string, version: string): string {
  const names = readdirSync(join(directory, 'blobs'), { recursive: true, encoding: 'utf8' });
  const name = names.find((each) => each.endsWith(version));
  if (name === undefined) throw new Error(`no file of ${version}`);
  return join(directory, 'blobs', name);
}

function flip(path: string, offset: number): void {
  const fd = openSync(path, 'r+');
  const byte = Buffer.alloc(1);
  readSync(fd, byte, 0, 1, offset);
  byte[0]! ^= 0x10;
  writeSync(fd, byte, 0, 1, offset);
  closeSync(fd);
}

const semantics9 =
  'A cached block that does not match its checksum is never served; it is fetched again. (What the kernel reads by itself was verified when it was handed over.)';

t.test(`corruption: ${semantics9}`, async (t) => {
  const sizes = { small: 3 * BLOCK + 99, large: 32 * BLOCK };
  for (const [name, sizeBytes] of Object.entries(sizes)) {
    await t.test(name, async (t) => {
      const { cache, tier, directory } = await openFixture(t);
      const source = sourceOf(sizeBytes, sizeBytes);
      const handle = openVersion(cache, source);
      await handle.fill(0, sizeBytes, { priority: 'demand' });
      handle.close();
      await cache.close();
      flip(blobFile(directory, source.version), BLOCK + 77);
      tier.fills.length = 0;

      const again = await openFixture(t, { directory, tier, wholeOnOpenBytes: 8 * BLOCK });
      const reader = openVersion(again.cache, source);
      t.equal(reader.backingFd(), undefined);
      for (let offset = 0; offset < sizeBytes; offset += 50_000) {
        t.ok(trueBytes(source, offset, 50_000).equals(await reader.read(offset, 50_000)));
      }
      t.equal(again.cache.stat().checksumFailures, 1);
      t.same(
        tier.fills.map((fill) => [fill.offset, fill.length]),
        [[BLOCK, BLOCK]],
      );
      t.type(reader.backingFd(), 'number', 'whole again');
      reader.close();
    });
  }
});

t.test('corruption in a small file is found by the fill of its open', async (t) => {
  const { cache, tier, directory } = await openFixture(t);
  const source = sourceOf(3, 1000);
  const handle = openVersion(cache, source);
  await handle.fill(0, 1000, { priority: 'demand' });
  handle.close();
  await cache.close();
  flip(blobFile(directory, source.version), 5);
  const again = await openFixture(t, { directory, tier });
  const reader = openVersion(again.cache, source);
  await reader.fill(0, 1000, { priority: 'demand' });
  const bytes = Buffer.alloc(1000);
  readSync(reader.backingFd()!, bytes, 0, 1000, 0);
  t.same(bytes, trueBytes(source, 0, 1000));
  t.equal(again.cache.stat().checksumFailures, 1);
  reader.close();
});

t.test(
  'corruption of a blob in passthrough leaves its file alone and gives the next open a fresh one',
  async (t) => {
    const { cache, directory } = await openFixture(t);
    const source = sourceOf(4, 4 * BLOCK);
    const kernel = openVersion(cache, source);
    await kernel.fill(0, source.sizeBytes, { priority: 'demand' });
    const fd = kernel.backingFd()!;
    flip(blobFile(directory, source.version), 2 * BLOCK);
    t.match(await cache.verify({}), { blobs: 1, badBlocks: 1 });
    const used = cache.stat().usedBytes;
    const next = openVersion(cache, source);
    await next.fill(0, source.sizeBytes, { priority: 'demand' });
    t.not(next.backingFd(), fd);
    const bytes = Buffer.alloc(source.sizeBytes);
    readSync(next.backingFd()!, bytes, 0, bytes.length, 0);
    t.same(bytes, trueBytes(source, 0, source.sizeBytes));
    t.equal(readSync(fd, bytes, 0, bytes.length, 0), bytes.length, 'the old file is whole for who has it');
    t.same(Buffer.from(await kernel.read(2 * BLOCK, BLOCK)), trueBytes(source, 2 * BLOCK, BLOCK));
    t.equal(cache.stat().usedBytes, used + source.sizeBytes, 'both take space');
    kernel.close();
    t.equal(cache.stat().usedBytes, used, 'until the old one is let go');
    next.close();
  },
);

t.test('corruption by truncation is not served as zeros', async (t) => {
  const { cache, tier, directory } = await openFixture(t);
  const source = sourceOf(5, 2 * BLOCK);
  const handle = openVersion(cache, source);
  await handle.fill(0, source.sizeBytes, { priority: 'demand' });
  truncateSync(blobFile(directory, source.version), 100);
  t.same(Buffer.from(await handle.read(0, source.sizeBytes)), trueBytes(source, 0, source.sizeBytes));
  await handle.fill(0, source.sizeBytes, { priority: 'demand' });
  handle.close();
  await cache.close();
  truncateSync(blobFile(directory, source.version), 100);
  truncateSync(blobFile(directory, source.version), source.sizeBytes);
  const again = await openFixture(t, { directory, tier });
  const reader = openVersion(again.cache, source);
  t.same(Buffer.from(await reader.read(0, source.sizeBytes)), trueBytes(source, 0, source.sizeBytes));
  reader.close();
});

t.test('corruption is found by the scrub before anybody asks', async (t) => {
  const clock = new ManualClock();
  const { cache, directory } = await openFixture(t, { clock });
  const source = sourceOf(6, 5 * BLOCK);
  const handle = openVersion(cache, source);
  await handle.fill(0, source.sizeBytes, { priority: 'demand' });
  handle.close();
  flip(blobFile(directory, source.version), 3 * BLOCK + 1);
  for (let round = 0; cache.stat().checksumFailures === 0; round++) {
    if (round === 10_000) throw new Error('the scrub did not find it');
    clock.advance(SCRUB_INTERVAL_MS);
    await new Promise((resolve) => setImmediate(resolve));
  }
  t.match(cache.list({}), [{ state: 'filling', cachedBytes: 4 * BLOCK }]);
});

t.test('corruption is found by verify, dropped and reported', async (t) => {
  const { cache, tier, directory } = await openFixture(t);
  for (const number of [1, 2]) {
    const handle = openVersion(cache, sourceOf(number, 4 * BLOCK));
    await handle.fill(0, 4 * BLOCK, { priority: 'demand' });
    handle.close();
  }
  for (const block of [0, 3]) flip(blobFile(directory, sourceOf(2, 0).version), block * BLOCK);
  t.same(await cache.verify({ path: '/data/object-1' }), {
    blobs: 1,
    bytes: 4 * BLOCK,
    badBlocks: 0,
    missingBlobs: 0,
  });
  t.same(await cache.verify({}), { blobs: 2, bytes: 8 * BLOCK, badBlocks: 2, missingBlobs: 0 });
  t.match(cache.list({ path: '/data/object-2' }), [{ state: 'filling', cachedBytes: 2 * BLOCK }]);
  tier.fills.length = 0;
  const handle = openVersion(cache, sourceOf(2, 4 * BLOCK));
  await handle.fill(0, 4 * BLOCK, { priority: 'background' });
  t.equal(tier.fills.length, 2);
  t.type(handle.backingFd(), 'number');
  handle.close();
  await t.rejects(cache.verify({}, { signal: AbortSignal.abort(new Error('enough')) }), {
    message: 'enough',
  });
});

function logged(): { readonly logger: Logger; readonly lines: string[] } {
  const lines: string[] = [];
  const sink = new Writable({
    write(chunk, _encoding, done) {
      lines.push(String(chunk));
      done();
    },
  });
  return { logger: pino({ level: 'warn' }, sink), lines };
}

t.test('files that somebody removed are dropped, told once, and are no fault of the disk', async (t) => {
  const { logger, lines } = logged();
  const { cache, tier, directory } = await openFixture(t, { logger });
  const sources = Array.from({ length: 6 }, (_, number) => sourceOf(number + 1, 3 * BLOCK));
  for (const source of sources) {
    const handle = openVersion(cache, source);
    await handle.fill(0, source.sizeBytes, { priority: 'demand' });
    handle.close();
  }
  cache.pin(sources[2]!.version, true);
  for (const { version } of sources.slice(0, 4)) rmSync(blobFile(directory, version));

  t.same(await cache.verify({ path: '/data/object-1' }), {
    blobs: 0,
    bytes: 0,
    badBlocks: 0,
    missingBlobs: 1,
  });
  t.same(cache.list({ path: '/data/object-1' }), []);
  t.equal(cache.stat().usedBytes, 5 * 3 * BLOCK);

  for (const source of sources.slice(1, 4)) {
    const handle = openVersion(cache, source);
    t.equal(handle.backingFd(), undefined);
    t.equal(handle.cachedBytes, 0);
    t.ok(trueBytes(source, 0, source.sizeBytes).equals(await handle.read(0, source.sizeBytes)));
    await handle.fill(0, source.sizeBytes, { priority: 'demand' });
    t.type(handle.backingFd(), 'number', 'in a fresh file');
    handle.close();
  }
  t.match(cache.stat(), {
    health: 'normal',
    checksumFailures: 0,
    usedBytes: 5 * 3 * BLOCK,
    completeBlobs: 5,
  });
  t.match(cache.list({ path: '/data/object-3' }), [{ pinned: true, state: 'complete' }]);
  t.match(await cache.verify({}), { blobs: 5, badBlocks: 0, missingBlobs: 0 });
  t.equal(lines.length, 1, lines.join(''));
  t.match(lines[0], /removed by somebody else/);
  t.notMatch(lines[0], /stack/);

  tier.fills.length = 0;
  cache.pin(sources[2]!.version, false);
  rmSync(directory, { recursive: true });
  t.match(await cache.verify({}), { blobs: 0, bytes: 0, badBlocks: 0, missingBlobs: 5 });
  t.match(cache.stat(), { blobs: 0, completeBlobs: 0, usedBytes: 0 });
  const reader = openVersion(cache, sources[0]!);
  t.ok(
    trueBytes(sources[0]!, 0, BLOCK).equals(await reader.read(0, BLOCK)),
    'reads go on without a directory',
  );
  reader.close();
  t.notMatch(lines.join(''), /stack/);
});
