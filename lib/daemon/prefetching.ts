/** Puts the parts of prefetching together, and between the parts of a satellite that know what happens. */
import type { BlockCache } from '../../cache/block-cache.ts';
import type { InodeNumber } from '../base/brand.ts';
import type { Clock } from '../base/clock.ts';
import type { LeasedName } from '../lease/lease.ts';
import type { InodeAttributes, Namespace } from '../namespace/namespace.ts';
import type { PolicyHolder } from '../policy/policy-holder.ts';
import type { AccessObserver, UseListener } from '../prefetch/access-observer.ts';
import { watchDemand } from '../prefetch/demand-watch.ts';
import { Jobs } from '../prefetch/jobs.ts';
import { OpenRecorder } from '../prefetch/open-recorder.ts';
import { Outcomes } from '../prefetch/outcomes.ts';
import { patientNames } from '../prefetch/patient-names.ts';
import { PolicyJobs } from '../prefetch/policy-jobs.ts';
import { PolicyPrefetch } from '../prefetch/policy-prefetch.ts';
import { PrefetchMemory } from '../prefetch/prefetch-memory.ts';
import { type JobInfo, type JobRequest, PrefetchError } from '../prefetch/prefetch.ts';
import { Prefetcher } from '../prefetch/prefetcher.ts';
import { PublishWatch } from '../prefetch/publish-watch.ts';
import { createStreamObserver } from '../prefetch/stream-observer.ts';
import { Triggers } from '../prefetch/triggers.ts';
import type { Logger } from '../telemetry/log.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import type { Tier } from '../tiers/tier.ts';
import { readManifestFile, prefetchMemoryFile } from './prefetch-files.ts';

/** Requests under way for prefetching, over all policies and jobs. */
const REQUESTS_MAX = 16;
/** Of the cache, for what is being fetched ahead and what waits for its reader. */
const SHARE_OF_CACHE = 0.75;

export interface PrefetchingOptions {
  readonly policies: PolicyHolder;
  readonly cacheDirectory: string;
  readonly cacheBytes: number;
  readonly blockBytes: number;
  readonly mountpoint: string;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: Metrics;
}

/** What is there only when the satellite is put together further. */
interface Started {
  readonly prefetcher: Prefetcher;
  readonly jobs: Jobs;
  readonly triggers: Triggers;
  readonly watch: PublishWatch;
  readonly policyJobs: PolicyJobs;
}

export class Prefetching {
  readonly outcomes: Outcomes;
  readonly recorder = new OpenRecorder();
  readonly #options: PrefetchingOptions;
  readonly #policies: PolicyPrefetch;
  #started: Started | undefined;

  constructor(options: PrefetchingOptions) {
    this.#options = options;
    this.outcomes = new Outcomes(options.metrics);
    this.#policies = new PolicyPrefetch(options.policies);
  }

  /** The tier, of which it is seen when programs wait for it. */
  watched(tier: Tier): Tier {
    return watchDemand(tier, (requests) => this.#started?.prefetcher.demand(requests));
  }

  /** Reads, of which some begin what a policy wants, and streams that are read ahead of without one. */
  observer(): AccessObserver {
    const streams = createStreamObserver({ clock: this.#options.clock });
    return {
      read: (access) => {
        this.#started?.triggers.read(access);
        return streams.read(access);
      },
      closed: (version) => {
        this.#started?.triggers.closedFile(version);
        streams.closed(version);
      },
    };
  }

  uses(): UseListener {
    return {
      opened: (file) => {
        this.recorder.opened(file.path);
        this.#started?.triggers.opened(file);
      },
      listed: (directory) => this.#started?.triggers.listed(directory),
    };
  }

  /** What the origin says that names have become. */
  updated(
    names: readonly { readonly name: LeasedName; readonly inode: InodeAttributes | undefined }[],
  ): void {
    if (this.#started === undefined) return;
    const { watch, prefetcher } = this.#started;
    for (const { name: of, inode: attributes } of names) {
      const { directory, name } = of;
      watch.updated(directory, name, attributes);
      if (attributes !== undefined) prefetcher.superseded(attributes.inode, attributes.source?.version);
    }
  }

  /** Names and tier are there, and the mount answers. */
  start(parts: {
    readonly names: Namespace;
    readonly cache: BlockCache;
    readonly isWrittenHere: (inode: InodeNumber) => boolean;
  }): void {
    const { names, cache, isWrittenHere } = parts;
    const { clock, logger, metrics, mountpoint, cacheDirectory, cacheBytes, blockBytes } = this.#options;
    const policies = this.#policies;
    const memory = new PrefetchMemory({ store: prefetchMemoryFile(cacheDirectory), logger });
    const prefetcher = new Prefetcher({
      ...{ cache, outcomes: this.outcomes, isWrittenHere, clock, logger, metrics, blockBytes },
      shareBytes: Math.floor(cacheBytes * SHARE_OF_CACHE),
      requestsMax: REQUESTS_MAX,
      bytesPerSecond: undefined,
      onSettled: (claim, settled) => jobs.settled(claim, settled),
    });
    const patient = patientNames(names, clock);
    const jobs = new Jobs({
      ...{ prefetcher, names: patient, memory, mountpoint, clock, logger },
      readText: readManifestFile,
    });
    const triggers = new Triggers({ policies, prefetcher, jobs, names, clock, logger, metrics });
    const watch = new PublishWatch({
      ...{ policies, names, clock, logger, metrics },
      onPublished: (path, attributes) => triggers.published(path, attributes),
    });
    const policyJobs = new PolicyJobs({
      ...{ policies, jobs, prefetcher, memory, clock, logger },
      names: patient,
    });
    this.#started = { prefetcher, jobs, triggers, watch, policyJobs };
    this.#policies.refresh();
    jobs.resume();
    policyJobs.mounted();
    watch.changed();
    this.#options.policies.listen(() => {
      if (this.#started === undefined) return;
      policies.refresh();
      policyJobs.changed();
      watch.changed();
    });
  }

  startJob(request: JobRequest): Promise<JobInfo> {
    return this.#ready().jobs.start(request);
  }

  jobs(): readonly JobInfo[] {
    return this.#ready().jobs.list();
  }

  cancelJob(id: string): JobInfo {
    return this.#ready().jobs.cancel(id);
  }

  close(): void {
    if (this.#started === undefined) return;
    const { jobs, policyJobs, prefetcher, triggers, watch } = this.#started;
    this.#started = undefined;
    policyJobs.close();
    watch.close();
    triggers.close();
    jobs.close();
    prefetcher.close();
  }

  #ready(): Started {
    if (this.#started !== undefined) return this.#started;
    throw new PrefetchError('closed', 'the satellite is starting or ending');
  }
}
