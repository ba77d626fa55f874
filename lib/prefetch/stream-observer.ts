/**
 * Remembers the streams of every version that is being read, and asks `sequential-streams.ts` what to do.
 * Bounded: at most `VERSIONS_MAX` versions are remembered, the one unread for longest is forgotten first.
 */
import type { VersionId } from '../base/brand.ts';
import type { Clock } from '../base/clock.ts';
import type { AccessAdvice, AccessObserver, ReadAccess } from './access-observer.ts';
import { initialStreams, stepStreams, type StreamsState } from './sequential-streams.ts';

const VERSIONS_MAX = 4096;

export function createStreamObserver(options: { readonly clock: Clock }): AccessObserver {
  const { clock } = options;
  // In the order of last use.
  const versions = new Map<VersionId, StreamsState>();

  return {
    read(access: ReadAccess): readonly AccessAdvice[] {
      const { version, sizeBytes, offset, length } = access;
      const known = versions.get(version);
      if (known === undefined && versions.size >= VERSIONS_MAX) forgetOldest();
      const step = stepStreams(
        known ?? initialStreams(sizeBytes),
        { kind: 'read', offset, length },
        clock.nowMs(),
      );
      if (known !== undefined) versions.delete(version);
      versions.set(version, step.state);
      return step.effects;
    },
    closed(version: VersionId): void {
      versions.delete(version);
    },
  };

  function forgetOldest(): void {
    for (const version of versions.keys()) {
      versions.delete(version);
      return;
    }
  }
}
