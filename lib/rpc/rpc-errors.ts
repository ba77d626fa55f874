/**
 * The only mapping between our errors and RPC codes, both ways.
 *
 * The RPC code is for proxies and other people's tools; our literal code and the hint travel beside it as headers,
 * so a satellite raises what the origin meant, with the origin's hint. An error that is not ours leaves the process
 * as `failed` with no detail: what it says is for the log of the side that raised it.
 */
import { Code, ConnectError } from '@connectrpc/connect';
import { PerigeeError } from '../base/errors.ts';
import { type AccessErrorCode } from './principal.ts';

/**
 * - `not-found`: no such export or inode
 * - `not-directory`: a child of something that has none
 * - `is-directory`, `exists`, `not-empty`: what stands where a change wants to put or take something
 * - `invalid`: the request makes no sense
 * - `denied`: refused: nobody knows who calls, or who calls may not, or the store behind the other side refuses it
 * - `timeout`: no answer within the deadline
 * - `unavailable`: the other side or the store behind it cannot be reached
 * - `unsupported`: the other side is of a release that has no such call
 * - `protocol`: the answer makes no sense, or whoever listens there is not one of us
 * - `busy`: another satellite has the write of this file, and did not end it within the bound
 * - `fenced`: this write has ended, or another satellite has taken the file over: its token is stale
 * - `upload-gone`: the upload was given up, or its place in the store was taken: the bytes are to be sent anew
 * - `no-space`: the store is full, or the attributes of a file are
 * - `read-only`: the export takes no changes
 * - `failed`: a fault of the other side; its log has the cause
 * - `listen`: this side cannot listen at the address it was given
 */
export type RpcErrorCode =
  | 'not-found'
  | 'not-directory'
  | 'is-directory'
  | 'exists'
  | 'not-empty'
  | 'invalid'
  | 'denied'
  | 'timeout'
  | 'unavailable'
  | 'unsupported'
  | 'protocol'
  | 'busy'
  | 'fenced'
  | 'upload-gone'
  | 'no-space'
  | 'read-only'
  | 'failed'
  | 'listen';

export class RpcError extends PerigeeError<RpcErrorCode> {
  override readonly layer = 'rpc';
}

const CODE_HEADER = 'perigee-code';
const HINT_HEADER = 'perigee-hint';
/** A hint is one sentence; a header must stay small. */
const HINT_BYTES_MAX = 2_048;

const codeOf: Readonly<Record<string, Code>> = {
  'not-found': Code.NotFound,
  'not-directory': Code.FailedPrecondition,
  'is-directory': Code.FailedPrecondition,
  exists: Code.AlreadyExists,
  'not-empty': Code.FailedPrecondition,
  invalid: Code.InvalidArgument,
  denied: Code.PermissionDenied,
  unauthenticated: Code.Unauthenticated,
  timeout: Code.DeadlineExceeded,
  unavailable: Code.Unavailable,
  unsupported: Code.Unimplemented,
  busy: Code.FailedPrecondition,
  fenced: Code.Aborted,
  'upload-gone': Code.FailedPrecondition,
  'no-space': Code.ResourceExhausted,
  'read-only': Code.PermissionDenied,
  failed: Code.Internal,
} satisfies Partial<Record<RpcErrorCode | AccessErrorCode, Code>>;

const WRONG_PEER_HINT =
  'check that the address is that of a perigee origin of this release, and that no proxy without HTTP/2 lies between';

/** Server side: what goes on the wire for anything that a handler threw. */
export function toConnectError(error: unknown): ConnectError {
  if (error instanceof ConnectError) return error;
  const ours = travelling(error);
  if (ours === undefined) {
    const headers = { [CODE_HEADER]: 'failed' };
    return new ConnectError(
      'a fault of the server; its log has the cause',
      Code.Internal,
      headers,
      [],
      error,
    );
  }
  const headers: Record<string, string> = { [CODE_HEADER]: ours.code };
  const hint = ours.hint === undefined ? undefined : encodeURIComponent(ours.hint.toWellFormed());
  if (hint !== undefined && hint.length <= HINT_BYTES_MAX) headers[HINT_HEADER] = hint;
  return new ConnectError(ours.message, codeOf[ours.code], headers, [], error);
}

/** The literal code under which an error is counted. */
export function rpcCodeOf(error: unknown): string {
  if (error instanceof ConnectError && error.code === Code.Canceled) return 'canceled';
  return travelling(error)?.code ?? 'failed';
}

/** An error of ours whose code the other side knows. */
function travelling(error: unknown): PerigeeError | undefined {
  const ours = error instanceof PerigeeError ? (error as PerigeeError) : undefined;
  return ours !== undefined && codeOf[ours.code] !== undefined ? ours : undefined;
}

/** Client side: what a call that failed in any way means to us. */
export function toRpcError(error: unknown): RpcError {
  if (error instanceof RpcError) return error;
  const wire = ConnectError.from(error);
  const literal = wire.metadata.get(CODE_HEADER);
  if (literal !== null && codeOf[literal] !== undefined) {
    const hint = decodeHint(wire.metadata.get(HINT_HEADER));
    const code = literal === 'unauthenticated' ? 'denied' : (literal as RpcErrorCode);
    return new RpcError(code, wire.rawMessage, hint === undefined ? {} : { hint });
  }
  switch (wire.code) {
    case Code.DeadlineExceeded:
      return new RpcError('timeout', 'no answer within the deadline', { cause: error });
    case Code.Unavailable:
    case Code.Aborted:
    case Code.ResourceExhausted:
    case Code.Canceled:
      return new RpcError('unavailable', wire.rawMessage, {
        cause: wire.cause ?? error,
        hint: 'check that the origin runs and that its address and port are right',
      });
    case Code.Unauthenticated:
    case Code.PermissionDenied:
      return new RpcError('denied', wire.rawMessage, { cause: error });
    case Code.Unimplemented:
      return new RpcError('unsupported', wire.rawMessage, { cause: error, hint: WRONG_PEER_HINT });
    case Code.Unknown:
    case Code.InvalidArgument:
    case Code.NotFound:
    case Code.AlreadyExists:
    case Code.FailedPrecondition:
    case Code.OutOfRange:
    case Code.Internal:
    case Code.DataLoss:
      return new RpcError('protocol', wire.rawMessage, {
        cause: wire.cause ?? error,
        hint: WRONG_PEER_HINT,
      });
  }
}

function decodeHint(header: string | null): string | undefined {
  if (header === null) return undefined;
  try {
    return decodeURIComponent(header);
  } catch {
    return undefined;
  }
}
