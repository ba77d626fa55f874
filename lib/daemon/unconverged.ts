/** What of a mount no version has yet, for its commands. */
import type { WriteBack } from '../../cache/working-copy.ts';
import type { Unconverged } from '../control/control.ts';

/** Of files that are told one by one. */
const LISTED_MAX = 1_000;

/** @param writeBack undefined: nothing is written there */
export function unconvergedOf(writeBack: WriteBack | undefined, path: string): Unconverged {
  const sums = { files: 0, bytes: 0, sentBytes: 0, openFiles: 0, failing: 0, oldestMs: 0 };
  const list: Unconverged['list'][number][] = [];
  for (const file of writeBack?.list() ?? []) {
    const isBelow = path === '' || file.path === path || file.path.startsWith(`${path}/`);
    if (!isBelow || !file.isDirty) continue;
    sums.files += 1;
    sums.bytes += file.sizeBytes;
    sums.sentBytes += file.sentBytes;
    if (file.state === 'open') sums.openFiles += 1;
    if (file.failure !== undefined) sums.failing += 1;
    sums.oldestMs = Math.max(sums.oldestMs, file.ageMs);
    const { path: shown, sizeBytes, ageMs, state, sentBytes, failure } = file;
    if (list.length < LISTED_MAX) list.push({ path: shown, sizeBytes, ageMs, state, sentBytes, failure });
  }
  return { ...sums, list };
}
