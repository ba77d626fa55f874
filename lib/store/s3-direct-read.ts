/**
 * GETs and HEADs without the SDK's middleware, which takes most of the time of a small one, and without Node's HTTP
 * client, which copies each piece of a large one (`http-connection.ts`). The SDK's own credentials and clock correction are used; where to ask
 * is learned from the endpoint that the SDK resolved for an earlier request, not guessed.
 *
 * Servers give no checksum with ranges and heads, so none is missed; a whole object is read here only if its entity tag
 * can be its MD5, which the caller compares. Refusals become the SDK's own exceptions.
 * Whatever is out of the ordinary (nothing learned yet, another signature scheme, a retry, an answer that `http-head.ts`
 * does not understand) is left to the SDK; a server whose successes are not understood is not asked here again.
 */
import {
  type GetObjectCommandOutput,
  type HeadObjectCommand,
  type S3Client,
  S3ServiceException,
} from '@aws-sdk/client-s3';
import { type Clock } from '../base/clock.ts';
import { type BodySource } from './body-source.ts';
import { type HttpAnswer, UnusualAnswerError } from './http-connection.ts';
import { type HttpMethod } from './http-head.ts';
import { type HttpPlace, HttpPool } from './http-pool.ts';
import { isMd5Tag } from './md5.ts';
import { type GetRequest, StoreError } from './object-store.ts';
import { type S3Head } from './s3-objects.ts';
import { type Attempt } from './s3-retry.ts';
import { S3Signature, type UnsignedRequest } from './s3-signature.ts';

/** Of a refusal's text. */
const REFUSAL_BYTES_MAX = 64 * 1024;
const METADATA_PREFIX = 'x-amz-meta-';
const HEADER_VALUE = /^[\t\x20-\x7e]*$/;

type S3Got = S3Head & Pick<GetObjectCommandOutput, 'ContentRange'> & { readonly Body: BodySource };

interface DirectRequest extends Pick<GetRequest, 'range' | 'ifMatch' | 'versionId'> {
  readonly method: HttpMethod;
  readonly signal: AbortSignal;
}

interface Place extends HttpPlace {
  readonly host: string;
  /** Before the key, with the bucket where the style wants it. */
  readonly path: string;
  readonly signingRegion: string | undefined;
}

export interface S3DirectReadOptions {
  readonly client: S3Client;
  readonly clock: Clock;
  readonly connectionsMax: number;
  readonly ca: readonly string[] | undefined;
  /** Entity tags of MD5's form are MD5. */
  readonly md5Tags: boolean;
}

export class S3DirectRead {
  readonly #options: S3DirectReadOptions;
  #place: Place | undefined;
  /** Of the place. */
  #pool: HttpPool | undefined;
  readonly #signature = new S3Signature();
  #isUnderstood = true;

  constructor(options: S3DirectReadOptions) {
    this.#options = options;
    options.client.middlewareStack.add(
      (next, context) => (args) => {
        this.#learn(placeOf(context.endpointV2));
        return next(args);
      },
      { name: 'perigeeLearnEndpoint', step: 'finalizeRequest' },
    );
  }

  /** Lets the SDK prepare a request, which loads what it loads late and resolves the endpoint; it is never sent. */
  async learn(command: HeadObjectCommand): Promise<void> {
    const stopped = new Error('prepared, not to be sent');
    command.middlewareStack.add(() => () => Promise.reject(stopped), {
      name: 'perigeeStop',
      step: 'finalizeRequest',
      priority: 'low',
    });
    // What fails here, such as credentials that cannot be had, fails again, and is told, in the first request.
    await this.#options.client.send(command).catch(() => undefined);
  }

  /**
   * Undefined: ask the SDK.
   * @param key of the bucket, with the prefix of the store
   */
  async get(key: string, request: Omit<GetRequest, 'key'>, attempt: Attempt): Promise<S3Got | undefined> {
    const { range, ifMatch } = request;
    // Is nothing lost without the SDK's own validation?
    const isVerified =
      range !== undefined || (ifMatch !== undefined && this.#options.md5Tags && isMd5Tag(ifMatch));
    if (!isVerified) return undefined;
    return this.#read(key, { ...request, method: 'GET', signal: attempt.signal }, attempt);
  }

  /** Undefined: ask the SDK. */
  async head(
    key: string,
    request: Pick<GetRequest, 'versionId'>,
    attempt: Attempt,
  ): Promise<S3Got | undefined> {
    return this.#read(key, { ...request, method: 'HEAD', signal: attempt.signal }, attempt);
  }

  close(): void {
    this.#pool?.close();
  }

  async #read(key: string, request: DirectRequest, attempt: Attempt): Promise<S3Got | undefined> {
    const place = this.#place;
    if (place === undefined || !this.#isUnderstood || attempt.number > 0) return undefined;
    const text = await this.#signed(place, { ...request, key });
    try {
      const answer = await this.#poolOf(place).ask({ method: request.method, text, signal: request.signal });
      if (answer.status !== 200 && answer.status !== 206) throw await refusalOf(answer);
      return gotOf(answer);
    } catch (error) {
      if (!(error instanceof UnusualAnswerError)) throw error;
      const { status = 0 } = error;
      // To ask an overloaded server at once again would not help it.
      if (status === 429 || status >= 500) throw refusal({ status, headers: {} }, '');
      if (status < 300) this.#isUnderstood = false;
      return undefined;
    }
  }

  #learn(place: Place | undefined): void {
    const { hostname, port, protocol } = place ?? {};
    const known = this.#place;
    if (known?.hostname !== hostname || known?.port !== port || known?.protocol !== protocol) {
      // What is under way goes on to its end.
      this.#pool = undefined;
    }
    this.#place = place;
  }

