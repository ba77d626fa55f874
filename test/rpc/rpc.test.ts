/** Calls between satellite and origin: errors and hints travel, each call ends, the wire is Connect's. */
import http from 'node:http';
import http2 from 'node:http2';
import net, { type AddressInfo } from 'node:net';
import { mock } from 'node:test';
import { createClient } from '@connectrpc/connect';
import { connectNodeAdapter, createConnectTransport } from '@connectrpc/connect-node';
import t, { type Test } from 'tap';
import { type Clock, systemClock } from '../../lib/base/clock.ts';
import { OriginError, type OriginErrorCode } from '../../lib/origin/origin.ts';
import { OriginAdminService, OriginService } from '../../lib/rpc/gen/origin_pb.js';
import { createOriginClient } from '../../lib/rpc/origin-client.ts';
import { type RpcError, toConnectError } from '../../lib/rpc/rpc-errors.ts';
import { startRpcServer } from '../../lib/rpc/rpc-server.ts';
import { rpcService, type RpcServiceImpl } from '../../lib/rpc/unary-handler.ts';

const LOOPBACK = { host: '127.0.0.1', port: 0 };
const caller = {
  principal: { tenant: 'local', host: 'test', role: 'admin', provenBy: 'nothing' },
  address: 'test',
} as const;
const REQUEST = { exportName: 'data', parent: 1n, name: 'x' };

type Lookup = RpcServiceImpl<typeof OriginService>['lookup'];

function services(lookup: Lookup) {
  const empty = async () => ({});
  return [
    rpcService(OriginService, {
      openExport: empty,
      lookup,
      getAttributes: empty,
      listDirectory: empty,
      getUsage: empty,
      reportStale: empty,
    }),
    rpcService(OriginAdminService, {
      getOriginStatus: async () => ({ epoch: 7n }),
      async *inspectKeys(request) {
        if (request.keysMax === 0) throw toConnectError(new OriginError('denied', 'no', { hint: 'ask' }));
        for (let at = 0; at < request.keysMax; at++) yield { key: `k${at}`, finding: 'f' };
      },
    }),
  ];
}

async function serve(t: Test, lookup: Lookup, listen = LOOPBACK) {
  const server = await startRpcServer({
    listen,
    insecure: false,
    authorize: () => undefined,
    clock: systemClock,
    services: services(lookup),
  });
  t.teardown(() => server.close());
  return server;
}

function connect(t: Test, address: string, options: { clock?: Clock; deadlineMs?: number } = {}) {
  const client = createOriginClient({ address, clock: systemClock, deadlineMs: 10_000, ...options });
  t.teardown(() => client.close());
  return client;
}

/** A clock whose timers run when the test says so. */
function manualClock(): Clock & { fire(): void } {
  const waiting = new Set<() => void>();
  return {
    ...systemClock,
    after(_, run) {
      waiting.add(run);
      return () => waiting.delete(run);
    },
    fire() {
      for (const run of [...waiting]) run();
    },
  };
}

t.test('call carries request and answer', async (t) => {
  const { address } = await serve(t, async ({ exportName, parent, name }) => ({
    inode: { inode: parent + 1n, kind: `${exportName}/${name}` },
  }));
  const client = connect(t, address);
  const { inode } = await client.lookup(REQUEST);
  t.match(inode, { inode: 2n, kind: 'data/x' });
  t.equal((await client.lookup({ ...REQUEST, name: '\u{1f600}'.repeat(63) })).inode?.kind.length, 5 + 126);
  t.equal((await client.getOriginStatus({})).epoch, 7n);
});

t.test('code and hint of an error travel', async (t) => {
  const codes: OriginErrorCode[] = [
    'not-found',
    'not-directory',
    'invalid',
    'denied',
    'timeout',
    'unavailable',
    'unsupported',
  ];
  const { address } = await serve(t, async ({ name }) => {
    throw new OriginError(name as OriginErrorCode, `because of ${name}`, { hint: 'tu dies – 100 %' });
  });
  const client = connect(t, address);
  for (const code of codes) {
    await t.rejects(
      client.lookup({ ...REQUEST, name: code }),
      { code, message: `because of ${code}`, hint: 'tu dies – 100 %' },
      code,
    );
  }
});

t.test('fault of the server leaves no detail', async (t) => {
  const { address } = await serve(t, async () => {
    throw new TypeError('a secret');
  });
  const error = await connect(t, address)
    .lookup(REQUEST)
    .catch((thrown: RpcError) => thrown);
  t.match(error, { name: 'RpcError', code: 'failed' });
  t.notMatch(JSON.stringify(error, Object.getOwnPropertyNames(error)), 'secret');
});

