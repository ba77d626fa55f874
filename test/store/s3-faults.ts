/** What the S3 store makes of servers and networks that misbehave: a scripted proxy stands before a real server. */
import { Readable } from 'node:stream';
import { type Test } from 'tap';
import { type Clock, systemClock } from '../../lib/base/clock.ts';
import { hintOf } from '../../lib/base/errors.ts';
import { type ObjectStore } from '../../lib/store/object-store.ts';
import { openStore } from '../../lib/store/open-store.ts';
import { ATTEMPTS_MAX } from '../../lib/store/s3-retry.ts';
import { type Fault, startStoreProxy, type StoreProxy } from '../faults/store-proxy.ts';
import { type TestServer } from '../servers/servers.ts';
import { bytesOf, codeOf, fails, pattern } from './contract.ts';

const SPEED = 25;
/** Time that runs faster, so that backoff and deadlines are real but short. */
const hurriedClock: Clock = {
  nowMs: () => systemClock.nowMs() * SPEED,
  wallMs: () => systemClock.wallMs(),
  after: (delayMs, run, options) => systemClock.after(delayMs / SPEED, run, options),
  every: (periodMs, run) => systemClock.every(periodMs / SPEED, run),
};

const MIB = 1024 * 1024;
const BYTES = pattern(3 * MIB);
const KEY = 'dir/object';

