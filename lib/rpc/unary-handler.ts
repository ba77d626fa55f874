/**
 * Answers unary calls of the Connect protocol straight from HTTP/2 streams.
 *
 * A lookup is one such call, and the general handler (headers as objects of fetch, async iterables, interceptors,
 * several abort controllers a call) takes four times what HTTP/2 itself takes. What is served here is the plain case
 * only: POST, `application/proto`, no compression; everything else goes to the general handler, and the bytes on the
 * wire are the same.
 */
import type http2 from 'node:http2';
import {
  create,
  type DescMethodUnary,
  type DescService,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from '@bufbuild/protobuf';
import { Code, ConnectError, type MethodImpl, type ServiceImpl } from '@connectrpc/connect';
import { codeToHttpStatus, errorToJsonBytes } from '@connectrpc/connect/protocol-connect';
import { toConnectError } from './rpc-errors.ts';

/** A service whose unary methods need nothing but the request, so that they can be served without the general handler. */
export type RpcServiceImpl<Desc extends DescService> = {
  [P in keyof Desc['method']]: Desc['method'][P] extends DescMethodUnary<infer I, infer O>
    ? (request: MessageShape<I>) => Promise<MessageInitShape<O>>
    : MethodImpl<Desc['method'][P]>;
};

/** Answers one request's bytes. */
type UnaryRoute = (request: Uint8Array) => Promise<Uint8Array>;

export interface RpcService {
  readonly service: DescService;
  readonly implementation: Partial<ServiceImpl<DescService>>;
  /** By path. */
  readonly unary: ReadonlyMap<string, UnaryRoute>;
}

export function rpcService<Desc extends DescService>(
  service: Desc,
  implementation: RpcServiceImpl<Desc>,
): RpcService {
  const unary = new Map<string, UnaryRoute>();
  const functions = implementation as Record<string, unknown>;
  for (const method of service.methods) {
    if (method.methodKind !== 'unary') continue;
    const { input, output } = method;
    const run = functions[method.localName] as (request: unknown) => Promise<MessageInitShape<typeof output>>;
    unary.set(`/${service.typeName}/${method.name}`, async (bytes) => {
      const answer = await run(decode(input, bytes));
      return toBinary(output, create(output, answer));
    });
  }
  return { service, implementation: functions as Partial<ServiceImpl<DescService>>, unary };
}

/**
 * @param bytesMax of a request
 * @returns false if this stream is not a plain unary call: nothing was done with it
 */
export function serveUnary(
  stream: http2.ServerHttp2Stream,
  headers: http2.IncomingHttpHeaders,
  options: { readonly routes: ReadonlyMap<string, UnaryRoute>; readonly bytesMax: number },
): boolean {
  const route = options.routes.get(headers[':path'] ?? '');
  const isPlain =
    headers[':method'] === 'POST' &&
    headers['content-type'] === 'application/proto' &&
    headers['content-encoding'] === undefined;
  if (route === undefined || !isPlain) return false;
  const pieces: Buffer[] = [];
  let bytes = 0;
  stream.on('data', (piece: Buffer) => {
    bytes += piece.length;
    if (bytes <= options.bytesMax) pieces.push(piece);
  });
  // The caller went away: there is nobody to tell.
  stream.on('error', () => undefined);
  stream.on('end', () => {
    const answer =
      bytes > options.bytesMax
        ? Promise.reject(new ConnectError(`a request over ${options.bytesMax} bytes`, Code.ResourceExhausted))
        : route(pieces.length === 1 ? (pieces[0] as Buffer) : Buffer.concat(pieces));
    answer.then(
      (message) => respond(stream, { ':status': 200, 'content-type': 'application/proto' }, message),
      (error: unknown) => respondError(stream, error),
    );
  });
  return true;
}

function decode(input: DescMethodUnary['input'], bytes: Uint8Array) {
  try {
    return fromBinary(input, bytes);
  } catch (error) {
    throw new ConnectError('the request cannot be decoded', Code.InvalidArgument, undefined, [], error);
  }
}

function respondError(stream: http2.ServerHttp2Stream, error: unknown): void {
  const wire = toConnectError(error);
  const headers: http2.OutgoingHttpHeaders = {
    ':status': codeToHttpStatus(wire.code),
    'content-type': 'application/json',
  };
  wire.metadata.forEach((value, name) => (headers[name] = value));
  respond(stream, headers, errorToJsonBytes(wire, undefined));
}

function respond(
  stream: http2.ServerHttp2Stream,
  headers: http2.OutgoingHttpHeaders,
  body: Uint8Array,
): void {
  if (stream.destroyed || stream.closed) return;
  stream.respond(headers);
  stream.end(body);
}
