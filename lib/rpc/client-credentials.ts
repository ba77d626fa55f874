/**
 * What this side shows an origin, from its files: a certificate, a token, both or nothing; and the authority by which
 * it knows the origin.
 *
 * Guarantees: a token never travels in plain text to another host, unless `insecure` says so; files that change are
 * read again, certificates for the next connection, tokens for the next call.
 */
import tls from 'node:tls';
import { type Clock } from '../base/clock.ts';
import { describeError, UsageError } from '../base/errors.ts';
import { LiveFiles } from '../config/live-files.ts';
import { type Endpoint, formatEndpoint, isLoopback } from '../config/values.ts';
import { type Logger } from '../telemetry/log.ts';
import { openTlsFiles, type TlsFiles, type TlsMaterial } from './tls-files.ts';

export interface ClientCredentialFiles extends TlsFiles {
  readonly tokenFile?: string | undefined;
  /** Send a token to another host in plain text. */
  readonly insecure?: boolean | undefined;
}

export class ClientCredentials {
  readonly #tls: LiveFiles<TlsMaterial> | undefined;
  readonly #token: LiveFiles<string> | undefined;

  /** @throws UsageError */
  constructor(
    files: ClientCredentialFiles,
    options: { readonly origin: Endpoint; readonly clock: Clock; readonly logger: Logger | undefined },
  ) {
    const { clock, logger, origin } = options;
    const { tlsCert, tlsCa, tokenFile, insecure = false } = files;
    if (tlsCert !== undefined && tlsCa === undefined) {
      throw new UsageError('--tls-cert needs --tls-ca: how else should this side know the origin', {
        hint: "give --tls-ca with the certificate of the origin's authority",
      });
    }
    if (tlsCa !== undefined || files.tlsKey !== undefined) this.#tls = openTlsFiles(files, options);
    if (tokenFile === undefined) return;
    if (this.#tls === undefined && !insecure && !isLoopback(origin.host)) {
      throw new UsageError(`the token would travel to ${formatEndpoint(origin)} in plain text`, {
        hint: 'give --tls-ca, so that the connection is encrypted, or --insecure if the network is trusted',
      });
    }
    this.#token = new LiveFiles({
      files: [{ flag: '--token-file', path: tokenFile, isSecret: true }],
      clock,
      parse: ([text = '']) => `Bearer ${tokenOf(text)}`,
      onChange: () => logger?.info('the token was read again'),
      onBroken: (error) =>
        logger?.error(
          { err: error },
          `the token was not read again, the old one stays: ${describeError(error)}`,
        ),
    });
  }

  get isEncrypted(): boolean {
    return this.#tls !== undefined;
  }

  /** The header of a call; the same string as long as the token has not changed. */
  authorization(): string | undefined {
    return this.#token?.current();
  }

  /** A connection by what the files say now. */
  connect({ host, port }: Endpoint): tls.TLSSocket {
    const secureContext = this.#tls?.current().context;
    return tls.connect({
      host,
      port,
      ALPNProtocols: ['h2'],
      ...(secureContext === undefined ? {} : { secureContext }),
    });
  }
}

function tokenOf(text: string): string {
  const token = text.trim();
  if (/^[\x21-\x7e]+$/.test(token)) return token;
  throw new UsageError('--token-file: the file holds no token', {
    hint: 'the file must hold the token and nothing else, in one line of printable characters without spaces',
  });
}
