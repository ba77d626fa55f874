/** Drives the health of the disk: takes failures from whoever sees them, probes a disk that is down, tells logs and metrics. */
import type { Clock } from '../lib/base/clock.ts';
import { describeError } from '../lib/base/errors.ts';
import type { Logger } from '../lib/telemetry/log.ts';
import type { Metrics } from '../lib/telemetry/metrics.ts';
import type { CacheHealth } from './block-cache.ts';
import { type Disk, diskFault } from './disk.ts';
import type { CachePaths } from './format.ts';
import {
  HEALTHY,
  type HealthEvent,
  type HealthState,
  healthName,
  mayFill,
  mayServe,
  nextHealth,
  probeDue,
} from './health.ts';

const TICK_MS = 500;
const LEVELS: Readonly<Record<CacheHealth, number>> = { normal: 0, unstable: 1, down: 2 };

export class DeviceHealth {
  readonly #options: {
    readonly disk: Disk;
    readonly paths: CachePaths;
    readonly clock: Clock;
    readonly logger: Logger;
    readonly metrics: Metrics;
  };
  readonly #stop: () => void;
  #state: HealthState = HEALTHY;
  #probing = false;

  constructor(options: {
    readonly disk: Disk;
    readonly paths: CachePaths;
    readonly clock: Clock;
    readonly logger: Logger;
    readonly metrics: Metrics;
  }) {
    this.#options = options;
    this.#stop = options.clock.every(TICK_MS, () => this.#tick());
    options.metrics.cacheHealth.set(0);
  }

  get name(): CacheHealth {
    return healthName(this.#state);
  }

  get mayFill(): boolean {
    return mayFill(this.#state);
  }

  get mayServe(): boolean {
    return mayServe(this.#state);
  }

  /** Something on the disk failed. A shortage of this process, or a file that somebody removed, is not the disk's fault. */
  report(error: unknown): void {
    const fault = diskFault(error);
    if (fault === 'exhausted' || fault === 'gone') return;
    this.#step({ kind: 'failed', cause: fault === 'no-space' ? 'no-space' : 'device' }, error);
  }

  close(): void {
    this.#stop();
  }

  #step(event: HealthEvent, error?: unknown): void {
    const before = this.#state;
    this.#state = nextHealth(before, event, this.#options.clock.nowMs());
    if (this.#state.kind === before.kind) return;
    this.#options.metrics.cacheHealth.set(LEVELS[healthName(this.#state)]);
    this.#options.logger.warn(
      {
        before: before.kind,
        now: this.#state.kind,
        ...(error === undefined ? {} : { reason: describeError(error) }),
      },
      'cache disk health',
    );
  }

  #tick(): void {
    this.#step({ kind: 'tick' });
    if (this.#probing || !probeDue(this.#state, this.#options.clock.nowMs())) return;
    this.#probing = true;
    this.#options.disk.probe(this.#options.paths.probe).then(
      () => this.#probed(true),
      (error: unknown) => this.#probed(false, error),
    );
  }

  #probed(ok: boolean, error?: unknown): void {
    this.#probing = false;
    this.#step({ kind: 'probed', ok }, error);
  }
}
