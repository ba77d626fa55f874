/**
 * Opens an object store by its URL: `file:///dir` or `s3://bucket/prefix?endpoint=…&region=…&pathStyle=true`.
 * A URL that makes no sense is a `UsageError` with a hint; secrets in one are refused. Nothing is contacted yet.
 */
import { realpathSync, statSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { type Clock, systemClock } from '../base/clock.ts';
import { describeError, UsageError } from '../base/errors.ts';
import { type Prng, systemPrng } from '../base/prng.ts';
import { FileStore } from './file-store.ts';
import { type ObjectStore } from './object-store.ts';
import { S3Store } from './s3-store.ts';
import { parseS3Url } from './s3-url.ts';

export interface OpenStoreOptions {
  readonly clock?: Clock;
  /** For the jitter of retries. */
  readonly prng?: Prng;
  /** S3: objects above this many bytes are copied in parts; default and ceiling is S3's own limit of 5 GiB. */
  readonly copyWholeBytesMax?: number;
}

export function openStore(url: string, options: OpenStoreOptions = {}): ObjectStore {
  const clock = options.clock ?? systemClock;
  const prng = options.prng ?? systemPrng();
  const parsed = parse(url);
  switch (parsed.protocol) {
    case 'file:':
      return new FileStore({ ...fileLocation(parsed), clock, prng });
    case 's3:':
      return new S3Store({
        location: parseS3Url(parsed),
        clock,
        prng,
        ...(options.copyWholeBytesMax === undefined ? {} : { copyWholeBytesMax: options.copyWholeBytesMax }),
      });
    default:
      throw new UsageError(`store URL: unknown scheme ${parsed.protocol}//`, {
        hint: 'use file:///directory or s3://bucket/prefix',
      });
  }
}

function parse(url: string): URL {
  if (!URL.canParse(url)) {
    throw new UsageError(`store URL: ${JSON.stringify(withoutSecrets(url))} is no URL`, {
      hint: url.startsWith('/')
        ? `did you mean file://${url}`
        : 'use file:///directory or s3://bucket/prefix',
    });
  }
  const parsed = new URL(url);
  if (parsed.username !== '' || parsed.password !== '') {
    throw new UsageError('store URL: it must not hold credentials', {
      hint: 'give them by AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or the role of the host',
    });
  }
  return parsed;
}

function withoutSecrets(url: string): string {
  return url.replace(/\/\/[^/@]*@/, '//…@').replace(/\?.*$/, '');
}

function fileLocation(url: URL): { root: string; url: string } {
  const hint = 'use three slashes and an absolute path, such as file:///srv/data';
  if (url.host !== '') throw new UsageError(`store URL: file://${url.host} names a host`, { hint });
  if (url.search !== '' || url.hash !== '') {
    throw new UsageError('store URL: a file URL takes no parameters', {
      hint: 'write ? and # in the name of a directory as %3F and %23',
    });
  }
  try {
    const root = realpathSync(fileURLToPath(url));
    if (statSync(root).isDirectory()) return { root, url: url.href };
    throw new UsageError(`store URL: ${root} is not a directory`, { hint });
  } catch (error) {
    if (error instanceof UsageError) throw error;
    throw new UsageError(`store URL: ${describeError(error)}`, {
      cause: error,
      hint: 'create the directory first, and check that this user may read it',
    });
  }
}
