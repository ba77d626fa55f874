/** S3 over TLS: a certificate that is not trusted is refused in words, one whose authority is named is accepted. */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createServer as createPlainServer } from 'node:http';
import { createServer } from 'node:https';
import { type AddressInfo } from 'node:net';
import { join } from 'node:path';
import t from 'tap';
import { hintOf } from '../../lib/base/errors.ts';
import { openStore } from '../../lib/store/open-store.ts';
import { needs, unmet } from '../support/requirements.ts';

t.test(
  'S3 store over TLS trusts the authority that its URL names',
  { skip: unmet(needs.openssl) },
  async (t) => {
    process.env['AWS_ACCESS_KEY_ID'] = 'test';
    process.env['AWS_SECRET_ACCESS_KEY'] = 'test';
    const directory = t.testdir({});
    const [key, cert] = [join(directory, 'key.pem'), join(directory, 'cert.pem')];
    const make =
      'openssl req -x509 -newkey rsa:2048 -nodes -days 1 -keyout "$0" -out "$1" ' +
      '-subj /CN=localhost -addext subjectAltName=DNS:localhost';
    const made = spawnSync('sh', ['-c', make, key, cert]);
    t.equal(made.status, 0);
    let requests = 0;
    const server = createServer(
      { key: readFileSync(key), cert: readFileSync(cert) },
      (_request, response) => {
        requests++;
        response.setHeader('content-length', 4);
        response.setHeader('etag', '"tag"');
        response.setHeader('last-modified', 'Sun, 06 Nov 2022 08:49:37 GMT');
        response.end('body');
      },
    );
    await new Promise<void>((resolve) => server.listen(0, 'localhost', resolve));
    t.teardown(() => server.close());
    const { port } = server.address() as AddressInfo;
    const headWith = async (endpoint: string, more = ''): Promise<unknown> => {
      const url = `s3://bucket?endpoint=${encodeURIComponent(endpoint)}&pathStyle=true${more}`;
      const store = openStore(url);
      try {
        return await store.head('object').catch((error: unknown) => error);
      } finally {
        await store.close();
      }
    };
    const trusted = `&caFile=${encodeURIComponent(cert)}`;

    const refused = await headWith(`https://localhost:${port}`);
    t.match(refused, { code: 'unavailable' });
    t.match(hintOf(refused), /caFile=/);
    t.equal(requests, 0);
    const head = await headWith(`https://localhost:${port}`, trusted);
    t.match(head, { entityTag: 'tag', sizeBytes: 4, modifiedMs: Date.UTC(2022, 10, 6, 8, 49, 37) });

    const plain = createPlainServer((_request, response) => response.end());
    await new Promise<void>((resolve) => plain.listen(0, 'localhost', resolve));
    t.teardown(() => plain.close());
    const mistaken = await headWith(`https://localhost:${(plain.address() as AddressInfo).port}`, trusted);
    t.match(mistaken, { code: 'unavailable' });
    t.match(hintOf(mistaken), /TLS/);
  },
);
