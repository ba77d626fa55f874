/**
 * Remembers the streams of every version that is being read, and asks `sequential-streams.ts` what to do.
 * The versions being read share what may be read ahead, so that many readers get small windows rather than some none.
 * Bounded: at most `VERSIONS_MAX` versions are remembered, the one unread for longest is forgotten first.
 */
import type { VersionId } from '../base/brand.ts';
import type { Clock } from '../base/clock.ts';
import { MIB } from '../base/limits.ts';
import type { AccessAdvice, AccessObserver, ReadAccess } from './access-observer.ts';
import {
  initialStreams,
  stepStreams,
  WINDOW_BYTES_MAX,
  WINDOW_BYTES_MIN,
  type StreamsState,
} from './sequential-streams.ts';

const VERSIONS_MAX = 4096;
/** What the windows of all versions share. */
const WINDOWS_BYTES_MAX = 512 * MIB;

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
        { kind: 'read', offset, length, windowBytesMax: windowBytesMax() },
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

  function windowBytesMax(): number {
    const share = WINDOWS_BYTES_MAX / Math.max(1, versions.size);
    return Math.min(WINDOW_BYTES_MAX, Math.max(WINDOW_BYTES_MIN, share));
  }

  function forgetOldest(): void {
    for (const version of versions.keys()) {
      versions.delete(version);
      return;
    }
  }
}
