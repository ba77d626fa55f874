/**
 * Keeps a satellite's policies those of the origin: a stream tells them at once and after each change, and is opened
 * again when it breaks. While the origin cannot be reached the last ones hold; a document that this release does not
 * know is refused in the log, and the last one holds too.
 */
import { type Clock, sleep } from '../base/clock.ts';
import { describeError, PerigeeError } from '../base/errors.ts';
import type { Prng } from '../base/prng.ts';
import { policiesOfJson } from '../policy/policy-document.ts';
import type { PolicyHolder } from '../policy/policy-holder.ts';
import type { Logger } from '../telemetry/log.ts';

/** How long a start waits for the first policies; without them defaults hold until they come. */
const FIRST_SET_DEADLINE_MS = 2_000;
/** Before a stream is opened again; with up to as much again by chance, so that satellites do not come all at once. */
const REOPEN_AFTER_MS = 250;

export interface PolicySet {
  readonly version: bigint;
  readonly document: string;
}

export interface PolicyWatchOptions {
  readonly open: (bounds: { readonly signal: AbortSignal }) => AsyncIterable<PolicySet>;
  readonly holder: PolicyHolder;
  readonly clock: Clock;
  readonly prng: Prng;
  readonly logger: Logger;
}

export class PolicyWatch {
  readonly #options: PolicyWatchOptions;
  readonly #ended = new AbortController();
  readonly #first = Promise.withResolvers<void>();
  #isBroken = false;

  constructor(options: PolicyWatchOptions) {
    this.#options = options;
    void this.#run();
  }

  /** Resolves when the first policies hold, or when they are late. */
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

  close(): void {
    this.#ended.abort(new Error('the satellite ends'));
    this.#first.resolve();
  }

  async #run(): Promise<void> {
    const { clock, prng, open } = this.#options;
    const { signal } = this.#ended;
    while (!signal.aborted) {
      try {
        for await (const set of open({ signal })) this.#take(set);
        this.#broken(new Error('the origin has ended the stream'));
      } catch (error) {
        if (signal.aborted) return;
        this.#broken(error);
        if (error instanceof PerigeeError && error.code === 'unsupported') return this.#first.resolve();
      }
      await sleep(clock, REOPEN_AFTER_MS + prng.below(REOPEN_AFTER_MS), signal).catch(() => undefined);
    }
  }

  #take({ version, document }: PolicySet): void {
    const { holder, logger } = this.#options;
    const wasBroken = this.#isBroken;
    this.#isBroken = false;
    try {
      const policies = policiesOfJson(document);
      // A stream that was opened again mostly brings what is known.
      if (!wasBroken || Number(version) !== holder.version) holder.replace(Number(version), policies);
      logger.info({ version: Number(version), policies: policies.length }, 'policies in force');
    } catch (error) {
      logger.error({ version: Number(version) }, describeError(error));
    }
    this.#first.resolve();
  }

  #broken(error: unknown): void {
    const { logger } = this.#options;
    if (!this.#isBroken) logger.warn(`policies are not told of any more: ${describeError(error)}`);
    this.#isBroken = true;
  }
}
