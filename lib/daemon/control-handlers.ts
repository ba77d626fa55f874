/** What the admin socket of a satellite answers, from the parts that know. */
import { type BlockCache, CacheError } from '../../cache/block-cache.ts';
import type { WriteBack } from '../../cache/working-copy.ts';
import type { MountControl, MountStatus } from '../control/control.ts';
import type { Namespace } from '../namespace/namespace.ts';
import type { PolicyHolder } from '../policy/policy-holder.ts';
import { explainPath } from './policy-explanation.ts';
import type { Prefetching } from './prefetching.ts';
import { unconvergedOf } from './unconverged.ts';

export interface ControlParts {
  readonly names: Namespace;
  readonly policies: PolicyHolder;
  readonly cache: BlockCache;
  readonly prefetching: Prefetching;
  /** Absent: nothing is written. */
  readonly writeBack?: WriteBack | undefined;
  readonly status: () => Promise<MountStatus>;
  readonly unmount: (options: { readonly force: boolean }) => Promise<void>;
}

export function controlHandlers(parts: ControlParts): MountControl {
  const { cache, names, policies, prefetching, writeBack, status, unmount } = parts;
  const below = (path: string | undefined) => (path === undefined ? {} : { path });
  return {
    status,
    cacheList: async (path) => cache.list(below(path)),
    async cachePin(path, pinned) {
      const versions = cache.list(below(path));
      if (versions.length === 0) {
        throw new CacheError('not-cached', `nothing at or below /${path} is in the cache`, {
          hint: 'read the file first, then pin it',
        });
      }
      for (const { version } of versions) cache.pin(version, pinned);
      return versions.length;
    },
    cacheEvict: async (path) => cache.evict(below(path)),
    cacheVerify: (path, options) => cache.verify(below(path), options),
    unconverged: async (path) => unconvergedOf(writeBack, path ?? ''),
    flush: async (path, options) => writeBack?.flush(path ?? '', options),
    policyExplain: (path) => explainPath(path ?? '', { cache, names, policies }),
    prefetchStart: (request) => prefetching.startJob(request),
    prefetchList: async () => ({ jobs: prefetching.jobs(), outcomes: prefetching.outcomes.all() }),
    prefetchCancel: async (id) => prefetching.cancelJob(id),
    recordStart: async (path) => prefetching.recorder.start(path),
    recordStop: async (id) => prefetching.recorder.stop(id),
    unmount,
  };
}
