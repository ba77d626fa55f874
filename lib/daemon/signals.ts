/** SIGTERM and SIGINT end a process in order; a second one ends it at once. SIGHUP is left to the log. */
export function endOnSignals(stop: (signal: string) => void): void {
  let asked = false;
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.on(signal, () => {
      if (asked) process.exit(1);
      asked = true;
      stop(signal);
    });
  }
}
