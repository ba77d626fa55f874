/**
 * The policies that hold on a satellite now. A new set is exchanged in one step, so a decision is by one version
 * whole; who decides twice may see two versions.
 */
import { compilePolicies, isFor } from './engine.ts';
import type {
  Decision,
  Explanation,
  OwnPolicies,
  OwnSubject,
  Policy,
  PolicyEngine,
  PolicyHost,
} from './policy.ts';

export class PolicyHolder implements OwnPolicies {
  readonly exportName: string;
  readonly host: PolicyHost;
  readonly #listeners: (() => void)[] = [];
  #engine: PolicyEngine = compilePolicies([]);
  #own: readonly Policy[] = [];
  #version = 0;

  constructor(options: { readonly exportName: string; readonly host: PolicyHost }) {
    this.exportName = options.exportName;
    this.host = options.host;
  }

  /** Of the document; 0: there is none. */
  get version(): number {
    return this.#version;
  }

  replace(version: number, policies: readonly Policy[]): void {
    this.#engine = compilePolicies(policies);
    this.#own = policies.filter((policy) => isFor(policy, { exportName: this.exportName, host: this.host }));
    this.#version = version;
    for (const listener of this.#listeners) listener();
  }

  /** Calls `listener` after each exchange. */
  listen(listener: () => void): void {
    this.#listeners.push(listener);
  }

  /** Those for this export and host, in the order of the document. */
  ownPolicies(): readonly Policy[] {
    return this.#own;
  }

  decide(subject: OwnSubject): Decision {
    return this.#engine.decide(this.#whole(subject));
  }

  explain(subject: OwnSubject): Explanation {
    return this.#engine.explain(this.#whole(subject));
  }

  #whole({ path, sizeBytes }: OwnSubject) {
    return { exportName: this.exportName, host: this.host, path, sizeBytes };
  }
}
