import t from 'tap';
import { crc32 } from 'node:zlib';
import { KIB } from '../../lib/base/limits.ts';
import { StoreError } from '../../lib/store/object-store.ts';
import { TierError, type FillRequest } from '../../lib/tiers/tier.ts';
import { FakeStore, harness, type Harness } from './fake-store.ts';

const BLOCK = 256 * KIB;

function request(fake: FakeStore, range: Partial<FillRequest> = {}): FillRequest {
  return {
    source: fake.source,
    offset: 0,
    length: fake.bytes.byteLength,
    blockBytes: BLOCK,
    priority: 'demand',
    sinkFd: 99,
    ...range,
  };
}

function checksums(bytes: Buffer): number[] {
  return Array.from({ length: Math.ceil(bytes.byteLength / BLOCK) }, (_, block) =>
    crc32(bytes.subarray(block * BLOCK, (block + 1) * BLOCK)),
  );
}

async function failure(promise: Promise<unknown>): Promise<TierError> {
  try {
    await promise;
  } catch (error) {
    if (error instanceof TierError) return error;
    throw error;
  }
  throw new Error('it should have failed');
}

async function value(h: Harness, result: string): Promise<number> {
  const metric = await h.metrics.tierRequests.get();
  return metric.values.find((each) => each.labels.result === result)?.value ?? 0;
}

t.test('store tier fills a range with several GETs and returns the checksum of each block', async (t) => {
  const fake = new FakeStore(5 * BLOCK + 77);
  const h = harness(fake, { limits: { getBytesMax: 2 * BLOCK, firstReportBytes: 16 * KIB, reportBytes: 1 } });
  const seen: number[] = [];
  const { blockChecksums } = await h.tier.fill(request(fake), { onProgress: (to) => seen.push(to) });
  t.strictSame(blockChecksums, checksums(fake.bytes));
  t.ok(h.sink.equals(fake.bytes));
  t.strictSame(
    fake.gets.map((get) => get.range),
    [
      { offset: 0, length: 2 * BLOCK },
      { offset: 2 * BLOCK, length: 2 * BLOCK },
      { offset: 4 * BLOCK, length: BLOCK + 77 },
    ],
  );
  t.ok(fake.gets.every((get) => get.ifMatch === fake.entityTag));
  t.strictSame(
    seen,
    [...seen].sort((a, b) => a - b),
    'progress never goes back',
  );
  t.equal(seen.at(-1), fake.bytes.byteLength);
  await h.tier.close();
  t.ok(fake.closed);
});

t.test('store tier reports the first piece early, and only what is in the sink', async (t) => {
  const fake = new FakeStore(8 * BLOCK);
  fake.chunkBytes = 32 * KIB;
  const h = harness(fake, { limits: { firstReportBytes: 128 * KIB, reportBytes: BLOCK } });
  const seen: number[] = [];
  await h.tier.fill(request(fake, { length: 4 * BLOCK }), {
    onProgress(to) {
      seen.push(to);
      if (!h.sink.subarray(0, to).equals(fake.bytes.subarray(0, to)))
        t.fail('reported bytes are in the sink');
    },
  });
  t.equal(seen[0], 128 * KIB);
  await h.tier.close();
});

t.test('store tier reads a range into memory', async (t) => {
  const fake = new FakeStore(3 * BLOCK);
  const h = harness(fake);
  const bytes = await h.tier.read({ source: fake.source, offset: 1000, length: 5000, priority: 'demand' });
  t.ok(fake.bytes.subarray(1000, 6000).equals(bytes));
  t.equal((await h.tier.read({ source: fake.source, offset: 0, length: 0, priority: 'demand' })).length, 0);
  t.equal(fake.gets.length, 1);
  await h.tier.close();
});

t.test('store tier takes a body that broke off up from where it ended', async (t) => {
  const fake = new FakeStore(4 * BLOCK);
  fake.faults.push({ breakAfter: 100_000, error: new StoreError('unavailable', 'reset') }, { breakAfter: 1 });
  const h = harness(fake, {
    limits: { wholeObjectBytesMax: 0, reportBytes: 1, firstReportBytes: 1, leadBytes: 0 },
  });
  const seen: number[] = [];
  const { blockChecksums } = await h.tier.fill(request(fake), { onProgress: (to) => seen.push(to) });
  t.strictSame(blockChecksums, checksums(fake.bytes));
  t.ok(h.sink.equals(fake.bytes));
  t.strictSame(fake.gets[1]?.range, { offset: 100_000, length: 4 * BLOCK - 100_000 });
  t.equal(fake.gets.length, 3, 'a short body is corrupt and fetched anew');
  t.equal(fake.gets[2]?.range, undefined);
  t.strictSame(
    seen,
    [...new Set(seen)].sort((a, b) => a - b),
    'a retry never moves progress back',
  );
  await h.tier.close();
});

