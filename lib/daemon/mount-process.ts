/** The process behind `perigee mount`: takes its options from the parent, answers once, serves until told to stop. */
import { describeError, hintOf, PerigeeError } from '../base/errors.ts';
import { type DaemonAnswer } from './background.ts';
import { settleProcess } from './process-settings.ts';
import { endOnSignals } from './signals.ts';
import { startSatellite, type SatelliteOptions } from './satellite.ts';

function answer(message: DaemonAnswer): Promise<void> {
  return new Promise((resolve) => {
    if (process.send === undefined || !process.connected) return resolve();
    process.send(message, () => resolve());
  });
}

async function serve(options: SatelliteOptions): Promise<void> {
  try {
    const satellite = await startSatellite(options);
    endOnSignals(() => satellite.stop());
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
