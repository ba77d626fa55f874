/**
 * The one gate that every call passes, whichever way it came: who calls must be known, and must be allowed this
 * method on this export.
 *
 * Guarantees: no handler runs before, that of a stream not before its first message has come. What is refused is told
 * to `onRefused`.
 */
import { createContextKey, type HandlerContext } from '@connectrpc/connect';
import { type Clock, sleep } from '../base/clock.ts';
import { type Identity } from './authenticator.ts';
import { AccessError, type AccessErrorReason, type Principal } from './principal.ts';
import { RpcError } from './rpc-errors.ts';

/** How long an open stream may say nothing before its handler runs. */
const FIRST_MESSAGE_DEADLINE_MS = 10_000;

/** What a handler is told of its caller. */
export interface Caller {
  readonly principal: Principal;
  /** Of the peer, for people. */
  readonly address: string;
  /** Aborts when the caller went away. */
  readonly signal?: AbortSignal;
}

export interface GatedCall {
  /** As in the schema, such as `Lookup`. */
  readonly method: string;
  /** Empty where the request names none. */
  readonly exportName: string;
}

/** @throws AccessError, or what else the caller shall be told */
export type Authorize = (principal: Principal, call: GatedCall) => void;

/** For the log and for counting. */
export interface Refusal {
  /** `handshake`: no encrypted connection came about. */
  readonly reason: AccessErrorReason | 'handshake';
  readonly address: string;
  readonly principal?: Principal | undefined;
  readonly call?: GatedCall;
  readonly error: Error;
}

export interface GateOptions {
  readonly clock: Clock;
  readonly authorize: Authorize;
  readonly onRefused: (refusal: Refusal) => void;
}

/** Where the general handler finds who calls. */
export const identityKey = createContextKey<Identity>(
  {
    principal: new AccessError('credentials', 'the call came by no connection', { hint: 'this is a fault' }),
    address: 'unknown',
  },
  { description: 'who calls' },
);

/** For handlers of streams. */
export function callerOf({ values, signal }: HandlerContext): Caller {
  const { principal, address } = values.get(identityKey);
  if (principal instanceof AccessError) throw principal;
  return { principal, address, signal };
}

export class Gate {
  readonly #options: GateOptions;

  constructor(options: GateOptions) {
    this.#options = options;
  }

  /** @returns who calls; the handler may run */
  admit(
    identity: Identity,
    { method, request }: { readonly method: string; readonly request: unknown },
  ): Principal {
    return this.#pass(identity, { method, exportName: exportNameOf(request) });
  }

  /** @returns the messages of a stream, once the first one says that the handler may run */
  async admitStream<T>(
    identity: Identity,
    { method, messages }: { readonly method: string; readonly messages: AsyncIterable<T> },
  ): Promise<AsyncIterable<T>> {
    if (identity.principal instanceof AccessError) this.#pass(identity, { method, exportName: '' });
    const iterator = messages[Symbol.asyncIterator]();
    const first = await this.#first(iterator);
    if (first.done !== true) this.admit(identity, { method, request: first.value });
    return resumed(first, iterator);
  }

  async #first<T>(iterator: AsyncIterator<T>): Promise<IteratorResult<T>> {
    const arrived = new AbortController();
    const late = sleep(this.#options.clock, FIRST_MESSAGE_DEADLINE_MS, arrived.signal).then(() => {
      throw new RpcError(
        'timeout',
        `the first message of a stream did not come in ${FIRST_MESSAGE_DEADLINE_MS} ms`,
      );
    });
    try {
      return await Promise.race([iterator.next(), late]);
    } finally {
      arrived.abort();
      late.catch(() => undefined);
    }
  }

  #pass(identity: Identity, call: GatedCall): Principal {
    const { authorize, onRefused } = this.#options;
    const { principal } = identity;
    try {
      if (principal instanceof AccessError) throw principal;
      authorize(principal, call);
      return principal;
    } catch (error) {
      if (error instanceof AccessError) {
        const known = principal instanceof AccessError ? undefined : principal;
        onRefused({ reason: error.reason, address: identity.address, principal: known, call, error });
      }
      throw error;
    }
  }
}

async function* resumed<T>(first: IteratorResult<T>, iterator: AsyncIterator<T>): AsyncGenerator<T> {
  try {
    for (let next = first; next.done !== true; next = await iterator.next()) yield next.value;
  } finally {
    await iterator.return?.();
  }
}

/** Requests have it by themselves, the first message of a session in its hello. */
function exportNameOf(request: unknown): string {
  const { exportName, message } = request as {
    readonly exportName?: unknown;
    readonly message?: { readonly value?: { readonly exportName?: unknown } };
  };
  const name = exportName ?? message?.value?.exportName;
  return typeof name === 'string' ? name : '';
}
