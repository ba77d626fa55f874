/** Mutual TLS: who shows what, who trusts whom, and what both sides are told; files that change. */
import fs from 'node:fs';
import path from 'node:path';
import { createClient } from '@connectrpc/connect';
import { createConnectTransport } from '@connectrpc/connect-node';
import t from 'tap';
import { type ClientCredentialFiles } from '../../lib/rpc/client-credentials.ts';
import { LeaseService, OriginService } from '../../lib/rpc/gen/origin_pb.js';
import { principalOfSubject } from '../../lib/rpc/principal.ts';
import { FakeClock } from '../cli/fakes.ts';
import { TestAuthority } from '../support/certificates.ts';
import { connect, drain, makeCertificates, REQUEST, serve } from './guarded-server.ts';

t.test('a certificate tells tenant, host and role to every kind of handler', async (t) => {
  const { authority, server } = await makeCertificates(t);
  const { address, callers, refusals } = await serve(t, server);
  const principal = { tenant: 'research', host: 'gpu-1', role: 'write', provenBy: 'certificate' } as const;
  const files = await authority.client('gpu-1', principal);
  const client = connect(t, address, files);
  await client.lookup(REQUEST);
  t.same(
    await drain(client.inspectKeys({ exportName: 'data', prefix: '', keysMax: 1 })).then((all) => all.length),
    1,
  );

  const general = createConnectTransport({
    httpVersion: '2',
    baseUrl: `https://${address}`,
    useBinaryFormat: false,
    nodeOptions: {
      ca: fs.readFileSync(files.tlsCa),
      cert: fs.readFileSync(files.tlsCert),
      key: fs.readFileSync(files.tlsKey),
    },
  });
  await createClient(OriginService, general).lookup(REQUEST);
  async function* hello() {
    yield { message: { case: 'hello' as const, value: { exportName: 'data' } } };
  }
  const answers = await drain(createClient(LeaseService, general).session(hello()));
  t.match(answers, [{ message: { value: { session: 'hello' } } }]);
  t.same(callers, [principal, principal, principal, principal]);
  t.same(refusals, []);
});

t.test(
  'clients that show the wrong certificate, or none, are refused in words before any handler runs',
  async (t) => {
    const { directory, authority, server } = await makeCertificates(t);
    const { address, callers, refusals } = await serve(t, server);
    const other = await TestAuthority.make(path.join(directory, 'theirs'));
    const foreign = await other.client('foreign');
    const cases: Record<string, [ClientCredentialFiles, RegExp, RegExp, string]> = {
      none: [
        { tlsCa: server.tlsCa },
        /asks for a certificate, and the client showed none/,
        /--tls-cert/,
        'credentials',
      ],
      foreign: [
        { ...foreign, tlsCa: server.tlsCa },
        /another authority has issued it/,
        /own authority/,
        'certificate',
      ],
      expired: [
        await authority.client('old', { expired: true }),
        /it has expired/,
        /perigee origin certify/,
        'certificate',
      ],
      "the origin's own": [server, /it was not made for clients/, /own authority/, 'certificate'],
      'no role': [
        await authority.client('odd', { role: 'root' as 'read' }),
        /"root" is no role/,
        /OU \(read, write or admin\)/,
        'certificate',
      ],
    };
    for (const [name, [files, message, hint, reason]] of Object.entries(cases)) {
      const client = connect(t, address, files);
      await t.rejects(client.lookup(REQUEST), { code: 'denied', message, hint }, `${name}: lookup`);
      const stream = client.inspectKeys({ exportName: 'data', prefix: '', keysMax: 1 });
      await t.rejects(drain(stream), { code: 'denied', message, hint }, `${name}: a stream`);
      t.match(refusals.splice(0), [{ reason, call: { method: 'Lookup' } }, { reason }], name);
    }
    t.same(callers, []);
  },
);

t.test('clients refuse an origin that they cannot know', async (t) => {
  const { directory, authority, server } = await makeCertificates(t);
  const files = await authority.client('gpu-1');
  const other = await TestAuthority.make(path.join(directory, 'theirs'));
  const { address, port, refusals } = await serve(t, server);
  await t.rejects(connect(t, address, { ...files, tlsCa: other.caFile }).lookup(REQUEST), {
    code: 'denied',
    message: /issued by an authority that --tls-ca does not name/,
    hint: /--tls-ca/,
  });
  const expired = await serve(t, await authority.server('expired', { expired: true }));
  await t.rejects(connect(t, expired.address, files).lookup(REQUEST), {
    code: 'denied',
    message: /has expired/,
    hint: /certify/,
  });
  const named = await serve(t, await authority.server('named', { hosts: ['origin.example'] }));
  await t.rejects(connect(t, named.address, files).lookup(REQUEST), {
    code: 'denied',
    message: /for other names/,
    hint: /--host/,
  });
  await connect(t, `localhost:${port}`, files).lookup(REQUEST);
  t.same(
    refusals.filter(({ reason }) => reason !== 'handshake'),
    [],
  );
});

