/**
 * The SDK's client for one location: default credential chain, sockets that are kept alive and bounded in number,
 * and none of the SDK's own retries (`s3-retry.ts` knows our deadlines).
 */
import { readFileSync } from 'node:fs';
import { Agent as HttpAgent } from 'node:http';
import { Agent as HttpsAgent } from 'node:https';
import { rootCertificates } from 'node:tls';
import { S3Client } from '@aws-sdk/client-s3';
import { NodeHttpHandler } from '@smithy/node-http-handler';
import { describeError, UsageError } from '../base/errors.ts';
import { CONNECT_MS } from './http-pool.ts';
import { type S3Location } from './s3-url.ts';

/** Servers that are no AWS ignore the region, but a signature needs one. */
const REGION_OF_OTHERS = 'us-east-1';

const silent = { trace() {}, debug() {}, info() {}, warn() {}, error() {} };

/** @param ca of `trustedCertificates` */
export function createS3Client(location: S3Location, ca: readonly string[] | undefined): S3Client {
  const region = location.region ?? (location.endpoint === undefined ? undefined : REGION_OF_OTHERS);
  const agent = { keepAlive: true, maxSockets: location.connections, maxFreeSockets: location.connections };
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
      httpAgent: new HttpAgent(agent),
      httpsAgent: new HttpsAgent({ ...agent, ...(ca === undefined ? {} : { ca: [...ca] }) }),
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

/** The system's and the location's own; undefined: only the system's, as Node has them. */
export function trustedCertificates({ caFile }: S3Location): readonly string[] | undefined {
  return caFile === undefined ? undefined : [...rootCertificates, readCertificates(caFile)];
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
