/** Store URLs: what is understood, and what a person is told of one that is not. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { hintOf, UsageError } from '../../lib/base/errors.ts';
import { openStore } from '../../lib/store/open-store.ts';

t.test('store URLs that make no sense are refused with a hint', (t) => {
  const root = t.testdir({ file: '' });
  const bad: [url: string, message: RegExp, hint: RegExp][] = [
    ['', /no URL/, /s3:\/\/bucket/],
    ['/srv/data', /no URL/, /did you mean file:\/\/\/srv\/data/],
    ['gs://bucket', /unknown scheme gs/, /file:\/\/\//],
    ['http://host/bucket', /unknown scheme http/, /s3:\/\//],
    ['file://host/dir', /names a host/, /three slashes/],
    ['file:///dir?x=1', /no parameters/, /%3F/],
    [`file://${root}/missing`, /no such file/i, /create the directory/],
    [`file://${root}/file`, /not a directory/, /absolute path/],
    ['s3://', /bucket is missing|no URL/, /s3:\/\/bucket/],
    ['s3:///prefix', /bucket is missing/, /s3:\/\/bucket/],
    ['s3://localhost:9000/bucket', /not a bucket/, /endpoint=http:\/\/localhost:9000/],
    ['s3://key:secret@bucket', /credentials/, /AWS_ACCESS_KEY_ID/],
    ['s3://bucket?secretAccessKey=x', /must not stand/, /AWS_SECRET_ACCESS_KEY/],
    ['s3://bucket?accessKeyId=x', /must not stand/, /profile/],
    ['s3://bucket?sessionToken=x', /must not stand/, /role/],
    ['s3://bucket?endpiont=http://h', /unknown parameter endpiont/, /did you mean endpoint/],
    ['s3://bucket?entityTags=random', /entityTags is/, /md5 or opaque/],
    ['s3://bucket?path_style=true', /unknown parameter/, /did you mean pathStyle/],
    ['s3://bucket?wholly=other', /unknown parameter/, /known are endpoint/],
    ['s3://bucket?region=a&region=b', /twice/, /^$/],
    ['s3://bucket?region=', /empty/, /^$/],
    ['s3://bucket?pathStyle=yes', /pathStyle/, /true or false/],
    ['s3://bucket?connections=0', /connections/, /1 to/],
    ['s3://bucket?endpoint=host:9000', /no http or https/, /https:/],
    ['s3://bucket?endpoint=http://k:s@host', /credentials/, /AWS_ACCESS_KEY_ID/],
    ['s3://bucket?endpoint=http%3A%2F%2Fh%3Fa%3D1', /parameters/, /endpoint=/],
    ['s3://bucket?caFile=/nowhere/ca.pem', /caFile/, /PEM/],
    ['s3://bucket#x', /#/, /%23/],
  ];
  for (const [url, message, hint] of bad) {
    try {
      openStore(url);
      t.fail(`${url} was accepted`);
    } catch (error) {
      t.ok(error instanceof UsageError, url);
      t.match((error as Error).message, message, url);
      t.match(hintOf(error) ?? '', hint, url);
      t.notMatch(
        String((error as Error).message) + (hintOf(error) ?? ''),
        /key:secret|k:s@/,
        'without secrets',
      );
    }
  }
  t.end();
});

t.test('store URLs that make sense open a store and contact nobody', async (t) => {
  const root = t.testdir({});
  writeFileSync(join(root, 'ca.pem'), '');
  for (const url of [
    `file://${root}`,
    's3://bucket',
    's3://bucket/a/prefix/',
    `s3://bucket/p?endpoint=${encodeURIComponent('https://host:9000')}&region=eu-1&pathStyle=true&connections=8`,
    's3://bucket?endpoint=http://host:9000&pathStyle=false',
    `s3://my.dotted-bucket?caFile=${encodeURIComponent(join(root, 'ca.pem'))}`,
  ]) {
    const store = openStore(url);
    t.ok(store.url.startsWith(url.slice(0, 9)));
    await store.close();
  }
});
