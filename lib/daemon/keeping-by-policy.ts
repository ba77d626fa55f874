/** How the tier keeps files, as the policies of a satellite say. Equal ways to keep are one object, as the tier wants it. */
import { KEEP_AS_USUAL, type Keeping, type KeepingOf } from '../../cache/keeping.ts';
import type { Settings } from '../policy/policy.ts';
import type { PolicyHolder } from '../policy/policy-holder.ts';

export function keepingByPolicy(policies: PolicyHolder): KeepingOf {
  const ways = new Map([[keyOf(KEEP_AS_USUAL), KEEP_AS_USUAL]]);
  /** Decisions share their settings, so most files take the short way. */
  const known = new WeakMap<Settings, Keeping>();
  return ({ exportName, path, sizeBytes }) => {
    // A tier may hold blobs of an export that was mounted before; these policies are not about them.
    if (exportName !== policies.exportName) return KEEP_AS_USUAL;
    const { settings } = policies.decide({ path, sizeBytes });
    let keeping = known.get(settings);
    if (keeping === undefined) {
      const wanted = keepingOf(settings);
      const key = keyOf(wanted);
      keeping = ways.get(key) ?? wanted;
      ways.set(key, keeping);
      known.set(settings, keeping);
    }
    return keeping;
  };
}

function keepingOf(settings: Settings): Keeping {
  return {
    admit: settings['cache.admit'],
    pinned: settings['cache.pin'],
    ttlMs: settings['cache.ttl'],
    rank: settings['cache.rank'],
  };
}

function keyOf({ admit, pinned, ttlMs, rank }: Keeping): string {
  return `${admit} ${pinned} ${ttlMs} ${rank}`;
}
