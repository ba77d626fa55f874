/**
 * Decides what is fetched ahead of readers, and when. A state machine without clock, timer, disk or socket: it is told
 * what happens and answers what is to be done.
 *
 * An order is for one version, whoever wants it, so that nothing is fetched twice. It waits in a lane, is fetched range
 * by range, and is then held for its reader: while it is held nobody evicts it. Lanes of a higher priority go first,
 * those of one priority in turns. Nothing is begun while a program waits for bytes; if that never ends, after
 * `PAUSE_MS_MAX` one request at a time goes on.
 *
 * Invariants: requests under way are within those of their lane and of all; bytes per second are within both budgets
 * (`pacer.ts`); what is being fetched or held is within the share of the cache; a range is granted once, unless it failed.
 */
import type { VersionId } from '../base/brand.ts';
import { invariant } from '../base/errors.ts';
import { MIB } from '../base/limits.ts';
import { Lane } from './lane.ts';
import { newOrder, nextRange, type Order, type OrderEvent } from './order.ts';
import { Pacer } from './pacer.ts';
import type { LaneSettings, OrderResult, Outcome } from './prefetch.ts';

/** One request; the tier asks for no more at a time. */
const RANGE_BYTES_MAX = 8 * MIB;
/** A range takes at least so many milliseconds of its budget, unless it is one block. */
const RANGE_MS = 10;
/** Lanes that are remembered while they are idle, with what they have spent. */
const LANES_MAX = 4_096;
/** Orders that wait, over all lanes. */
export const ORDERS_WAITING_MAX = 100_000;
/** Versions that are held for their readers. */
export const HELD_MAX = 100_000;
/** After so long nobody is expected any more. */
export const HELD_MS_MAX = 3_600_000;
/** While programs wait for bytes, without a pause, for so long, nothing is begun. */
export const PAUSE_MS_MAX = 200;
/** Times that an order is tried, with this time between, doubled each time. */
const ATTEMPTS_MAX = 3;
const RETRY_MS = 1_000;

/**
 * - `there`: whatever of the range was missing
 * - `declined`: the tier does not take it
 * - `failed`: trying later may help; `lost`: it does not
 */
export type FetchResult = 'there' | 'declined' | 'failed' | 'lost';

export type PlannerEvent =
  | { readonly kind: 'lane'; readonly lane: string; readonly settings: LaneSettings }
  | OrderEvent
  /** The driver has it open, as it was told to. */
  | { readonly kind: 'begun'; readonly version: VersionId; readonly cachedBytes: number }
  | {
      readonly kind: 'fetched';
      readonly version: VersionId;
      readonly length: number;
      /** Of all of it. */
      readonly cachedBytes: number;
      readonly result: FetchResult;
    }
  /** A program opens it. */
  | { readonly kind: 'opened'; readonly version: VersionId; readonly cachedBytes: number }
  /** Whatever was ordered for this reason is not wanted any more. */
  | { readonly kind: 'cancel'; readonly claim: string }
  | { readonly kind: 'disclaim'; readonly claim: string; readonly version: VersionId }
  /** The version itself is not wanted by anybody. */
  | { readonly kind: 'useless'; readonly version: VersionId }
  /** Requests under way for which programs wait. */
  | { readonly kind: 'demand'; readonly requests: number }
  | { readonly kind: 'time' };

export type PlannerEffect =
  | { readonly kind: 'begin'; readonly version: VersionId }
  | { readonly kind: 'fetch'; readonly version: VersionId; readonly offset: number; readonly length: number }
  /** Nothing of it is under way or held any more: the driver forgets it. */
  | { readonly kind: 'release'; readonly version: VersionId }
  | {
      readonly kind: 'settled';
      readonly version: VersionId;
      readonly claims: readonly string[];
      readonly result: OrderResult;
      readonly sizeBytes: number;
      readonly fetchedBytes: number;
    }
  | { readonly kind: 'outcome'; readonly lane: string; readonly outcome: Outcome; readonly bytes: number }
  | { readonly kind: 'limit'; readonly limit: string }
  /** Wants to be told the time then. */
  | { readonly kind: 'look'; readonly atMs: number };

export interface PlannerOptions {
  readonly blockBytes: number;
  /** Of the cache, for what is being fetched and for what nobody has read yet. */
  readonly shareBytes: number;
  readonly requestsMax: number;
  readonly bytesPerSecond: number | undefined;
}

