/** A service as the general handler of Connect takes it: streams, JSON and compression, behind the same gate as plain calls. */
import { type DescMethod, type DescService } from '@bufbuild/protobuf';
import { type HandlerContext, type ServiceImpl } from '@connectrpc/connect';
import { callerOf, type Gate, identityKey } from './gate.ts';
import { toConnectError } from './rpc-errors.ts';
import { type RpcService } from './unary-handler.ts';

export function generalImplementation(
  { service, implementation }: RpcService,
  gate: Gate,
): Partial<ServiceImpl<DescService>> {
  const gated = service.methods.map((method) => [
    method.localName,
    gatedMethod(method, { gate, run: implementation[method.localName] as Run }),
  ]);
  return Object.fromEntries(gated) as Partial<ServiceImpl<DescService>>;
}

/** Of any kind; what it takes and returns depends on the kind. */
type Run = (request: unknown, context: unknown) => unknown;

function gatedMethod(
  { methodKind, name: method }: DescMethod,
  { gate, run }: { readonly gate: Gate; readonly run: Run },
) {
  const admit = (request: unknown, { values }: HandlerContext) =>
    travelling(async () => gate.admit(values.get(identityKey), { method, request }));
  const admitStream = (messages: AsyncIterable<unknown>, { values }: HandlerContext) =>
    travelling(() => gate.admitStream(values.get(identityKey), { method, messages }));
  switch (methodKind) {
    case 'unary':
      return async (request: unknown, context: HandlerContext) => {
        await admit(request, context);
        return run(request, callerOf(context));
      };
    case 'server_streaming':
      return async function* (request: unknown, context: HandlerContext) {
        await admit(request, context);
        yield* run(request, context) as AsyncIterable<unknown>;
      };
    case 'client_streaming':
      return async (messages: AsyncIterable<unknown>, context: HandlerContext) =>
        run(await admitStream(messages, context), context);
    case 'bidi_streaming':
      return async function* (messages: AsyncIterable<unknown>, context: HandlerContext) {
        yield* run(await admitStream(messages, context), context) as AsyncIterable<unknown>;
      };
  }
}

/** What is thrown leaves as a code and a hint. */
async function travelling<T>(run: () => Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (error) {
    throw toConnectError(error);
  }
}