  #poolOf(place: Place): HttpPool {
    return (this.#pool ??= new HttpPool({ ...this.#options, place }));
  }

  /** The request as it goes over the wire. */
  async #signed(place: Place, request: DirectRequest & { readonly key: string }): Promise<string> {
    const { client, clock } = this.#options;
    const { config } = client;
    const unsigned = requestTo(place, request);
    const headers = this.#signature.sign(unsigned, {
      credentials: await config.credentials(),
      region: place.signingRegion ?? (await config.region()),
      // eslint-disable-next-line no-restricted-globals -- only to be written as a text; the time is the Clock's
      at: new Date(clock.wallMs() + config.systemClockOffset),
    });
    const query = unsigned.query === '' ? '' : `?${unsigned.query}`;
    let text = `${unsigned.method} ${unsigned.path}${query} HTTP/1.1\r\n`;
    for (const [name, value] of Object.entries(headers)) {
      if (!HEADER_VALUE.test(value))
        throw new StoreError('invalid', `${request.key}: no header can hold its ${name}`);
      text += `${name}: ${value}\r\n`;
    }
    return `${text}\r\n`;
  }
}

function requestTo(place: Place, request: DirectRequest & { readonly key: string }): UnsignedRequest {
  const { method, key, range, ifMatch, versionId } = request;
  return {
    method,
    path: `${place.path}/${key.split('/').map(encodeSegment).join('/')}`,
    query: versionId === undefined ? '' : `versionId=${encodeSegment(versionId)}`,
    headers: {
      host: place.host,
      ...(range ? { range: `bytes=${range.offset}-${range.offset + range.length - 1}` } : {}),
      ...(ifMatch === undefined ? {} : { 'if-match': `"${ifMatch}"` }),
    },
  };
}

/** Undefined where another scheme than plain signature version 4 is wanted. */
function placeOf(endpoint: { url: URL; properties?: unknown } | undefined): Place | undefined {
  if (!endpoint) return undefined;
  const { authSchemes } = (endpoint.properties ?? {}) as {
    authSchemes?: readonly { name?: string; signingName?: string; signingRegion?: string }[];
  };
  const scheme = authSchemes?.[0];
  if (scheme && (scheme.name !== 'sigv4' || scheme.signingName !== 's3')) return undefined;
  const { protocol, hostname, port, host, pathname } = endpoint.url;
  return {
    protocol,
    hostname,
    port: port === '' ? undefined : Number(port),
    host,
    path: pathname.replace(/\/$/, ''),
    signingRegion: scheme?.signingRegion,
  };
}

function gotOf({ headers, body }: HttpAnswer): S3Got {
  const metadata: Record<string, string> = {};
  for (const [name, value] of Object.entries(headers)) {
    if (name.startsWith(METADATA_PREFIX)) metadata[name.slice(METADATA_PREFIX.length)] = value;
  }
  const length = headers['content-length'];
  // eslint-disable-next-line no-restricted-globals -- reads a text, not the clock
  const modified = new Date(headers['last-modified'] ?? NaN);
  return {
    ContentLength: length === undefined ? undefined : Number(length),
    ContentRange: headers['content-range'],
    ETag: headers['etag'],
    LastModified: modified,
    Metadata: metadata,
    VersionId: headers['x-amz-version-id'],
    ServerSideEncryption: headers['x-amz-server-side-encryption'] as S3Head['ServerSideEncryption'],
    SSECustomerAlgorithm: headers['x-amz-server-side-encryption-customer-algorithm'],
    StorageClass: headers['x-amz-storage-class'] as S3Head['StorageClass'],
    Body: body,
  };
}

async function refusalOf(answer: HttpAnswer): Promise<S3ServiceException> {
  return refusal(answer, await textOf(answer));
}

function refusal(answer: Pick<HttpAnswer, 'status' | 'headers'>, text: string): S3ServiceException {
  const { status, headers } = answer;
  const refused = new S3ServiceException({
    name: /<Code>([^<]*)<\/Code>/.exec(text)?.[1] ?? String(status),
    message: /<Message>([^<]*)<\/Message>/.exec(text)?.[1] ?? 'UnknownError',
    $fault: status < 500 ? 'client' : 'server',
    $metadata: { httpStatusCode: status },
  });
  return Object.assign(refused, { $response: { statusCode: status, headers } });
}

/** Empty if it is too long to be one for people. */
async function textOf({ body, bodyBytes }: HttpAnswer): Promise<string> {
  if (bodyBytes > REFUSAL_BYTES_MAX) {
    body.destroy();
    return '';
  }
  let text = '';
  return new Promise((resolve, reject) => {
    body.start({
      take(piece) {
        text += piece.toString();
        return true;
      },
      end: () => resolve(text),
      fail: reject,
    });
    body.resume();
  });
}

/** As RFC 3986 and the signature want it: stricter than encodeURIComponent. */
function encodeSegment(segment: string): string {
  return encodeURIComponent(segment).replace(
    /[!'()*]/g,
    (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`,
  );
}
