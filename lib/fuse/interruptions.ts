/**
 * What becomes of a request whose program was sent a signal while it waits.
 *
 * On a local disk no signal ends a system call on a file but one that ends the program, and programs rely on it: they
 * have timers, children that end, and runtimes that signal their own threads, and do not expect EINTR of open, rename or
 * close. The kernel tells us of every signal, once a request, and waits for the answer even if the program is to die. So
 * an interrupted request is aborted only if its thread is being killed, now or while it goes on waiting. Waits for locks
 * end with any signal.
 */
import type { Clock } from '../base/clock.ts';
import { Opcode } from './opcodes.ts';
import type { Request } from './request.ts';

/** How long a killed program may go on waiting before that is noticed. */
const WATCH_MS = 100;

export interface InterruptionsOptions {
  readonly clock: Clock;
  /** Whether the thread has a signal that kills it, or is not to be seen. */
  readonly isDying: (thread: number) => boolean;
  readonly isWaiting: (request: Request) => boolean;
}

export class Interruptions {
  readonly #options: InterruptionsOptions;
  readonly #watched = new Set<Request>();
  #cancel: (() => void) | undefined;

  constructor(options: InterruptionsOptions) {
    this.#options = options;
  }

  interrupt(request: Request): void {
    if (request.opcode === Opcode.SETLKW || this.#options.isDying(request.pid)) {
      request.abort('interrupted');
      return;
    }
    this.#watched.add(request);
    this.#cancel ??= this.#options.clock.after(WATCH_MS, () => this.#look());
  }

  close(): void {
    this.#cancel?.();
    this.#watched.clear();
  }

  #look(): void {
    const { clock, isDying, isWaiting } = this.#options;
    for (const request of this.#watched) {
      if (isWaiting(request) && !isDying(request.pid)) continue;
      this.#watched.delete(request);
      request.abort('interrupted');
    }
    this.#cancel = this.#watched.size === 0 ? undefined : clock.after(WATCH_MS, () => this.#look());
  }
}
