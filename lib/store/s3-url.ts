/** The parts of `s3://bucket/prefix?endpoint=…`, checked: every unknown or senseless one is a `UsageError`. */
import { UsageError } from '../base/errors.ts';
import { nearMiss } from '../config/near-miss.ts';

export interface S3Location {
  readonly bucket: string;
  /** Empty, or ends with `/`. */
  readonly prefix: string;
  readonly endpoint: string | undefined;
  readonly region: string | undefined;
  readonly pathStyle: boolean;
  /** Sockets at most. */
  readonly connections: number;
  /** A file of certificates to trust beside the system's. */
  readonly caFile: string | undefined;
  /** False (`entityTags=opaque`): this server's entity tags look like MD5 and are something else. */
  readonly md5Tags: boolean;
  /** For people. */
  readonly url: string;
}

const PARAMETERS = ['endpoint', 'region', 'pathStyle', 'connections', 'caFile', 'entityTags'] as const;
type Parameter = (typeof PARAMETERS)[number];

const CONNECTIONS_DEFAULT = 128;
const CONNECTIONS_MAX = 4096;
const SECRET = /secret|password|passwd|token|access_?key|credential/i;

export function parseS3Url(url: URL): S3Location {
  const bucket = decodeURIComponent(url.hostname);
  if (bucket === '') {
    throw new UsageError('store URL: the bucket is missing', { hint: 'use s3://bucket/prefix' });
  }
  if (url.port !== '') {
    throw new UsageError(`store URL: ${url.host} is a host, not a bucket`, {
      hint: `use s3://bucket/prefix?endpoint=http://${url.host}&pathStyle=true`,
    });
  }
  if (url.hash !== '') {
    throw new UsageError('store URL: # is not allowed', { hint: 'write # in a prefix as %23' });
  }
  const values = parametersOf(url);
  const endpoint = values.get('endpoint');
  if (endpoint !== undefined) checkEndpoint(endpoint);
  return {
    bucket,
    prefix: prefixOf(url),
    endpoint,
    region: values.get('region'),
    pathStyle: booleanOf('pathStyle', values.get('pathStyle')),
    connections: connectionsOf(values.get('connections')),
    caFile: values.get('caFile'),
    md5Tags: md5TagsOf(values.get('entityTags')),
    url: url.href,
  };
}

function parametersOf(url: URL): Map<Parameter, string> {
  const values = new Map<Parameter, string>();
  for (const [name, value] of url.searchParams) {
    if (SECRET.test(name)) {
      throw new UsageError(`store URL: ${name} must not stand in a URL`, {
        hint: 'give credentials by AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or the role of the host',
      });
    }
    const known = PARAMETERS.find((parameter) => parameter === name);
    if (!known) {
      const near = nearMiss(name, PARAMETERS);
      throw new UsageError(`store URL: unknown parameter ${name}`, {
        hint: near === undefined ? `known are ${PARAMETERS.join(', ')}` : `did you mean ${near}`,
      });
    }
    if (values.has(known)) throw new UsageError(`store URL: ${name} is given twice`);
    if (value === '') throw new UsageError(`store URL: ${name} is empty`);
    values.set(known, value);
  }
  return values;
}

function prefixOf(url: URL): string {
  let path: string;
  try {
    path = decodeURIComponent(url.pathname).replace(/^\//, '');
  } catch (error) {
    throw new UsageError('store URL: the prefix is not percent-encoded UTF-8', { cause: error });
  }
  return path === '' || path.endsWith('/') ? path : `${path}/`;
}

function checkEndpoint(endpoint: string): void {
  const hint = 'use a URL such as endpoint=https://s3.example.org:9000';
  const parsed = URL.canParse(endpoint) ? new URL(endpoint) : undefined;
  if (!parsed || !['http:', 'https:'].includes(parsed.protocol)) {
    throw new UsageError(`store URL: endpoint ${JSON.stringify(endpoint)} is no http or https URL`, { hint });
  }
  if (parsed.username !== '' || parsed.password !== '') {
    throw new UsageError('store URL: the endpoint must not hold credentials', {
      hint: 'give them by AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or the role of the host',
    });
  }
  if (parsed.search !== '' || parsed.hash !== '') {
    throw new UsageError(`store URL: endpoint ${JSON.stringify(endpoint)} has parameters`, { hint });
  }
}

function booleanOf(name: Parameter, value: string | undefined): boolean {
  if (value === undefined || value === 'false') return false;
  if (value === 'true') return true;
  throw new UsageError(`store URL: ${name} is ${JSON.stringify(value)}`, { hint: 'use true or false' });
}

function md5TagsOf(value: string | undefined): boolean {
  if (value === undefined || value === 'md5') return true;
  if (value === 'opaque') return false;
  throw new UsageError(`store URL: entityTags is ${JSON.stringify(value)}`, { hint: 'use md5 or opaque' });
}

function connectionsOf(value: string | undefined): number {
  if (value === undefined) return CONNECTIONS_DEFAULT;
  const count = /^\d{1,4}$/.test(value) ? Number(value) : 0;
  if (count >= 1 && count <= CONNECTIONS_MAX) return count;
  throw new UsageError(`store URL: connections is ${JSON.stringify(value)}`, {
    hint: `use a number from 1 to ${CONNECTIONS_MAX}`,
  });
}