export interface PlannerStat {
  readonly waiting: number;
  readonly fetching: number;
  readonly held: number;
  readonly shareBytes: number;
  /** Of the share, what is taken. */
  readonly takenBytes: number;
  readonly requests: number;
}

export class PrefetchPlanner {
  readonly #options: PlannerOptions;
  readonly #lanes = new Map<string, Lane>();
  readonly #orders = new Map<VersionId, Order>();
  /** In the order in which their time ends. */
  readonly #held = new Map<VersionId, Order>();
  readonly #pacer: Pacer;
  #waiting = 0;
  #requests = 0;
  #takenBytes = 0;
  #demand = 0;
  #pausedAtMs = 0;
  #lookAtMs = Number.POSITIVE_INFINITY;
  #effects: PlannerEffect[] = [];

  constructor(options: PlannerOptions) {
    this.#options = options;
    this.#pacer = new Pacer(options.bytesPerSecond);
  }

  stat(): PlannerStat {
    return {
      waiting: this.#waiting,
      fetching: this.#orders.size - this.#waiting - this.#held.size,
      held: this.#held.size,
      shareBytes: this.#options.shareBytes,
      takenBytes: this.#takenBytes,
      requests: this.#requests,
    };
  }

  handle(event: PlannerEvent, nowMs: number): readonly PlannerEffect[] {
    this.#effects = [];
    switch (event.kind) {
      case 'lane':
        this.#lane(event.lane).settings = event.settings;
        break;
      case 'order':
        this.#order(event);
        break;
      case 'begun':
        this.#begun(event, nowMs);
        break;
      case 'fetched':
        this.#fetched(event, nowMs);
        break;
      case 'opened':
        this.#opened(event);
        break;
      case 'cancel':
        for (const order of [...this.#orders.values()]) this.#disclaim(order, event.claim);
        break;
      case 'disclaim':
        this.#disclaim(this.#orders.get(event.version), event.claim);
        break;
      case 'useless': {
        const order = this.#orders.get(event.version);
        if (order !== undefined) this.#giveUp(order, [...order.claims]);
        break;
      }
      case 'demand':
        if (this.#demand === 0) this.#pausedAtMs = nowMs;
        this.#demand = event.requests;
        break;
      case 'time':
        this.#lookAtMs = Number.POSITIVE_INFINITY;
        this.#expire(nowMs);
        break;
    }
    this.#grantAll(nowMs);
    return this.#effects;
  }

  // --- Orders ---

  #order(event: OrderEvent): void {
    const known = this.#orders.get(event.version);
    if (known !== undefined) return this.#orderAgain(known, event);
    const order = newOrder(event);
    if (this.#waiting === ORDERS_WAITING_MAX) {
      this.#effects.push({ kind: 'limit', limit: 'prefetch_orders' });
      return this.#decline(order);
    }
    if (order.sizeBytes > this.#options.shareBytes) return this.#decline(order);
    this.#orders.set(order.version, order);
    this.#lane(order.lane).add(order);
    this.#waiting += 1;
  }

  /** It was never taken. */
  #decline(order: Order): void {
    this.#effects.push({ kind: 'release', version: order.version });
    this.#settle(order, 'declined');
  }

  #orderAgain(order: Order, event: OrderEvent): void {
    if (order.phase === 'held') return this.#settle({ ...order, fetchedBytes: 0 }, 'there', [event.claim]);
    order.claims.add(event.claim);
    if (order.phase !== 'waiting') return;
    const [from, to] = [this.#lane(order.lane), this.#lane(event.lane)];
    const sooner = event.isSoon && !order.isSoon;
    if (to.settings.priority <= from.settings.priority && !sooner) return;
    from.remove(order);
    if (to.settings.priority > from.settings.priority) order.lane = to.name;
    order.isSoon ||= event.isSoon;
    order.isOpened ||= event.isOpened;
    this.#lane(order.lane).add(order);
  }

  #begun({ version, cachedBytes }: Extract<PlannerEvent, { kind: 'begun' }>, nowMs: number): void {
    const order = this.#orders.get(version);
    if (order === undefined || order.phase !== 'fetching' || order.isBegun) return;
    order.isBegun = true;
    order.cachedBytes = cachedBytes;
    this.#returned(order, 0, 1);
    if (cachedBytes >= order.sizeBytes) this.#complete(order, nowMs);
  }

  #fetched(event: Extract<PlannerEvent, { kind: 'fetched' }>, nowMs: number): void {
    const { version, length, cachedBytes, result } = event;
    const order = this.#orders.get(version);
    // What was given up has been accounted for by then.
    if (order === undefined || order.requests === 0) return;
    this.#returned(order, length, 1);
    const gainedBytes = Math.max(0, cachedBytes - order.cachedBytes);
    order.cachedBytes = cachedBytes;
    order.fetchedBytes += gainedBytes;
    this.#outcome(order, 'fetched', gainedBytes);
    if (order.isOpened) this.#outcome(order, 'used', gainedBytes);
    if (result === 'there') {
      if (order.requests > 0 || order.grantedBytes < order.sizeBytes) return;
      if (cachedBytes >= order.sizeBytes) return this.#complete(order, nowMs);
      return this.#end(order, 'declined');
    }
    order.attempts += 1;
    if (result === 'failed' && order.attempts < ATTEMPTS_MAX) {
      order.notBeforeMs = nowMs + RETRY_MS * 2 ** (order.attempts - 1);
      order.grantedBytes = 0;
      return;
    }
    this.#end(order, result === 'declined' ? 'declined' : 'failed');
  }

