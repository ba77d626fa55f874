/** What a command is given besides its words. Tests give it fakes; `bin/` the real ones. */
import { type Clock, systemClock } from '../base/clock.ts';
import { type Output, streamOutput } from './output.ts';
import { type Runtime } from './runtime.ts';

/** - 0: fine; 1: failed; 2: wrong usage; 3: partly done. */
export type ExitCode = 0 | 1 | 2 | 3;

export const EXIT = { fine: 0, failed: 1, usage: 2, partly: 3 } as const satisfies Record<string, ExitCode>;

/** Tells of each signal that asks the process to end; the returned function stops telling. */
export type Signals = (ask: () => void) => () => void;

export interface CommandEnvironment {
  readonly runtime: Runtime;
  readonly out: Output;
  readonly stdin: AsyncIterable<Uint8Array>;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly workingDirectory: string;
  /** Read if it exists and no other is named. */
  readonly configFile: string;
  readonly clock: Clock;
  readonly signals: Signals;
}

const CONFIG_FILE_USUAL = '/etc/perigee/perigee.yaml';
const END_SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

export function processEnvironment(runtime: Runtime): CommandEnvironment {
  return {
    runtime,
    out: streamOutput(process),
    stdin: process.stdin,
    env: process.env,
    workingDirectory: process.cwd(),
    configFile: CONFIG_FILE_USUAL,
    clock: systemClock,
    signals(ask) {
      for (const signal of END_SIGNALS) process.on(signal, ask);
      return () => {
        for (const signal of END_SIGNALS) process.off(signal, ask);
      };
    },
  };
}
