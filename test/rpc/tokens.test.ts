/** Tokens, in TLS and in plain text, and what happens without any. */
import { PassThrough } from 'node:stream';
import { Code, createClient } from '@connectrpc/connect';
import { createConnectTransport } from '@connectrpc/connect-node';
import t, { type Test } from 'tap';
import { LeaseService, type OriginMessage } from '../../lib/rpc/gen/origin_pb.js';
import { FakeClock } from '../cli/fakes.ts';
import { connect, drain, makeCertificates, REQUEST, serve, TOKEN, writeTokens } from './guarded-server.ts';

t.test('plain text on this host makes everybody the admin of the tenant local', async (t) => {
  const { address, callers } = await serve(t, {});
  await connect(t, address).lookup(REQUEST);
  t.same(callers, [{ tenant: 'local', host: '127.0.0.1', role: 'admin', provenBy: 'nothing' }]);
});

t.test('a token tells who calls; a wrong one or none is refused', async (t) => {
  const { server } = await makeCertificates(t);
  const { tokens, tokenFile } = writeTokens(
    t,
    `- {token: ${TOKEN}, tenant: ops, host: h9, role: admin}\n- {token: ${TOKEN}2, tenant: any, role: read}`,
  );
  for (const [name, files, tlsCa] of [
    ['plain text', { tokens }, undefined],
    ['TLS', { tlsCert: server.tlsCert, tlsKey: server.tlsKey, tokens }, server.tlsCa],
  ] as const) {
    const { address, callers, refusals } = await serve(t, files);
    const client = connect(t, address, { tlsCa, tokenFile: tokenFile(TOKEN) });
    await client.lookup(REQUEST);
    await drain(client.inspectKeys({ exportName: 'data', prefix: '', keysMax: 1 }));
    await connect(t, address, { tlsCa, tokenFile: tokenFile(`${TOKEN}2`, 'second') }).lookup(REQUEST);
    const ops = { tenant: 'ops', host: 'h9', role: 'admin', provenBy: 'token' };
    t.same(
      callers.splice(0),
      [ops, ops, { tenant: 'any', host: '127.0.0.1', role: 'read', provenBy: 'token' }],
      name,
    );

    const wrong = connect(t, address, { tlsCa, tokenFile: tokenFile(`${TOKEN}3`, 'third') });
    const unknown = { code: 'denied', message: /does not know the token/, hint: /--token-file/ };
    await t.rejects(wrong.lookup(REQUEST), unknown, `${name}: a wrong token`);
    await t.rejects(drain(wrong.inspectKeys({ exportName: 'data', prefix: '', keysMax: 1 })), unknown);
    const none = connect(t, address, { tlsCa });
    await t.rejects(
      none.lookup(REQUEST),
      { code: 'denied', message: /asks for a token/ },
      `${name}: no token`,
    );
    t.same(callers, []);
    t.same(
      refusals.map(({ reason }) => reason),
      ['token', 'token', 'credentials'],
    );
  }
});

t.test('with an authority and tokens at the origin, either is enough', async (t) => {
  const { authority, server } = await makeCertificates(t);
  const { tokens, tokenFile } = writeTokens(t, `- {token: ${TOKEN}, tenant: ops, role: admin}`);
  const { address, callers } = await serve(t, { ...server, tokens });
  await connect(t, address, await authority.client('gpu-1')).lookup(REQUEST);
  await connect(t, address, { tlsCa: server.tlsCa, tokenFile: tokenFile(TOKEN) }).lookup(REQUEST);
  t.match(callers, [{ provenBy: 'certificate' }, { provenBy: 'token' }]);
  await t.rejects(connect(t, address, { tlsCa: server.tlsCa }).lookup(REQUEST), {
    message: /a certificate or a token/,
  });
  const both = { ...(await authority.client('gpu-2')), tokenFile: tokenFile(`${TOKEN}9`, 'wrong') };
  await t.rejects(connect(t, address, both).lookup(REQUEST), { message: /does not know the token/ });
});

