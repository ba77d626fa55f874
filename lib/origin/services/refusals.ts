/**
 * Tells the operator of callers that were refused: every refusal is counted; of a kind from one host the first is logged,
 * and then at most one a minute with the number of those in between.
 */
import type { Clock } from '../../base/clock.ts';
import type { Refusal } from '../../rpc/gate.ts';
import type { Logger } from '../../telemetry/log.ts';
import type { Metrics } from '../../telemetry/metrics.ts';

const LOG_PERIOD_MS = 60_000;
/** Kinds and hosts that are remembered; the oldest is forgotten for a new one. */
const KINDS_MAX = 1_000;

export class Refusals {
  readonly #options: { readonly clock: Clock; readonly logger: Logger; readonly metrics: Metrics };
  readonly #logged = new Map<string, { readonly atMs: number; unlogged: number }>();

  constructor(options: { readonly clock: Clock; readonly logger: Logger; readonly metrics: Metrics }) {
    this.#options = options;
  }

  note({ reason, address, principal, call, error }: Refusal): void {
    const { clock, logger, metrics } = this.#options;
    metrics.originRefusals.inc({ reason });
    const kind = `${reason} ${address} ${principal?.host ?? ''}`;
    const last = this.#logged.get(kind);
    const nowMs = clock.nowMs();
    if (last !== undefined && nowMs - last.atMs < LOG_PERIOD_MS) {
      last.unlogged += 1;
      return;
    }
    this.#logged.delete(kind);
    const oldest = this.#logged.size < KINDS_MAX ? undefined : this.#logged.keys().next().value;
    if (oldest !== undefined) this.#logged.delete(oldest);
    this.#logged.set(kind, { atMs: nowMs, unlogged: 0 });
    const more = last === undefined || last.unlogged === 0 ? {} : { refusedSinceLast: last.unlogged };
    logger.warn({ reason, address, ...principal, ...call, ...more }, `refused: ${error.message}`);
  }
}
