import fc from 'fast-check';
import t from 'tap';
import { type z } from 'zod';
import { nearMiss } from '../../lib/config/near-miss.ts';
import { parseSource, storeUrlSchema } from '../../lib/config/names.ts';
import {
  durationSchema,
  endpointSchema,
  formatEndpoint,
  formatSize,
  labelsSchema,
  parseEndpoint,
  sizeSchema,
  switchSchema,
} from '../../lib/config/values.ts';

/** The value, or the words of the refusal. */
function read<T>(schema: z.ZodType<T>, given: unknown): T | string {
  const result = schema.safeParse(given);
  return result.success ? result.data : (result.error.issues[0]?.message ?? '');
}

t.test('a size takes binary units in any case, and plain bytes', async (t) => {
  const schema = sizeSchema({ min: 0 });
  const cases: [unknown, number][] = [
    ['0', 0],
    [1024, 1024],
    ['7b', 7],
    ['512KiB', 512 * 1024],
    [' 1.5 MiB ', 1.5 * 1024 ** 2],
    ['100gib', 100 * 1024 ** 3],
    ['2TiB', 2 * 1024 ** 4],
  ];
  for (const [given, size] of cases) t.equal(read(schema, given), size, String(given));
});

t.test('a size refuses what is none', async (t) => {
  const schema = sizeSchema({ min: 0 });
  for (const given of [
    '',
    'x',
    '1GB',
    '1k',
    '1PiB',
    '-1',
    -1,
    NaN,
    Infinity,
    1.5e300,
    null,
    true,
    '1 2',
    '1e3',
  ]) {
    t.equal(read(schema, given), 'is not a size', String(given));
  }
});

t.test('a size that is written is read back', async () => {
  const schema = sizeSchema({ min: 0 });
  const powers = fc.tuple(fc.integer({ min: 1, max: 1023 }), fc.constantFrom(...[0, 1, 2, 3, 4]));
  fc.assert(
    fc.property(
      powers,
      ([count, power]) => read(schema, formatSize(count * 1024 ** power)) === count * 1024 ** power,
    ),
  );
});

t.test('a duration needs a unit', async (t) => {
  const schema = durationSchema({ minMs: 0 });
  const cases: [string, number][] = [
    ['0ms', 0],
    ['500ms', 500],
    ['10s', 10_000],
    ['1.5 m', 90_000],
    ['2h', 7_200_000],
    ['7d', 604_800_000],
  ];
  for (const [given, durationMs] of cases) t.equal(read(schema, given), durationMs, given);
  for (const given of ['', '5', 5, '-1s', '1 year', '1w', 'NaNs', `${'9'.repeat(400)}s`]) {
    t.equal(read(schema, given), 'is not a duration', String(given));
  }
});

t.test('an endpoint is a host and a port', async (t) => {
  const cases: [string, string, number][] = [
    ['localhost:1', 'localhost', 1],
    ['10.0.0.1:7420', '10.0.0.1', 7420],
    ['[::1]:65535', '::1', 65535],
    ['[fe80::1]:80', 'fe80::1', 80],
    ['node-1.cluster.local:80', 'node-1.cluster.local', 80],
  ];
  for (const [text, host, port] of cases) {
    t.same(parseEndpoint(text), { host, port });
    t.equal(formatEndpoint({ host, port }), text);
  }
  const wrong: [string, string][] = [
    ['', 'has no port'],
    ['host', 'has no port'],
    ['host:', 'has no port'],
    [':1', 'has no host'],
    ['[]:1', 'has no host'],
    ['host:http', 'is not host:port'],
    ['host:99999', 'has a port over 65535'],
    ['::1', 'has more than one colon, but no brackets around an IPv6 address'],
    ['http://host:1', 'is not host:port'],
    ['[::1]', 'has no port'],
    ['[nope]:1', 'has no valid host in "nope"'],
    ['a b:1', 'has no valid host in "a b"'],
    ['-x:1', 'has no valid host in "-x"'],
  ];
  for (const [text, why] of wrong) t.equal(parseEndpoint(text), why, text);
  t.equal(read(endpointSchema('connect'), 'h:0'), 'has port 0, where nothing can listen');
  t.same(read(endpointSchema('listen'), 'h:0'), { host: 'h', port: 0 });
});

t.test('an endpoint or a source of any text is a value or a refusal, never a crash', async () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), (text) => {
      const endpoint = parseEndpoint(text);
      if (typeof endpoint !== 'string') parseEndpoint(formatEndpoint(endpoint));
      try {
        parseSource(text);
      } catch (error) {
        return (error as Error).name === 'UsageError';
      }
      return true;
    }),
  );
});

t.test('a source is taken apart and put together again', async (t) => {
  t.same(parseSource('[::1]:7420/data.set-1_x'), { origin: '[::1]:7420', exportName: 'data.set-1_x' });
  t.throws(() => parseSource('http://host:1/x'), { name: 'UsageError', hint: /host:port\/name/ });
});

t.test('labels come as a map, a list or a line', async (t) => {
  const labels = { rack: 'a1', unit: '7', on: 'true' };
  t.same(read(labelsSchema, { rack: 'a1', unit: 7, on: true }), labels);
  t.same(read(labelsSchema, ['rack=a1', 'unit=7', 'on=true']), labels);
  t.same(read(labelsSchema, 'rack=a1,unit=7, on=true'), labels);
  t.same(read(labelsSchema, { rack: { a: 1 } }), 'is not key=value');
  t.same(read(labelsSchema, 'a b=1'), 'has no valid name in "a b"');
  t.same(read(labelsSchema, '__proto__=1'), JSON.parse('{"__proto__":"1"}'));
});

t.test('a switch is true or false', async (t) => {
  for (const given of [true, 'true', 'YES', 'on', '1', 1]) t.equal(read(switchSchema, given), true);
  for (const given of [false, 'false', 'No', 'off', '0', 0]) t.equal(read(switchSchema, given), false);
  for (const given of ['', 'maybe', 2, null]) t.equal(read(switchSchema, given), 'is neither true nor false');
});

t.test('the URL of a store may not carry credentials, not even in an error', async (t) => {
  for (const url of ['s3://key:secret@bucket/x', 's3://secret@bucket', 'ftp://u:secret@h/']) {
    t.notMatch(read(storeUrlSchema, url), 'secret');
    t.match(read(storeUrlSchema, url), 'is refused');
  }
});

t.test('a near miss is near', async (t) => {
  const known = ['cache', 'cache-size', 'driver', 'read-only'];
  t.equal(nearMiss('cach', known), 'cache');
  t.equal(nearMiss('cahce', known), 'cache');
  t.equal(nearMiss('cachesize', known), 'cache-size');
  t.equal(nearMiss('DRIVER', known), 'driver');
  t.equal(nearMiss('banana', known), undefined);
  t.equal(nearMiss('', known), undefined);
  fc.assert(fc.property(fc.constantFrom(...known), (word) => nearMiss(word, known) === word));
});
