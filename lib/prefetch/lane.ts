/** One lane of the planner: its orders that wait, those that a reader is near first, and those that are being fetched. */
import type { VersionId } from '../base/brand.ts';
import type { Order } from './order.ts';
import { Pacer } from './pacer.ts';
import type { LaneSettings } from './prefetch.ts';

const SETTINGS_DEFAULT: LaneSettings = { priority: 0, concurrency: 16, bytesPerSecond: undefined };

export class Lane {
  readonly name: string;
  readonly #soon = new Map<VersionId, Order>();
  readonly #later = new Map<VersionId, Order>();
  readonly #fetching = new Map<VersionId, Order>();
  /** Under way. */
  requests = 0;
  readonly pacer = new Pacer(undefined);
  #settings = SETTINGS_DEFAULT;

  constructor(name: string) {
    this.name = name;
  }

  get settings(): LaneSettings {
    return this.#settings;
  }

  set settings(settings: LaneSettings) {
    this.#settings = settings;
    this.pacer.bytesPerSecond = settings.bytesPerSecond;
  }

  get isIdle(): boolean {
    return this.#soon.size + this.#later.size + this.#fetching.size === 0;
  }

  add(order: Order): void {
    (order.isSoon ? this.#soon : this.#later).set(order.version, order);
  }

  remove({ version }: Order): void {
    this.#soon.delete(version);
    this.#later.delete(version);
    this.#fetching.delete(version);
  }

  nextWaiting(): Order | undefined {
    return this.#soon.values().next().value ?? this.#later.values().next().value;
  }

  begin(order: Order): void {
    this.remove(order);
    order.phase = 'fetching';
    this.#fetching.set(order.version, order);
  }

  /** The one that was begun first and has ranges to be granted. */
  nextFetching(nowMs: number): Order | undefined {
    for (const order of this.#fetching.values()) {
      if (order.isBegun && order.grantedBytes < order.sizeBytes && order.notBeforeMs <= nowMs) return order;
    }
    return undefined;
  }

  /** When the first of those that failed may be tried again. */
  nextRetryMs(nowMs: number): number | undefined {
    let firstMs: number | undefined;
    for (const { notBeforeMs } of this.#fetching.values()) {
      if (notBeforeMs > nowMs && !(firstMs !== undefined && firstMs <= notBeforeMs)) firstMs = notBeforeMs;
    }
    return firstMs;
  }
}
