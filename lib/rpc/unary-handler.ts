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
import { Code, ConnectError, type MethodImpl } from '@connectrpc/connect';
import { codeToHttpStatus, errorToJsonBytes } from '@connectrpc/connect/protocol-connect';
import { invariant } from '../base/errors.ts';
import { type Identity } from './authenticator.ts';
import { type Caller, type Gate } from './gate.ts';
import { type Principal } from './principal.ts';
import { toConnectError } from './rpc-errors.ts';

/** A service: unary methods get the request and who calls, so that they can be served without the general handler. */
export type RpcServiceImpl<Desc extends DescService> = {
  [P in keyof Desc['method']]: Desc['method'][P] extends DescMethodUnary<infer I, infer O>
    ? (request: MessageShape<I>, caller: Caller) => Promise<MessageInitShape<O>>
    : MethodImpl<Desc['method'][P]>;
};

export interface RpcService {
  readonly service: DescService;
  readonly implementation: Readonly<Record<string, unknown>>;
}

export function rpcService<Desc extends DescService>(
  service: Desc,
  implementation: RpcServiceImpl<Desc>,
): RpcService {
  return { service, implementation };
}

type UnaryFunction = (request: unknown, caller: Caller) => Promise<Record<string, unknown>>;

/** Answers one request's bytes. */
export type UnaryRoute = (request: Uint8Array, call: UnaryStream) => Promise<Uint8Array>;

/** The plain unary calls of a service by path, behind the gate. */
export function unaryRoutes({ service, implementation }: RpcService, gate: Gate): [string, UnaryRoute][] {
  return service.methods.flatMap((method): [string, UnaryRoute][] => {
    if (method.methodKind !== 'unary') return [];
    const { input, output } = method;
    const run = implementation[method.localName] as UnaryFunction;
    const answer: UnaryRoute = async (bytes, call) => {
      const request = decode(input, bytes);
      call.principal = gate.admit(call.identity, { method: method.name, request });
      return toBinary(output, create(output, await run(request, call)));
    };
    return [[`/${service.typeName}/${method.name}`, answer]];
  });
}

/** Who makes one plain call. What is seldom needed is made when it is asked for. */
class UnaryStream implements Caller {
  readonly identity: Identity;
  readonly #stream: http2.ServerHttp2Stream;
  #abort: AbortController | undefined;
  #principal: Principal | undefined;

  constructor(stream: http2.ServerHttp2Stream, identity: Identity) {
    this.#stream = stream;
    this.identity = identity;
  }

  set principal(principal: Principal) {
    this.#principal = principal;
  }

  get principal(): Principal {
    invariant(this.#principal !== undefined, 'a call is admitted before it is answered');
    return this.#principal;
  }

  get address(): string {
    return this.identity.address;
  }

  get signal(): AbortSignal {
    if (this.#abort === undefined) {
      const abort = (this.#abort = new AbortController());
      const end = (): void => abort.abort(new ConnectError('the caller went away', Code.Canceled));
      if (this.#stream.destroyed) end();
      else this.#stream.once('close', () => (this.#stream.headersSent ? undefined : end()));
    }
    return this.#abort.signal;
  }
}

/**
 * @param bytesMax of a request
 * @returns false if this stream is not a plain unary call: nothing was done with it
 */
export function serveUnary(
  stream: http2.ServerHttp2Stream,
  headers: http2.IncomingHttpHeaders,
  options: {
    readonly routes: ReadonlyMap<string, UnaryRoute>;
    readonly identity: Identity;
    readonly bytesMax: number;
  },
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
        : route(
            pieces.length === 1 ? (pieces[0] as Buffer) : Buffer.concat(pieces),
            new UnaryStream(stream, options.identity),
          );
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
