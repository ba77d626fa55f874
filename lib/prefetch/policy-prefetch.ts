/** What the policies in force say about prefetching, in the form in which the triggers need it. */
import type { LaneSettings } from './prefetch.ts';
import type { OwnSubject, Policy, Settings } from '../policy/policy.ts';
import type { PolicyHolder } from '../policy/policy-holder.ts';

export type Trigger = Settings['prefetch.on'][number];

/** How one file is to be prefetched. */
export interface Wish {
  readonly policy: string;
  readonly on: Settings['prefetch.on'];
  readonly what: Settings['prefetch.what'];
  readonly ahead: number;
  readonly depth: number;
  readonly settings: LaneSettings;
}

export class PolicyPrefetch {
  readonly #holder: PolicyHolder;
  #triggers: ReadonlySet<Trigger> = new Set();

  constructor(holder: PolicyHolder) {
    this.#holder = holder;
    this.refresh();
  }

  /** The set of policies was exchanged. */
  refresh(): void {
    this.#triggers = new Set(this.policies().flatMap(({ states }) => states['prefetch.on'] ?? []));
  }

  /** Those that say something about prefetching on this satellite, for some of its export. */
  policies(): readonly Policy[] {
    return this.#holder
      .ownPolicies()
      .filter(({ states }) => Object.keys(states).some((name) => name.startsWith('prefetch.')));
  }

  /** Whether some policy names the trigger at all. */
  has(trigger: Trigger): boolean {
    return this.#triggers.has(trigger);
  }

  /** Undefined: no policy prefetches the file. */
  wish(subject: OwnSubject): Wish | undefined {
    const { settings, rulings } = this.#holder.decide(subject);
    const { policy } = rulings['prefetch.on'];
    if (policy === undefined) return undefined;
    return {
      policy,
      on: settings['prefetch.on'],
      what: settings['prefetch.what'],
      ahead: settings['prefetch.ahead'],
      depth: settings['prefetch.depth'],
      settings: {
        priority: settings['prefetch.priority'],
        concurrency: settings['prefetch.concurrency'],
        bytesPerSecond: settings['prefetch.bandwidth'],
      },
    };
  }

  /** The policy whose schedule holds for the file. */
  scheduledBy(subject: OwnSubject): string | undefined {
    return this.#holder.decide(subject).rulings['prefetch.schedule'].policy;
  }
}
