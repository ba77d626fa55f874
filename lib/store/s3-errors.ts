/** The only place that turns what the SDK or the network throws into a `StoreError`, and says whether to try again. */
import { type S3ServiceException } from '@aws-sdk/client-s3';
import { describeError } from '../base/errors.ts';
import { StoreError, type StoreErrorCode } from './object-store.ts';

/** `soon` for accidents, `slowly` where the server is overloaded, `resigned` once, with the server's time. */
export type Retry = 'never' | 'soon' | 'slowly' | 'resigned';

export interface S3Failure {
  readonly error: StoreError;
  readonly retry: Retry;
  /** What the server asked for. */
  readonly retryAfterMs: number | undefined;
}

/** A refusal without text counts as one for skew from here on; S3 itself allows 15 minutes. */
const CLOCK_SKEW_SUSPECT_MS = 5 * 60 * 1000;

type Verdict = readonly [code: StoreErrorCode, retry?: Retry, hint?: string];

const CLOCK_HINT = 'the clock of this host differs from the store; synchronise it (timedatectl set-ntp true)';
const REGION_HINT = 'the bucket is in another region; set region= in the store URL';
const CREDENTIALS_HINT =
  'check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, the profile, or the role of the host, and that it may use this bucket';

const BY_NAME: Readonly<Record<string, Verdict>> = {
  NoSuchKey: ['not-found'],
  NoSuchVersion: ['not-found'],
  NoSuchUpload: ['not-found'],
  NoSuchBucket: ['not-found', 'never', 'the bucket does not exist; check the store URL'],
  MethodNotAllowed: ['not-found'],
  PreconditionFailed: ['precondition-failed'],
  ConditionalRequestConflict: ['precondition-failed'],
  OperationAborted: ['unavailable', 'soon'],
  SlowDown: ['throttled', 'slowly'],
  TooManyRequests: ['throttled', 'slowly'],
  TooManyRequestsException: ['throttled', 'slowly'],
  RequestLimitExceeded: ['throttled', 'slowly'],
  BandwidthLimitExceeded: ['throttled', 'slowly'],
  Throttling: ['throttled', 'slowly'],
  ThrottlingException: ['throttled', 'slowly'],
  RequestThrottled: ['throttled', 'slowly'],
  RequestTimeTooSkewed: ['access-denied', 'resigned', CLOCK_HINT],
  RequestExpired: ['access-denied', 'resigned', CLOCK_HINT],
  ExpiredToken: ['access-denied', 'never', 'the session of the credentials has expired; renew it'],
  TokenRefreshRequired: ['access-denied', 'never', 'the session of the credentials has expired; renew it'],
  CredentialsProviderError: ['access-denied', 'never', CREDENTIALS_HINT],
  TokenProviderError: ['access-denied', 'never', CREDENTIALS_HINT],
  InvalidRange: ['invalid-range'],
  KeyTooLongError: ['invalid-key'],
  InvalidObjectName: ['invalid-key'],
  InvalidURI: ['invalid-key'],
  NotImplemented: ['unsupported'],
  BadDigest: ['corrupt', 'soon'],
  InvalidDigest: ['corrupt', 'soon'],
  XAmzContentSHA256Mismatch: ['corrupt', 'soon'],
  IncompleteBody: ['corrupt', 'soon'],
  RequestTimeout: ['unavailable', 'soon'],
  InternalError: ['unavailable', 'soon'],
  QuotaExceeded: ['no-space'],
  InsufficientStorage: ['no-space'],
  PermanentRedirect: ['invalid', 'never', REGION_HINT],
  AuthorizationHeaderMalformed: ['invalid', 'never', REGION_HINT],
};

const BY_STATUS: Readonly<Record<number, Verdict>> = {
  301: ['invalid', 'never', REGION_HINT],
  304: ['precondition-failed'],
  307: ['unavailable', 'soon'],
  401: ['access-denied', 'never', CREDENTIALS_HINT],
  403: ['access-denied', 'never', CREDENTIALS_HINT],
  404: ['not-found'],
  405: ['not-found'],
  408: ['unavailable', 'soon'],
  409: ['precondition-failed'],
  410: ['not-found'],
  412: ['precondition-failed'],
  414: ['invalid-key'],
  416: ['invalid-range'],
  429: ['throttled', 'slowly'],
  501: ['unsupported'],
  507: ['no-space'],
};

const TLS_HINT =
  'the certificate is not trusted; name the file of its authority with caFile= in the store URL';

const BY_SYSTEM_CODE: Readonly<Record<string, Verdict>> = {
  ECONNREFUSED: [
    'unavailable',
    'soon',
    'nothing listens there; check endpoint= in the store URL and that the store runs',
  ],
  ENOTFOUND: ['unavailable', 'soon', 'the name of the host is unknown; check endpoint= in the store URL'],
  EAI_AGAIN: ['unavailable', 'soon', 'the name of the host could not be resolved; check the resolver'],
  EPROTO: ['unavailable', 'never', 'the endpoint does not speak TLS; check http or https in endpoint='],
  DEPTH_ZERO_SELF_SIGNED_CERT: ['unavailable', 'never', TLS_HINT],
  SELF_SIGNED_CERT_IN_CHAIN: ['unavailable', 'never', TLS_HINT],
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: ['unavailable', 'never', TLS_HINT],
  UNABLE_TO_GET_ISSUER_CERT: ['unavailable', 'never', TLS_HINT],
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: ['unavailable', 'never', TLS_HINT],
  CERT_HAS_EXPIRED: ['unavailable', 'never', 'the certificate of the store has expired'],
  ERR_TLS_CERT_ALTNAME_INVALID: [
    'unavailable',
    'never',
    'the certificate is for another name; check endpoint=',
  ],
};

