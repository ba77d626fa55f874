/** Logs: one JSON object a line. Passed down through constructors; never global. */
import { pino, type Logger } from 'pino';

export type { Logger };

export type LogLevel = 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'silent';

export interface LogOptions {
  readonly level: LogLevel;
  /** Where to append; standard error if absent (journald collects it). */
  readonly file?: string;
}

export interface Log {
  readonly logger: Logger;
  /** After its file was moved away: goes on in a new one. Nothing happens without a file. */
  reopen(): void;
}

export function openLog(options: LogOptions): Log {
  const { level, file } = options;
  const destination = pino.destination({ dest: file ?? 2, sync: true, mkdir: true });
  return {
    logger: pino({ level, base: { pid: process.pid } }, destination),
    reopen: () => (file === undefined ? undefined : destination.reopen()),
  };
}

export function createLogger(options: LogOptions): Logger {
  return openLog(options).logger;
}
