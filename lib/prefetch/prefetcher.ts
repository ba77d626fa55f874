/**
 * Brings what the planner decides to the tier: opens versions, fills ranges, holds what is there for its reader.
 *
 * The planner is told of everything that happens and says what is to be done; this performs it and decides nothing. A
 * version that an inode no longer has is given up. What fails is told to whoever ordered it and is no error: a reader that
 * needs the bytes asks for them itself.
 */
import type { BlockCache, CacheHandle } from '../../cache/block-cache.ts';
import type { InodeNumber, VersionId } from '../base/brand.ts';
import type { Clock } from '../base/clock.ts';
import { describeError } from '../base/errors.ts';
import type { Logger } from '../telemetry/log.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { TierError } from '../tiers/tier.ts';
import type { OpenedFile } from './access-observer.ts';
import type { Outcomes } from './outcomes.ts';
import {
  type FetchResult,
  type PlannerEffect,
  type PlannerEvent,
  type PlannerOptions,
  type PlannerStat,
  PrefetchPlanner,
} from './planner.ts';
import type { LaneSettings, OrderResult, WantedFile } from './prefetch.ts';

export interface OrderSettings {
  readonly lane: string;
  readonly settings: LaneSettings;
  /** What is told of its end, and may cancel it; the lane itself if absent. */
  readonly claim?: string;
  readonly isSoon?: boolean;
  readonly waitsForRoom?: boolean;
  readonly isOpened?: boolean;
  readonly fromOffset?: number;
}

export interface Settled {
  readonly result: OrderResult;
  readonly sizeBytes: number;
  readonly fetchedBytes: number;
}

export interface PrefetcherOptions extends PlannerOptions {
  readonly cache: BlockCache;
  readonly outcomes: Outcomes;
  /** A program of this host writes the file: its bytes are here and become a version by themselves. */
  readonly isWrittenHere?: (inode: InodeNumber) => boolean;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: Metrics;
  /** The order of a version that was wanted for the reason `claim` has ended. */
  readonly onSettled: (claim: string, settled: Settled) => void;
}

interface Work {
  readonly file: WantedFile;
  readonly ended: AbortController;
  handle: CacheHandle | undefined;
}

export class Prefetcher {
  readonly #options: PrefetcherOptions;
  readonly #planner: PrefetchPlanner;
  readonly #events: PlannerEvent[] = [];
  readonly #work = new Map<VersionId, Work>();
  /** The version of an inode that was ordered last. */
  readonly #ofInode = new Map<InodeNumber, VersionId>();
  #demand = 0;
  #isHandling = false;
  #isClosed = false;
  #cancelLook: () => void = () => undefined;

  constructor(options: PrefetcherOptions) {
    this.#options = options;
    this.#planner = new PrefetchPlanner(options);
  }

  stat(): PlannerStat {
    return this.#planner.stat();
  }

