/** The gate that every call passes, whichever way it comes, and what handlers are told of their caller. */
import http2 from 'node:http2';
import { createClient } from '@connectrpc/connect';
import { createConnectTransport } from '@connectrpc/connect-node';
import t from 'tap';
import { systemClock } from '../../lib/base/clock.ts';
import { LeaseService, OriginService } from '../../lib/rpc/gen/origin_pb.js';
import { AccessError } from '../../lib/rpc/principal.ts';
import { startRpcServer } from '../../lib/rpc/rpc-server.ts';
import { rpcService } from '../../lib/rpc/unary-handler.ts';
import { connect, drain, REQUEST, serve } from './guarded-server.ts';

t.test('each call is authorized with its method and export, whichever way it comes', async (t) => {
  const seen: [string, string][] = [];
  const { address, callers, refusals } = await serve(
    t,
    {},
    {
      authorize(_, { method, exportName }) {
        seen.push([method, exportName]);
        throw new AccessError('role', `no ${method} on ${exportName}`, { hint: 'ask somebody' });
      },
    },
  );
  const client = connect(t, address);
  const refused = { code: 'denied', hint: 'ask somebody' };
  await t.rejects(client.lookup(REQUEST), { ...refused, message: 'no Lookup on data' });
  await t.rejects(client.getOriginStatus({}), refused);
  await t.rejects(drain(client.inspectKeys({ exportName: 'e', prefix: '', keysMax: 1 })), refused);
  for (const useBinaryFormat of [true, false]) {
    const general = createConnectTransport({
      httpVersion: '2',
      baseUrl: `http://${address}`,
      useBinaryFormat,
    });
    const wire = { message: /\] no / };
    await t.rejects(createClient(OriginService, general).getUsage({ exportName: 'u' }), wire);
    async function* hello() {
      yield { message: { case: 'hello' as const, value: { exportName: 's' } } };
      yield { message: { case: 'heartbeat' as const, value: { number: 1n } } };
    }
    await t.rejects(drain(createClient(LeaseService, general).session(hello())), wire);
  }
  t.same(seen, [
    ['Lookup', 'data'],
    ['GetOriginStatus', ''],
    ['InspectKeys', 'e'],
    ['GetUsage', 'u'],
    ['Session', 's'],
    ['GetUsage', 'u'],
    ['Session', 's'],
  ]);
  t.same(callers, [], 'no handler has run');
  t.equal(refusals.length, seen.length);
  t.match(refusals[0], { principal: { tenant: 'local' }, address: '127.0.0.1', reason: 'role' });
});

t.test('a stream that says nothing ends at its deadline, before its handler has run', async (t) => {
  const { address, callers, clock } = await serve(t, {});
  const general = createConnectTransport({
    httpVersion: '2',
    baseUrl: `http://${address}`,
    useBinaryFormat: true,
  });
  let release = (): void => undefined;
  const silence = new Promise<void>((resolve) => (release = resolve));
  async function* silent() {
    await silence;
    yield { message: { case: 'goodbye' as const, value: {} } };
  }
  const ended = drain(createClient(LeaseService, general).session(silent()));
  const rejected = t.rejects(ended, { message: /first message of a stream did not come/ });
  const pressing = setInterval(() => clock.pass(1_000), 5);
  await rejected;
  clearInterval(pressing);
  release();
  t.same(callers, []);
});

t.test('a handler hears when its caller goes away', async (t) => {
  let heard = (_reason: unknown): void => undefined;
  const reason = new Promise((resolve) => (heard = resolve));
  let asked = (): void => undefined;
  const isAsked = new Promise<void>((resolve) => (asked = resolve));
  const empty = async () => ({});
  const server = await startRpcServer({
    listen: { host: '127.0.0.1', port: 0 },
    insecure: false,
    authorize: () => undefined,
    clock: systemClock,
    services: [
      rpcService(OriginService, {
        openExport: empty,
        async lookup(_, { signal }) {
          signal?.addEventListener('abort', () => heard(signal.reason));
          asked();
          await reason;
          return {};
        },
        getAttributes: empty,
        listDirectory: empty,
        getUsage: async (_, { signal }) => ({ inodesUsed: signal?.aborted === true ? 1n : 0n }),
        reportStale: empty,
      }),
    ],
  });
  t.teardown(() => server.close());
  const client = connect(t, server.address);
  t.equal((await client.getUsage({ exportName: 'data' })).inodesUsed, 0n);
  const abort = new AbortController();
  const call = client.lookup(REQUEST, { signal: abort.signal });
  await isAsked;
  abort.abort(new Error('enough'));
  await t.rejects(call, { message: 'enough' });
  t.match(await reason, { rawMessage: 'the caller went away' });
});

t.test('whatever authority and path a client names, the server goes on', async (t) => {
  const { address, callers } = await serve(t, {});
  const session = http2.connect(`http://${address}`);
  t.teardown(() => session.destroy());
  const inspectKeys = '/perigee.v1.OriginAdminService/InspectKeys';
  const statusOf = (authority: string, path: string) =>
    new Promise((resolve) => {
      const stream = session.request({
        ':method': 'POST',
        ':authority': authority,
        ':path': path,
        'content-type': 'application/connect+proto',
      });
      stream.on('response', (headers) => resolve(headers[':status']));
      stream.on('error', () => resolve('reset'));
      stream.resume();
      // An envelope with an empty message.
      stream.end(Buffer.alloc(5));
    });
  for (const authority of ['::1:7420', '%', ':', '[::1]:7420', 'x'.repeat(10_000)]) {
    t.equal(await statusOf(authority, inspectKeys), 200, authority.slice(0, 20));
  }
  for (const path of [
    '//',
    '/',
    '*',
    `${inspectKeys}?a=%`,
    `${inspectKeys}?//[`,
    '/%',
    inspectKeys.slice(1),
  ]) {
    t.ok(await statusOf('origin', path), path);
  }
  const before = callers.length;
  await connect(t, address).lookup(REQUEST);
  t.equal(callers.length, before + 1);
});

t.test('calls and streams reach an origin at an IPv6 address', async (t) => {
  const { address, callers } = await serve(t, {}, { host: '::1' });
  const client = connect(t, address);
  await client.lookup(REQUEST);
  await drain(client.inspectKeys({ exportName: 'data', prefix: '', keysMax: 1 }));
  t.match(callers, [{ host: '::1' }, { host: '::1' }]);
});
