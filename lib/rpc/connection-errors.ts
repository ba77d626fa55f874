/**
 * What a connection that failed means: broken ones are `unavailable`, peers that do not speak our protocol are
 * `protocol`, and where encryption stands between the two sides it is told who trusts whom, and what to do.
 */
import { Code, ConnectError } from '@connectrpc/connect';
import { RpcError, toRpcError } from './rpc-errors.ts';

/** No code at all: the stream was closed with its connection. */
const ENDED = ['', 'ECONNRESET', 'EPIPE'];

/** Anything that a call or its connection threw. */
export function connectionError(error: unknown, isEncrypted: boolean): RpcError {
  if (error instanceof RpcError) return error;
  const { code, text } = innermost(error);
  const ofTls = isEncrypted ? tlsError(code, text) : undefined;
  if (ofTls !== undefined) return new RpcError(ofTls.code, ofTls.message, { cause: error, hint: ofTls.hint });
  if (code === 'ERR_HTTP2_ERROR') {
    // A peer that does not speak HTTP/2 at all is the wrong one.
    return new RpcError('protocol', text, {
      cause: error,
      hint: hintFor('a perigee origin of this release', isEncrypted),
    });
  }
  if (error instanceof ConnectError) return toRpcError(error);
  if (ENDED.includes(code)) {
    return new RpcError('unavailable', text, {
      cause: error,
      hint: hintFor('a running origin', isEncrypted),
    });
  }
  return toRpcError(new ConnectError(text, Code.Unavailable, undefined, [], error));
}

/** An encrypted port ends a plain connection without a word. */
function hintFor(peer: string, isEncrypted: boolean): string {
  const hint = `check that the address is that of ${peer}`;
  return isEncrypted ? hint : `${hint}; if it is encrypted, give --tls-ca, and --tls-cert with --tls-key`;
}

/** The system's error at the bottom of the chain. */
function innermost(error: unknown): { readonly code: string; readonly text: string } {
  let found = { code: '', text: String(error) };
  for (let at: unknown = error, depth = 0; at instanceof Error && depth < 8; at = at.cause, depth++) {
    const { code } = at as NodeJS.ErrnoException;
    found = { code: typeof code === 'string' ? code : found.code, text: at.message };
  }
  return found;
}

function tlsError(
  code: string,
  text: string,
): { readonly code: 'denied' | 'protocol'; readonly message: string; readonly hint: string } | undefined {
  switch (code) {
    case 'UNABLE_TO_GET_ISSUER_CERT':
    case 'UNABLE_TO_GET_ISSUER_CERT_LOCALLY':
    case 'UNABLE_TO_VERIFY_LEAF_SIGNATURE':
    case 'SELF_SIGNED_CERT_IN_CHAIN':
    case 'DEPTH_ZERO_SELF_SIGNED_CERT':
    case 'CERT_SIGNATURE_FAILURE':
      return {
        code: 'denied',
        message: "the origin's certificate was issued by an authority that --tls-ca does not name",
        hint: "give --tls-ca with the certificate of the origin's own authority",
      };
    case 'CERT_HAS_EXPIRED':
      return {
        code: 'denied',
        message: "the origin's certificate has expired",
        hint: 'give the origin a new one (perigee origin certify); it needs no restart',
      };
    case 'CERT_NOT_YET_VALID':
      return {
        code: 'denied',
        message: "the origin's certificate is not valid yet",
        hint: 'check the clocks of both hosts',
      };
    case 'ERR_TLS_CERT_ALTNAME_INVALID':
      return {
        code: 'denied',
        message: `the origin's certificate is for other names: ${text}`,
        hint: 'use a name that the certificate has, or issue one with --host for this name',
      };
    case 'ERR_SSL_WRONG_VERSION_NUMBER':
    case 'ERR_SSL_PACKET_LENGTH_TOO_LONG':
    case 'ERR_SSL_RECORD_LAYER_FAILURE':
    case 'EPROTO':
      return {
        code: 'protocol',
        message: `there is no encryption at that port: ${text}`,
        hint: 'if the origin serves plain text, leave --tls-ca, --tls-cert and --tls-key out',
      };
    default:
      return undefined;
  }
}