  #complete(order: Order, nowMs: number): void {
    this.#lane(order.lane).remove(order);
    if (order.isOpened || this.#held.size === HELD_MAX) {
      this.#forget(order);
      return this.#settle(order, 'there');
    }
    this.#settle(order, 'there');
    order.phase = 'held';
    order.claims.clear();
    order.untilMs = nowMs + HELD_MS_MAX;
    this.#held.set(order.version, order);
    this.#lookAt(order.untilMs);
  }

  #opened({ version, cachedBytes }: Extract<PlannerEvent, { kind: 'opened' }>): void {
    const order = this.#orders.get(version);
    if (order === undefined || order.isOpened) return;
    order.isOpened = true;
    this.#outcome(order, 'used', order.fetchedBytes);
    if (order.phase === 'held') return this.#forget(order);
    this.#outcome(order, 'late', Math.max(0, order.sizeBytes - cachedBytes));
    if (order.phase !== 'waiting' || order.isSoon) return;
    const lane = this.#lane(order.lane);
    lane.remove(order);
    order.isSoon = true;
    lane.add(order);
  }

  #disclaim(order: Order | undefined, claim: string): void {
    if (order?.claims.delete(claim) !== true) return;
    if (order.claims.size === 0) this.#giveUp(order, [claim]);
    else this.#settle(order, 'cancelled', [claim]);
  }

  /** What is held stays for whoever comes. */
  #giveUp(order: Order, claims: readonly string[]): void {
    if (order.phase === 'held') return;
    this.#end(order, 'cancelled', claims);
  }

  #end(order: Order, result: OrderResult, claims?: readonly string[]): void {
    this.#lane(order.lane).remove(order);
    if (!order.isOpened) this.#outcome(order, 'wasted', order.fetchedBytes);
    this.#forget(order);
    this.#settle(order, result, claims);
  }

  #forget(order: Order): void {
    const { phase } = order;
    this.#orders.delete(order.version);
    if (phase === 'waiting') {
      this.#waiting -= 1;
    } else {
      this.#held.delete(order.version);
      this.#takenBytes -= order.sizeBytes;
      if (order.requests > 0) this.#returned(order, order.underWayBytes, order.requests);
    }
    this.#effects.push({ kind: 'release', version: order.version });
  }

  #expire(nowMs: number): void {
    for (const order of this.#held.values()) {
      if (order.untilMs > nowMs) {
        this.#lookAt(order.untilMs);
        return;
      }
      this.#outcome(order, 'wasted', order.fetchedBytes);
      this.#forget(order);
    }
  }

  // --- Grants ---

  #grantAll(nowMs: number): void {
    const requestsMax = this.#requestsMax(nowMs);
    while (this.#requests < requestsMax) {
      const readyMs = this.#pacer.nextMs(nowMs);
      if (readyMs === undefined) return;
      if (readyMs > nowMs) return this.#lookAt(readyMs);
      if (!this.#inOrder().some((lane) => this.#grantOne(lane, nowMs))) return;
    }
  }

  #requestsMax(nowMs: number): number {
    if (this.#demand === 0) return this.#options.requestsMax;
    if (nowMs - this.#pausedAtMs >= PAUSE_MS_MAX) return 1;
    if (this.#orders.size > this.#held.size) this.#lookAt(this.#pausedAtMs + PAUSE_MS_MAX);
    return 0;
  }

  #inOrder(): Lane[] {
    return [...this.#lanes.values()]
      .filter((lane) => !lane.isIdle && lane.requests < lane.settings.concurrency)
      .sort((a, b) => b.settings.priority - a.settings.priority || a.requests - b.requests);
  }

  #grantOne(lane: Lane, nowMs: number): boolean {
    const readyMs = lane.pacer.nextMs(nowMs);
    if (readyMs !== nowMs) {
      if (readyMs !== undefined) this.#lookAt(readyMs);
      return false;
    }
    const order = lane.nextFetching(nowMs);
    if (order === undefined) {
      const retryMs = lane.nextRetryMs(nowMs);
      if (retryMs !== undefined) this.#lookAt(retryMs);
      return this.#begin(lane);
    }
    const range = nextRange(order, {
      blockBytes: this.#options.blockBytes,
      bytesMax: this.#rangeBytes(lane),
    });
    invariant(range.length > 0, 'an order has as many ranges as bytes');
    order.grantedBytes += range.length;
    this.#taken(order, range.length);
    lane.pacer.grant(range.length, nowMs);
    this.#pacer.grant(range.length, nowMs);
    this.#effects.push({ kind: 'fetch', version: order.version, ...range });
    return true;
  }

  /** The next that waits and for which there is room; it goes on when the driver has opened it. */
  #begin(lane: Lane): boolean {
    for (let order = lane.nextWaiting(); order !== undefined; order = lane.nextWaiting()) {
      if (this.#takenBytes + order.sizeBytes <= this.#options.shareBytes) {
        lane.begin(order);
        this.#waiting -= 1;
        this.#takenBytes += order.sizeBytes;
        this.#taken(order, 0);
        this.#effects.push({ kind: 'begin', version: order.version });
        return true;
      }
      if (order.waitsForRoom) return false;
      this.#end(order, 'declined');
    }
    return false;
  }

  #rangeBytes(lane: Lane): number {
    const rate = Math.min(lane.settings.bytesPerSecond ?? Infinity, this.#options.bytesPerSecond ?? Infinity);
    return Math.min(RANGE_BYTES_MAX, (rate * RANGE_MS) / 1_000);
  }

  // --- Within ---

  #taken(order: Order, bytes: number): void {
    order.requests += 1;
    order.underWayBytes += bytes;
    this.#lane(order.lane).requests += 1;
    this.#requests += 1;
  }

  #returned(order: Order, bytes: number, requests: number): void {
    const lane = this.#lane(order.lane);
    order.requests -= requests;
    order.underWayBytes -= bytes;
    lane.requests -= requests;
    this.#requests -= requests;
    lane.pacer.arrived(bytes);
    this.#pacer.arrived(bytes);
  }

  #lane(name: string): Lane {
    let lane = this.#lanes.get(name);
    if (lane !== undefined) return lane;
    if (this.#lanes.size >= LANES_MAX) {
      for (const { isIdle, name } of [...this.#lanes.values()]) if (isIdle) this.#lanes.delete(name);
    }
    this.#lanes.set(name, (lane = new Lane(name)));
    return lane;
  }

  #settle(order: Order, result: OrderResult, claims: readonly string[] = [...order.claims]): void {
    const { version, sizeBytes, fetchedBytes } = order;
    this.#effects.push({ kind: 'settled', version, claims, result, sizeBytes, fetchedBytes });
  }

  #outcome({ lane }: Order, outcome: Outcome, bytes: number): void {
    if (bytes > 0) this.#effects.push({ kind: 'outcome', lane, outcome, bytes });
  }

  /** Once is enough: whoever is told the time asks anew. */
  #lookAt(atMs: number): void {
    if (atMs >= this.#lookAtMs) return;
    this.#lookAtMs = atMs;
    this.#effects.push({ kind: 'look', atMs });
  }
}
