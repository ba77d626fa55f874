/** Entry point of a worker thread that fetches and sends: object stores on one side, descriptors of the process on the other. */
import fs from 'node:fs';
import { parentPort } from 'node:worker_threads';
import { systemClock } from '../base/clock.ts';
import { invariant } from '../base/errors.ts';
import { systemPrng } from '../base/prng.ts';
import { openStore } from '../store/open-store.ts';
import { FETCH_LIMITS } from '../tiers/fetch-limits.ts';
import type { ToFetchWorker } from '../tiers/fetch-protocol.ts';
import { serveFetches } from '../tiers/fetch-server.ts';
import { writeAt } from './write-at.ts';

const port = parentPort;
invariant(port !== null, 'a fetch worker runs in a thread of its own');

serveFetches({
  port: {
    post: (message, transfer) => port.postMessage(message, transfer ?? []),
    onMessage: (listener) => port.on('message', (message: ToFetchWorker) => listener(message)),
    close: () => port.close(),
  },
  openStore: (url) => openStore(url),
  writeAt,
  readAt,
  clock: systemClock,
  prng: systemPrng(),
  limits: FETCH_LIMITS,
});

/** The file of a writer can lie on a device that is slow: this thread has others to serve. */
function readAt(descriptor: number, into: Uint8Array, position: number): Promise<number> {
  return new Promise((resolve, reject) => {
    let filled = 0;
    const next = (): void =>
      fs.read(descriptor, into, filled, into.length - filled, position + filled, (error, bytes) => {
        if (error !== null) return reject(error);
        filled += bytes;
        if (bytes === 0 || filled === into.length) return resolve(filled);
        next();
      });
    next();
  });
}