export function s3Faults(test: Test, server: TestServer): void {
  const scenario = (
    title: string,
    run: (t: Test, at: { proxy: StoreProxy; store: ObjectStore; entityTag: string }) => Promise<void>,
  ): void => {
    test.test(`S3 store ${title}`, async (t) => {
      const proxy = await startStoreProxy({ target: server.endpoint, seed: 7 });
      const store = openStore(server.url('faults', proxy.endpoint), { clock: hurriedClock });
      t.teardown(async () => {
        await store.close();
        await proxy.close();
      });
      const { entityTag } = await store.put(KEY, BYTES);
      await run(t, { proxy, store, entityTag });
    });
  };
  /** The same call on both ways to the server: with nothing learned yet, and directly. */
  const get = (store: ObjectStore, ifMatch?: string) =>
    store.get({
      key: KEY,
      range: { offset: 10, length: 2 * MIB },
      ...(ifMatch === undefined ? {} : { ifMatch }),
    });
  const requestsOf = async (proxy: StoreProxy, run: () => Promise<unknown>): Promise<number> => {
    const before = proxy.counters.requests;
    await run();
    return proxy.counters.requests - before;
  };

  scenario('reads every byte right through a storm of refusals, resets and delays', async (t, at) => {
    at.proxy.setFaults([
      { fault: { kind: 'delay', ms: 1, jitterMs: 4 } },
      { fault: { kind: 'status', status: 503, code: 'SlowDown' }, probability: 0.2 },
      { fault: { kind: 'status', status: 500 }, probability: 0.1 },
      { fault: { kind: 'reset' }, probability: 0.1 },
    ]);
    const bodies = await Promise.all(
      Array.from({ length: 30 }, async () => bytesOf((await get(at.store, at.entityTag)).body)),
    );
    t.ok(bodies.every((body) => body.equals(BYTES.subarray(10, 10 + 2 * MIB))));
    t.ok((at.proxy.counters.faults['status'] ?? 0) > 0);
    t.ok((at.proxy.counters.faults['reset'] ?? 0) > 0);
  });

  const refusals: [
    fault: Extract<Fault, { kind: 'status' }>,
    code: string,
    requests: number,
    hint?: RegExp,
  ][] = [
    [{ kind: 'status', status: 503, code: 'SlowDown' }, 'throttled', ATTEMPTS_MAX],
    [{ kind: 'status', status: 429 }, 'throttled', ATTEMPTS_MAX],
    [{ kind: 'status', status: 503 }, 'unavailable', ATTEMPTS_MAX],
    [{ kind: 'status', status: 500, code: 'InternalError' }, 'unavailable', ATTEMPTS_MAX],
    [{ kind: 'status', status: 502 }, 'unavailable', ATTEMPTS_MAX],
    [{ kind: 'status', status: 400, code: 'RequestTimeout' }, 'unavailable', ATTEMPTS_MAX],
    [{ kind: 'status', status: 429, headers: { 'retry-after': '3600' } }, 'throttled', 1],
    [{ kind: 'status', status: 503, headers: { 'retry-after': '3600' } }, 'throttled', 1],
    [{ kind: 'status', status: 400, code: 'SomethingElse' }, 'invalid', 1],
    [{ kind: 'status', status: 403, code: 'AccessDenied' }, 'access-denied', 1, /AWS_ACCESS_KEY_ID/],
    [{ kind: 'status', status: 403, code: 'RequestTimeTooSkewed' }, 'access-denied', 3, /clock/],
    [
      { kind: 'status', status: 403, headers: { date: 'Sun, 06 Nov 2044 08:49:37 GMT' } },
      'access-denied',
      3,
      /clock/,
    ],
    [{ kind: 'status', status: 400, code: 'ExpiredToken' }, 'access-denied', 1, /expired/],
    [{ kind: 'status', status: 404, code: 'NoSuchKey' }, 'not-found', 1],
    [{ kind: 'status', status: 404, code: 'NoSuchBucket' }, 'not-found', 1, /bucket/],
    [{ kind: 'status', status: 409, code: 'ConditionalRequestConflict' }, 'precondition-failed', 1],
    [{ kind: 'status', status: 412, code: 'PreconditionFailed' }, 'precondition-failed', 1],
    [{ kind: 'status', status: 416, code: 'InvalidRange' }, 'invalid-range', 1],
    [{ kind: 'status', status: 501, code: 'NotImplemented' }, 'unsupported', 1],
    [{ kind: 'status', status: 507 }, 'no-space', 1],
  ];
  scenario(
    'maps refusals, repeats only what may pass, and respects Retry-After',
    async (t, { proxy, store }) => {
      for (const [fault, code, requests, hint] of refusals) {
        proxy.setFaults([{ fault }]);
        const name = `${fault.status} ${fault.code ?? ''} ${JSON.stringify(fault.headers ?? {})}`;
        let error: unknown;
        t.equal(
          await requestsOf(proxy, async () => (error = await get(store).catch((e: unknown) => e))),
          requests,
          name,
        );
        t.match(error, { code }, `get: ${name}`);
        if (hint) t.match(hintOf(error), hint, name);
        const withoutText = fault.code === undefined || /NoSuch|Precond|AccessDenied/.test(fault.code);
        if (withoutText) await fails(t, store.head(KEY), code);
        await fails(t, store.list({ prefix: '' }), code);
      }
    },
  );

  scenario('waits as long as Retry-After says', async (t, { proxy, store }) => {
    const fault: Fault = { kind: 'status', status: 429, headers: { 'retry-after': '2' } };
    proxy.setFaults([{ fault, timesMax: 1 }]);
    const before = hurriedClock.nowMs();
    await bytesOf((await get(store)).body);
    t.ok(hurriedClock.nowMs() - before >= 2000);
  });

  scenario('never ends a body normally that is cut, reset, too long or stalled', async (t, at) => {
    const { proxy, store, entityTag } = at;
    // Only the one that ends by its deadline has a short one: a slow machine must not turn the others into it.
    const broken: [fault: Fault, code: RegExp, deadlineMs?: number][] = [
      [{ kind: 'reset', afterBytes: 0 }, /unavailable/],
      [{ kind: 'reset', afterBytes: 70_000 }, /unavailable/],
      [{ kind: 'truncate', afterBytes: 1 }, /unavailable|corrupt/],
      [{ kind: 'truncate', afterBytes: 2 * MIB - 1 }, /unavailable|corrupt/],
      [{ kind: 'stall', afterBytes: 100_000 }, /timeout/, 4000],
    ];
    for (const [fault, code, deadlineMs] of broken) {
      proxy.setFaults([{ fault }]);
      const read = async (): Promise<Buffer> => {
        const range = { offset: 0, length: 2 * MIB };
        const options = deadlineMs === undefined ? {} : { deadlineMs };
        const got = await store.get({ key: KEY, range, ifMatch: entityTag }, options);
        return bytesOf(got.body);
      };
      t.match(await codeOf(read()), code, JSON.stringify(fault));
    }
    t.equal(proxy.counters.faults['stall'], 1);
  });

  scenario('believes no answer that does not fit its request', async (t, { proxy, store, entityTag }) => {
    const lies: [headers: Record<string, string>, code: string][] = [
      [{ 'Content-Length': '1000' }, 'corrupt'],
      [{ 'Content-Length': '9999999' }, 'corrupt'],
      [{ 'Content-Range': `bytes 0-${2 * MIB - 1}/${3 * MIB}` }, 'corrupt'],
      [{ 'Content-Range': `bytes 10-${2 * MIB}/${3 * MIB}` }, 'corrupt'],
      [{ 'Content-Range': 'nonsense' }, 'corrupt'],
      [{ ETag: '"0123456789abcdef0123456789abcdef"' }, 'precondition-failed'],
      [{ ETag: '' }, 'corrupt'],
    ];
    for (const [set, code] of lies) {
      proxy.setFaults([{ fault: { kind: 'headers', set } }]);
      t.equal(await codeOf(get(store, entityTag)), code, JSON.stringify(set));
    }
    proxy.setFaults([]);
    t.ok((await bytesOf((await get(store, entityTag)).body)).equals(BYTES.subarray(10, 10 + 2 * MIB)));
  });

  scenario('gives up on a server that never answers', async (t, { proxy, store }) => {
    proxy.setFaults([{ fault: { kind: 'hang' } }]);
    const options = { deadlineMs: 5000 };
    const before = hurriedClock.nowMs();
    t.strictSame(
      await Promise.all([
        codeOf(store.get({ key: KEY }, options)),
        codeOf(store.head(KEY, options)),
        codeOf(store.put('other', BYTES, options)),
        codeOf(store.list({ prefix: '' }, options)),
      ]),
      ['timeout', 'timeout', 'timeout', 'timeout'],
    );
    t.ok(hurriedClock.nowMs() - before >= 5000);
    proxy.setFaults([{ fault: { kind: 'hang' }, timesMax: 1 }]);
    t.equal(
      (await store.head(KEY)).sizeBytes,
      BYTES.length,
      'one that hangs is repeated inside the deadline',
    );
  });

  scenario('recognises its own write when the answer is lost', async (t, { proxy, store }) => {
    proxy.setFaults([{ fault: { kind: 'lose-answer' }, methods: ['PUT'], timesMax: 1 }]);
    const written = await store.put('once', Buffer.from('mine'), { ifAbsent: true });
    t.equal((await store.head('once')).entityTag, written.entityTag);
    await fails(t, store.put('once', Buffer.from('other'), { ifAbsent: true }), 'precondition-failed');

    const uploadId = await store.createUpload('parted');
    const parts = await Promise.all(
      [pattern(5 * MIB), pattern(9)].map((body, index) =>
        store.uploadPart({ key: 'parted', uploadId, partNumber: index + 1 }, body),
      ),
    );
    proxy.setFaults([{ fault: { kind: 'lose-answer' }, methods: ['POST'], timesMax: 1 }]);
    const completed = await store.completeUpload({ key: 'parted', uploadId, parts });
    t.match(await store.head('parted'), { entityTag: completed.entityTag, sizeBytes: 5 * MIB + 9 });

    proxy.setFaults([{ fault: { kind: 'lose-answer' }, methods: ['DELETE'], timesMax: 1 }]);
    await store.delete('parted');
    await fails(t, store.head('parted'), 'not-found');
  });

  scenario('follows the slowest reader without keeping the body in memory', async (t, { proxy, store }) => {
    const got = await store.get({ key: KEY });
    t.ok(got.body instanceof Readable);
    const iterator = got.body[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
    const first = await iterator.next();
    t.ok(got.body.readableLength <= 2 * MIB);
    t.ok(proxy.counters.bodyBytes <= BYTES.length);
    await iterator.return?.();
    t.ok(got.body.destroyed, 'a reader that goes away ends the request');
    t.ok(first.value);
  });

  test.test('S3 store explains what keeps it from its bucket', async (t) => {
    const closed = await startStoreProxy({ target: server.endpoint, seed: 1 });
    await closed.close();
    const env = { ...process.env };
    t.teardown(() => Object.assign(process.env, env));
    const attempt = async (url: string): Promise<unknown> => {
      const store = openStore(url, { clock: hurriedClock });
      try {
        return await store.get({ key: KEY }).catch((error: unknown) => error);
      } finally {
        await store.close();
      }
    };
    const refused = await attempt(server.url('', closed.endpoint));
    t.match(refused, { code: 'unavailable' });
    t.match(hintOf(refused), /endpoint=/);
    const missing = await attempt(server.url().replace(server.bucket, 'no-such-bucket-here'));
    t.match(missing, { code: 'not-found' });
    t.match(hintOf(missing), /bucket/);
    process.env['AWS_SECRET_ACCESS_KEY'] = 'wrong';
    const denied = await attempt(server.url());
    t.match(denied, { code: 'access-denied' });
    t.match(hintOf(denied), /AWS_SECRET_ACCESS_KEY/);
    delete process.env['AWS_ACCESS_KEY_ID'];
    delete process.env['AWS_SECRET_ACCESS_KEY'];
    process.env['AWS_EC2_METADATA_DISABLED'] = 'true';
    process.env['AWS_SHARED_CREDENTIALS_FILE'] = '/dev/null';
    process.env['AWS_CONFIG_FILE'] = '/dev/null';
    const anonymous = await attempt(server.url());
    t.match(anonymous, { code: 'access-denied' });
    t.match(hintOf(anonymous), /AWS_ACCESS_KEY_ID/);
    for (const name of ['AWS_EC2_METADATA_DISABLED', 'AWS_SHARED_CREDENTIALS_FILE', 'AWS_CONFIG_FILE']) {
      if (env[name] === undefined) delete process.env[name];
    }
  });
}
