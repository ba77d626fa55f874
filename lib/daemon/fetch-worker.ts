/** Entry point of a fetch worker thread: object stores on one side, descriptors of the process on the other. */
import fs from 'node:fs';
import { parentPort } from 'node:worker_threads';
import { systemClock } from '../base/clock.ts';
import { invariant } from '../base/errors.ts';
import { KIB } from '../base/limits.ts';
import { systemPrng } from '../base/prng.ts';
import { openStore } from '../store/open-store.ts';
import { FETCH_LIMITS } from '../tiers/fetch-limits.ts';
import type { ToFetchWorker } from '../tiers/fetch-protocol.ts';
import { serveFetches } from '../tiers/fetch-server.ts';

/** A write to the page cache up to this size costs less than the way through Node's thread pool. */
const WRITE_AT_ONCE_BYTES_MAX = 128 * KIB;

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

function writeAt(descriptor: number, pieces: readonly Buffer[], position: number): Promise<void> | undefined {
  const bytes = pieces.reduce((sum, piece) => sum + piece.byteLength, 0);
  if (bytes > WRITE_AT_ONCE_BYTES_MAX) return writeLater(descriptor, pieces, position);
  for (let rest = pieces, at = position; rest.length > 0;) {
    const written = fs.writevSync(descriptor, rest, at);
    rest = after(rest, written);
    at += written;
  }
  return undefined;
}

function writeLater(descriptor: number, pieces: readonly Buffer[], position: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const step = (rest: readonly Buffer[], at: number): void => {
      fs.writev(descriptor, rest, at, (error, written) => {
        if (error) return reject(error);
        const left = after(rest, written);
        if (left.length === 0) resolve();
        else step(left, at + written);
      });
    };
    step(pieces, position);
  });
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
