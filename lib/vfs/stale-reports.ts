/**
 * Tells the namespace, once at a time for each version, that a version's object is gone, so that the next lookup finds
 * what took its place. Waits for the answer within a bound; a failure is logged and changes nothing for the caller.
 */
import type { Logger } from '../telemetry/log.ts';
import type { Clock } from '../base/clock.ts';
import type { VersionId } from '../base/brand.ts';
import { describeError } from '../base/errors.ts';
import type { Namespace } from '../namespace/namespace.ts';
import type { VersionSource } from '../tiers/tier.ts';
import { bounded } from './bounded.ts';
import type { Node } from './node-table.ts';

export interface StaleReportsOptions {
  readonly namespace: Namespace;
  readonly clock: Clock;
  readonly namesDeadlineMs: number;
  readonly logger: Logger;
  readonly signal: AbortSignal;
}

export class StaleReports {
  readonly #options: StaleReportsOptions;
  readonly #running = new Map<VersionId, Promise<void>>();

  constructor(options: StaleReportsOptions) {
    this.#options = options;
  }

  report(node: Node, source: VersionSource): Promise<void> {
    let running = this.#running.get(source.version);
    if (running === undefined) {
      running = this.#report(node, source).finally(() => this.#running.delete(source.version));
      this.#running.set(source.version, running);
    }
    return running;
  }

  async #report(node: Node, source: VersionSource): Promise<void> {
    const { namespace, clock, namesDeadlineMs, logger, signal } = this.#options;
    try {
      await bounded(clock, { signal, deadlineMs: namesDeadlineMs }, (bound) =>
        namespace.reportStale(node.inode, source, { signal: bound }),
      );
    } catch (error) {
      logger.warn(
        { version: source.version, cause: describeError(error) },
        'a version is gone from the object store, and the origin could not be told',
      );
    }
  }
}
