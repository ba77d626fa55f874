/**
 * What `flush` and `drain` share: asks a mount to converge, and shows how far it is until it is done, or nobody wants to
 * wait any longer; the mount then goes on by itself.
 */
import { type Clock } from '../base/clock.ts';
import { UsageError } from '../base/errors.ts';
import { durationSchema } from '../config/values.ts';
import { type CommandContext } from './command.ts';
import { EXIT, type ExitCode } from './environment.ts';
import { bytesText, countText, durationText, nameText } from './format.ts';
import { type Flags } from './options.ts';
import { findMountPath } from './mount-path.ts';
import { type MountControl, type Unconverged } from './runtime.ts';

const PROGRESS_MS = 500;
const TIMEOUT_MS_MAX = 24 * 3_600_000;
/** Files that are named at the end. */
const NAMED_MAX = 10;

export interface ConvergeFlags extends Flags {
  readonly timeout?: string;
  readonly json?: true;
}

export interface ConvergeOptions {
  readonly given: string | undefined;
  readonly flags: ConvergeFlags;
  readonly context: CommandContext;
  /** Whether files that are still open count as left. */
  readonly withOpen: boolean;
}

export async function converge({ given, flags, context, withOpen }: ConvergeOptions): Promise<ExitCode> {
  const { out, clock, signals } = context;
  const timeoutMs = timeoutOf(flags.timeout);
  const { mountpoint, inside } = await findMountPath(given, context);
  const control = await context.runtime.control(mountpoint);
  const patience = new AbortController();
  const stopListening = signals(() => patience.abort());
  const cancelTimeout =
    timeoutMs === undefined ? () => undefined : clock.after(timeoutMs, () => patience.abort());
  try {
    await flushed(control, { inside, isShown: flags.json === undefined, patience: patience.signal, context });
  } finally {
    cancelTimeout();
    stopListening();
  }
  const report = await control.unconverged(inside);
  const left = withOpen ? report.files : report.files - report.openFiles;
  if (flags.json) out.json({ done: left === 0, ...report });
  else leftLines(report, left).forEach((line) => out.line(line));
  return left === 0 ? EXIT.fine : EXIT.partly;
}

async function flushed(
  control: MountControl,
  given: {
    readonly inside: string | undefined;
    readonly isShown: boolean;
    readonly patience: AbortSignal;
    readonly context: CommandContext;
  },
): Promise<void> {
  const { inside, isShown, patience, context } = given;
  const { out, clock } = context;
  const over = new AbortController();
  const flushing = control.flush(inside, { signal: patience }).finally(() => over.abort());
  flushing.catch(() => undefined);
  const end = AbortSignal.any([over.signal, patience]);
  while (!end.aborted) {
    await pause(clock, end);
    if (isShown && out.terminal && !end.aborted) out.redraw(progressText(await control.unconverged(inside)));
  }
  if (!patience.aborted) await flushing;
}

/** Keeps the process alive. */
function pause(clock: Clock, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const cancel = clock.after(PROGRESS_MS, resolve, { keepAlive: true });
    signal.addEventListener(
      'abort',
      () => {
        cancel();
        resolve();
      },
      { once: true },
    );
  });
}

function progressText({ files, bytes, sentBytes, openFiles, failing, oldestMs }: Unconverged): string {
  const parts = [`${countText(files - openFiles, 'file')} left`, `${bytesText(bytes - sentBytes)} to send`];
  if (oldestMs > 0) parts.push(`the oldest waits for ${durationText(oldestMs / 1000)}`);
  if (failing > 0) parts.push(`${failing.toLocaleString('en-US')} failing`);
  return parts.join(', ');
}

function leftLines({ bytes, openFiles, list }: Unconverged, left: number): string[] {
  if (left === 0) {
    const open =
      openFiles === 0
        ? ''
        : ` but ${countText(openFiles, 'file')} that ${openFiles === 1 ? 'is' : 'are'} still open`;
    return [`all is converged${open}`];
  }
  const lines = [`left: ${countText(left, 'file')}, ${bytesText(bytes)}`];
  for (const { path, state, failure } of list.slice(0, NAMED_MAX)) {
    lines.push(`  ${nameText(path)}: ${state}${failure === undefined ? '' : `: ${failure}`}`);
  }
  if (list.length > NAMED_MAX) lines.push(`  and ${countText(left - NAMED_MAX, 'other')}`);
  return lines;
}

function timeoutOf(given: string | undefined): number | undefined {
  if (given === undefined) return undefined;
  const read = durationSchema({ minMs: 1, maxMs: TIMEOUT_MS_MAX }).safeParse(given);
  if (read.success) return read.data;
  throw new UsageError(`--timeout: ${JSON.stringify(given)} is no time to wait`, {
    hint: 'write it as 30s or 5m',
  });
}
