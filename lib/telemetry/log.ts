/** Logs: one JSON object a line, or text for a person at a terminal. Passed down through constructors; never global. */
import { isatty } from 'node:tty';
import { pino, type Logger } from 'pino';
import pinoPretty from 'pino-pretty';

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

const STDERR = 2;

export function openLog(options: LogOptions): Log {
  const { level, file } = options;
  const base = { pid: process.pid };
  if (file === undefined && isatty(STDERR)) {
    const text = pinoPretty({
      destination: STDERR,
      sync: true,
      ignore: 'pid',
      singleLine: true,
      translateTime: 'SYS:HH:MM:ss.l',
    });
    return { logger: pino({ level, base }, text), reopen: () => undefined };
  }
  const destination = pino.destination({ dest: file ?? STDERR, sync: true, mkdir: true });
  return {
    logger: pino({ level, base }, destination),
    reopen: () => (file === undefined ? undefined : destination.reopen()),
  };
}

export function createLogger(options: LogOptions): Logger {
  return openLog(options).logger;
}
