/** What the cache counts, for `stat` and for the metrics at once. */
import type { Metrics } from '../lib/telemetry/metrics.ts';

export class Counters {
  readonly #metrics: Metrics;
  readonly #hit;
  readonly #miss;
  readonly #bypass;
  readonly #passthrough;
  hits = 0;
  misses = 0;
  bypassedReads = 0;
  fetchedBytes = 0;
  evictedBytes = 0;
  checksumFailures = 0;

  constructor(metrics: Metrics) {
    this.#metrics = metrics;
    this.#hit = metrics.cacheReads.labels({ result: 'hit' });
    this.#miss = metrics.cacheReads.labels({ result: 'miss' });
    this.#bypass = metrics.cacheReads.labels({ result: 'bypass' });
    this.#passthrough = metrics.cacheReads.labels({ result: 'passthrough' });
  }

  hit(): void {
    this.hits++;
    this.#hit.inc();
  }

  miss(): void {
    this.misses++;
    this.#miss.inc();
  }

  bypass(): void {
    this.bypassedReads++;
    this.#bypass.inc();
  }

  passthrough(): void {
    this.#passthrough.inc();
  }

  fetched(bytes: number): void {
    this.fetchedBytes += bytes;
  }

  evicted(bytes: number): void {
    this.evictedBytes += bytes;
    this.#metrics.cacheEvictedBytes.inc(bytes);
  }

  checksumFailure(): void {
    this.checksumFailures++;
    this.#metrics.cacheChecksumFailures.inc();
  }
}
