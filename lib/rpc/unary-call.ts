/**
 * One unary call of the Connect protocol on an HTTP/2 session, without the general client's cost (see
 * unary-handler.ts); any Connect server answers it.
 *
 * Guarantees: settles once, within the deadline, with the answer, an `RpcError`, or the reason of the caller's
 * signal; the stream is closed in every case.
 */
import http2 from 'node:http2';
import {
  create,
  type DescMessage,
  type DescMethodUnary,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from '@bufbuild/protobuf';
import { ConnectError } from '@connectrpc/connect';
import type { Http2SessionManager } from '@connectrpc/connect-node';
import { codeFromHttpStatus, errorFromJsonBytes } from '@connectrpc/connect/protocol-connect';
import type { Clock } from '../base/clock.ts';
import { connectionError } from './connection-errors.ts';
import { RpcError, toRpcError } from './rpc-errors.ts';

const HEADERS = { 'content-type': 'application/proto', 'connect-protocol-version': '1' } as const;

export interface UnaryCallOptions {
  readonly sessions: Http2SessionManager;
  readonly clock: Clock;
  readonly deadlineMs: number;
  /** Of an answer. */
  readonly bytesMax: number;
  /** The header that tells who calls. */
  readonly authorization: string | undefined;
  readonly signal?: AbortSignal | undefined;
}

export function callUnary<I extends DescMessage, O extends DescMessage>(
  method: DescMethodUnary<I, O>,
  request: MessageInitShape<I>,
  options: UnaryCallOptions,
): Promise<MessageShape<O>> {
  const { sessions, clock, deadlineMs, bytesMax, authorization, signal } = options;
  if (signal?.aborted) return Promise.reject(signal.reason);
  const body = toBinary(method.input, create(method.input, request));
  const isEncrypted = sessions.authority.startsWith('https:');
  const headers = authorization === undefined ? HEADERS : { ...HEADERS, authorization };
  return new Promise((resolve, reject) => {
    let stream: http2.ClientHttp2Stream | undefined;
    let isSettled = false;
    const settle = (): boolean => {
      if (isSettled) return false;
      isSettled = true;
      cancelTimer();
      signal?.removeEventListener('abort', abort);
      return true;
    };
    const fail = (reason: unknown): void => {
      if (!settle()) return;
      stream?.close(http2.constants.NGHTTP2_CANCEL);
      reject(reason);
    };
    const abort = (): void => fail(signal?.reason);
    const cancelTimer = clock.after(deadlineMs, () => fail(late(sessions.authority, deadlineMs)));
    signal?.addEventListener('abort', abort, { once: true });

    sessions.request('POST', `/${method.parent.typeName}/${method.name}`, headers, {}).then(
      (opened) => {
        stream = opened;
        if (isSettled) return void opened.on('error', () => undefined).close(http2.constants.NGHTTP2_CANCEL);
        const pieces: Buffer[] = [];
        let bytes = 0;
        let answered: http2.IncomingHttpHeaders = {};
        opened.on('response', (received) => (answered = received));
        opened.on('data', (piece: Buffer) => {
          sessions.notifyResponseByteRead(opened);
          bytes += piece.length;
          pieces.push(piece);
          if (bytes > bytesMax) fail(new RpcError('protocol', `an answer over ${bytesMax} bytes`));
        });
        opened.on('end', () => {
          // An end without an answer is a reset, which the error or the close tells better.
          if (answered[':status'] === undefined || opened.rstCode !== http2.constants.NGHTTP2_NO_ERROR)
            return;
          try {
            const message = decode(
              method.output,
              answered,
              pieces.length === 1 ? pieces[0] : Buffer.concat(pieces),
            );
            if (settle()) resolve(message);
          } catch (error) {
            fail(toRpcError(error));
          }
        });
        opened.on('error', (error) => fail(connectionError(error, isEncrypted)));
        opened.on('close', () => {
          // Every stream closes in the end, and errors are dear.
          if (!isSettled) fail(connectionError(new Error('the connection ended'), isEncrypted));
        });
        opened.end(body);
      },
      (error: unknown) => fail(connectionError(error, isEncrypted)),
    );
  });
}

function decode<O extends DescMessage>(
  output: O,
  headers: http2.IncomingHttpHeaders,
  body: Uint8Array = new Uint8Array(),
): MessageShape<O> {
  const status = Number(headers[':status']);
  const type = headers['content-type'];
  if (status === 200 && type === 'application/proto') return fromBinary(output, body);
  const fallback = new ConnectError(`HTTP status ${status} of type ${type}`, codeFromHttpStatus(status));
  if (status === 200 || type !== 'application/json') throw fallback;
  const metadata = new Headers();
  for (const [name, value] of Object.entries(headers)) {
    if (!name.startsWith(':') && typeof value === 'string') metadata.set(name, value);
  }
  throw errorFromJsonBytes(body, metadata, fallback);
}

function late(authority: string, deadlineMs: number): RpcError {
  return new RpcError('timeout', `${authority} did not answer within ${deadlineMs} ms`, {
    hint: 'check that the origin runs and that the network between is up',
  });
}
