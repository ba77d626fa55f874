/** Small objects that somebody waits for are fetched on this thread, if that is easy; if not, by workers as ever. */
import t from 'tap';
import { crc32 } from 'node:zlib';
import { KIB } from '../../lib/base/limits.ts';
import type { QuickRead, StoreAccess } from '../../lib/store/object-store.ts';
import type { FillRequest } from '../../lib/tiers/tier.ts';
import { ManualClock } from '../vfs/manual-clock.ts';
import { FakeStore, harness, type HarnessOptions } from './fake-store.ts';

const BLOCK = 256 * KIB;
const ACCESS = { prefix: 'p/', expiresWallMs: undefined } as unknown as StoreAccess;

function prepare(sizeBytes: number, options: HarnessOptions & { readonly access?: StoreAccess } = {}) {
  const fake = new FakeStore(sizeBytes);
  fake.access = options.access ?? ACCESS;
  const quick = {
    reads: [] as QuickRead[],
    opened: 0,
    closed: 0,
    isGood: true,
    hold: Promise.resolve(),
    sinkFault: undefined as Error | undefined,
  };
  const h = harness(fake, {
    ...options,
    storeUrls: ['s3://data'],
    quick: (sink) => ({
      openReader: () => {
        quick.opened++;
        return {
          async read(request) {
            quick.reads.push(request);
            await quick.hold;
            fake.bytes.copy(request.into, 0, request.offset, request.offset + request.length);
            return quick.isGood;
          },
          close: () => void quick.closed++,
        };
      },
      writeAt(_descriptor, piece, position) {
        if (quick.sinkFault) throw quick.sinkFault;
        piece.copy(sink, position);
      },
    }),
  });
  const request: FillRequest = {
    ...{ source: fake.source, offset: 0, length: sizeBytes, blockBytes: BLOCK },
    ...{ priority: 'demand', sinkFd: 99 },
  };
  return {
    fake,
    quick,
    h,
    request,
    workersTold: () => h.workers.commands.filter(({ kind }) => kind === 'fetch'),
  };
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

t.test('store tier fetches a small object on this thread once a worker has told how', async (t) => {
  const { h, quick, fake, request, workersTold } = prepare(10_000);
  await h.tier.fill(request);
  t.equal(workersTold().length, 1, 'nothing is known yet');
  await turn();
  h.sink.fill(0);
  const { blockChecksums } = await h.tier.fill(request);
  t.strictSame(blockChecksums, [crc32(fake.bytes)]);
  t.ok(h.sink.equals(fake.bytes));
  t.equal(workersTold().length, 1);
  t.match(quick.reads, [{ key: 'shard', entityTag: fake.entityTag, sizeBytes: 10_000, length: 10_000 }]);
  t.equal(await h.metrics.registry.getSingleMetricAsString('perigee_tier_bytes_total').then(count), 20_000);
  await h.tier.close();
  t.equal(quick.closed, 1);
});

const count = (text: string): number => Number(/\{[^}]*\} (\d+)/.exec(text)?.[1]);

t.test('store tier has a worker do what the quick way cannot', async (t) => {
  const { h, quick, fake, request, workersTold } = prepare(10_000);
  await turn();
  quick.isGood = false;
  await h.tier.fill(request);
  t.ok(h.sink.equals(fake.bytes));
  t.equal(quick.reads.length, 1);
  t.equal(workersTold().length, 1);
  await h.tier.fill({ ...request, priority: 'background' });
  t.equal(quick.reads.length, 1, 'nobody waits for that one');
  await h.tier.close();
});

t.test('store tier keeps large objects, and small ones beside them, away from this thread', async (t) => {
  const { h, quick, fake, request, workersTold } = prepare(20_000, { limits: { quickBytesMax: 10_000 } });
  await turn();
  const { promise: hold, resolve: go } = Promise.withResolvers<void>();
  fake.faults.push({ hold });
  const slow = h.tier.fill(request);
  await turn();
  const small = { ...request, length: 10_000, source: { ...fake.source, sizeBytes: 10_000 } };
  await h.tier.fill(small).catch(() => undefined);
  t.equal(quick.reads.length, 0);
  t.equal(workersTold().length, 2);
  go();
  await slow;
  await h.tier.fill(small);
  t.equal(quick.reads.length, 1);
  await h.tier.close();
});

t.test('store tier has so many quick fetches under way at most', async (t) => {
  const { h, quick, request, workersTold } = prepare(1_000, { limits: { quickGetsMax: 2 } });
  await turn();
  const { promise, resolve } = Promise.withResolvers<void>();
  quick.hold = promise;
  const fills = [1, 2, 3].map(() => h.tier.fill(request));
  await turn();
  t.equal(quick.reads.length, 2);
  t.equal(workersTold().length, 1);
  t.not(quick.reads[0]?.into, quick.reads[1]?.into);
  resolve();
  await Promise.all(fills);
  await h.tier.close();
});

t.test('store tier writes nothing for a quick fetch that was cancelled', async (t) => {
  const { h, quick, request } = prepare(1_000);
  await turn();
  const { promise, resolve } = Promise.withResolvers<void>();
  quick.hold = promise;
  const cancel = new AbortController();
  const fill = h.tier.fill(request, { signal: cancel.signal });
  cancel.abort(new Error('enough'));
  resolve();
  await t.rejects(fill, { message: 'enough' });
  t.ok(h.sink.equals(Buffer.alloc(1_000)));
  await h.tier.close();
});

