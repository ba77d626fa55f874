/**
 * The SDK's client for one location: default credential chain, sockets that are kept alive and bounded in number,
 * and none of the SDK's own retries (`s3-retry.ts` knows our deadlines).
 */
import { readFileSync } from 'node:fs';
import { rootCertificates } from 'node:tls';
import { S3Client } from '@aws-sdk/client-s3';
import { NodeHttpHandler } from '@smithy/node-http-handler';
import { describeError, UsageError } from '../base/errors.ts';
import { receivingAgents } from './receive-buffer.ts';
import { type S3Location } from './s3-url.ts';

const CONNECT_MS = 5000;
/** Servers that are no AWS ignore the region, but a signature needs one. */
const REGION_OF_OTHERS = 'us-east-1';

const silent = { trace() {}, debug() {}, info() {}, warn() {}, error() {} };

export function createS3Client(location: S3Location): S3Client {
  const region = location.region ?? (location.endpoint === undefined ? undefined : REGION_OF_OTHERS);
  const agent = { keepAlive: true, maxSockets: location.connections, maxFreeSockets: location.connections };
  const ca =
    location.caFile === undefined ? undefined : [...rootCertificates, readCertificates(location.caFile)];
  const client = new S3Client({
    ...(region === undefined ? {} : { region }),
    ...(location.endpoint === undefined ? { followRegionRedirects: true } : { endpoint: location.endpoint }),
    forcePathStyle: location.pathStyle,
    maxAttempts: 1,
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_SUPPORTED',
    logger: silent,
    requestHandler: new NodeHttpHandler({
      connectionTimeout: CONNECT_MS,
      ...receivingAgents({ ...agent, ...(ca === undefined ? {} : { ca }) }),
      logger: silent,
    }),
  });
  // Others are placed relative to it, so it is replaced rather than removed.
  client.middlewareStack.add((next) => next, {
    name: 'retryMiddleware',
    step: 'finalizeRequest',
    priority: 'high',
    override: true,
  });
  client.middlewareStack.remove('loggerMiddleware');
  return client;
}

function readCertificates(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw new UsageError(`store URL: caFile: ${describeError(error)}`, {
      cause: error,
      hint: 'name a readable PEM file of certificates',
    });
  }
}
