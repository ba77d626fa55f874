/**
 * A satellite in a process of its own. The parent starts `mount-process`, hands it the options over an IPC
 * channel, and waits for one message: ready, or the daemon's own error. After that the two know nothing of each other.
 */
import { spawn } from 'node:child_process';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { PerigeeError, UsageError } from '../base/errors.ts';
import { openLogFile } from './log-file.ts';
import type { SatelliteOptions } from './satellite.ts';

/** What the daemon answers. */
export type DaemonAnswer =
  | { readonly ready: true }
  | {
      readonly ready: false;
      readonly code: string;
      readonly message: string;
      readonly hint: string | undefined;
    };

/** The daemon's refusal, as its parent reports it. */
export class DaemonError extends PerigeeError {
  override readonly layer = 'daemon';
}

export async function startInBackground(options: SatelliteOptions): Promise<{ readonly pid: number }> {
  const logFile = options.logFile ?? `${options.cacheDirectory}.log`;
  const log = openLogFile(logFile);
  const extension = path.extname(fileURLToPath(import.meta.url));
  const entry = fileURLToPath(new URL(`./mount-process${extension}`, import.meta.url));
  const child = spawn(process.execPath, [...process.execArgv, entry], {
    detached: true,
    cwd: '/',
    stdio: ['ignore', log.descriptor, log.descriptor, 'ipc'],
  });
  log.close();
  try {
    const answer = await new Promise<DaemonAnswer>((resolve, reject) => {
      child.once('error', reject);
      child.once('message', (message) => resolve(message as DaemonAnswer));
      child.once('exit', (code, signal) =>
        reject(
          new DaemonError(
            'ended',
            `the daemon ended (${signal ?? `exit code ${code}`}) before the mount answered`,
            {
              hint: `see ${logFile}`,
            },
          ),
        ),
      );
      child.send({ ...options, logFile });
    });
    if (!answer.ready) {
      const details = answer.hint === undefined ? {} : { hint: answer.hint };
      if (answer.code === 'usage') throw new UsageError(answer.message, details);
      throw new DaemonError(answer.code, answer.message, details);
    }
    return { pid: child.pid ?? 0 };
  } catch (error) {
    log.discard();
    throw error;
  } finally {
    child.removeAllListeners();
    if (child.connected) child.disconnect();
    child.unref();
  }
}