t.test('store tier never shows a byte of a whole object that does not match its MD5', async (t) => {
  t.comment('9. A cached block that does not match its checksum is never served; it is fetched again.');
  const fake = new FakeStore(3 * BLOCK);
  fake.vouchForMd5();
  fake.faults.push({ flip: 70_000 });
  const h = harness(fake);
  const { blockChecksums } = await h.tier.fill(request(fake), {
    onProgress: (to) => t.ok(h.sink.subarray(0, to).equals(fake.bytes.subarray(0, to))),
  });
  t.strictSame(blockChecksums, checksums(fake.bytes));
  t.equal(fake.gets.length, 2);
  for (let count = 0; count < 9; count++) fake.faults.push({ flip: 5 });
  t.equal((await failure(h.tier.fill(request(fake)))).code, 'corrupt');
  t.equal(fake.gets.length, 2 + 4, 'the number of attempts is bounded');
  await h.tier.close();
});

t.test('store tier maps every refusal of the store', async (t) => {
  const cases = [
    ['precondition-failed', 'stale'],
    ['not-found', 'stale'],
    ['access-denied', 'denied'],
    ['throttled', 'unavailable'],
    ['unavailable', 'unavailable'],
    ['corrupt', 'corrupt'],
    ['invalid', 'unavailable'],
  ] as const;
  for (const [code, expected] of cases) {
    const fake = new FakeStore(BLOCK);
    fake.faults.push({ refuse: new StoreError(code, 'no', { hint: 'ask nicely' }) });
    const h = harness(fake);
    const error = await failure(h.tier.fill(request(fake)));
    t.equal(error.code, expected, code);
    t.equal(error.hint, 'ask nicely', 'the hint crosses the thread');
    t.equal(fake.gets.length, 1, 'the store has done its own retries');
    t.equal(await value(h, expected), 1);
    await h.tier.close();
  }
});

t.test('store tier never mixes versions: another entity tag is stale', async (t) => {
  t.comment(
    '10. readers then see either the old version whole, the new version whole, or an error; never a mix.',
  );
  const fake = new FakeStore(4 * BLOCK);
  const h = harness(fake, { limits: { wholeObjectBytesMax: 0 } });
  fake.faults.push(
    { breakAfter: BLOCK, error: new StoreError('unavailable', 'reset') },
    { refuse: new StoreError('precondition-failed', 'replaced') },
  );
  t.equal((await failure(h.tier.fill(request(fake)))).code, 'stale');
  const other = { ...fake.source, entityTag: 'another' };
  t.equal((await failure(h.tier.fill(request(fake, { source: other })))).code, 'stale');
  await h.tier.close();
});

t.test("store tier tells the system's error when the sink refuses", async (t) => {
  const fake = new FakeStore(4 * BLOCK);
  const h = harness(fake, {
    writeAt() {
      throw Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' });
    },
  });
  const error = await failure(h.tier.fill(request(fake)));
  t.equal(error.code, 'sink');
  t.match(error.cause, { code: 'ENOSPC' });
  t.equal(fake.gets.length, 1);
  await h.tier.close();
});

t.test('store tier gives up on an endless series of broken bodies', async (t) => {
  const fake = new FakeStore(4 * BLOCK);
  const h = harness(fake, { limits: { resumesMax: 5 } });
  for (let count = 0; count < 20; count++) {
    fake.faults.push({ breakAfter: 0, error: new StoreError('unavailable', 'reset') });
  }
  t.equal((await failure(h.tier.fill(request(fake)))).code, 'unavailable');
  t.equal(fake.gets.length, 6);
  await h.tier.close();
});

t.test('store tier lets demand overtake what is queued in the background', async (t) => {
  const fake = new FakeStore(8 * BLOCK);
  const h = harness(fake, { limits: { aheadGetsPerWorkerMax: 1, demandGetsPerWorkerMax: 1 } });
  const { promise: hold, resolve: release } = Promise.withResolvers<void>();
  fake.faults.push({ hold });
  const order: string[] = [];
  const fill = (name: string, priority: FillRequest['priority']): Promise<unknown> =>
    h.tier.fill(request(fake, { length: BLOCK, priority })).then(() => order.push(name));
  const all = [
    fill('background 1', 'background'),
    fill('background 2', 'background'),
    fill('readahead', 'readahead'),
  ];
  await fill('demand', 'demand');
  t.strictSame(order, ['demand'], 'demand has room of its own');
  release();
  await Promise.all(all);
  t.strictSame(order, ['demand', 'background 1', 'readahead', 'background 2']);
  await h.tier.close();
});

t.test(
  'store tier cancels what is queued and what is under way, with the reason of the signal',
  async (t) => {
    const fake = new FakeStore(8 * BLOCK);
    const h = harness(fake, { limits: { demandGetsPerWorkerMax: 1 } });
    const { promise: hold, resolve: release } = Promise.withResolvers<void>();
    fake.faults.push({ hold });
    const underWay = new AbortController();
    const queued = new AbortController();
    const reason = new Error('nobody waits any more');
    const first = h.tier.fill(request(fake), { signal: underWay.signal });
    const second = h.tier.fill(request(fake), { signal: queued.signal });
    queued.abort(reason);
    underWay.abort(reason);
    await t.rejects(first, reason);
    await t.rejects(second, reason);
    t.equal(fake.gets.length, 1, 'the queued one was never asked for');
    t.equal(await value(h, 'cancelled'), 2);
    release();
    await t.rejects(h.tier.fill(request(fake), { signal: AbortSignal.abort(reason) }), reason);
    await h.tier.close();
  },
);