t.test('wire is that of Connect, on both sides', async (t) => {
  const lookup: Lookup = async ({ name }) => {
    if (name === 'none') throw new OriginError('not-found', 'none', { hint: 'look elsewhere' });
    return { inode: { inode: 5n, kind: name } };
  };
  const { address } = await serve(t, lookup);
  const transport = createConnectTransport({ httpVersion: '2', baseUrl: `http://${address}` });
  const stock = createClient(OriginService, transport);
  t.equal((await stock.lookup(REQUEST)).inode?.kind, 'x', 'their client at our server');
  await t.rejects(stock.lookup({ ...REQUEST, name: 'none' }), { rawMessage: 'none', code: 5 });
  const json = createClient(
    OriginService,
    createConnectTransport({ httpVersion: '2', baseUrl: `http://${address}`, useBinaryFormat: false }),
  );
  t.equal((await json.lookup(REQUEST)).inode?.kind, 'x', 'what is not plain goes to the general handler');

  const theirs = http2.createServer(
    connectNodeAdapter({
      routes: (router) =>
        router.service(OriginService, {
          lookup: (request) =>
            lookup(request, caller).catch((error: unknown) => {
              throw toConnectError(error);
            }),
        }),
    }),
  );
  const sessions = new Set<http2.ServerHttp2Session>();
  theirs.on('session', (session) => sessions.add(session));
  await new Promise<void>((resolve) => theirs.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    for (const session of sessions) session.destroy();
    theirs.close();
  });
  const client = connect(t, `127.0.0.1:${(theirs.address() as AddressInfo).port}`);
  t.equal((await client.lookup(REQUEST)).inode?.kind, 'x', 'our client at their server');
  await t.rejects(client.lookup({ ...REQUEST, name: 'none' }), { code: 'not-found', hint: 'look elsewhere' });
  await t.rejects(client.getUsage({ exportName: 'data' }), { code: 'unsupported' });
});

t.test('stream carries messages and an error', async (t) => {
  const { address } = await serve(t, async () => ({}));
  const client = connect(t, address);
  const keys: string[] = [];
  for await (const { key } of client.inspectKeys({ exportName: 'data', prefix: '', keysMax: 3 }))
    keys.push(key);
  t.same(keys, ['k0', 'k1', 'k2']);
  const failing = client.inspectKeys({ exportName: 'data', prefix: '', keysMax: 0 });
  await t.rejects(failing.next(), { code: 'denied', hint: 'ask' });
});

t.test('call that gets no answer ends at its deadline', async (t) => {
  const clock = manualClock();
  let asked = (): void => undefined;
  const isAsked = new Promise<void>((resolve) => (asked = resolve));
  const { address } = await serve(t, async () => {
    asked();
    return new Promise(() => undefined);
  });
  const client = connect(t, address, { clock });
  const call = client.lookup(REQUEST);
  await isAsked;
  clock.fire();
  await t.rejects(call, { code: 'timeout' });
});

t.test('connection that is never answered ends at the deadline', async (t) => {
  const silent = net.createServer();
  const sockets: net.Socket[] = [];
  const connected = new Promise<void>((resolve) =>
    silent.on('connection', (socket) => {
      sockets.push(socket);
      resolve();
    }),
  );
  await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
    silent.close();
  });
  const clock = manualClock();
  const client = connect(t, `127.0.0.1:${(silent.address() as AddressInfo).port}`, { clock });
  const call = client.lookup(REQUEST);
  await connected;
  clock.fire();
  await t.rejects(call, { code: 'timeout' });
});

t.test("caller's signal ends a call with its reason", async (t) => {
  let asked = (): void => undefined;
  const isAsked = new Promise<void>((resolve) => (asked = resolve));
  const { address } = await serve(t, async () => {
    asked();
    return new Promise(() => undefined);
  });
  const client = connect(t, address);
  const controller = new AbortController();
  const call = client.lookup(REQUEST, { signal: controller.signal });
  await isAsked;
  controller.abort(new Error('interrupted'));
  await t.rejects(call, { message: 'interrupted' });
  await t.rejects(client.lookup(REQUEST, { signal: controller.signal }), { message: 'interrupted' });
});

t.test('client goes on after the server came back', async (t) => {
  const first = await serve(t, async () => ({ inode: { inode: 1n } }));
  const client = connect(t, first.address);
  t.equal((await client.lookup(REQUEST)).inode?.inode, 1n);
  await first.close();
  await t.rejects(client.lookup(REQUEST), { code: 'unavailable' });
  const port = Number(first.address.split(':')[1]);
  await serve(t, async () => ({ inode: { inode: 2n } }), { host: '127.0.0.1', port });
  t.equal((await client.lookup(REQUEST)).inode?.inode, 2n);
  client.close();
  await t.rejects(client.lookup(REQUEST), { code: 'unavailable' });
});

