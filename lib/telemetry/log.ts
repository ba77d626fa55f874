/** Logs: one JSON object a line, or text on a terminal. Passed down through constructors; never global. */
import { pino, type Logger } from 'pino';

export type { Logger };

export type LogLevel = 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'silent';

/** @param file where to append; standard error if absent (journald collects it). */
export function createLogger(options: { readonly level: LogLevel; readonly file?: string }): Logger {
  const destination = pino.destination({ dest: options.file ?? 2, sync: true, mkdir: true });
  return pino({ level: options.level, base: { pid: process.pid } }, destination);
}
