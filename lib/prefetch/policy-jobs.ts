/**
 * Jobs that policies start: `mount` with the satellite, `apply` when the policy is new or another than it was, `schedule`
 * by the clock of the host. A policy that is gone takes its jobs and orders with it.
 *
 * What a policy was is remembered over restarts, so that `apply` also means a change while the satellite was away.
 */
import { Cron } from 'croner';
import { createHash } from 'node:crypto';
import type { Clock } from '../base/clock.ts';
import type { Logger } from '../telemetry/log.ts';
import type { Policy } from '../policy/policy.ts';
import { DEFAULT_SETTINGS } from '../policy/policy.ts';
import type { Jobs } from './jobs.ts';
import type { PolicyPrefetch, Trigger } from './policy-prefetch.ts';
import type { PrefetchMemory } from './prefetch-memory.ts';
import type { Prefetcher } from './prefetcher.ts';
import type { WantedFile } from './prefetch.ts';
import { filesOfPrefix, type Names } from './walk.ts';

/** Timers of the system reach no further than 24 days. */
const TIMER_MS_MAX = 24 * 3_600_000;
/** A timer that is a little early must not start a schedule twice. */
const EARLY_MS = 1_000;

export interface PolicyJobsOptions {
  readonly policies: PolicyPrefetch;
  readonly jobs: Jobs;
  readonly prefetcher: Prefetcher;
  readonly memory: PrefetchMemory;
  readonly names: Names;
  readonly clock: Clock;
  readonly logger: Logger;
}

export class PolicyJobs {
  readonly #options: PolicyJobsOptions;
  readonly #timers = new Map<string, () => void>();

  constructor(options: PolicyJobsOptions) {
    this.#options = options;
  }

  /** The mount has begun to answer. */
  mounted(): void {
    const { policies, memory } = this.#options;
    const unfinished = memory.policyJobs();
    for (const policy of policies.policies()) {
      const { name, states } = policy;
      if (states['prefetch.on']?.includes('mount') === true) this.#start(policy, 'mount');
      else if (unfinished[name] === 'apply' || unfinished[name] === 'schedule')
        this.#start(policy, unfinished[name]);
    }
    this.changed();
  }

  /** Another set of policies holds, or the first one. */
  changed(): void {
    const { policies, memory, jobs, prefetcher } = this.#options;
    const before = memory.policies();
    const now = new Map(policies.policies().map((policy) => [policy.name, policy]));
    const known = Object.fromEntries([...now].map(([name, policy]) => [name, identityOf(policy)]));
    for (const [name, identity] of Object.entries(before)) {
      if (known[name] === identity) continue;
      jobs.cancelOfPolicy(name);
      prefetcher.cancel(name);
    }
    memory.rememberPolicies(known);
    for (const policy of now.values()) {
      const isNew = before[policy.name] !== known[policy.name];
      if (isNew && policy.states['prefetch.on']?.includes('apply') === true) this.#start(policy, 'apply');
    }
    this.#schedule([...now.values()]);
  }

  close(): void {
    for (const cancel of this.#timers.values()) cancel();
    this.#timers.clear();
  }

  #schedule(policies: readonly Policy[]): void {
    this.close();
    for (const policy of policies) {
      const schedule = policy.states['prefetch.schedule'];
      if (schedule !== undefined) this.#wait(policy, new Cron(schedule, { mode: '5-part', paused: true }));
    }
  }

  /** @param last when it was due last; what was missed since then is not made up for */
  #wait(policy: Policy, cron: Cron, last?: Date): void {
    const { clock } = this.#options;
    const now = cron.nextRun();
    const next = last === undefined ? now : cron.nextRun(last);
    if (now === null || next === null) return;
    const due = next > now ? next : now;
    const look = (): void => {
      const leftMs = due.getTime() - clock.wallMs();
      if (leftMs > 0) {
        const waitMs = Math.min(leftMs + EARLY_MS, TIMER_MS_MAX);
        this.#timers.set(policy.name, clock.after(waitMs, look));
        return;
      }
      this.#start(policy, 'schedule');
      this.#wait(policy, cron, due);
    };
    look();
  }

  #start(policy: Policy, trigger: Trigger | 'schedule'): void {
    const { jobs } = this.#options;
    const { states } = policy;
    jobs.startForPolicy({
      policy: policy.name,
      trigger,
      settings: {
        priority: states['prefetch.priority'] ?? DEFAULT_SETTINGS['prefetch.priority'],
        concurrency: states['prefetch.concurrency'] ?? DEFAULT_SETTINGS['prefetch.concurrency'],
        bytesPerSecond: states['prefetch.bandwidth'] ?? DEFAULT_SETTINGS['prefetch.bandwidth'],
      },
      files: (signal) => this.#files(policy, trigger, signal),
    });
  }

  /** Files for which this policy, and no more specific one, says so. */
  async *#files(
    policy: Policy,
    trigger: Trigger | 'schedule',
    signal: AbortSignal,
  ): AsyncGenerator<WantedFile> {
    const { policies, names } = this.#options;
    for await (const file of filesOfPrefix(policy.match.prefix, { names, signal })) {
      const subject = { path: file.path, sizeBytes: file.source.sizeBytes };
      const by = trigger === 'schedule' ? policies.scheduledBy(subject) : this.#triggeredBy(subject, trigger);
      if (by === policy.name) yield file;
    }
  }

  #triggeredBy(subject: { readonly path: string; readonly sizeBytes: number }, trigger: Trigger) {
    const wish = this.#options.policies.wish(subject);
    return wish?.on.includes(trigger) === true ? wish.policy : undefined;
  }
}

function identityOf(policy: Policy): string {
  return createHash('sha256').update(JSON.stringify(policy)).digest('hex').slice(0, 16);
}