  want(file: WantedFile, how: OrderSettings): void {
    if (this.#isClosed) return;
    const { version, sizeBytes } = file.source;
    const { lane, settings, claim = lane } = how;
    const { isSoon = false, waitsForRoom = false, isOpened = false, fromOffset = 0 } = how;
    if (sizeBytes === 0 || this.#options.isWrittenHere?.(file.inode) === true) {
      return this.#options.onSettled(claim, { result: 'there', sizeBytes, fetchedBytes: 0 });
    }
    this.superseded(file.inode, version);
    // While there was nothing to do nobody was told.
    if (this.#work.size === 0) this.#tell({ kind: 'demand', requests: this.#demand });
    if (!this.#work.has(version)) {
      this.#work.set(version, { file, ended: new AbortController(), handle: undefined });
      this.#ofInode.set(file.inode, version);
    }
    this.#tell({ kind: 'lane', lane, settings });
    const order = { version, sizeBytes, lane, claim, isSoon, waitsForRoom, isOpened, fromOffset };
    this.#tell({ kind: 'order', ...order });
  }

  /** The inode has another version now, or none. */
  superseded(inode: InodeNumber, version: VersionId | undefined): void {
    const ordered = this.#ofInode.get(inode);
    if (ordered !== undefined && ordered !== version) this.#tell({ kind: 'useless', version: ordered });
  }

  opened({ source, cachedBytes }: Pick<OpenedFile, 'source' | 'cachedBytes'>): void {
    const { version } = source;
    if (this.#work.has(version)) this.#tell({ kind: 'opened', version, cachedBytes: cachedBytes() });
  }

  cancel(claim: string): void {
    this.#tell({ kind: 'cancel', claim });
  }

  /** This one version is not wanted for that reason any more. */
  disclaim(version: VersionId, claim: string): void {
    this.#tell({ kind: 'disclaim', version, claim });
  }

  /** Requests under way for which programs wait. */
  demand(requests: number): void {
    this.#demand = requests;
    if (this.#work.size > 0) this.#tell({ kind: 'demand', requests });
  }

  /** Gives up what is under way. */
  close(): void {
    this.#isClosed = true;
    this.#cancelLook();
    for (const work of this.#work.values()) end(work);
    this.#work.clear();
    this.#ofInode.clear();
  }

  /** What comes up while an effect is performed is handled after it. */
  #tell(event: PlannerEvent): void {
    this.#events.push(event);
    if (this.#isHandling) return;
    this.#isHandling = true;
    try {
      for (let next = this.#events.shift(); next !== undefined; next = this.#events.shift()) {
        if (this.#isClosed) continue;
        for (const effect of this.#planner.handle(next, this.#options.clock.nowMs())) this.#perform(effect);
      }
    } finally {
      this.#isHandling = false;
      this.#options.metrics.prefetchUnreadBytes.set(this.#planner.stat().takenBytes);
    }
  }

  #perform(effect: PlannerEffect): void {
    const { clock, metrics, outcomes } = this.#options;
    switch (effect.kind) {
      case 'begin':
        return this.#begin(effect.version);
      case 'fetch':
        return void this.#fetch(effect);
      case 'release':
        return this.#forget(effect.version);
      case 'settled': {
        const { claims, result, sizeBytes, fetchedBytes } = effect;
        for (const claim of claims) this.#options.onSettled(claim, { result, sizeBytes, fetchedBytes });
        return;
      }
      case 'outcome':
        return outcomes.count(effect.lane, effect.outcome, effect.bytes);
      case 'limit':
        return metrics.limitReached.inc({ limit: effect.limit });
      case 'look':
        this.#cancelLook();
        this.#cancelLook = clock.after(Math.max(0, effect.atMs - clock.nowMs()), () =>
          this.#tell({ kind: 'time' }),
        );
        return;
    }
  }

  #begin(version: VersionId): void {
    const work = this.#work.get(version);
    if (work === undefined) return;
    try {
      const { inode, path, source } = work.file;
      work.handle = this.#options.cache.open({ source, inode, path, isUse: false, isExpected: true });
      this.#tell({ kind: 'begun', version, cachedBytes: work.handle.cachedBytes });
    } catch (error) {
      this.#note(work, error);
      this.#tell({ kind: 'useless', version });
    }
  }

  async #fetch({ version, offset, length }: Extract<PlannerEffect, { kind: 'fetch' }>): Promise<void> {
    const work = this.#work.get(version);
    const handle = work?.handle;
    if (work === undefined || handle === undefined) return;
    const { signal } = work.ended;
    let result: FetchResult = 'there';
    try {
      await handle.fill(offset, length, { priority: 'background', signal });
    } catch (error) {
      if (!signal.aborted) this.#note(work, error);
      result = resultOf(error);
    }
    // A work that has ended was accounted for; there may be another one for the version by now.
    if (signal.aborted) return;
    this.#tell({ kind: 'fetched', version, length, cachedBytes: handle.cachedBytes, result });
  }

  #forget(version: VersionId): void {
    const work = this.#work.get(version);
    if (work === undefined) return;
    end(work);
    this.#work.delete(version);
    if (this.#ofInode.get(work.file.inode) === version) this.#ofInode.delete(work.file.inode);
  }

  #note({ file }: Work, error: unknown): void {
    const { path, source } = file;
    this.#options.logger.debug(
      { path, version: source.version, cause: describeError(error) },
      'a prefetch failed',
    );
  }
}

function end(work: Work): void {
  work.ended.abort();
  work.handle?.close();
}

function resultOf(error: unknown): FetchResult {
  if (!(error instanceof TierError)) return 'lost';
  return error.code === 'unavailable' || error.code === 'timeout' ? 'failed' : 'lost';
}
