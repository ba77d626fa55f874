/**
 * The process behind `perigee mount`: takes its options from the parent, answers once, serves until told to stop.
 *
 * It can be told so from the first moment: by a signal, or, until it has answered, by the end of its parent. SIGHUP
 * makes it go on in a new log file.
 */
import { describeError, hintOf, PerigeeError } from '../base/errors.ts';
import { openLog } from '../telemetry/log.ts';
import { DaemonError, type DaemonAnswer } from './background.ts';
import { settleProcess } from './process-settings.ts';
import { endOnSignals } from './signals.ts';
import { startSatellite, type Satellite, type SatelliteOptions } from './satellite.ts';

function answer(message: DaemonAnswer): Promise<void> {
  return new Promise((resolve) => {
    if (process.send === undefined || !process.connected) return resolve();
    process.send(message, () => resolve());
  });
}

async function serve(options: SatelliteOptions): Promise<void> {
  const log = openLog({
    level: options.logLevel,
    ...(options.logFile === undefined ? {} : { file: options.logFile }),
  });
  process.on('SIGHUP', () => log.reopen());
  const starting = new AbortController();
  let satellite: Satellite | undefined;
  const stop = (reason: string): void => {
    if (satellite !== undefined) void satellite.stop(reason);
    else starting.abort(new DaemonError('stopped', `stopped while it started: ${reason}`));
  };
  endOnSignals(stop);
  const orphaned = (): void => stop('the command that started it has ended');
  process.once('disconnect', orphaned);
  try {
    satellite = await startSatellite(options, { logger: log.logger, signal: starting.signal });
    process.off('disconnect', orphaned);
    await answer({ ready: true });
    if (process.connected) process.disconnect();
    await satellite.ended;
    process.exit(0);
  } catch (error) {
    const code = error instanceof PerigeeError ? String(error.code) : 'failed';
    await answer({ ready: false, code, message: describeError(error), hint: hintOf(error) });
    process.exit(1);
  }
}

settleProcess();
process.once('message', (options) => void serve(options as SatelliteOptions));
