import t from 'tap';
import { describeError } from '../../lib/base/errors.ts';
import { s3FailureOf } from '../../lib/store/s3-errors.ts';

t.test('an S3 error without a text of its own is told by its name, once', (t) => {
  const answer = Object.assign(new Error('UnknownError'), {
    name: 'NoSuchBucket',
    $metadata: { httpStatusCode: 404 },
  });
  const { error } = s3FailureOf(answer, { what: 'list ', wallMs: 0 });
  t.equal(error.code, 'not-found');
  t.equal(error.message, 'list: NoSuchBucket (HTTP 404)');
  const wrapped = new Error(`cannot open the export: ${error.message}`, { cause: error });
  t.equal(describeError(wrapped), 'cannot open the export: list: NoSuchBucket (HTTP 404)');
  t.end();
});

t.test('describeError leaves out causes that were quoted already', (t) => {
  const inner = new Error('no route');
  const outer = new Error('list: no route (tried twice)', { cause: new Error('connect', { cause: inner }) });
  t.equal(describeError(outer), 'list: no route (tried twice): connect');
  t.end();
});
