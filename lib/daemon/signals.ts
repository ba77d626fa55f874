/** SIGTERM and SIGINT end a process in order; a second one ends it at once. */
export function endOnSignals(stop: () => Promise<void>): void {
  let asked = false;
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) {
    process.on(signal, () => {
      if (asked) process.exit(1);
      asked = true;
      void stop();
    });
  }
}
