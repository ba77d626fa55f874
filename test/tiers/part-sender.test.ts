import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { crc32 } from 'node:zlib';
import t, { type Test } from 'tap';
import { systemClock } from '../../lib/base/clock.ts';
import { MIB } from '../../lib/base/limits.ts';
import { startFetchWorker } from '../../lib/daemon/fetch-worker-thread.ts';
import { openStore } from '../../lib/store/open-store.ts';
import { createLogger } from '../../lib/telemetry/log.ts';
import { createMetrics } from '../../lib/telemetry/metrics.ts';
import { ByteBudget, BytePace } from '../../lib/tiers/byte-budget.ts';
import type { FetchWorkerEvents, FetchWorkerFactory, ToFetchWorker } from '../../lib/tiers/fetch-protocol.ts';
import { firstPartBytes, partAt, PART_BYTES_FIRST, partsOf } from '../../lib/tiers/part-geometry.ts';
import type { PartSender, SentPart } from '../../lib/tiers/part-sender.ts';
import { createStoreSender } from '../../lib/tiers/store-sender.ts';
import { ManualClock } from '../cache/manual-clock.ts';

const BLOCK = 4 * MIB;
const quiet = createLogger({ level: 'silent' });

t.test('part geometry: parts adjoin, grow, and hold whole blocks', async (t) => {
  for (const first of [PART_BYTES_FIRST, firstPartBytes(32 * MIB)]) {
    let end = 0;
    for (let number = 1; number <= 10_000; number++) {
      const part = partAt(number, first);
      if (part.offset !== end) t.fail(`part ${number} begins where the one before ends`);
      if (part.length % first !== 0) t.fail(`part ${number} holds whole blocks`);
      end = part.offset + part.length;
    }
    t.ok(end > 2 ** 50, '10,000 parts hold a PiB');
  }
  t.strictSame(
    Array.from(partsOf(20 * MIB), ({ offset, length }) => [offset / MIB, length / MIB]),
    [
      [0, 8],
      [8, 8],
      [16, 4],
    ],
  );
  t.strictSame([...partsOf(0)], []);
  t.equal([...partsOf(PART_BYTES_FIRST)].length, 1);
});

/** An upload to a directory as an object store, a file to be sent, and a sender with real threads. */
async function prepare(t: Test, bytes: Buffer) {
  const directory = t.testdir({ store: {}, file: '' });
  const url = pathToFileURL(path.join(directory, 'store')).href;
  const store = openStore(url);
  t.teardown(() => store.close());
  const storeUpload = await store.createUpload('made');
  const file = path.join(directory, 'file');
  fs.writeFileSync(file, bytes);
  const descriptor = fs.openSync(file, 'r+');
  t.teardown(() => fs.closeSync(descriptor));
  const metrics = createMetrics();
  const sender = createStoreSender({
    startWorker: { through: startFetchWorker, back: startFetchWorker },
    workerCount: 1,
    clock: systemClock,
    logger: quiet,
    metrics,
  });
  t.teardown(() => sender.close());
  const upload = { storeUrl: url, objectKey: 'made', storeUpload };
  const send = (part: SentPart['range'], known?: SentPart): ReturnType<PartSender['send']> =>
    sender.send({ upload, part, descriptor, blockBytes: BLOCK, known, urgency: 'through' });
  const sentBytes = async (): Promise<number> => {
    const { values } = await metrics.tierBytes.get();
    return values.find(({ labels }) => labels.direction === 'out')?.value ?? 0;
  };
  const complete = async (parts: readonly SentPart[]): Promise<Buffer> => {
    await store.completeUpload({
      key: 'made',
      uploadId: storeUpload,
      parts: parts.map(({ range, entityTag }) => ({
        number: range.number,
        entityTag,
        sizeBytes: range.length,
      })),
    });
    return fs.readFileSync(path.join(directory, 'store', 'made'));
  };
  return { store, upload, descriptor, sender, send, sentBytes, complete };
}

t.test('part sender makes parts of a file, with the checksums of its blocks', async (t) => {
  const bytes = randomBytes(18 * MIB + 7);
  const { send, complete } = await prepare(t, bytes);
  const sent = await Promise.all(Array.from(partsOf(bytes.length), (part) => send(part)));
  t.strictSame(
    sent.flatMap(({ blockChecksums }) => blockChecksums),
    Array.from({ length: 5 }, (_, block) => crc32(bytes.subarray(block * BLOCK, (block + 1) * BLOCK))),
  );
  t.ok(bytes.equals(await complete(sent)));
});

