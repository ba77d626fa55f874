/**
 * Several tiers as one: asks each in order and takes the first that answers. A tier that has not got the bytes, or
 * fails to give them, costs time and nothing else; what the sink refuses, and a stack that closes, ends the walk.
 *
 * Invariant: progress of a later tier is passed on only beyond what an earlier one has reported.
 */
import { invariant } from '../base/errors.ts';
import { TierError, type FillRequest, type Tier } from './tier.ts';

function isFinal(error: unknown): boolean {
  return !(error instanceof TierError) || error.code === 'sink' || error.code === 'closed';
}

export function createTierStack(tiers: readonly Tier[]): Tier {
  invariant(tiers.length > 0, 'a tier stack has a tier');
  if (tiers.length === 1) return tiers[0]!;

  async function firstAnswer<T>(
    ask: (tier: Tier) => Promise<T>,
    signal: AbortSignal | undefined,
  ): Promise<T> {
    let last: unknown;
    for (const tier of tiers) {
      try {
        return await ask(tier);
      } catch (error) {
        last = error;
        if (isFinal(error) || signal?.aborted) break;
      }
    }
    throw last;
  }

  return {
    name: 'stack',
    fill(request: FillRequest, options = {}) {
      const { onProgress } = options;
      let reportedTo = request.offset;
      const advancing = (filledTo: number): void => {
        if (filledTo <= reportedTo) return;
        reportedTo = filledTo;
        onProgress?.(filledTo);
      };
      return firstAnswer(
        (tier) => tier.fill(request, onProgress ? { ...options, onProgress: advancing } : options),
        options.signal,
      );
    },
    read: (range, options = {}) => firstAnswer((tier) => tier.read(range, options), options.signal),
    async close() {
      await Promise.all(tiers.map((tier) => tier.close()));
    },
  };
}
