/**
 * One attempt to make a version of a working copy: the bytes of one instant are brought to the store, and committed.
 * Nothing is committed that a version has already.
 */
import { type Clock, sleep } from '../../lib/base/clock.ts';
import type { NamespaceOptions } from '../../lib/namespace/namespace.ts';
import { NamespaceError } from '../../lib/namespace/namespace.ts';
import { TierError } from '../../lib/tiers/tier.ts';
import type { Instant } from './instant.ts';
import type { Publisher } from './publisher.ts';
import { settledFromMs } from './stamps.ts';
import type { Attempted, WorkingFile } from './working-file.ts';

/** `changing`: the file was written to again and again, so there is no new version. */
export type Convergence = 'done' | 'changing';

export interface ConvergeOptions {
  readonly publisher: Publisher;
  readonly clock: Clock;
  readonly signal: AbortSignal;
}

/** With these the origin may have refused the upload, and not what is to become of it: the bytes are sent anew. */
const UPLOAD_IN_DOUBT: ReadonlySet<string> = new Set(['not-found', 'invalid', 'protocol', 'upload-gone']);
/** Uploads of one attempt that the origin may forget before the attempt fails. */
const UPLOADS_MAX = 3;

/** @throws TierError, NamespaceError, CacheError, the signal's reason */
export async function converge(file: WorkingFile, options: ConvergeOptions): Promise<Convergence> {
  const attempted = file.beginAttempt();
  if (await isSameStill(file, attempted, options)) return 'done';
  const { signal } = options;
  const urgency = () => (file.waiters > 0 ? 'through' : 'back');
  for (let uploads = 1; ; uploads++) {
    file.progress = 'uploading';
    const instant = await file.taker.take({ urgency, signal });
    if (instant === undefined) return 'changing';
    if (file.isInBase(instant, attempted)) {
      file.commit(instant, attempted);
      break;
    }
    file.progress = 'committing';
    try {
      const attributes = await commit(file, { ...options, instant, attempted });
      file.taker.forgetUpload();
      file.commit(instant, attempted, attributes);
      break;
    } catch (error) {
      // Whoever waits in a close(2) shall not see what another sending puts right.
      if (!isUploadGone(error) || uploads === UPLOADS_MAX) throw error;
    }
  }
  await file.record({ durable: false });
  return 'done';
}

function isUploadGone(error: unknown): boolean {
  return (
    (error instanceof NamespaceError && error.code === 'upload-gone') ||
    (error instanceof TierError && error.code === 'stale')
  );
}

/** Stamps say that nothing has changed since the last commit, but could not tell for sure then. */
async function isSameStill(
  file: WorkingFile,
  attempted: Attempted,
  { clock, signal }: ConvergeOptions,
): Promise<boolean> {
  const { base } = file;
  if (base?.blockChecksums === undefined || !file.looksCommitted()) return false;
  const { stamp, blockChecksums } = base;
  const leftMs = settledFromMs(stamp) - clock.wallMs();
  if (leftMs >= 0) await sleep(clock, leftMs + 1, signal);
  const same = await file.taker.stampIfSame({ stamp, blockChecksums });
  if (same === undefined) return false;
  file.commit({ stamp: same, isSettled: true, blockChecksums }, attempted);
  await file.record({ durable: false });
  return true;
}

async function commit(
  file: WorkingFile,
  given: ConvergeOptions & { readonly instant: Instant; readonly attempted: Attempted },
): ReturnType<Publisher['commit']> {
  const { publisher, signal, attempted, instant } = given;
  const { mode, uid, gid, extended } = attempted.attributes;
  const { modifiedNs } = instant.stamp;
  const options: NamespaceOptions = { signal };
  try {
    return await publisher.commit(
      file.grant,
      { ...instant.content, attributes: { mode, uid, gid, modifiedNs, extended }, isLast: false },
      options,
    );
  } catch (error) {
    if (instant.content.upload === '' || !(error instanceof NamespaceError)) throw error;
    if (!UPLOAD_IN_DOUBT.has(error.code)) throw error;
    file.taker.forgetUpload();
    if (error.code !== 'not-found') throw error;
    // Is it the file that is gone, or only the upload? If it is the file another one cannot be begun.
    await file.taker.begin(signal);
    throw new TierError('stale', `the upload of ${file.path} was forgotten`, { cause: error });
  }
}
