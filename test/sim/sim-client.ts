/** Unary calls over a simulated link, with the messages and the errors that would travel. */
import type { DescMessage, DescMethodUnary, MessageInitShape, MessageShape } from '@bufbuild/protobuf';
import { ORIGIN_DEADLINE_MS } from '../../lib/base/limits.ts';
import { toRpcError } from '../../lib/rpc/rpc-errors.ts';
import type { ChangeCall } from './recorder.ts';
import type { SimLink } from './sim-network.ts';
import type { SimOrigin } from './sim-origin.ts';

export interface SimCallOptions {
  readonly signal?: AbortSignal | undefined;
  /** Of which the change is a part. */
  readonly change?: ChangeCall;
}

export class SimClient {
  readonly #link: SimLink;
  readonly #origin: SimOrigin;

  constructor(link: SimLink, origin: SimOrigin) {
    this.#link = link;
    this.#origin = origin;
  }

  /** @throws RpcError, and the reason of the signal */
  async call<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
    { signal, change }: SimCallOptions = {},
  ): Promise<MessageShape<O>> {
    try {
      return await this.#link.call(() => this.#origin.serve(method, request, change), {
        deadlineMs: ORIGIN_DEADLINE_MS,
        signal,
      });
    } catch (error) {
      if (signal?.aborted) throw signal.reason;
      throw toRpcError(error);
    }
  }

  unary<I extends DescMessage, O extends DescMessage>(method: DescMethodUnary<I, O>) {
    return (request: MessageInitShape<I>, options: { readonly signal?: AbortSignal } = {}) =>
      this.call(method, request, options);
  }
}