/** @param context `what` for messages; `wallMs` our idea of the time, to recognise a clock that is wrong */
export function s3FailureOf(
  error: unknown,
  context: { readonly what: string; readonly wallMs: number },
): S3Failure {
  if (error instanceof StoreError) {
    return { error, retry: retryOf(error.code), retryAfterMs: undefined };
  }
  const { status, name, headers } = partsOf(error);
  const retryAfterMs = retryAfter(headers['retry-after'], context.wallMs);
  const [code, retry = 'never', hint] = verdictOf(error, {
    status,
    name,
    retryAfterMs,
    skewMs: skewOf(headers, context),
  });
  const cause = namedCause(error, name);
  const told = describeError(cause);
  const text =
    status === undefined ? told : `${told} (HTTP ${status}${told.includes(name) ? '' : ` ${name}`})`;
  const details = { cause, ...(hint === undefined ? {} : { hint }) };
  return { error: new StoreError(code, `${context.what.trim()}: ${text}`, details), retry, retryAfterMs };
}

/** An answer without a text of its own has the SDK's `UnknownError`; its name says more. */
function namedCause(error: unknown, name: string): unknown {
  return name !== '' && /^(UnknownError)?$/.test(describeError(error)) ? new Error(name) : error;
}

function verdictOf(
  error: unknown,
  answer: {
    readonly status: number | undefined;
    readonly name: string;
    readonly retryAfterMs: number | undefined;
    readonly skewMs: number;
  },
): Verdict {
  const { status, name, retryAfterMs, skewMs } = answer;
  if (status === 403 && BY_NAME[name] === undefined && Math.abs(skewMs) > CLOCK_SKEW_SUSPECT_MS) {
    return ['access-denied', 'resigned', CLOCK_HINT];
  }
  if (status === undefined || status < 500 || status === 501 || status === 507 || name === 'SlowDown') {
    const known = BY_NAME[name];
    if (known) return known;
  }
  if (status !== undefined) {
    const known = BY_STATUS[status];
    if (known) return known;
    if (status >= 500)
      return [retryAfterMs === undefined ? 'unavailable' : 'throttled', status === 503 ? 'slowly' : 'soon'];
    if (status >= 400) return ['invalid'];
    // A success that could not be understood: cut off or mangled on the way.
    return ['corrupt', 'soon'];
  }
  return localVerdict(error);
}

function localVerdict(error: unknown): Verdict {
  let found: Verdict = ['unavailable', 'never'];
  for (let at = error, depth = 0; at instanceof Error && depth < 8; at = at.cause, depth++) {
    const code = 'code' in at && typeof at.code === 'string' ? at.code : undefined;
    const known = code === undefined ? undefined : BY_SYSTEM_CODE[code];
    if (known) return known;
    if (code?.startsWith('HPE_')) return ['corrupt', 'soon'];
    if (code !== undefined || at.name === 'TimeoutError') found = ['unavailable', 'soon'];
    if (/checksum mismatch/i.test(at.message)) return ['corrupt', 'soon'];
    if (/region is missing/i.test(at.message))
      return ['invalid', 'never', 'set region= in the store URL or AWS_REGION'];
  }
  return found;
}

/** A `StoreError` of our own checks. */
function retryOf(code: StoreErrorCode): Retry {
  return code === 'corrupt' || code === 'unavailable' || code === 'timeout' ? 'soon' : 'never';
}

function partsOf(error: unknown): {
  status: number | undefined;
  name: string;
  headers: Record<string, string>;
} {
  if (!(error instanceof Error)) return { status: undefined, name: '', headers: {} };
  const { $metadata, $response, name } = error as Partial<S3ServiceException> & Error;
  const response = $response as { statusCode?: number; headers?: Record<string, string> } | undefined;
  return {
    status: $metadata?.httpStatusCode ?? response?.statusCode,
    name,
    headers: response?.headers ?? {},
  };
}

function skewOf(headers: Record<string, string>, context: { readonly wallMs: number }): number {
  const skewMs = context.wallMs - httpTimeMs(headers['date'] ?? '');
  return Number.isNaN(skewMs) ? 0 : skewMs;
}

function retryAfter(value: string | undefined, wallMs: number): number | undefined {
  if (value === undefined) return undefined;
  const ms = /^\d{1,9}$/.test(value) ? Number(value) * 1000 : httpTimeMs(value) - wallMs;
  return Number.isNaN(ms) ? undefined : Math.max(0, ms);
}

/** NaN if it is no date. */
function httpTimeMs(text: string): number {
  // eslint-disable-next-line no-restricted-globals -- reads a text, not the clock
  return Date.parse(text);
}
