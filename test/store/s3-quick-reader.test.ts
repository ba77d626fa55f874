/** The quick reader gives exactly the bytes that were asked for, or none: every other answer is left to the store. */
import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { type AddressInfo } from 'node:net';
import t, { type Test } from 'tap';
import { systemClock, type Clock } from '../../lib/base/clock.ts';
import type { QuickRead, StoreAccess } from '../../lib/store/object-store.ts';
import { openStore } from '../../lib/store/open-store.ts';
import { S3QuickReader } from '../../lib/store/s3-quick-reader.ts';

const BODY = Buffer.from('the bytes of one version');
const MD5 = createHash('md5').update(BODY).digest('hex');

type Answer = (request: IncomingMessage, response: ServerResponse) => void;

/** A server that answers as told, and a reader of it with the access that a real store found out. */
async function serve(t: Test, clock: Clock = systemClock) {
  const server = { answer: good, asked: [] as IncomingMessage[] };
  const http = createServer((request, response) => {
    server.asked.push(request);
    server.answer(request, response);
  });
  await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve));
  process.env['AWS_ACCESS_KEY_ID'] = 'test';
  process.env['AWS_SECRET_ACCESS_KEY'] = 'test';
  const endpoint = `http://127.0.0.1:${(http.address() as AddressInfo).port}`;
  const store = openStore(`s3://bucket/in?endpoint=${encodeURIComponent(endpoint)}&pathStyle=true`);
  t.equal(await store.access?.(), undefined, 'nothing is known yet');
  await store.prepare?.();
  const access = await store.access?.();
  if (access === undefined) throw new Error('a prepared store tells its access');
  await store.close();
  const reader = new S3QuickReader({ access: structuredClone(access), clock, connectionsMax: 2 });
  t.teardown(async () => {
    reader.close();
    http.closeAllConnections();
    await new Promise<void>((resolve) => http.close(() => resolve()));
  });
  return { server, reader, access };
}

const good: Answer = (request, response) => {
  const range = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '');
  const [from, to] = range ? [Number(range[1]), Number(range[2]) + 1] : [0, BODY.length];
  const part = BODY.subarray(from, to);
  response.writeHead(range ? 206 : 200, {
    etag: `"${MD5}"`,
    'content-length': part.length,
    ...(range ? { 'content-range': `bytes ${from}-${to - 1}/${BODY.length}` } : {}),
  });
  response.end(part);
};

function ask(change: Partial<QuickRead> = {}): QuickRead & { readonly into: Buffer } {
  return {
    ...{ key: 'object', entityTag: MD5, versionId: undefined },
    ...{ sizeBytes: BODY.length, offset: 0, length: BODY.length },
    into: Buffer.alloc(100),
    ...change,
  };
}