t.test('store tier tells of a sink that refuses what was fetched quickly', async (t) => {
  const { h, quick, request, workersTold } = prepare(1_000);
  await turn();
  quick.sinkFault = Object.assign(new Error('full'), { code: 'ENOSPC' });
  await t.rejects(h.tier.fill(request), { code: 'sink', cause: { code: 'ENOSPC' } });
  t.equal(workersTold().length, 0);
  await h.tier.close();
});

t.test('store tier waits for an answer under way before it tells that there is no sink', async (t) => {
  const { h, quick, request } = prepare(1_000);
  await turn();
  const { promise, resolve } = Promise.withResolvers<void>();
  quick.hold = promise;
  const refusing: FillRequest = {
    ...request,
    get sinkFd(): number {
      throw Object.assign(new Error('no more files'), { code: 'EMFILE' });
    },
  };
  let isTold = false;
  const fill = h.tier.fill(refusing).finally(() => (isTold = true));
  fill.catch(() => undefined);
  await turn();
  t.notOk(isTold, 'its memory is still in use');
  resolve();
  await t.rejects(fill, { code: 'sink', cause: { code: 'EMFILE' } });
  await h.tier.close();
});

t.test('store tier renews an access, and uses none whose credentials end', async (t) => {
  const clock = new ManualClock();
  const access = { ...ACCESS, expiresWallMs: 200_000 };
  const { h, quick, fake, request, workersTold } = prepare(1_000, { clock, access });
  await turn();
  const prepares = (): number => h.workers.commands.filter(({ kind }) => kind === 'prepare').length;
  t.equal(prepares(), 1);
  clock.advance(60_000);
  await h.tier.fill(request);
  await turn();
  t.equal(prepares(), 2);
  t.equal(quick.opened, 1, 'the same as before');
  fake.access = { ...access, region: 'elsewhere' };
  clock.advance(60_000);
  await h.tier.fill(request);
  await turn();
  t.equal(prepares(), 3);
  t.equal(quick.opened, 2);
  t.equal(quick.closed, 1);
  clock.advance(55_000);
  await h.tier.fill(request);
  t.equal(quick.reads.length, 2);
  t.equal(workersTold().length, 1, 'too near to their end');
  await h.tier.close();
});

t.test('store tier reads a small range into memory on this thread', async (t) => {
  const { h, quick, fake, request, workersTold } = prepare(BLOCK);
  await turn();
  const range = { source: request.source, offset: 1_000, length: 500, priority: 'demand' } as const;
  const bytes = await h.tier.read(range);
  t.ok(fake.bytes.subarray(1_000, 1_500).equals(bytes));
  t.equal(workersTold().length, 0);
  quick.isGood = false;
  t.ok(fake.bytes.subarray(1_000, 1_500).equals(await h.tier.read(range)), 'or else by a worker');
  t.equal(workersTold().length, 1);
  await h.tier.close();
});

t.test(
  'store tier tells the first bytes of a large fill from this thread before workers begin',
  async (t) => {
    const limits = { leadBytes: 1_000, wholeObjectBytesMax: 1 };
    const { h, quick, fake, request, workersTold } = prepare(BLOCK, { limits });
    await turn();
    const { promise, resolve } = Promise.withResolvers<void>();
    quick.hold = promise;
    const leads: Uint8Array[] = [];
    const fill = h.tier.fill(request, { onLead: (bytes) => leads.push(bytes) });
    t.equal(workersTold().length, 0, 'nothing competes with what is waited for');
    resolve();
    await fill;
    t.strictSame(
      leads.map((bytes) => fake.bytes.subarray(0, 1_000).equals(bytes)),
      [true],
    );
    t.ok(h.sink.equals(fake.bytes));
    t.match(workersTold(), [{ offset: 0, length: BLOCK, leadBytes: 0 }]);
    await h.tier.close();
  },
);

t.test('store tier has workers begin when the first bytes are late, or cannot be had', async (t) => {
  const clock = new ManualClock();
  const limits = { leadBytes: 1_000, leadMs: 3, wholeObjectBytesMax: 1 };
  const { h, quick, fake, request, workersTold } = prepare(BLOCK, { limits, clock });
  await turn();
  const { promise, resolve } = Promise.withResolvers<void>();
  quick.hold = promise;
  const leads: Uint8Array[] = [];
  const late = h.tier.fill(request, { onLead: (bytes) => leads.push(bytes) });
  clock.advance(3);
  await late;
  t.equal(leads.length, 0);
  quick.isGood = false;
  resolve();
  await h.tier.fill(request, { onLead: (bytes) => leads.push(bytes) });
  t.equal(leads.length, 0);
  t.match(workersTold(), [{ leadBytes: 0 }, { leadBytes: 1_000 }]);
  t.ok(h.sink.equals(fake.bytes));
  await h.tier.close();
});

t.test('store tier tells nothing of an object that is verified as a whole before its end', async (t) => {
  const { h, quick, request } = prepare(BLOCK, { limits: { leadBytes: 1_000 } });
  await turn();
  await h.tier.fill(request, { onLead: () => t.fail('not verified') });
  t.equal(quick.reads.length, 0);
  await h.tier.close();
});
