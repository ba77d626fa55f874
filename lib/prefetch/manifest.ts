/**
 * A manifest: paths of an export in the order in which they will be read, one a line, written by `perigee record` or by
 * whoever knows the seed of a shuffle. Empty lines and lines that begin with `#` are left out. A path begins at the root
 * of the export; a slash or `./` in front, and the mount point, are taken away.
 */
import { PrefetchError } from './prefetch.ts';

export const MANIFEST_BYTES_MAX = 256 * 1024 * 1024;
export const MANIFEST_PATHS_MAX = 2_000_000;

/** @throws PrefetchError */
export function readManifest(text: string, { mountpoint }: { readonly mountpoint: string }): string[] {
  const paths: string[] = [];
  const outer = `${mountpoint.replace(/\/$/, '')}/`;
  for (const line of text.split('\n')) {
    const given = line.endsWith('\r') ? line.slice(0, -1) : line;
    if (given.trim() === '' || given.startsWith('#')) continue;
    if (paths.length === MANIFEST_PATHS_MAX) {
      throw new PrefetchError('manifest', `the manifest has over ${MANIFEST_PATHS_MAX} paths`, {
        hint: 'split it, or name a directory instead',
      });
    }
    const inside = given.startsWith(outer) ? given.slice(outer.length) : given;
    paths.push(inside.replace(/^(\.?\/)+/, ''));
  }
  if (paths.length === 0) {
    throw new PrefetchError('manifest', 'the manifest names no file', { hint: 'write one path a line' });
  }
  return paths;
}
