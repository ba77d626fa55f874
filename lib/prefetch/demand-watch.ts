/** A tier that tells how many requests are under way for which programs wait, whenever that changes. */
import type { Tier } from '../tiers/tier.ts';

export function watchDemand(tier: Tier, onChange: (requests: number) => void): Tier {
  let requests = 0;
  const watched = async <T>(isDemand: boolean, run: () => Promise<T>): Promise<T> => {
    if (!isDemand) return run();
    onChange(++requests);
    try {
      return await run();
    } finally {
      onChange(--requests);
    }
  };
  return {
    name: tier.name,
    fill: (request, options) => watched(request.priority === 'demand', () => tier.fill(request, options)),
    read: (range, options) => watched(range.priority === 'demand', () => tier.read(range, options)),
    close: () => tier.close(),
  };
}