t.test('connection that broke under calls leaves nothing behind', async (t) => {
  mock.timers.enable({ apis: ['setTimeout'] });
  t.teardown(() => mock.timers.reset());
  const sockets = new Set<net.Socket>();
  let asked = 0;
  let allAsked = (): void => undefined;
  const areAsked = new Promise<void>((resolve) => (allAsked = resolve));
  const { address } = await serve(t, async () => {
    if (++asked === 20) allAsked();
    return new Promise(() => undefined);
  });
  const [host = '', port = ''] = address.split(':');
  const between = net.createServer((socket) => {
    const onward = net.connect(Number(port), host);
    socket.pipe(onward).pipe(socket);
    for (const end of [socket, onward]) sockets.add(end.on('error', () => undefined));
  });
  await new Promise<void>((resolve) => between.listen(0, '127.0.0.1', resolve));
  t.teardown(() => between.close());
  const client = connect(t, `127.0.0.1:${(between.address() as AddressInfo).port}`);
  const calls = Array.from({ length: 20 }, () => client.lookup(REQUEST));
  for (const call of calls) call.catch(() => undefined);
  await areAsked;
  for (const socket of sockets) socket.destroy();
  for (const call of calls) await t.rejects(call, { code: 'unavailable' });
  // A timer left on the dead connection would throw here, and in production where nobody can catch it.
  t.doesNotThrow(() => mock.timers.tick(60_000));
});

t.test('client that closes under calls leaves nothing behind', async (t) => {
  mock.timers.enable({ apis: ['setTimeout'] });
  t.teardown(() => mock.timers.reset());
  let asked = (): void => undefined;
  const isAsked = new Promise<void>((resolve) => (asked = resolve));
  const { address } = await serve(t, async () => {
    asked();
    return new Promise(() => undefined);
  });
  const client = connect(t, address);
  const call = client.lookup(REQUEST);
  call.catch(() => undefined);
  await isAsked;
  client.close();
  await t.rejects(call, { code: 'unavailable' });
  t.doesNotThrow(() => mock.timers.tick(60_000));
});

t.test('server that closes ends the calls under way', async (t) => {
  let asked = (): void => undefined;
  const isAsked = new Promise<void>((resolve) => (asked = resolve));
  const clock = manualClock();
  const server = await startRpcServer({
    listen: LOOPBACK,
    insecure: false,
    authorize: () => undefined,
    clock,
    services: services(async () => {
      asked();
      return new Promise(() => undefined);
    }),
  });
  const call = connect(t, server.address).lookup(REQUEST);
  call.catch(() => undefined);
  await isAsked;
  const closing = server.close();
  clock.fire();
  await closing;
  await t.rejects(call, { code: 'unavailable' });
});

t.test('wrong peers are told apart', async (t) => {
  const web = http.createServer((_, response) => response.end('hello'));
  await new Promise<void>((resolve) => web.listen(0, '127.0.0.1', resolve));
  t.teardown(() => web.close());
  const { port } = web.address() as AddressInfo;
  await t.rejects(connect(t, `127.0.0.1:${port}`).lookup(REQUEST), {
    code: 'protocol',
    hint: /perigee origin/,
  });

  const web2 = http2.createServer((_, response) => response.end('hello'));
  await new Promise<void>((resolve) => web2.listen(0, '127.0.0.1', resolve));
  t.teardown(() => web2.close());
  const other = connect(t, `127.0.0.1:${(web2.address() as AddressInfo).port}`);
  await t.rejects(other.lookup(REQUEST), { code: 'protocol', hint: /perigee origin/ });
  other.close();

  const { address } = await serve(t, async () => ({}));
  const session = http2.connect(`http://${address}`);
  t.teardown(() => session.destroy());
  const status = await new Promise((resolve) => {
    const stream = session.request({
      ':method': 'POST',
      ':path': '/perigee.v1.OriginService/Lookup',
      'content-type': 'application/proto',
    });
    stream.on('response', (headers) => resolve(headers[':status']));
    stream.end(Buffer.from([0x0a, 0xff, 0xff]));
  });
  t.equal(status, 400, 'a request that cannot be decoded');
});

t.test('addresses that make no sense are refused', async (t) => {
  const bad = ['', 'host', 'host:', ':1', 'http://host:1', 'host:1/path', 'host:99999', 'u@host:1'];
  for (const address of bad) {
    t.throws(
      () => createOriginClient({ address, clock: systemClock, deadlineMs: 1 }),
      { code: 'usage' },
      `"${address}"`,
    );
  }
  for (const host of ['0.0.0.0', '::', '192.0.2.1', 'example.net']) {
    await t.rejects(
      startRpcServer({
        listen: { host, port: 0 },
        insecure: false,
        authorize: () => undefined,
        clock: systemClock,
        services: [],
      }),
      { code: 'usage', hint: /insecure/ },
      host,
    );
  }
  const { address } = await serve(t, async () => ({}));
  const port = Number(address.split(':')[1]);
  await t.rejects(
    serve(t, async () => ({}), { host: '127.0.0.1', port }),
    {
      code: 'listen',
      hint: /another process/,
    },
  );
});
