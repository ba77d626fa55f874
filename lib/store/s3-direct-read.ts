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
import { type HeadObjectCommand, type S3Client, S3ServiceException } from '@aws-sdk/client-s3';
import { type Clock } from '../base/clock.ts';
import { type HttpAnswer, UnusualAnswerError } from './http-connection.ts';
import { type HttpMethod } from './http-head.ts';
import { HttpPool } from './http-pool.ts';
import { isMd5Tag } from './md5.ts';
import { type GetRequest, type StoreAccess } from './object-store.ts';
import { type Attempt } from './s3-retry.ts';
import { S3Signature } from './s3-signature.ts';
import { gotOf, requestText, type S3Got, type S3Identity } from './s3-wire.ts';
import { type S3Place } from './store-access.ts';

/** Of a refusal's text. */
const REFUSAL_BYTES_MAX = 64 * 1024;

interface DirectRequest extends Pick<GetRequest, 'range' | 'ifMatch' | 'versionId'> {
  readonly method: HttpMethod;
  readonly signal: AbortSignal;
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
  #place: S3Place | undefined;
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

  /** What it has learned, for others; undefined: nothing yet, or nothing that would help them. */
  async access(): Promise<Omit<StoreAccess, 'prefix'> | undefined> {
    const place = this.#place;
    if (place === undefined || !this.#isUnderstood) return undefined;
    const { credentials, region, nowMs } = await this.#identity(place);
    const { ca, md5Tags, clock } = this.#options;
    const { accessKeyId, secretAccessKey, sessionToken, expiration } = credentials;
    return {
      ...{ place, region, ca, md5Tags },
      credentials: { accessKeyId, secretAccessKey, sessionToken },
      clockOffsetMs: nowMs - clock.wallMs(),
      expiresWallMs: expiration?.getTime(),
    };
  }

  close(): void {
    this.#pool?.close();
  }

  async #read(key: string, request: DirectRequest, attempt: Attempt): Promise<S3Got | undefined> {
    const place = this.#place;
    if (place === undefined || !this.#isUnderstood || attempt.number > 0) return undefined;
    const text = requestText(
      place,
      { ...request, key },
      { ...(await this.#identity(place)), signature: this.#signature },
    );
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

  #learn(place: S3Place | undefined): void {
    const { hostname, port, protocol } = place ?? {};
    const known = this.#place;
    if (known?.hostname !== hostname || known?.port !== port || known?.protocol !== protocol) {
      // What is under way goes on to its end.
      this.#pool = undefined;
    }
    this.#place = place;
  }

  #poolOf(place: S3Place): HttpPool {
    return (this.#pool ??= new HttpPool({ ...this.#options, place }));
  }

  async #identity(place: S3Place) {
    const { client, clock } = this.#options;
    const { config } = client;
    const identity = {
      credentials: await config.credentials(),
      region: place.signingRegion ?? (await config.region()),
      nowMs: clock.wallMs() + config.systemClockOffset,
    };
    return identity satisfies S3Identity;
  }
}

/** Undefined where another scheme than plain signature version 4 is wanted. */
function placeOf(endpoint: { url: URL; properties?: unknown } | undefined): S3Place | undefined {
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
