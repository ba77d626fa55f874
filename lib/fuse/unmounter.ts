/**
 * Takes a mount off its path: politely until a deadline, then at once or, where the caller says so, not at all: then
 * the mount goes on as if nobody had asked. Both drivers use it.
 *
 * Taking it off at once also cuts the connection, so that the process that serves the mount can exit; files that
 * the kernel reads by itself go on being read.
 */
import { sleep, type Clock } from '../base/clock.ts';
import { describeError } from '../base/errors.ts';
import type { Logger } from '../telemetry/log.ts';
import { SystemCalls, systemErrorCode, UnmountFlag } from './device.ts';
import { mountAt } from './mountpoint.ts';
import { FuseError, type WhenBusy } from './operations.ts';

/** How often a busy unmount is tried again. */
const RETRY_MS = 50;
/** How long the kernel may take to end a connection whose mount is gone. */
const END_DEADLINE_MS = 1_000;

/** The value, or undefined if it takes longer than the bound. */
export async function within<T>(value: Promise<T>, boundMs: number, clock: Clock): Promise<T | undefined> {
  const settled = new AbortController();
  const late = sleep(clock, boundMs, settled.signal).then(
    () => undefined,
    () => undefined,
  );
  try {
    return await Promise.race([value, late]);
  } finally {
    settled.abort();
  }
}

export interface UnmounterOptions {
  readonly mountpoint: string;
  /** umount2(2), or what does the same for this user. */
  readonly unmount: (target: string, flags: number) => Promise<void>;
  /** Resolves when the connection has ended. */
  readonly ended: Promise<unknown>;
  readonly clock: Clock;
  readonly logger: Logger;
}

export class Unmounter {
  readonly #options: UnmounterOptions;
  /** `major:minor`: tells our mount from one that was put over it or took its place. */
  readonly device: string | undefined;

  constructor(options: UnmounterOptions) {
    this.#options = options;
    this.device = mountAt(options.mountpoint)?.device;
  }

  isMounted(): boolean {
    return this.device !== undefined && mountAt(this.#options.mountpoint)?.device === this.device;
  }

  /** @throws FuseError if it shall be refused when it is busy, and is */
  async unmount(options: { readonly deadlineMs: number; readonly whenBusy?: WhenBusy }): Promise<void> {
    const { clock, ended } = this.#options;
    const deadline = clock.nowMs() + options.deadlineMs;
    while (this.isMounted()) {
      const late = clock.nowMs() >= deadline;
      const atOnce = late && options.whenBusy !== 'refuse';
      const failure = await this.#try(atOnce);
      if (failure === undefined || atOnce) break;
      if (late && this.isMounted()) throw this.#refusal(failure);
      await within(ended, RETRY_MS, clock);
    }
    if ((await within(ended, END_DEADLINE_MS, clock)) !== undefined) return;
    this.#abort();
    await within(ended, END_DEADLINE_MS, clock);
  }

  /** For a mount whose connection broke: it would answer ENOTCONN for ever. */
  async detach(): Promise<void> {
    if (this.isMounted()) await this.#try(true);
  }

  #refusal(failure: Error): FuseError {
    const { mountpoint } = this.#options;
    if (systemErrorCode(failure) !== 'EBUSY') {
      return new FuseError('unmount-failed', `cannot unmount ${mountpoint}`, { cause: failure });
    }
    return new FuseError(
      'mountpoint-busy',
      `${mountpoint} is busy: programs have files open or work below it`,
      {
        hint: `close the files (fuser -vm ${mountpoint} shows who has them), or detach it: perigee unmount --force ${mountpoint}`,
      },
    );
  }

  /** Undefined, or why not. */
  async #try(atOnce: boolean): Promise<Error | undefined> {
    const { mountpoint, unmount, logger } = this.#options;
    const flags = UnmountFlag.NOFOLLOW | (atOnce ? UnmountFlag.FORCE | UnmountFlag.DETACH : 0);
    try {
      await unmount(mountpoint, flags);
      if (atOnce) logger.warn({ mountpoint }, 'unmounted at once, whatever still used it');
      return undefined;
    } catch (error) {
      if (systemErrorCode(error) !== 'EBUSY') logger.warn({ error: describeError(error) }, 'unmount failed');
      return error instanceof Error ? error : new Error(describeError(error));
    }
  }

  /**
   * For a process that exits with the mount in place: a thread that waits for a request would keep it from
   * exiting, and the mount would hang instead of failing. The mount stays, dead, as after a kill. Synchronous.
   */
  abandon(): void {
    if (!this.isMounted()) return;
    try {
      this.#cut();
    } catch {
      new SystemCalls().unmountNow(this.#options.mountpoint, UnmountFlag.FORCE | UnmountFlag.DETACH);
    }
  }

  #cut(): void {
    new SystemCalls().abortConnection(Number(this.device?.split(':')[1]));
  }

  /** A bind mount or another mount namespace still has the file system, so its connection goes on. */
  #abort(): void {
    try {
      this.#cut();
    } catch (error) {
      this.#options.logger.warn({ error: describeError(error) }, 'the connection is still in use elsewhere');
    }
  }
}
