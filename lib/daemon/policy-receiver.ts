/**
 * Takes the sets of policies that the origin sends by the stream of a session: one behind each welcome, one after each
 * change. While there is no stream the last one holds; a set that this release does not know is refused in the log, and
 * the last one holds too.
 */
import { type Clock, sleep } from '../base/clock.ts';
import { describeError } from '../base/errors.ts';
import { policiesOfJson } from '../policy/policy-document.ts';
import type { PolicyHolder } from '../policy/policy-holder.ts';
import type { Logger } from '../telemetry/log.ts';
import type { Metrics } from '../telemetry/metrics.ts';

/** How long a start waits for the first set; without it defaults hold until it comes. */
const FIRST_SET_DEADLINE_MS = 2_000;

export interface PolicySet {
  readonly version: bigint;
  readonly document: string;
}

export interface PolicyReceiverOptions {
  readonly holder: PolicyHolder;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: Metrics;
}

export class PolicyReceiver {
  readonly #options: PolicyReceiverOptions;
  readonly #first = Promise.withResolvers<void>();
  #last: PolicySet | undefined;

  constructor(options: PolicyReceiverOptions) {
    this.#options = options;
  }

  take(set: PolicySet): void {
    const { holder, logger, metrics } = this.#options;
    const version = Number(set.version);
    // A stream that was opened again mostly brings what is known.
    if (set.version === this.#last?.version && set.document === this.#last.document) return;
    this.#last = set;
    try {
      const policies = policiesOfJson(set.document);
      holder.replace(version, policies);
      metrics.policyVersion.set(version);
      logger.info({ version, policies: policies.length }, 'policies in force');
    } catch (error) {
      metrics.policyRefusals.inc();
      logger.error({ version }, describeError(error));
    }
    this.#first.resolve();
  }

  /** Resolves when the first set holds, or when it is late. */
  async first(): Promise<void> {
    const { clock, logger } = this.#options;
    const arrived = new AbortController();
    const late = sleep(clock, FIRST_SET_DEADLINE_MS, arrived.signal).then(
      () => logger.warn('the origin does not tell its policies; defaults hold until it does'),
      () => undefined,
    );
    await Promise.race([this.#first.promise, late]);
    arrived.abort();
  }
}
