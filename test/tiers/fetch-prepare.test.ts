/** Fetch workers get stores ready before anybody asks; what goes wrong then is told to who asks. */
import t from 'tap';
import { systemClock } from '../../lib/base/clock.ts';
import { seededPrng } from '../../lib/base/prng.ts';
import { StoreError, type ObjectStore } from '../../lib/store/object-store.ts';
import { FETCH_LIMITS } from '../../lib/tiers/fetch-limits.ts';
import type { FromFetchWorker, ToFetchWorker } from '../../lib/tiers/fetch-protocol.ts';
import { serveFetches } from '../../lib/tiers/fetch-server.ts';
import { FakeStore, harness } from './fake-store.ts';

t.test('store tier has each worker prepare its stores, a worker that replaces another too', async (t) => {
  const h = harness(new FakeStore(1000), { workerCount: 2, storeUrls: ['s3://data'] });
  const prepared = (): number => h.workers.commands.filter(({ kind }) => kind === 'prepare').length;
  t.equal(prepared(), 2);
  h.workers.crash(0);
  await h.tier.read({ source: h.fake.source, offset: 0, length: 1000, priority: 'demand' });
  t.equal(prepared(), 3);
  await h.tier.close();
});

t.test('fetch server opens a store once, and survives one that cannot be opened', async (t) => {
  const fake = new FakeStore(1000);
  const opened: string[] = [];
  let tell: (message: ToFetchWorker) => void = () => undefined;
  let prepared = 0;
  const answers: FromFetchWorker[] = [];
  const { promise: answered, resolve } = Promise.withResolvers<void>();
  serveFetches({
    port: {
      post: (message) => {
        if (answers.push(message) === 2) resolve();
      },
      onMessage: (listener) => (tell = listener),
      close: () => undefined,
    },
    openStore: (url): ObjectStore => {
      opened.push(url);
      if (url === 's3://broken') throw new StoreError('invalid', 'no such store');
      return Object.assign(fake.store, {
        prepare: async () => {
          prepared++;
          throw new Error('not ready');
        },
      });
    },
    writeAt: () => undefined,
    readAt: async () => 0,
    clock: systemClock,
    prng: seededPrng(1),
    limits: FETCH_LIMITS,
  });
  const fetch = (id: number, storeUrl: string): void =>
    tell({
      ...{ kind: 'fetch', id, storeUrl, source: fake.source, offset: 0, length: 1000 },
      ...{ sink: undefined, leadBytes: 0, deadlineMs: 1000 },
    });
  tell({ kind: 'prepare', storeUrl: 's3://data' });
  tell({ kind: 'prepare', storeUrl: 's3://broken' });
  fetch(1, 's3://data');
  fetch(2, 's3://broken');
  await answered;
  t.equal(prepared, 1);
  t.strictSame(opened, ['s3://data', 's3://broken', 's3://broken']);
  t.strictSame(answers.map((answer) => [answer.kind, 'id' in answer ? answer.id : 0]).sort(), [
    ['bytes', 1],
    ['failed', 2],
  ]);
});
