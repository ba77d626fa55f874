/**
 * Tells the namespace, once at a time for each version, that a version's object is gone, so that the next lookup finds
 * what took its place, and learns where the same version lies now if only its object was moved, as after a rename.
 * Waits for the answer within a bound; a failure is logged and changes nothing for the caller.
 */
import type { Logger } from '../telemetry/log.ts';
import type { Clock } from '../base/clock.ts';
import type { VersionId } from '../base/brand.ts';
import { describeError } from '../base/errors.ts';
import { NamespaceError, type Namespace } from '../namespace/namespace.ts';
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
  readonly #running = new Map<VersionId, Promise<VersionSource | undefined>>();

  constructor(options: StaleReportsOptions) {
    this.#options = options;
  }

  /** @returns another place of the same version, if it has one */
  report(node: Node, source: VersionSource): Promise<VersionSource | undefined> {
    let running = this.#running.get(source.version);
    if (running === undefined) {
      running = this.#report(node, source).finally(() => this.#running.delete(source.version));
      this.#running.set(source.version, running);
    }
    return running;
  }

  async #report(node: Node, source: VersionSource): Promise<VersionSource | undefined> {
    const { namespace, clock, namesDeadlineMs, logger, signal } = this.#options;
    try {
      return await bounded(clock, { signal, deadlineMs: namesDeadlineMs }, async (bound) => {
        await namespace.reportStale(node.inode, source, { signal: bound });
        const now = (await namespace.attributes(node.inode, { signal: bound })).source;
        return now !== undefined && isElsewhere(now, source) ? now : undefined;
      });
    } catch (error) {
      if (error instanceof NamespaceError && error.code === 'not-found') return undefined;
      logger.warn(
        { version: source.version, cause: describeError(error) },
        'a version is gone from the object store, and the origin could not be told',
      );
      return undefined;
    }
  }
}

function isElsewhere(now: VersionSource, before: VersionSource): boolean {
  if (now.version !== before.version) return false;
  return now.objectKey !== before.objectKey || now.entityTag !== before.entityTag;
}
