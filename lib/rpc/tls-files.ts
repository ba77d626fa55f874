/** Certificates, keys and authorities in PEM files, checked before anything is done with them. */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import tls from 'node:tls';
import { type Clock } from '../base/clock.ts';
import { describeError, UsageError } from '../base/errors.ts';
import { LiveFiles } from '../config/live-files.ts';
import { type Logger } from '../telemetry/log.ts';

/** Both ends are of this release, and it hides who connects. */
export const TLS_VERSION_MIN = 'TLSv1.3';

export interface TlsFiles {
  readonly tlsCert?: string | undefined;
  readonly tlsKey?: string | undefined;
  /** The authority that the other side must have its certificate from. */
  readonly tlsCa?: string | undefined;
}

/** What the files say, ready for `tls`. */
export interface TlsMaterial {
  readonly cert?: string | undefined;
  readonly key?: string | undefined;
  readonly ca?: string | undefined;
  readonly context: tls.SecureContext;
}

/** @throws UsageError */
export function openTlsFiles(
  { tlsCert, tlsKey, tlsCa }: TlsFiles,
  { clock, logger }: { readonly clock: Clock; readonly logger: Logger | undefined },
): LiveFiles<TlsMaterial> {
  if ((tlsCert === undefined) !== (tlsKey === undefined)) {
    throw new UsageError('--tls-cert and --tls-key go together', { hint: 'give both, or none' });
  }
  const given = [
    { flag: '--tls-cert', path: tlsCert, isSecret: false },
    { flag: '--tls-key', path: tlsKey, isSecret: true },
    { flag: '--tls-ca', path: tlsCa, isSecret: false },
  ] as const;
  const files = given.flatMap((file) => (file.path === undefined ? [] : [{ ...file, path: file.path }]));
  return new LiveFiles({
    files,
    clock,
    parse(texts) {
      const textOf = (flag: string): string | undefined =>
        texts[files.findIndex((file) => file.flag === flag)];
      return materialOf({ cert: textOf('--tls-cert'), key: textOf('--tls-key'), ca: textOf('--tls-ca') });
    },
    onChange: () => logger?.info('certificates were read again'),
    onBroken: (error) =>
      logger?.error(
        { err: error },
        `certificates were not read again, the old ones stay: ${describeError(error)}`,
      ),
  });
}

type Texts = Omit<TlsMaterial, 'context'>;

function materialOf({ cert, key, ca }: Texts): TlsMaterial {
  const own = cert === undefined ? undefined : certificateOf('--tls-cert', cert);
  // `tls` takes a file without any certificate for one that trusts nobody, and says nothing.
  if (ca !== undefined) certificateOf('--tls-ca', ca);
  if (own !== undefined && key !== undefined && !own.checkPrivateKey(keyOf(key))) {
    throw new UsageError('the key of --tls-key is not the one of the certificate of --tls-cert', {
      hint: 'give the two that were made together',
    });
  }
  const texts = { cert, key, ca };
  return { ...texts, context: tls.createSecureContext({ ...texts, minVersion: TLS_VERSION_MIN }) };
}

function certificateOf(flag: string, pem: string): X509Certificate {
  try {
    return new X509Certificate(pem);
  } catch (error) {
    throw new UsageError(`${flag}: there is no certificate in the file`, {
      cause: error,
      hint: 'name a PEM file that begins with -----BEGIN CERTIFICATE-----',
    });
  }
}

function keyOf(pem: string) {
  try {
    return createPrivateKey(pem);
  } catch (error) {
    throw new UsageError('--tls-key: there is no private key in the file', {
      cause: error,
      hint: 'name a PEM file that begins with -----BEGIN PRIVATE KEY-----, without a passphrase',
    });
  }
}
