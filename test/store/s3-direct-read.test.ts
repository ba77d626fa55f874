/** What the short way to S3 leaves to the SDK: answers that it does not understand, and servers that give only those. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { type AddressInfo } from 'node:net';
import t, { type Test } from 'tap';
import { type ObjectStore } from '../../lib/store/object-store.ts';
import { openStore } from '../../lib/store/open-store.ts';
import { bytesOf, fails } from './contract.ts';

const BODY = Buffer.from('0123456789');
const TAG = '"0123456789abcdef0123456789abcdef"';
const range = { offset: 2, length: 5 };

/** A server that counts who asks: the SDK names itself, the short way does not. */
async function serve(
  t: Test,
  answer: (request: IncomingMessage, response: ServerResponse) => void,
): Promise<{ readonly store: ObjectStore; readonly asked: { direct: number; sdk: number } }> {
  const asked = { direct: 0, sdk: 0 };
  const server = createServer((request, response) => {
    if (request.headers['user-agent'] === undefined) asked.direct++;
    else asked.sdk++;
    answer(request, response);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  process.env['AWS_ACCESS_KEY_ID'] = 'test';
  process.env['AWS_SECRET_ACCESS_KEY'] = 'test';
  const endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const store = openStore(`s3://bucket?endpoint=${encodeURIComponent(endpoint)}&pathStyle=true`);
  t.teardown(async () => {
    await store.close();
    server.closeAllConnections();
    await new Promise<void>((resolve) => server.close(() => resolve()));
  });
  return { store, asked };
}

/** @param framing how the body's end is told */
function part(response: ServerResponse, framing: 'length' | 'chunked'): void {
  const bytes = BODY.subarray(range.offset, range.offset + range.length);
  response.writeHead(206, {
    etag: TAG,
    'content-range': `bytes 2-6/${BODY.length}`,
    ...(framing === 'length' ? { 'content-length': bytes.length } : { 'x-amz-decoded-content-length': 5 }),
  });
  response.write(bytes);
  response.end();
}

function refuse(response: ServerResponse, status: number, code: string): void {
  response.writeHead(status);
  response.write(`<Error><Code>${code}</Code><Message>by plan</Message></Error>`);
  response.end();
}

const read = async (store: ObjectStore): Promise<string> =>
  String(await bytesOf((await store.get({ key: 'object', range })).body));

t.test('S3 store goes the short way once it has learned where to ask', async (t) => {
  const { store, asked } = await serve(t, (_request, response) => part(response, 'length'));
  for (let count = 0; count < 3; count++) t.equal(await read(store), '23456');
  t.strictSame(asked, { direct: 2, sdk: 1 });
});

t.test('S3 store that was prepared goes the short way from the first request on', async (t) => {
  const { store, asked } = await serve(t, (_request, response) => part(response, 'length'));
  await store.prepare?.();
  t.strictSame(asked, { direct: 0, sdk: 0 }, 'nothing was asked');
  t.equal(await read(store), '23456');
  t.strictSame(asked, { direct: 1, sdk: 0 });
});

t.test('S3 store that cannot be prepared says why when it is asked', async (t) => {
  const { store } = await serve(t, (_request, response) => part(response, 'length'));
  const { AWS_ACCESS_KEY_ID: id } = process.env;
  t.teardown(() => Object.assign(process.env, { AWS_ACCESS_KEY_ID: id }));
  const none = {
    AWS_SHARED_CREDENTIALS_FILE: '/dev/null',
    AWS_CONFIG_FILE: '/dev/null',
    AWS_EC2_METADATA_DISABLED: 'true',
  };
  Object.assign(process.env, none);
  delete process.env['AWS_ACCESS_KEY_ID'];
  await store.prepare?.();
  await fails(t, store.get({ key: 'object', range }), 'access-denied');
});

t.test('S3 store asks a server that answers in chunks through the SDK, once it knows', async (t) => {
  let framing: 'length' | 'chunked' = 'length';
  const { store, asked } = await serve(t, (_request, response) => part(response, framing));
  await read(store);
  framing = 'chunked';
  // Without a length nobody can tell whether the body is whole: refused, as every answer that does not fit.
  await fails(t, store.get({ key: 'object', range }, { deadlineMs: 20_000 }), 'corrupt');
  const { direct, sdk } = asked;
  t.equal(direct, 1);
  framing = 'length';
  t.equal(await read(store), '23456');
  t.strictSame(asked, { direct, sdk: sdk + 1 }, 'not asked the short way again');
});

t.test('S3 store reads refusals in chunks through the SDK, and goes on the short way', async (t) => {
  let refused: [status: number, code: string] | undefined;
  const { store, asked } = await serve(t, (_request, response) => {
    if (refused) refuse(response, ...refused);
    else part(response, 'length');
  });
  await read(store);
  refused = [404, 'NoSuchKey'];
  await fails(t, store.get({ key: 'object', range }), 'not-found');
  t.strictSame(asked, { direct: 1, sdk: 2 });
  refused = undefined;
  t.equal(await read(store), '23456');
  t.strictSame(asked, { direct: 2, sdk: 2 });
});

t.test('S3 store does not ask an overloaded server twice at once', async (t) => {
  let overloaded = false;
  const { store, asked } = await serve(t, (_request, response) => {
    if (overloaded) refuse(response, 503, 'SlowDown');
    else part(response, 'length');
    overloaded = false;
  });
  await read(store);
  overloaded = true;
  t.equal(await read(store), '23456');
  t.strictSame(asked, { direct: 1, sdk: 2 }, 'refused once, repeated once');
});

t.test('S3 store sends no header that could become two', async (t) => {
  const { store, asked } = await serve(t, (_request, response) => part(response, 'length'));
  await read(store);
  await fails(t, store.get({ key: 'object', range, ifMatch: 'a"\r\nx-other: "b' }), 'invalid');
  t.strictSame(asked, { direct: 0, sdk: 1 });
});
