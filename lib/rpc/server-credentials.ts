/**
 * What an origin asks of those who connect, from its files: TLS with client certificates (certificate, key and
 * authority), TLS with tokens (certificate, key and tokens), either of the two, tokens alone, or nothing.
 *
 * Guarantees: plain text stays on this host unless `insecure` says otherwise, and an encrypted port never lets in
 * somebody who shows nothing.
 */
import { type Clock } from '../base/clock.ts';
import { describeError, UsageError } from '../base/errors.ts';
import { LiveFiles } from '../config/live-files.ts';
import { isLoopback } from '../config/values.ts';
import { type Logger } from '../telemetry/log.ts';
import { openTlsFiles, type TlsFiles, type TlsMaterial } from './tls-files.ts';
import { TokenTable } from './token-table.ts';

export interface ServerCredentialFiles extends TlsFiles {
  readonly tokens?: string | undefined;
}

export interface ServerCredentials {
  /** Absent: plain text. */
  readonly tls: LiveFiles<TlsMaterial> | undefined;
  readonly tokens: LiveFiles<TokenTable> | undefined;
  /** Clients are asked for a certificate. */
  readonly certificates: boolean;
}

/** @throws UsageError */
export function openServerCredentials(
  files: ServerCredentialFiles,
  options: {
    /** Where the origin listens. */
    readonly host: string;
    readonly insecure: boolean;
    readonly clock: Clock;
    readonly logger: Logger | undefined;
  },
): ServerCredentials {
  checkServerCredentials(files, options);
  const { clock, logger, host } = options;
  if (files.tlsCert === undefined && !isLoopback(host)) {
    logger?.warn(
      { listen: host },
      files.tokens === undefined
        ? 'INSECURE: everybody who reaches this port is let in as admin, unauthenticated and in plain text'
        : 'INSECURE: tokens and names travel in plain text',
    );
  }
  const tokens =
    files.tokens === undefined
      ? undefined
      : new LiveFiles({
          files: [{ flag: '--tokens', path: files.tokens, isSecret: true }],
          clock,
          parse: ([text = '']) => new TokenTable(text),
          onChange: () => logger?.info('tokens were read again'),
          onBroken: (error) =>
            logger?.error(
              { err: error },
              `tokens were not read again, the old ones stay: ${describeError(error)}`,
            ),
        });
  return {
    tls: files.tlsCert === undefined ? undefined : openTlsFiles(files, options),
    tokens,
    certificates: files.tlsCa !== undefined,
  };
}

/** What can be told without reading a file. */
export function checkServerCredentials(
  { tlsCert, tlsKey, tlsCa, tokens }: ServerCredentialFiles,
  { host, insecure }: { readonly host: string; readonly insecure: boolean },
): void {
  if (tlsCert === undefined) {
    if (tlsKey !== undefined || tlsCa !== undefined) {
      throw new UsageError('--tls-key and --tls-ca say nothing without --tls-cert', {
        hint: 'give --tls-cert and --tls-key of this origin, and --tls-ca of the authority of its clients',
      });
    }
    if (insecure || isLoopback(host)) return;
    throw new UsageError(`--listen ${host} is reached from other hosts, in plain text`, {
      hint: 'give --tls-cert, --tls-key and --tls-ca (perigee origin init makes them), or --insecure if the network between the hosts is trusted',
    });
  }
  if (tlsCa === undefined && tokens === undefined) {
    throw new UsageError('TLS alone does not tell who connects', {
      hint: 'add --tls-ca with the authority of client certificates, or --tokens',
    });
  }
}