t.test('S3 quick reader reads a whole object and a range, conditionally and signed', async (t) => {
  const { server, reader } = await serve(t);
  const whole = ask();
  t.ok(await reader.read(whole));
  t.same(whole.into.subarray(0, BODY.length), BODY);
  const part = ask({ offset: 4, length: 5 });
  t.ok(await reader.read(part));
  t.equal(part.into.toString('latin1', 0, 6), 'bytes\0', 'no byte more');
  t.equal(server.asked[0]?.url, '/bucket/in/object');
  for (const { headers } of server.asked) {
    t.equal(headers['if-match'], `"${MD5}"`);
    t.match(headers.authorization, /^AWS4-HMAC-SHA256 Credential=test\//);
  }
});

const headers = { etag: `"${MD5}"`, 'content-length': BODY.length };
const WRONG: Readonly<Record<string, Answer>> = {
  'another version': (_, response) => response.writeHead(200, { ...headers, etag: '"other"' }).end(BODY),
  'other bytes': (_, response) => response.writeHead(200, headers).end(Buffer.from(BODY).fill(0, 3, 4)),
  'a shorter object': (_, response) =>
    response.writeHead(200, { ...headers, 'content-length': 5 }).end(BODY.subarray(0, 5)),
  'a body that breaks off': (_, response) => {
    response.writeHead(200, headers).write(BODY.subarray(0, 5), () => response.destroy());
  },
  'a part of it': (_, response) =>
    response.writeHead(206, { ...headers, 'content-range': `bytes 0-${BODY.length - 1}/1000` }).end(BODY),
  'a refusal of the condition': (_, response) => response.writeHead(412).end(),
  'no such object': (_, response) => response.writeHead(404).end(),
  'a redirection': (_, response) => response.writeHead(307, { location: '/' }).end(),
  nothing: (_, response) => response.destroy(),
};

t.test('S3 quick reader leaves every other answer to the store, and goes on', async (t) => {
  t.comment(
    '4. A reader never receives bytes that belong to no committed version of the file, whatever fails.',
  );
  const { server, reader } = await serve(t);
  for (const [what, answer] of Object.entries(WRONG)) {
    server.answer = answer;
    t.notOk(await reader.read(ask()), what);
    server.answer = good;
    t.ok(await reader.read(ask()), `after ${what}`);
  }
});

t.test('S3 quick reader asks for no whole object whose MD5 nobody knows', async (t) => {
  const { server, reader, access } = await serve(t);
  t.notOk(await reader.read(ask({ entityTag: `${MD5}-2` })));
  const opaque: StoreAccess = { ...access, md5Tags: false };
  const other = new S3QuickReader({ access: opaque, clock: systemClock, connectionsMax: 1 });
  t.teardown(() => other.close());
  t.notOk(await other.read(ask()));
  t.equal(server.asked.length, 0);
});

/** Real time, but later when told. */
class LeapingClock implements Clock {
  #leaptMs = 0;
  readonly #every = new Set<() => void>();
  nowMs = (): number => systemClock.nowMs() + this.#leaptMs;
  wallMs = (): number => systemClock.wallMs();
  after: Clock['after'] = (delayMs, run, options) => systemClock.after(delayMs, run, options);
  every(_periodMs: number, run: () => void): () => void {
    this.#every.add(run);
    return () => this.#every.delete(run);
  }
  leap(byMs: number): void {
    this.#leaptMs += byMs;
    for (const run of this.#every) run();
  }
}

t.test('S3 quick reader gives up a request that is answered late, or only in part', async (t) => {
  const clock = new LeapingClock();
  const { server, reader } = await serve(t, clock);
  for (const part of [undefined, BODY.subarray(0, 5)]) {
    const { promise: arrived, resolve } = Promise.withResolvers<void>();
    server.answer = (_, response) => {
      if (part === undefined) return resolve();
      response.writeHead(200, headers).write(part, () => resolve());
    };
    const late = reader.read(ask());
    await arrived;
    clock.leap(2_000);
    server.answer = good;
    t.ok(await reader.read(ask()), 'a later one is not concerned');
    clock.leap(2_000);
    t.notOk(await late);
  }
});

t.test('S3 quick reader leaves a server alone that refuses, for a while', async (t) => {
  const clock = new LeapingClock();
  const { server, reader } = await serve(t, clock);
  for (const status of [403, 429, 503]) {
    server.answer = (_, response) => response.writeHead(status).end();
    const before = server.asked.length;
    t.notOk(await reader.read(ask()));
    server.answer = good;
    t.notOk(await reader.read(ask()));
    t.equal(server.asked.length, before + 1, `asked once while it answers ${status}`);
    clock.leap(1_500);
    t.ok(await reader.read(ask()));
  }
});

t.test('S3 quick reader asks a server no more whose successes it does not understand', async (t) => {
  const { server, reader } = await serve(t);
  server.answer = (_, response) => {
    response.writeHead(200, { etag: headers.etag }).write(BODY);
    response.end();
  };
  t.notOk(await reader.read(ask()));
  t.notOk(await reader.read(ask()));
  t.equal(server.asked.length, 1);
});