t.test(
  'a token that is taken out, or comes in, counts from the next call of the same connection',
  async (t) => {
    const entry = `- {token: ${TOKEN}, tenant: ops, role: admin}`;
    const { tokens, rewrite, tokenFile } = writeTokens(t, entry);
    const { address, clock, callers } = await serve(t, { tokens });
    const clientClock = new FakeClock();
    const client = connect(t, address, { tokenFile: tokenFile(TOKEN) }, clientClock);
    await client.lookup(REQUEST);
    rewrite('[]');
    clock.pass(1_000);
    await t.rejects(client.lookup(REQUEST), { code: 'denied' });
    rewrite('nonsense');
    clock.pass(1_000);
    await t.rejects(client.lookup(REQUEST), { code: 'denied' }, 'a file that makes no sense changes nothing');
    rewrite(`- {token: ${TOKEN}-new, tenant: ops, role: read}`);
    clock.pass(1_000);
    tokenFile(`${TOKEN}-new`);
    clientClock.pass(1_000);
    await client.lookup(REQUEST);
    t.match(callers, [{ role: 'admin' }, { role: 'read' }]);
  },
);

t.test('a stream ends with the token that it was opened with, and no other does', async (t) => {
  const entries = ['one', 'two'].map((name) => `- {token: ${TOKEN}-${name}, tenant: ${name}, role: read}`);
  const { tokens, rewrite, tokenFile } = writeTokens(t, entries.join('\n'));
  const { address, clock } = await serve(t, { tokens });
  const open = async (name: string) => {
    const stream = openSession(t, { address, token: `${TOKEN}-${name}` });
    t.equal(await stream.ask(), 'hello', name);
    return stream;
  };
  const [one, two] = [await open('one'), await open('two')];
  rewrite(entries[1] ?? '');
  clock.pass(1_000);
  await t.rejects(one.ask(), { code: Code.Canceled }, 'it has ended');
  t.equal(await two.ask(), 'heartbeat');
  await connect(t, address, { tokenFile: tokenFile(`${TOKEN}-two`) }).lookup(REQUEST);
});

t.test('a token never travels to another host in plain text, unless told so', async (t) => {
  const { tokenFile } = writeTokens(t, '[]');
  const { authority } = await makeCertificates(t);
  const files = { tokenFile: tokenFile(TOKEN) };
  for (const address of ['192.0.2.1:1', 'origin.example:1', '[2001:db8::1]:1', '[::ffff:127.0.0.1]:1']) {
    t.throws(
      () => connect(t, address, files),
      { code: 'usage', message: /plain text/, hint: /--tls-ca/ },
      address,
    );
    connect(t, address, { ...files, insecure: true });
    connect(t, address, { ...files, tlsCa: authority.caFile });
  }
  for (const address of ['127.0.0.1:1', 'localhost:1', '[::1]:1']) connect(t, address, files);
});

/** A lease stream that sends a message for each question. */
function openSession(t: Test, { address, token }: { readonly address: string; readonly token: string }) {
  const transport = createConnectTransport({
    httpVersion: '2',
    baseUrl: `http://${address}`,
    interceptors: [
      (next) => (request) => {
        request.header.set('authorization', `Bearer ${token}`);
        return next(request);
      },
    ],
  });
  const questions = new PassThrough({ objectMode: true });
  const ending = new AbortController();
  t.teardown(() => ending.abort());
  async function* messages() {
    yield { message: { case: 'hello' as const, value: { exportName: 'data' } } };
    for await (const number of questions)
      yield { message: { case: 'heartbeat' as const, value: { number: number as bigint } } };
  }
  const answers = createClient(LeaseService, transport)
    .session(messages(), { signal: ending.signal })
    [Symbol.asyncIterator]();
  let isFirst = true;
  return {
    async ask(): Promise<string | undefined> {
      if (!isFirst) questions.write(1n);
      isFirst = false;
      const { value } = await answers.next();
      const { message } = value as OriginMessage;
      return message.case === 'welcome' ? message.value.session : undefined;
    },
  };
}
