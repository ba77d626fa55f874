/**
 * The jobs of a satellite: started by hand or by a policy, told about, cancelled, and remembered over restarts.
 *
 * What is remembered is what was asked for, not how far it has come: a job that was under way when the satellite ended
 * looks at its files anew, and finds in the tier what it had brought. Bounded: `RUNNING_MAX` jobs under way, of ended ones
 * the last `ENDED_MAX`.
 */
import type { Clock } from '../base/clock.ts';
import { describeError } from '../base/errors.ts';
import type { Logger } from '../telemetry/log.ts';
import { type Found, Job, type JobPlan } from './job.ts';
import { readManifest } from './manifest.ts';
import { jobOfLane, laneOfJob } from './outcomes.ts';
import type { Prefetcher, Settled } from './prefetcher.ts';
import { type JobInfo, type JobRequest, PrefetchError } from './prefetch.ts';
import type { PrefetchMemory } from './prefetch-memory.ts';
import { filesBelow, find, type Names, wantedFile } from './walk.ts';

const RUNNING_MAX = 64;
const ENDED_MAX = 100;
/** Of jobs by hand, where they do not say. */
const PRIORITY_DEFAULT = 0;
const CONCURRENCY = 16;

export interface JobsOptions {
  readonly prefetcher: Prefetcher;
  readonly names: Names;
  readonly memory: PrefetchMemory;
  readonly mountpoint: string;
  /** The text of a file of this host. */
  readonly readText: (file: string) => Promise<string>;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** A job that a policy starts. */
export interface PolicyJob extends Pick<JobPlan, 'settings' | 'files'> {
  readonly policy: string;
  readonly trigger: string;
}

export class Jobs {
  readonly #options: JobsOptions;
  /** In the order of their starts. */
  readonly #jobs = new Map<string, Job>();
  #isClosed = false;

  constructor(options: JobsOptions) {
    this.#options = options;
  }

