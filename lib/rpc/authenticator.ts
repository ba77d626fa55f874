/**
 * Finds out who calls: by the certificate of the connection, by the token of the call, or, where plain text is
 * allowed and nothing is asked for, by the address alone.
 *
 * Guarantees: a refusal is a value, so that every caller gets it in words and nobody gets by without looking at it;
 * a certificate is looked at once a connection, a token once a connection and state of the token file, so a call
 * costs two comparisons.
 */
import type http2 from 'node:http2';
import type tls from 'node:tls';
import { type LiveFiles } from '../config/live-files.ts';
import { AccessError, type Principal, principalOfSubject } from './principal.ts';
import { type TokenTable } from './token-table.ts';

/** Who calls, or why that is not known. */
export interface Identity {
  readonly principal: Principal | AccessError;
  /** Of the peer, for people. */
  readonly address: string;
}

/** What the calls of one connection have in common. */
interface Connection {
  readonly byCertificate: Identity;
  /** Of the last token seen. */
  token: { readonly header: string; readonly table: TokenTable; readonly identity: Identity } | undefined;
}

export class Authenticator {
  readonly #tokens: LiveFiles<TokenTable> | undefined;
  readonly #certificates: boolean;
  readonly #connections = new WeakMap<http2.Http2Session, Connection>();

  /** Without tokens and certificates everybody who can connect is let in: the server has asked whether that may be. */
  constructor(options: {
    readonly tokens: LiveFiles<TokenTable> | undefined;
    /** Clients are asked for theirs. */
    readonly certificates: boolean;
  }) {
    this.#tokens = options.tokens;
    this.#certificates = options.certificates;
  }

  identify(session: http2.Http2Session, authorization: string | undefined): Identity {
    let connection = this.#connections.get(session);
    if (connection === undefined) {
      connection = this.#inspect(session);
      this.#connections.set(session, connection);
    }
    if (authorization === undefined || this.#tokens === undefined) return connection.byCertificate;
    const table = this.#tokens.current();
    if (connection.token?.header !== authorization || connection.token.table !== table) {
      const { address } = connection.byCertificate;
      const identity = { principal: bearerOf(table, { authorization, address }), address };
      connection.token = { header: authorization, table, identity };
    }
    return connection.token.identity;
  }

  /** False: the token by which the connection was last used is not accepted any more. */
  stands(session: http2.Http2Session): boolean {
    const { token } = this.#connections.get(session) ?? {};
    if (token === undefined) return true;
    return !(this.identify(session, token.header).principal instanceof AccessError);
  }

  #inspect(session: http2.Http2Session): Connection {
    const socket = session.socket as tls.TLSSocket;
    const address = socket.remoteAddress ?? 'unknown';
    return { byCertificate: { principal: this.#ofConnection(socket, address), address }, token: undefined };
  }

  #ofConnection(socket: tls.TLSSocket, address: string): Principal | AccessError {
    if (this.#certificates) return ofCertificate(socket, this.#tokens !== undefined);
    if (this.#tokens !== undefined) {
      return new AccessError('credentials', 'the origin asks for a token, and the call has none', {
        hint: 'give --token-file with a token of this origin',
      });
    }
    return { tenant: 'local', host: address, role: 'admin', provenBy: 'nothing' };
  }
}

function ofCertificate(socket: tls.TLSSocket, orToken: boolean): Principal | AccessError {
  const { subject } = socket.getPeerCertificate() as Partial<tls.PeerCertificate>;
  if (subject === undefined) {
    const alternative = orToken ? ' or a token' : '';
    return new AccessError(
      'credentials',
      `the origin asks for a certificate${alternative}, and the client showed none`,
      { hint: `give --tls-cert and --tls-key with --tls-ca${orToken ? ', or --token-file' : ''}` },
    );
  }
  if (!socket.authorized) {
    // Of type Error by its declaration, a code in truth.
    const code = String(socket.authorizationError);
    return new AccessError('certificate', `the origin refuses the client's certificate: ${wordsOf(code)}`, {
      hint:
        code === 'CERT_HAS_EXPIRED'
          ? 'give this host a new one with perigee origin certify; no restart is needed'
          : "give --tls-cert and --tls-key that the origin's own authority has issued",
    });
  }
  try {
    return principalOfSubject(subject);
  } catch (error) {
    if (error instanceof AccessError) return error;
    throw error;
  }
}

/** What the commonest of OpenSSL's refusals mean. */
function wordsOf(code: string): string {
  switch (code) {
    case 'CERT_HAS_EXPIRED':
      return 'it has expired';
    case 'CERT_NOT_YET_VALID':
      return 'it is not valid yet; the clocks may differ';
    case 'INVALID_PURPOSE':
      return 'it was not made for clients';
    case 'UNABLE_TO_GET_ISSUER_CERT':
    case 'UNABLE_TO_GET_ISSUER_CERT_LOCALLY':
    case 'UNABLE_TO_VERIFY_LEAF_SIGNATURE':
    case 'SELF_SIGNED_CERT_IN_CHAIN':
    case 'DEPTH_ZERO_SELF_SIGNED_CERT':
    case 'CERT_SIGNATURE_FAILURE':
      return 'another authority has issued it';
    default:
      return code;
  }
}

function bearerOf(
  table: TokenTable,
  { authorization, address }: { readonly authorization: string; readonly address: string },
): Principal | AccessError {
  const token = /^Bearer (\S+)$/i.exec(authorization)?.[1];
  const bearer = token === undefined ? undefined : table.find(token);
  if (bearer !== undefined) return { ...bearer, host: bearer.host ?? address, provenBy: 'token' };
  return new AccessError('token', 'the origin does not know the token', {
    hint: 'give --token-file with a token that stands in the file of --tokens of this origin',
  });
}
