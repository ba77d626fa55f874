/**
 * Notes what programs open below a directory, each file once, in the order of the first opens: the manifest of a run.
 *
 * Bounded: `RECORDINGS_MAX` recordings, the oldest ends when there is one more (its command is gone without a word), of as
 * many paths as a manifest may have.
 */
import { MANIFEST_PATHS_MAX } from './manifest.ts';
import { PrefetchError, type Recording } from './prefetch.ts';

const RECORDINGS_MAX = 16;

export class OpenRecorder {
  readonly #recordings = new Map<string, { readonly below: string; readonly paths: Set<string> }>();
  #lastId = 0;

  /** @param path of a directory or file; the root is empty */
  start(path: string): string {
    if (this.#recordings.size === RECORDINGS_MAX)
      this.#recordings.delete(this.#recordings.keys().next().value!);
    const id = String(++this.#lastId);
    this.#recordings.set(id, { below: path, paths: new Set() });
    return id;
  }

  /** @throws PrefetchError no-such-job */
  stop(id: string): Recording {
    const recording = this.#recordings.get(id);
    this.#recordings.delete(id);
    if (recording === undefined) throw new PrefetchError('no-such-job', `there is no recording ${id}`);
    const paths = [...recording.paths];
    return { paths, isCut: paths.length === MANIFEST_PATHS_MAX };
  }

  opened(path: () => string): void {
    if (this.#recordings.size === 0) return;
    const opened = path();
    for (const { below, paths } of this.#recordings.values()) {
      if (paths.size === MANIFEST_PATHS_MAX) continue;
      if (below === '' || opened === below || opened.startsWith(`${below}/`)) paths.add(opened);
    }
  }
}
