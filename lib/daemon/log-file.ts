/**
 * The log of a daemon, opened before the daemon runs. What a refused mount made for it goes away again: an empty
 * file that was not there before, and the directories made for it, as long as nothing else is in them.
 */
import fs from 'node:fs';
import path from 'node:path';
import { PerigeeError } from '../base/errors.ts';

export class LogFileError extends PerigeeError<'log-file'> {
  override readonly layer = 'daemon';
}

export interface OpenedLog {
  readonly descriptor: number;
  close(): void;
  /** After a refusal: leaves what was there before. */
  discard(): void;
}

/** @throws LogFileError */
export function openLogFile(file: string): OpenedLog {
  let firstMade: string | undefined;
  try {
    firstMade = fs.mkdirSync(path.dirname(file), { recursive: true });
    const isNew = !fs.existsSync(file);
    const descriptor = fs.openSync(file, 'a', 0o640);
    return {
      descriptor,
      close: () => fs.closeSync(descriptor),
      discard: () => attempt(() => (isNew ? removeUnused(file, firstMade) : undefined)),
    };
  } catch (error) {
    attempt(() => removeDirectories(path.dirname(file), firstMade));
    throw new LogFileError('log-file', `cannot open the log ${file}`, {
      cause: error,
      hint: 'name a file that this user may write with --log-file, or put --cache where its log can lie beside it',
    });
  }
}

function removeUnused(file: string, firstMade: string | undefined): void {
  if (fs.statSync(file).size > 0) return;
  fs.unlinkSync(file);
  removeDirectories(path.dirname(file), firstMade);
}

/** From the innermost outwards, up to the first that was made. */
function removeDirectories(directory: string, firstMade: string | undefined): void {
  if (firstMade === undefined) return;
  for (let at = directory; at.length >= firstMade.length; at = path.dirname(at)) fs.rmdirSync(at);
}

/** Leftovers do no harm. */
function attempt(run: () => void): void {
  try {
    run();
  } catch {
    return;
  }
}
