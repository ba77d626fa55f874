/** What became of the bytes that were fetched ahead, by lane: since the start, for people and for the metrics at once. */
import type { Metrics } from '../telemetry/metrics.ts';
import { type Outcome, type OutcomeBytes, OUTCOMES } from './prefetch.ts';

/** What jobs by hand are counted under; no policy has such a name. */
export const BY_HAND = '-';

const NOTHING: OutcomeBytes = { fetched: 0, used: 0, wasted: 0, late: 0 };

export class Outcomes {
  readonly #metrics: Metrics;
  readonly #ofPolicy = new Map<string, Record<Outcome, number>>();

  constructor(metrics: Metrics) {
    this.#metrics = metrics;
  }

  count(lane: string, outcome: Outcome, bytes: number): void {
    const policy = jobOfLane(lane) === undefined ? lane : BY_HAND;
    let counts = this.#ofPolicy.get(policy);
    if (counts === undefined) this.#ofPolicy.set(policy, (counts = { ...NOTHING }));
    counts[outcome] += bytes;
    this.#metrics.prefetchBytes.inc({ policy, outcome }, bytes);
  }

  /** By policy, and `BY_HAND`. */
  all(): Readonly<Record<string, OutcomeBytes>> {
    return Object.fromEntries([...this.#ofPolicy].map(([policy, counts]) => [policy, { ...counts }]));
  }

  /** In all. */
  sum(): OutcomeBytes {
    const sum = { ...NOTHING } as Record<Outcome, number>;
    for (const counts of this.#ofPolicy.values()) {
      for (const outcome of OUTCOMES) sum[outcome] += counts[outcome];
    }
    return sum;
  }
}

/** A lane is named by its policy, or `#` and its job. */
export function laneOfJob(id: string): string {
  return `#${id}`;
}

export function jobOfLane(lane: string): string | undefined {
  return lane.startsWith('#') ? lane.slice(1) : undefined;
}
