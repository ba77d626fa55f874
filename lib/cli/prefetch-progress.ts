/** How far a prefetch job has come, as people read it. */
import { type JobInfo } from '../prefetch/prefetch.ts';
import { bytesText, countText, durationText } from './format.ts';

const BAR_CELLS = 20;
/** The rate is that of the last so many seconds. */
const RATE_MS = 5_000;

export function isOver({ state }: JobInfo): boolean {
  return state === 'done' || state === 'cancelled' || state === 'failed';
}

/** @param bytesPerSecond undefined: it is not of interest any more */
export function progressText(job: JobInfo, bytesPerSecond: number | undefined): string {
  const { isFound, filesThere, filesFound, bytesThere, bytesFound, filesDeclined, filesFailed } = job;
  const count = (value: number): string => value.toLocaleString('en-US');
  const parts = [
    `${count(filesThere)} of ${countText(filesFound, 'file')}${isFound || isOver(job) ? '' : ' so far'}`,
    `${bytesText(bytesThere)} of ${bytesText(bytesFound)}`,
  ];
  if (bytesPerSecond !== undefined) {
    const leftBytes = bytesFound - bytesThere;
    parts.push(`${bytesText(bytesPerSecond)}/s`);
    if (isFound && bytesPerSecond > 0) parts.push(`${durationText(leftBytes / bytesPerSecond)} left`);
  }
  if (job.state === 'waiting') parts.push('waits for its reader');
  if (filesDeclined > 0) parts.push(`no room for ${count(filesDeclined)}`);
  if (filesFailed > 0) parts.push(`${count(filesFailed)} failed`);
  if (job.pathsMissing > 0) parts.push(`${count(job.pathsMissing)} missing`);
  const text = parts.join(', ');
  return bytesPerSecond === undefined
    ? text
    : `${barText(bytesFound === 0 ? 0 : bytesThere / bytesFound)} ${text}`;
}

function barText(share: number): string {
  const full = Math.round(BAR_CELLS * Math.min(1, share));
  return `[${'#'.repeat(full)}${'.'.repeat(BAR_CELLS - full)}]`;
}

/** Bytes a second, from what is seen every now and then. */
export class Rate {
  readonly #seen: { readonly atMs: number; readonly bytes: number }[] = [];

  at(atMs: number, bytes: number): number {
    this.#seen.push({ atMs, bytes });
    while (this.#seen.length > 2 && this.#seen[0]!.atMs < atMs - RATE_MS) this.#seen.shift();
    const first = this.#seen[0]!;
    return atMs <= first.atMs ? 0 : ((bytes - first.bytes) * 1_000) / (atMs - first.atMs);
  }
}
