/** What a process that serves a mount must be told about itself before it does anything else. */
import v8 from 'node:v8';

/** Threads of libuv's pool: reads of /dev/fuse hold two of them for good, disk reads of programs need the rest. */
const THREAD_POOL_SIZE = 16;
/**
 * By default V8 marks the whole heap whenever 64 MiB of buffers have come and gone: twenty times for each GiB that a
 * fetch worker receives (measured: 0.61 against 0.24 s of CPU a GiB). With this, buffers count as what they
 * are, a part of all memory.
 */
const COUNT_BUFFERS = '--external-memory-accounted-in-global-limit';
/**
 * By default V8 begins with a limit so low that each thread marks its heap several times while it is still loading
 * code, and again when work begins (MiB; measured: 0.1 s of CPU in a mount's first seconds).
 */
const BEGIN_LARGE = '--initial-old-space-size=96';

/** Call before anything uses the thread pool, and before worker threads start. */
export function settleProcess(): void {
  process.env.UV_THREADPOOL_SIZE ??= String(THREAD_POOL_SIZE);
  v8.setFlagsFromString(COUNT_BUFFERS);
  v8.setFlagsFromString(BEGIN_LARGE);
}
