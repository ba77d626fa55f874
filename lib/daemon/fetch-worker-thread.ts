/** Starts a fetch worker as a thread of this process; descriptors are shared with it. */
import { Worker } from 'node:worker_threads';
import { WORKER_HEAP_MIB_MAX, WORKER_YOUNG_MIB_MAX } from '../tiers/fetch-limits.ts';
import type { FetchWorker, FetchWorkerEvents, FromFetchWorker } from '../tiers/fetch-protocol.ts';

// The worker's file is named like this one: `.ts` in a checkout, `.js` in the published package.
const ENTRY = new URL(import.meta.url.replace(/fetch-worker-thread(\.\w+)$/, 'fetch-worker$1'));

export function startFetchWorker(events: FetchWorkerEvents): FetchWorker {
  const thread = new Worker(ENTRY, {
    name: 'perigee-fetch',
    resourceLimits: {
      maxOldGenerationSizeMb: WORKER_HEAP_MIB_MAX,
      maxYoungGenerationSizeMb: WORKER_YOUNG_MIB_MAX,
    },
  });
  let cause: unknown;
  thread.on('message', (message: FromFetchWorker) => events.onMessage(message));
  thread.on('error', (error: unknown) => {
    cause = error;
  });
  // Node waits for a thread's file operations before it says that the thread has ended.
  thread.on('exit', (code) => events.onEnd(cause ?? new Error(`the thread ended with code ${code}`)));
  return {
    post: (message) => thread.postMessage(message),
    terminate: () => void thread.terminate(),
  };
}
