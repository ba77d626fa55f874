/**
 * Runs a process of ours in the foreground until it ends by itself or is asked to.
 *
 * States: starting → running → stopping → over. The first signal stops in order, even one that comes while
 * starting; a second one ends at once, after `force` had its chance. Stopping has a deadline.
 */
import { sleep } from '../base/clock.ts';
import { PerigeeError } from '../base/errors.ts';
import { type CommandEnvironment } from './environment.ts';
import { type Running } from './runtime.ts';

/** Longer than an unmount that waits for programs to let go. */
const STOP_DEADLINE_MS = 60_000;
const FORCE_DEADLINE_MS = 5_000;

class ForegroundError extends PerigeeError<'forced' | 'timeout'> {
  override readonly layer = 'cli';
}

export interface ForegroundOptions<R extends Running> {
  readonly start: () => Promise<R>;
  /** Called once it answers; what it returns is called before the stop. */
  readonly ready: (running: R) => (() => void) | undefined;
  /** The last resort. */
  readonly force?: (running: R) => Promise<void>;
}

export async function runForeground<R extends Running>(
  options: ForegroundOptions<R>,
  { signals, clock, out }: Pick<CommandEnvironment, 'signals' | 'clock' | 'out'>,
): Promise<void> {
  let ask = (): void => undefined;
  let insist = (): void => undefined;
  const asked = new Promise<'asked'>((resolve) => (ask = () => resolve('asked')));
  const insisted = new Promise<'insisted'>((resolve) => (insist = () => resolve('insisted')));
  let askedTimes = 0;
  const release = signals(() => {
    askedTimes++;
    if (askedTimes === 1) ask();
    else insist();
  });
  try {
    const running = await Promise.race([options.start(), insisted]);
    if (running === 'insisted') throw forced();
    const first = await runUntil(running, { asked, options });
    if (first === 'ended') return;
    if (out.terminal) out.note('stopping; once more to force');
    const last = await Promise.race([
      running.stop().then(() => 'stopped' as const),
      insisted,
      sleep(clock, STOP_DEADLINE_MS).then(() => 'late' as const),
    ]);
    if (last === 'stopped') return;
    await Promise.race([options.force?.(running), sleep(clock, FORCE_DEADLINE_MS)]).catch(() => undefined);
    throw last === 'insisted' ? forced() : late();
  } finally {
    release();
  }
}

async function runUntil<R extends Running>(
  running: R,
  { asked, options }: { readonly asked: Promise<'asked'>; readonly options: ForegroundOptions<R> },
): Promise<'asked' | 'ended'> {
  const cleanUp = options.ready(running);
  try {
    return await Promise.race([running.ended.then(() => 'ended' as const), asked]);
  } finally {
    cleanUp?.();
  }
}

function forced(): ForegroundError {
  return new ForegroundError('forced', 'ended by force', {
    hint: 'perigee status shows what is still mounted; perigee unmount --force detaches it',
  });
}

function late(): ForegroundError {
  return new ForegroundError('timeout', `did not stop within ${STOP_DEADLINE_MS / 1000} s`, {
    hint: 'some program may still use the mount: see fuser -m; perigee unmount --force detaches it',
  });
}
