/**
 * What the prefetcher knows over restarts: the jobs that have not ended, and which policies were in force, so that `apply`
 * means a change of them and not a start of the satellite.
 *
 * It is one small text with a version, written whole after each change; one that cannot be read is begun anew, because
 * what is lost is advice. Invariant: an id is never given twice.
 */
import { z } from 'zod';
import type { Logger } from '../telemetry/log.ts';
import { describeError } from '../base/errors.ts';
import type { JobRequest } from './prefetch.ts';

const FORMAT = 1;

const memorySchema = z.object({
  format: z.literal(FORMAT),
  lastId: z.number().int().nonnegative(),
  jobs: z.array(
    z.object({
      id: z.string(),
      request: z.object({
        paths: z.array(z.string()),
        manifest: z.string().optional(),
        ahead: z.number().optional(),
        bytesPerSecond: z.number().optional(),
        priority: z.number().optional(),
      }),
    }),
  ),
  /** By name, what identifies the policy as it was. */
  policies: z.record(z.string(), z.string()),
  /** By policy, what started its job. */
  policyJobs: z.record(z.string(), z.string()),
});

type Memory = z.output<typeof memorySchema>;

/** Where the text is kept. */
export interface MemoryStore {
  /** Undefined: there is none yet. */
  load(): string | undefined;
  /** Whole or not at all. @throws if the disk refuses */
  save(text: string): void;
}

export class PrefetchMemory {
  readonly #store: MemoryStore;
  readonly #logger: Logger;
  #memory: Memory = { format: FORMAT, lastId: 0, jobs: [], policies: {}, policyJobs: {} };

  constructor(options: { readonly store: MemoryStore; readonly logger: Logger }) {
    this.#store = options.store;
    this.#logger = options.logger;
    try {
      const text = options.store.load();
      if (text !== undefined) this.#memory = memorySchema.parse(JSON.parse(text));
    } catch (error) {
      this.#logger.warn({ cause: describeError(error) }, 'prefetch jobs of the last run are not known');
    }
  }

  nextId(): string {
    const lastId = this.#memory.lastId + 1;
    this.#change({ lastId });
    return String(lastId);
  }

  jobs(): readonly { readonly id: string; readonly request: JobRequest }[] {
    return this.#memory.jobs;
  }

  rememberJob(id: string, request: JobRequest): void {
    this.#change({
      jobs: [...this.#memory.jobs, { id, request: { ...request, paths: [...request.paths] } }],
    });
  }

  forgetJob(id: string): void {
    if (this.#memory.jobs.every((job) => job.id !== id)) return;
    this.#change({ jobs: this.#memory.jobs.filter((job) => job.id !== id) });
  }

  /** Jobs of policies that have not ended, by what started them. */
  policyJobs(): Readonly<Record<string, string>> {
    return this.#memory.policyJobs;
  }

  /** @param trigger undefined: it has ended */
  rememberPolicyJob(policy: string, trigger: string | undefined): void {
    const others = Object.entries(this.#memory.policyJobs).filter(([name]) => name !== policy);
    const policyJobs = trigger === undefined ? others : [...others, [policy, trigger] as const];
    this.#change({ policyJobs: Object.fromEntries(policyJobs) });
  }

  policies(): Readonly<Record<string, string>> {
    return this.#memory.policies;
  }

  rememberPolicies(policies: Readonly<Record<string, string>>): void {
    this.#change({ policies: { ...policies } });
  }

  #change(changes: Partial<Memory>): void {
    this.#memory = { ...this.#memory, ...changes };
    try {
      this.#store.save(JSON.stringify(this.#memory));
    } catch (error) {
      this.#logger.warn({ cause: describeError(error) }, 'prefetch jobs will not be known after a restart');
    }
  }
}
