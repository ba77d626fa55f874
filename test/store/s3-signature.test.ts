/** Signatures of our own are those of the SDK. */
import { S3Client } from '@aws-sdk/client-s3';
import fc from 'fast-check';
import t from 'tap';
import { S3Signature, type UnsignedRequest } from '../../lib/store/s3-signature.ts';

const encode = (text: string): string =>
  encodeURIComponent(text).replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);
const printable = (maxLength: number) =>
  fc.string({
    unit: fc.integer({ min: 0x20, max: 0x7e }).map((code) => String.fromCharCode(code)),
    maxLength,
  });

const cases = fc.record({
  method: fc.constantFrom('GET' as const, 'HEAD' as const),
  segments: fc.array(fc.string({ unit: 'grapheme', minLength: 1, maxLength: 12 }), {
    minLength: 1,
    maxLength: 4,
  }),
  versionId: fc.option(
    printable(20).filter((text) => text !== ''),
    { nil: undefined },
  ),
  range: fc.option(
    fc.nat().map((from) => `bytes=${from}-${from + 9}`),
    { nil: undefined },
  ),
  ifMatch: fc.option(printable(40), { nil: undefined }),
  secret: printable(40),
  sessionToken: fc.option(
    printable(60).filter((text) => text.trim() === text && text !== ''),
    { nil: undefined },
  ),
  region: fc.constantFrom('us-east-1', 'eu-central-1'),
  at: fc.date({ min: new Date('2001-01-01'), max: new Date('2090-01-01'), noInvalidDate: true }),
});

t.test('S3 signature is what the SDK signs with, for any request, day, region and credentials', async (t) => {
  const signature = new S3Signature();
  await fc.assert(
    fc.asyncProperty(
      cases,
      async ({ segments, versionId, range, ifMatch, secret, sessionToken, region, at, method }) => {
        const credentials = {
          accessKeyId: 'test',
          secretAccessKey: secret,
          ...(sessionToken === undefined ? {} : { sessionToken }),
        };
        const client = new S3Client({ region, credentials });
        const request: UnsignedRequest = {
          method,
          path: `/bucket/${segments.map(encode).join('/')}`,
          query: versionId === undefined ? '' : `versionId=${encode(versionId)}`,
          headers: {
            host: 'store.example:7480',
            ...(range === undefined ? {} : { range }),
            ...(ifMatch === undefined ? {} : { 'if-match': `"${ifMatch}"` }),
          },
        };
        const signer = await client.config.signer();
        const expected = await signer.sign(
          {
            ...{ method, protocol: 'http:', hostname: 'store.example', port: 7480, path: request.path },
            query: versionId === undefined ? {} : { versionId },
            headers: { ...request.headers },
          },
          { signingDate: at },
        );
        client.destroy();
        return t.strictSame(signature.sign(request, { credentials, region, at }), expected.headers);
      },
    ),
    { numRuns: 300 },
  );
});