t.test('plain and encrypted ports are told apart', async (t) => {
  const { authority, server } = await makeCertificates(t);
  const encrypted = await serve(t, server);
  const plain = await serve(t, {});
  await t.rejects(connect(t, encrypted.address).lookup(REQUEST), {
    code: /unavailable|protocol/,
    hint: /if it is encrypted, give --tls-ca/,
  });
  t.match(encrypted.refusals, [{ reason: 'handshake', error: { message: /speaks plain text/ } }]);
  await t.rejects(connect(t, plain.address, await authority.client('gpu-1')).lookup(REQUEST), {
    code: 'protocol',
    message: /no encryption at that port/,
    hint: /leave --tls-ca/,
  });
  t.same(plain.callers, []);
});

t.test('files that make no sense are refused at the start', async (t) => {
  const { directory, authority, server } = await makeCertificates(t);
  const files = await authority.client('gpu-1');
  const junk = path.join(directory, 'junk');
  fs.writeFileSync(junk, 'junk', { mode: 0o600 });
  const cases: [ClientCredentialFiles, RegExp][] = [
    [{ ...files, tlsKey: undefined }, /go together/],
    [{ ...files, tlsCa: undefined }, /needs --tls-ca/],
    [{ ...files, tlsKey: server.tlsKey }, /not the one of the certificate/],
    [{ ...files, tlsCert: junk }, /--tls-cert: there is no certificate/],
    [{ ...files, tlsKey: junk }, /--tls-key: there is no private key/],
    [{ ...files, tlsCa: junk }, /--tls-ca: there is no certificate/],
    [{ ...files, tlsCa: path.join(directory, 'missing') }, /--tls-ca: cannot read/],
  ];
  for (const [wrong, message] of cases) {
    t.throws(() => connect(t, '127.0.0.1:1', wrong), { code: 'usage', message }, message.source);
  }
  fs.chmodSync(files.tlsKey, 0o644);
  t.throws(() => connect(t, '127.0.0.1:1', files), {
    code: 'usage',
    message: /every user of this host may read/,
  });
  await t.rejects(serve(t, { tlsCert: server.tlsCert, tlsKey: server.tlsKey }), {
    code: 'usage',
    message: /TLS alone does not tell who connects/,
  });
  await t.rejects(serve(t, { tlsCa: server.tlsCa }), {
    code: 'usage',
    message: /nothing without --tls-cert/,
  });
  await t.rejects(serve(t, { ...server, tlsCa: junk }), { code: 'usage', message: /--tls-ca/ });
});

t.test('new certificates are used for new connections, while open ones go on', async (t) => {
  const { directory, authority, server } = await makeCertificates(t);
  const { address, clock, callers } = await serve(t, server);
  const old = connect(t, address, await authority.client('old'));
  await old.lookup(REQUEST);

  // The origin moves to another authority, one file after the other.
  const next = await TestAuthority.make(path.join(directory, 'next'));
  const fresh = await next.server('origin');
  const newcomer = await next.client('new');
  fs.copyFileSync(fresh.tlsCert, server.tlsCert);
  clock.pass(1_000);
  await t.rejects(
    connect(t, address, newcomer).lookup(REQUEST),
    { code: 'denied' },
    'half of it changes nothing',
  );
  await connect(t, address, await authority.client('still')).lookup(REQUEST);
  fs.copyFileSync(fresh.tlsKey, server.tlsKey);
  fs.copyFileSync(next.caFile, server.tlsCa);
  clock.pass(1_000);
  await connect(t, address, newcomer).lookup(REQUEST);
  await old.lookup(REQUEST);
  t.same(
    callers.map(({ host }) => host),
    ['old', 'still', 'new', 'old'],
  );
  await t.rejects(
    connect(t, address, { ...(await authority.client('late')), tlsCa: next.caFile }).lookup(REQUEST),
    { code: 'denied', message: /another authority/ },
  );
});

t.test('who was refused may come back with a better certificate, with no restart', async (t) => {
  const { authority, server } = await makeCertificates(t);
  const { address, callers } = await serve(t, server);
  const clock = new FakeClock();
  const client = connect(t, address, await authority.client('gpu-1', { expired: true }), clock);
  await t.rejects(client.lookup(REQUEST), { code: 'denied', message: /expired/ });
  await authority.client('gpu-1');
  clock.pass(1_000);
  await client.lookup(REQUEST);
  t.match(callers, [{ host: 'gpu-1' }]);
});

t.test('a subject names one tenant, one host and one role', async (t) => {
  const subject = { O: 't', CN: 'h', OU: 'write' };
  t.same(principalOfSubject(subject), { tenant: 't', host: 'h', role: 'write', provenBy: 'certificate' });
  const cases: [Record<string, unknown>, RegExp][] = [
    [{ ...subject, O: undefined }, /names no O, which is the tenant/],
    [{ ...subject, CN: undefined }, /names no CN, which is the host/],
    [{ ...subject, OU: undefined }, /names no OU, which is the role/],
    [{ ...subject, OU: ['read', 'admin'] }, /more than one OU/],
    [{ ...subject, OU: 'Write' }, /"Write" is no role/],
    [{ ...subject, O: '*' }, /"\*" is no name of a tenant/],
    [{ ...subject, CN: 'a b' }, /"a b" is no host/],
  ];
  for (const [wrong, message] of cases) {
    t.throws(() => principalOfSubject(wrong), { code: 'unauthenticated', reason: 'certificate', message });
  }
});
