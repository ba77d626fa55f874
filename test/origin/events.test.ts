/** Notifications of object stores: what they may look like, and what follows from them. */
import http from 'node:http';
import t from 'tap';
import { EventEndpoint } from '../../lib/origin/changes/event-endpoint.ts';
import { parseEvents } from '../../lib/origin/changes/event-messages.ts';
import { startEventServer } from '../../lib/rpc/event-server.ts';
import { createMetrics } from '../../lib/telemetry/metrics.ts';
import { pino } from 'pino';
import { startChanged } from './changes-fixture.ts';
import { MemoryStore } from './memory-store.ts';

const message = (eventName: string, key: string, bucket = 'bucket'): string =>
  JSON.stringify({ Records: [{ eventName, s3: { bucket: { name: bucket }, object: { key } } }] });

t.test('events are read as AWS, MinIO, Ceph and SNS write them', async (t) => {
  const key = 'a b/é+%';
  const encoded = 'a+b/%C3%A9%2B%25';
  for (const name of [
    'ObjectCreated:Put',
    's3:ObjectCreated:CompleteMultipartUpload',
    's3:ObjectRemoved:Delete',
  ]) {
    t.same(parseEvents(message(name, encoded)), [{ bucket: 'bucket', key }], name);
  }
  const wrapped = JSON.stringify({ Type: 'Notification', Message: message('ObjectRemoved:Delete', encoded) });
  t.same(parseEvents(wrapped), [{ bucket: 'bucket', key }]);
  t.same(parseEvents(JSON.stringify({ Service: 'Amazon S3', Event: 's3:TestEvent' })), []);
  t.same(parseEvents(message('ReducedRedundancyLostObject', 'x')), []);
});

t.test('events that are none are refused in words', async (t) => {
  t.match(parseEvents('{'), /not JSON/);
  t.match(parseEvents('{}'), /Records/);
  t.match(parseEvents('[1]'), /no notification/);
  t.match(parseEvents(message('ObjectCreated:Put', '%ZZ')), /not encoded right/);
  t.match(parseEvents('{"Records":[{"eventName":"ObjectCreated:Put","s3":{}}]}'), /bucket/);
});

t.test('events change what was told, directories that come and go included', async (t) => {
  const store = new MemoryStore();
  store.fill({ 'd/a': 'one', 'd/b': 'two', 'e/only': 'x' });
  const changed = await startChanged(t, store);
  const metrics = createMetrics();
  const endpoint = new EventEndpoint({
    exports: [changed.served],
    index: changed.index,
    logger: pino({ level: 'silent' }),
    metrics,
  });
  await changed.tree();
  store.fill({ 'd/a': 'ONE', 'd/c': 'three', 'f/g/h': 'deep' });
  store.remove('d/b');
  store.remove('e/only');
  t.equal((await changed.find('d/b'))?.kind, 'file', 'nobody has told of it yet');
  for (const key of ['d/a', 'd/b', 'd/c', 'e/only', 'f/g/h']) {
    t.same(await endpoint.take(message('ObjectCreated:Put', key)), { status: 200, text: 'done' });
  }
  t.same(await changed.tree(), {
    d: undefined,
    'd/a': 'ONE',
    'd/c': 'three',
    f: undefined,
    'f/g': undefined,
    'f/g/h': 'deep',
  });
  t.same(await endpoint.take(message('ObjectCreated:Put', 'x', 'another')), { status: 200, text: 'done' });
  t.match(await endpoint.take('junk'), { status: 400, text: /not JSON/ });
  store.before = () => {
    throw new Error('away');
  };
  t.match(await endpoint.take(message('ObjectCreated:Put', 'd/a')), { status: 503 });
  const text = await metrics.registry.getSingleMetricAsString('perigee_origin_events_total');
  for (const line of [
    'result="changed"} 5',
    'result="elsewhere"} 1',
    'result="refused"} 1',
    'result="failed"} 1',
  ]) {
    t.ok(text.includes(line), line);
  }
});

t.test('event server asks for the token, and takes only what is posted to it', async (t) => {
  const taken: string[] = [];
  const server = await startEventServer({
    listen: { host: '127.0.0.1', port: 0 },
    token: 'secret-secret-secret',
    take: async (text) => {
      taken.push(text);
      return { status: 200, text: 'done' };
    },
  });
  t.teardown(() => server.close());
  const send = (
    body: string,
    options: { readonly method?: string; readonly path?: string; readonly token?: string } = {},
  ): Promise<number> =>
    new Promise((resolve, reject) => {
      const { method = 'POST', path = '/events', token = 'secret-secret-secret' } = options;
      const request = http.request(`http://${server.address}${path}`, { method });
      request.setHeader('authorization', `Bearer ${token}`);
      request.on('response', (response) => resolve(response.resume().statusCode ?? 0));
      request.on('error', reject);
      request.end(body);
    });
  t.equal(await send('one'), 200);
  t.equal(await send('two', { token: 'other' }), 401);
  t.equal(await send('three', { path: '/' }), 404);
  t.equal(await send('', { method: 'GET' }), 405);
  t.equal(await send('x'.repeat(1024 * 1024 + 1)), 413);
  t.same(taken, ['one']);
  const open = {
    listen: { host: '0.0.0.0', port: 0 },
    token: undefined,
    take: async () => ({ status: 200, text: '' }) as const,
  };
  await t.rejects(startEventServer(open), { code: 'usage', hint: /--events-token/ });
});
