/** Entry point of a fetch worker thread: object stores on one side, descriptors of the process on the other. */
import fs from 'node:fs';
import { parentPort } from 'node:worker_threads';
import { systemClock } from '../base/clock.ts';
import { invariant } from '../base/errors.ts';
import { systemPrng } from '../base/prng.ts';
import { openStore } from '../store/open-store.ts';
import { FETCH_LIMITS } from '../tiers/fetch-limits.ts';
import type { ToFetchWorker } from '../tiers/fetch-protocol.ts';
import { serveFetches } from '../tiers/fetch-server.ts';

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
  clock: systemClock,
  prng: systemPrng(),
  limits: FETCH_LIMITS,
});

function writeAt(descriptor: number, pieces: readonly Buffer[], position: number): void {
  for (let rest = pieces, at = position; rest.length > 0;) {
    const written = fs.writevSync(descriptor, rest, at);
    rest = after(rest, written);
    at += written;
  }
}

/** What is left of the pieces after a write that took `written` bytes: the system may take fewer than it is given. */
function after(pieces: readonly Buffer[], written: number): readonly Buffer[] {
  let skip = written;
  for (let index = 0; index < pieces.length; index++) {
    const piece = pieces[index]!;
    if (skip < piece.byteLength) return [piece.subarray(skip), ...pieces.slice(index + 1)];
    skip -= piece.byteLength;
  }
  return [];
}
