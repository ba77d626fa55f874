/** Which paths never change, and which may be stale while the origin is away, as the export and the policies say. */
import { eitherRule, ImmutablePaths, type PathRule } from '../namespace/immutable-paths.ts';
import type { PolicyHolder } from '../policy/policy-holder.ts';
import { RuledPaths } from '../policy/ruled-paths.ts';

export interface ConsistencyRules {
  readonly rules: { readonly immutable: PathRule; readonly stale: PathRule };
  /** Calls `listener` when other paths may be meant from now on. */
  listen(listener: () => void): void;
}

/** @param options.immutable globs of the export */
export function consistencyByPolicy(
  policies: PolicyHolder,
  options: { readonly immutable: readonly string[] },
): ConsistencyRules {
  const immutable = new RuledPaths(policies, { name: 'consistency.immutable', value: true });
  const stale = new RuledPaths(policies, { name: 'consistency.onPartition', value: 'stale' });
  return {
    rules: { immutable: eitherRule([new ImmutablePaths(options.immutable), immutable]), stale },
    listen(listener) {
      policies.listen(() => {
        const changes = [immutable.refresh(), stale.refresh()];
        if (changes.includes(true)) listener();
      });
    },
  };
}
