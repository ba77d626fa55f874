import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { crc32 } from 'node:zlib';
import t, { type Test } from 'tap';
import type { VersionId } from '../../lib/base/brand.ts';
import { systemClock } from '../../lib/base/clock.ts';
import { MIB } from '../../lib/base/limits.ts';
import { startFetchWorker } from '../../lib/daemon/fetch-worker-thread.ts';
import { openStore } from '../../lib/store/open-store.ts';
import { createLogger } from '../../lib/telemetry/log.ts';
import { createMetrics } from '../../lib/telemetry/metrics.ts';
import { createStoreTier } from '../../lib/tiers/store-tier.ts';
import type { Tier, VersionSource } from '../../lib/tiers/tier.ts';

const BLOCK = 4 * MIB;

/** A directory as an object store with one object, a tier with real threads over it, and an open file to fill. */
async function prepare(t: Test, sizeBytes: number) {
  const directory = t.testdir({ store: {} });
  const url = pathToFileURL(path.join(directory, 'store')).href;
  const bytes = randomBytes(sizeBytes);
  const store = openStore(url);
  await store.put('shard', bytes);
  const { entityTag } = await store.head('shard');
  await store.close();
  const source: VersionSource = {
    version: '0123456789abcdef0123456789abcdef' as VersionId,
    exportName: 'data',
    objectKey: 'shard',
    objectVersion: undefined,
    entityTag,
    sizeBytes,
  };
  const tier: Tier = createStoreTier({
    startWorker: startFetchWorker,
    workerCount: 2,
    storeUrlOf: () => url,
    clock: systemClock,
    logger: createLogger({ level: 'silent' }),
    metrics: createMetrics(),
  });
  t.teardown(() => tier.close());
  const blob = path.join(directory, 'blob');
  const sinkFd = fs.openSync(blob, 'w+');
  t.teardown(() => fs.closeSync(sinkFd));
  const request = {
    source,
    offset: 0,
    length: sizeBytes,
    blockBytes: BLOCK,
    priority: 'demand',
    sinkFd,
  } as const;
  return { tier, bytes, blob, request };
}

t.test('fetch thread fills a file of this process, and reads into memory', async (t) => {
  const { tier, bytes, blob, request } = await prepare(t, 21 * MIB + 5);
  const seen: number[] = [];
  const { blockChecksums } = await tier.fill(request, { onProgress: (to) => seen.push(to) });
  t.ok(fs.readFileSync(blob).equals(bytes));
  t.strictSame(
    blockChecksums,
    Array.from({ length: 6 }, (_, block) => crc32(bytes.subarray(block * BLOCK, (block + 1) * BLOCK))),
  );
  t.equal(seen.at(-1), bytes.byteLength);
  const part = await tier.read({
    source: request.source,
    offset: 9 * MIB,
    length: 70_000,
    priority: 'demand',
  });
  t.ok(bytes.subarray(9 * MIB, 9 * MIB + 70_000).equals(part));
  await tier.close();
});

t.test('fetch thread never fills with the bytes of another version', async (t) => {
  t.comment(
    '4. A reader never receives bytes that belong to no committed version of the file, whatever fails.',
  );
  const { tier, blob, request } = await prepare(t, 2 * MIB);
  const source = { ...request.source, entityTag: 'something-else' };
  await t.rejects(tier.fill({ ...request, source }), { code: 'stale' });
  t.equal(fs.statSync(blob).size, 0);
});

t.test('fetch thread keeps the errno of a sink that refuses', async (t) => {
  const { tier, blob, request } = await prepare(t, 2 * MIB);
  const readOnly = fs.openSync(blob, 'r');
  t.teardown(() => fs.closeSync(readOnly));
  await t.rejects(tier.fill({ ...request, sinkFd: readOnly }), { code: 'sink', cause: { code: 'EBADF' } });
});

t.test('fetch thread holds no process back once its tier is closed', async (t) => {
  const script = `
    import { startFetchWorker } from ${JSON.stringify(new URL('../../lib/daemon/fetch-worker-thread.ts', import.meta.url).href)};
    const worker = startFetchWorker({ onMessage() {}, onEnd() { console.log('ended'); } });
    worker.post({ kind: 'close' });
  `;
  const child = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
    timeout: 30_000,
    encoding: 'utf8',
  });
  t.equal(child.status, 0, child.stderr);
  t.equal(child.stdout, 'ended\n');
});
