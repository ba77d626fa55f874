/**
 * Keeps the kernel's rule that all open handles of a node have one I/O mode and one backing file.
 *
 * The first live open of a node decides its mode: `passthrough` with a registered backing file, or `served` by
 * us. Later opens of the node share it, whatever they bring along; both modes give the same bytes, since a node is
 * one version. A file is registered once per node and let go when the node's last handle is released.
 */
import type { NodeId } from '../base/brand.ts';
import { describeError, invariant } from '../base/errors.ts';
import type { Logger } from '../telemetry/log.ts';

/** Registers open files with the kernel. */
export interface BackingRegistrar {
  register(fd: number): number;
  unregister(id: number): void;
}

/** The id that an open reply has for a node that is served by us. */
export const NO_BACKING = 0;

interface LiveNode {
  readonly backingId: number;
  opens: number;
}

export class BackingTable {
  readonly #nodes = new Map<NodeId, LiveNode>();
  readonly #registrar: BackingRegistrar | undefined;
  readonly #logger: Logger;

  /** @param options.registrar undefined: no passthrough, everything is served. */
  constructor(options: { readonly registrar: BackingRegistrar | undefined; readonly logger: Logger }) {
    this.#registrar = options.registrar;
    this.#logger = options.logger;
  }

  /** Counts an open. Returns the backing id for its reply; `NO_BACKING` if it is served. */
  open(node: NodeId, fd: number | undefined): number {
    const live = this.#nodes.get(node);
    if (live !== undefined) {
      live.opens++;
      return live.backingId;
    }
    const backingId = fd === undefined ? NO_BACKING : this.#register(fd);
    this.#nodes.set(node, { backingId, opens: 1 });
    return backingId;
  }

  close(node: NodeId): void {
    const live = this.#nodes.get(node);
    invariant(live !== undefined, 'a closed node was open');
    if (--live.opens > 0) return;
    this.#nodes.delete(node);
    if (live.backingId === NO_BACKING) return;
    try {
      this.#registrar?.unregister(live.backingId);
    } catch (error) {
      this.#logger.warn({ error: describeError(error) }, 'a backing file could not be let go');
    }
  }

  #register(fd: number): number {
    if (this.#registrar === undefined) return NO_BACKING;
    try {
      return this.#registrar.register(fd);
    } catch (error) {
      this.#logger.warn({ error: describeError(error) }, 'no passthrough for a file; its reads are served');
      return NO_BACKING;
    }
  }
}
