/** The proxies that stand before stores in tests: without a fault nothing changes, with a seed the same faults happen again. */
import { createServer, get, type IncomingMessage } from 'node:http';
import { type AddressInfo } from 'node:net';
import t, { type Test } from 'tap';
import { startLatencyProxy } from './latency-proxy.ts';
import { startStoreProxy } from './store-proxy.ts';

/** Answers with what it was asked. */
async function startEcho(t: Test): Promise<string> {
  const server = createServer((request, response) => {
    response.setHeader('x-path', request.url ?? '');
    response.setHeader('x-host', request.headers.host ?? '');
    request.pipe(response);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => server.close());
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

const body = 'x'.repeat(300_000);

async function ask(endpoint: string): Promise<unknown[]> {
  try {
    const answer = await fetch(`${endpoint}/a%20b?c=%2F`, { method: 'POST', body });
    const sameHost = answer.headers.get('x-host') === new URL(endpoint).host;
    return [answer.status, answer.headers.get('x-path'), sameHost, (await answer.text()) === body];
  } catch {
    return ['broken'];
  }
}

t.test('proxies pass requests and answers on as they are', async (t) => {
  const target = await startEcho(t);
  for (const proxy of [
    await startStoreProxy({ target, seed: 1 }),
    await startStoreProxy({
      target,
      seed: 1,
      faults: [{ fault: { kind: 'bandwidth', bytesPerSecond: 1e8 } }],
    }),
    await startLatencyProxy({ target, delayMs: 2 }),
  ]) {
    t.strictSame(await ask(proxy.endpoint), [200, '/a%20b?c=%2F', true, true]);
    await proxy.close();
    t.strictSame(await ask(proxy.endpoint), ['broken'], 'closed');
  }
});

t.test('latency proxy passes large answers on whole, several at once, to readers that pause', async (t) => {
  // More than the system takes in before somebody reads, so that the proxy has to wait with what it has read.
  const words = Uint32Array.from({ length: 8 * 1024 * 1024 }, (_, at) => Math.imul(at + 1, 2654435761));
  const bytes = Buffer.from(words.buffer);
  const server = createServer((_request, response) => response.end(bytes));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const target = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const proxy = await startLatencyProxy({ target, delayMs: 1 });
  t.teardown(async () => {
    await proxy.close();
    server.close();
  });
  const read = async (): Promise<void> => {
    const answer = await new Promise<IncomingMessage>((resolve, reject) =>
      get(proxy.endpoint, { agent: false }, resolve).on('error', reject),
    );
    const pieces: Buffer[] = [];
    for await (const piece of answer) {
      pieces.push(piece as Buffer);
      for (let turns = 0; turns < 20; turns++) await new Promise((resolve) => setImmediate(resolve));
    }
    t.ok(Buffer.concat(pieces).equals(bytes));
  };
  await Promise.all([read(), read()]);
});

t.test('store proxy repeats its faults with its seed', async (t) => {
  const target = await startEcho(t);
  const runs: unknown[][] = [];
  for (const seed of [5, 5, 6]) {
    const proxy = await startStoreProxy({
      target,
      seed,
      faults: [
        { fault: { kind: 'status', status: 503, code: 'SlowDown' }, probability: 0.3 },
        { fault: { kind: 'reset', afterBytes: 100_000 }, probability: 0.3 },
        { fault: { kind: 'truncate', afterBytes: 5 }, skip: 3, timesMax: 1 },
      ],
    });
    const outcomes: unknown[] = [];
    for (let i = 0; i < 20; i++) outcomes.push((await ask(proxy.endpoint))[0]);
    t.equal(proxy.counters.requests, 20);
    t.equal(proxy.counters.faults['truncate'], 1);
    t.equal(outcomes.filter((outcome) => outcome === 503).length, proxy.counters.faults['status']);
    runs.push(outcomes);
    await proxy.close();
  }
  t.strictSame(runs[0], runs[1]);
  t.notSame(runs[0], runs[2]);
});