t.test('part sender sends a part again only if it has changed', async (t) => {
  const bytes = randomBytes(9 * MIB);
  const { descriptor, send, sentBytes, complete } = await prepare(t, bytes);
  const ranges = [...partsOf(bytes.length)];
  const first = await Promise.all(ranges.map((range) => send(range)));
  fs.writeSync(descriptor, Buffer.from('changed'), 0, 7, 5 * MIB);
  bytes.write('changed', 5 * MIB);
  const again = await Promise.all(ranges.map((range, index) => send(range, first[index])));
  t.not(again[0]!.entityTag, first[0]!.entityTag);
  t.equal(again[1], first[1]);
  t.equal(await sentBytes(), bytes.length + ranges[0]!.length);
  t.ok(bytes.equals(await complete(again)));
  t.rejects(complete(first), 'the part of before is not there any more');
});

t.test('part sender says when the upload is gone, and when the file is shorter', async (t) => {
  const { store, upload, descriptor, sender, send } = await prepare(t, randomBytes(9 * MIB));
  fs.ftruncateSync(descriptor, 8 * MIB + 1);
  const [first, second] = partsOf(9 * MIB);
  await t.rejects(send(second!), { code: 'stale', message: /no longer reaches/ });
  await store.abortUpload({ key: upload.objectKey, uploadId: upload.storeUpload });
  await t.rejects(send(first!), { code: 'stale', message: /sending part 1 of made/ });
  const unreadable = fs.openSync('/dev/null', 'w');
  t.teardown(() => fs.closeSync(unreadable));
  const part = { upload, part: first!, blockBytes: BLOCK, known: undefined, urgency: 'back' } as const;
  await t.rejects(sender.send({ ...part, descriptor: unreadable }), { code: 'sink', message: /EBADF/ });
});

t.test('part sender settles a cancelled part only when its descriptor is let go', async (t) => {
  const told: ToFetchWorker[] = [];
  let events: FetchWorkerEvents | undefined;
  const startWorker: FetchWorkerFactory = (on) => {
    events = on;
    return { post: (message) => told.push(message), terminate: () => undefined };
  };
  const sender = createStoreSender({
    startWorker: { through: startWorker, back: startWorker },
    workerCount: 1,
    clock: new ManualClock(),
    logger: quiet,
    metrics: createMetrics(),
  });
  const cancel = new AbortController();
  let settled = false;
  const sending = sender
    .send(
      {
        upload: { storeUrl: 's3://data', objectKey: 'k', storeUpload: 'u' },
        part: partAt(1),
        descriptor: 99,
        blockBytes: BLOCK,
        known: undefined,
        urgency: 'back',
      },
      { signal: cancel.signal },
    )
    .finally(() => (settled = true));
  await turn();
  t.match(told, [{ kind: 'send', id: 1 }]);
  cancel.abort(new Error('enough'));
  await turn();
  t.match(told.at(-1), { kind: 'cancel', id: 1 });
  t.notOk(settled);
  events!.onMessage({ kind: 'sent', id: 1, blockChecksums: [1, 2], entityTag: 'x' });
  await t.rejects(sending, { message: 'enough' });
  const closed = sender.close();
  events!.onEnd(undefined);
  await closed;
  await t.rejects(sender.send({ urgency: 'back', part: partAt(1) } as never), { code: 'closed' });
});

t.test('byte budget bounds what is under way, in the order in which it was asked', async (t) => {
  const budget = new ByteBudget(10);
  const began: number[] = [];
  const ends: (() => void)[] = [];
  const hold = (bytes: number): Promise<void> =>
    budget.hold(bytes, () => {
      began.push(bytes);
      return new Promise((resolve) => ends.push(resolve));
    });
  const all = [6, 5, 3, 20, 1].map(hold);
  await turn();
  t.strictSame(began, [6], 'the small one waits behind the large one');
  ends[0]!();
  await turn();
  t.strictSame(began, [6, 5, 3]);
  ends[1]!();
  await turn();
  t.strictSame(began, [6, 5, 3], 'more than there ever is goes alone');
  ends[2]!();
  await turn();
  t.strictSame(began, [6, 5, 3, 20]);
  ends[3]!();
  await turn();
  ends[4]!();
  await Promise.all(all);
});

t.test('byte pace lets bytes go at its rate, and saves nothing up', async (t) => {
  const clock = new ManualClock();
  const pace = new BytePace(clock, 1000);
  clock.advance(60_000);
  let went = 0;
  const take = (bytes: number): Promise<void> => pace.take(bytes).then(() => void (went += bytes));
  void take(500);
  void take(500);
  void take(100);
  await turn();
  t.equal(went, 500);
  clock.advance(500);
  await turn();
  t.equal(went, 1000);
  clock.advance(499);
  await turn();
  t.equal(went, 1000);
  clock.advance(1);
  await turn();
  t.equal(went, 1100);
});

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