t.test('store tier fails a split fill whole: the other GETs are let go first', async (t) => {
  const fake = new FakeStore(6 * BLOCK);
  const h = harness(fake, { limits: { getBytesMax: BLOCK } });
  const { promise: hold } = Promise.withResolvers<void>();
  fake.faults.push({ hold }, { refuse: new StoreError('access-denied', 'no') }, { hold });
  t.equal((await failure(h.tier.fill(request(fake)))).code, 'denied');
  await h.tier.close();
});

t.test('store tier ends with everything it had under way', async (t) => {
  const fake = new FakeStore(BLOCK);
  const h = harness(fake, { limits: { demandGetsPerWorkerMax: 1 } });
  const { promise: hold } = Promise.withResolvers<void>();
  fake.faults.push({ hold });
  const fills = [h.tier.fill(request(fake)), h.tier.fill(request(fake))].map(failure);
  await h.tier.close();
  for (const error of await Promise.all(fills)) t.equal(error.code, 'closed');
  t.equal((await failure(h.tier.fill(request(fake)))).code, 'closed');
  await h.tier.close();
});

t.test('store tier answers for unknown exports and refuses senseless ranges', async (t) => {
  const fake = new FakeStore(BLOCK);
  const h = harness(fake);
  const source = { ...fake.source, exportName: 'other' };
  t.equal((await failure(h.tier.fill(request(fake, { source })))).code, 'unavailable');
  await t.rejects(h.tier.fill(request(fake, { offset: 1, length: 1 })), { code: 'invariant' });
  await t.rejects(h.tier.fill(request(fake, { length: BLOCK + 1 })), { code: 'invariant' });
  await h.tier.close();
});

t.test('store tier asks for the rest of a version although its beginning keeps it waiting', async (t) => {
  const fake = new FakeStore(4 * BLOCK);
  const h = harness(fake, { limits: { wholeObjectBytesMax: 0, leadBytes: 1000, leadMs: 1 } });
  const { promise: hold, resolve: release } = Promise.withResolvers<void>();
  fake.faults.push({ hold });
  const { promise: asked, resolve: onAsked } = Promise.withResolvers<void>();
  fake.onGet = () => {
    if (fake.gets.length === 2) onAsked();
  };
  const filled = h.tier.fill(request(fake));
  await asked;
  release();
  t.strictSame((await filled).blockChecksums, checksums(fake.bytes));
  t.ok(h.sink.equals(fake.bytes));
  await h.tier.close();
});

t.test('store tier does not ask for the rest of a version whose beginning it cannot have', async (t) => {
  const fake = new FakeStore(4 * BLOCK);
  const h = harness(fake, { limits: { wholeObjectBytesMax: 0, leadBytes: 1000, leadMs: 60_000 } });
  fake.faults.push({ refuse: new StoreError('access-denied', 'no') });
  await t.rejects(h.tier.fill(request(fake)), { code: 'denied' });
  t.equal(fake.gets.length, 1);
  await h.tier.close();
});

t.test(
  'store tier asks for the beginning of a version by a GET of its own, and goes on at once',
  async (t) => {
    const fake = new FakeStore(4 * BLOCK);
    const limits = { wholeObjectBytesMax: 0, leadBytes: 100_000, firstReportBytes: 1, reportBytes: 1 };
    const h = harness(fake, { limits });
    const { promise: hold, resolve: release } = Promise.withResolvers<void>();
    fake.faults.push(undefined, { hold });
    const seen: number[] = [];
    const { promise: led, resolve: onLed } = Promise.withResolvers<void>();
    const filled = h.tier.fill(request(fake), {
      onProgress(to) {
        seen.push(to);
        if (to === 100_000) onLed();
      },
    });
    await led;
    t.equal(fake.gets.length, 2, 'the rest is under way already');
    release();
    t.strictSame((await filled).blockChecksums, checksums(fake.bytes));
    t.ok(h.sink.equals(fake.bytes));
    t.strictSame(
      fake.gets.map((get) => get.range),
      [
        { offset: 0, length: 100_000 },
        { offset: 100_000, length: 4 * BLOCK - 100_000 },
      ],
    );
    fake.faults.push({ breakAfter: 50_000, error: new StoreError('unavailable', 'reset') });
    t.strictSame((await h.tier.fill(request(fake))).blockChecksums, checksums(fake.bytes));
    t.strictSame(fake.gets[4]?.range, { offset: 50_000, length: 4 * BLOCK - 50_000 });
    fake.faults.push(undefined, { breakAfter: 9, error: new StoreError('unavailable', 'reset') });
    t.strictSame((await h.tier.fill(request(fake))).blockChecksums, checksums(fake.bytes));
    await h.tier.fill(request(fake, { priority: 'background' }));
    t.equal(fake.gets.at(-1)?.range, undefined, 'nobody waits for its first bytes');
    await h.tier.close();
  },
);