  /** Goes on with what was asked for by hand before the last end. */
  resume(): void {
    for (const { id, request } of this.#options.memory.jobs()) {
      void this.#start(id, request).catch((error: unknown) => {
        this.#options.logger.warn({ id, cause: describeError(error) }, 'a prefetch job cannot go on');
      });
    }
  }

  /** @throws PrefetchError */
  async start(request: JobRequest): Promise<JobInfo> {
    const { memory } = this.#options;
    this.#refuseTooMany();
    const id = memory.nextId();
    memory.rememberJob(id, request);
    return (await this.#start(id, request)).info();
  }

  /** Takes the place of one that the policy has under way. */
  startForPolicy(job: PolicyJob): void {
    const { memory, clock, logger } = this.#options;
    this.cancelOfPolicy(job.policy);
    try {
      this.#refuseTooMany();
    } catch {
      return logger.warn(
        { policy: job.policy },
        'too many prefetch jobs are under way; this one is left out',
      );
    }
    const { policy, trigger } = job;
    memory.rememberPolicyJob(policy, trigger);
    const startedMs = clock.wallMs();
    this.#run({ ...job, id: memory.nextId(), what: `${trigger} of ${policy}`, lane: policy, startedMs });
  }

  cancelOfPolicy(policy: string): void {
    for (const job of this.#jobs.values()) if (job.plan.policy === policy) job.cancel();
  }

  list(): JobInfo[] {
    return [...this.#jobs.values()].map((job) => job.info());
  }

  /** @throws PrefetchError no-such-job */
  cancel(id: string): JobInfo {
    const job = this.#jobs.get(id);
    if (job === undefined) {
      throw new PrefetchError('no-such-job', `there is no prefetch job ${id}`, {
        hint: 'perigee prefetch list shows the jobs',
      });
    }
    job.cancel();
    return job.info();
  }

  settled(claim: string, settled: Settled): void {
    const id = jobOfLane(claim);
    if (id !== undefined) this.#jobs.get(id)?.settled(settled);
  }

  /** A program opens the file of this path. */
  opened(path: () => string): void {
    for (const job of this.#jobs.values()) if (job.hasWindow && !job.isOver) job.opened(path());
  }

  /** Jobs stay remembered, so that the next start goes on with them. */
  close(): void {
    this.#isClosed = true;
    for (const job of this.#jobs.values()) job.cancel();
  }

  async #start(id: string, request: JobRequest): Promise<Job> {
    const { clock, memory } = this.#options;
    const { manifest, paths, ahead, bytesPerSecond, priority = PRIORITY_DEFAULT } = request;
    let listed: string[] | undefined;
    try {
      if (manifest !== undefined) listed = await this.#readManifest(manifest);
    } catch (error) {
      memory.forgetJob(id);
      throw error;
    }
    return this.#run({
      id,
      what: manifest === undefined ? paths.map((path) => `/${path}`).join(' ') : `manifest ${manifest}`,
      startedMs: clock.wallMs(),
      lane: laneOfJob(id),
      settings: { priority, concurrency: CONCURRENCY, bytesPerSecond },
      ...(listed === undefined ? {} : { window: { ahead } }),
      files: (signal) => (listed === undefined ? this.#below(paths, signal) : this.#each(listed, signal)),
    });
  }

  #run(plan: JobPlan): Job {
    const { prefetcher, memory, logger } = this.#options;
    const job = new Job(plan, prefetcher);
    this.#jobs.set(plan.id, job);
    this.#forgetOld();
    void job.run();
    void job.ended.then(() => {
      if (this.#isClosed) return;
      if (plan.policy === undefined) memory.forgetJob(plan.id);
      else if (!this.#isRunning(plan.policy)) memory.rememberPolicyJob(plan.policy, undefined);
      const { id, what, state, filesThere, bytesFetched, error } = job.info();
      logger.info({ id, what, state, filesThere, bytesFetched, error }, 'a prefetch job has ended');
    });
    return job;
  }

  async #readManifest(file: string): Promise<string[]> {
    const { readText, mountpoint } = this.#options;
    let text: string;
    try {
      text = await readText(file);
    } catch (error) {
      throw new PrefetchError('manifest', `the manifest ${file} cannot be read`, {
        cause: error,
        hint: 'name a text file of this host that the satellite may read',
      });
    }
    return readManifest(text, { mountpoint });
  }

  async *#each(paths: readonly string[], signal: AbortSignal): AsyncGenerator<Found> {
    const { names } = this.#options;
    for (const path of paths) {
      const attributes = await find(path, { names, signal });
      yield (attributes && wantedFile(path, attributes)) ?? { missing: path };
    }
  }

  async *#below(paths: readonly string[], signal: AbortSignal): AsyncGenerator<Found> {
    const { names } = this.#options;
    for (const path of paths) {
      const attributes = await find(path, { names, signal });
      if (attributes?.kind === 'directory') {
        yield* filesBelow({ inode: attributes.inode, path }, { names, signal });
      } else {
        yield (attributes && wantedFile(path, attributes)) ?? { missing: path };
      }
    }
  }

  #isRunning(policy: string): boolean {
    return [...this.#jobs.values()].some((job) => job.plan.policy === policy && !job.isOver);
  }

  #refuseTooMany(): void {
    if (this.#isClosed) throw new PrefetchError('closed', 'the satellite is ending');
    const running = [...this.#jobs.values()].filter((job) => !job.isOver).length;
    if (running < RUNNING_MAX) return;
    throw new PrefetchError('too-many', `${running} prefetch jobs are under way`, {
      hint: 'wait for one, or perigee prefetch cancel one',
    });
  }

  #forgetOld(): void {
    const ended = [...this.#jobs.values()].filter((job) => job.isOver);
    for (const { plan } of ended.slice(0, Math.max(0, ended.length - ENDED_MAX))) this.#jobs.delete(plan.id);
  }
}
