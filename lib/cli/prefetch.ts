/** `perigee prefetch`: brings files to the NVMe of this host before anybody reads them. */
import path from 'node:path';
import { type Command } from 'commander';
import { type Clock } from '../base/clock.ts';
import { PerigeeError, UsageError } from '../base/errors.ts';
import { sizeSchema } from '../config/values.ts';
import { type JobInfo, type JobRequest } from '../prefetch/prefetch.ts';
import { act, type CommandContext, makeCommand } from './command.ts';
import { EXIT, type ExitCode } from './environment.ts';
import { countText, nameText, tableText } from './format.ts';
import { findMountPath } from './mount-path.ts';
import { type Flags } from './options.ts';
import { isOver, progressText, Rate } from './prefetch-progress.ts';
import { type MountControl } from './runtime.ts';

const PROGRESS_MS = 500;
const AHEAD_MAX = 1_000_000;

class PrefetchCommandError extends PerigeeError<'failed'> {
  override readonly layer = 'cli';
}

interface PrefetchFlags extends Flags {
  readonly manifest?: string;
  readonly ahead?: string;
  readonly bandwidth?: string;
  readonly priority?: string;
  readonly wait?: true;
  readonly json?: true;
}

export function prefetchCommand(context: CommandContext): Command {
  return (
    makeCommand('prefetch', {
      description:
        'Brings files, and all files below directories, to the NVMe of this host. What a program reads meanwhile goes first.',
      examples: [
        'perigee prefetch /mnt/data/train --wait',
        'perigee prefetch --manifest epoch-1.txt --ahead 200 /mnt/data',
        'perigee prefetch list',
      ],
    })
      // Of `prefetch list --json` the option is the list's.
      .enablePositionalOptions()
      .argument('[path...]', 'files or directories under a mount')
      .option('--manifest <file>', 'paths in the order in which they will be read, one a line')
      .option(
        '--ahead <files>',
        'of a manifest: keep so many files ahead of the reader (default: all there is room for)',
      )
      .option('--bandwidth <rate>', 'at most so much a second, such as 500MiB/s')
      .option('--priority <number>', 'before others of a lower one (default 0)')
      .option('--wait', 'until all is there, with progress')
      .option('--json', 'print JSON')
      .addCommand(listCommand(context))
      .addCommand(cancelCommand(context))
      .action(
        act(context, async (given: readonly string[], flags: PrefetchFlags) => {
          const request = requestOf(flags, context);
          if (given.length === 0 && request.manifest === undefined) {
            throw new UsageError('there is nothing to prefetch', {
              hint: 'name files or directories under a mount, or a --manifest',
            });
          }
          const started: { readonly control: MountControl; readonly job: JobInfo }[] = [];
          for (const [mountpoint, paths] of await byMount(given, context)) {
            const control = await context.runtime.control(mountpoint);
            started.push({ control, job: await control.prefetchStart({ ...request, paths }) });
          }
          if (flags.wait !== true)
            return tellStarted(
              started.map(({ job }) => job),
              { flags, context },
            );
          const codes: ExitCode[] = [];
          for (const { control, job } of started) codes.push(await wait(job, { control, flags, context }));
          return codes.find((code) => code !== EXIT.fine) ?? EXIT.fine;
        }),
      )
  );
}

async function byMount(given: readonly string[], context: CommandContext): Promise<Map<string, string[]>> {
  const mounts = new Map<string, string[]>();
  for (const one of given.length === 0 ? [undefined] : given) {
    const { mountpoint, inside = '' } = await findMountPath(one, context);
    mounts.set(mountpoint, [...(mounts.get(mountpoint) ?? []), inside]);
  }
  return mounts;
}

/** @throws UsageError */
function requestOf(flags: PrefetchFlags, { workingDirectory }: CommandContext): Omit<JobRequest, 'paths'> {
  const { manifest, ahead, bandwidth, priority } = flags;
  if (ahead !== undefined && manifest === undefined) {
    throw new UsageError('--ahead is of a manifest', { hint: 'name the --manifest too' });
  }
  return {
    ...(manifest === undefined ? {} : { manifest: path.resolve(workingDirectory, manifest) }),
    ...(ahead === undefined ? {} : { ahead: wholeNumber('--ahead', ahead, { min: 1, max: AHEAD_MAX }) }),
    ...(bandwidth === undefined ? {} : { bytesPerSecond: rateOf(bandwidth) }),
    ...(priority === undefined
      ? {}
      : { priority: wholeNumber('--priority', priority, { min: -1_000, max: 1_000 }) }),
  };
}

function wholeNumber(
  flag: string,
  given: string,
  { min, max }: { readonly min: number; readonly max: number },
): number {
  const value = /^-?\d{1,7}$/.test(given) ? Number(given) : NaN;
  if (value >= min && value <= max) return value;
  throw new UsageError(`${flag}: ${JSON.stringify(given)} is not a whole number from ${min} to ${max}`);
}

function rateOf(given: string): number {
  const read = sizeSchema({ min: 1 }).safeParse(/^(.*\S)\s*\/\s*s$/.exec(given)?.[1] ?? '');
  if (read.success) return read.data;
  throw new UsageError(`--bandwidth: ${JSON.stringify(given)} is not a rate`, {
    hint: 'write it as 500MiB/s',
  });
}

function tellStarted(
  jobs: readonly JobInfo[],
  { flags, context }: { readonly flags: PrefetchFlags; readonly context: CommandContext },
): ExitCode {
  const { out } = context;
  if (flags.json === true) out.json(jobs);
  else for (const { id, what } of jobs) out.line(`prefetch job ${id}: ${nameText(what)}`);
  return EXIT.fine;
}

/** Ends with the job, or when the command is interrupted; the job then goes on. */
async function wait(
  started: JobInfo,
  given: { readonly control: MountControl; readonly flags: PrefetchFlags; readonly context: CommandContext },
): Promise<ExitCode> {
  const { control, flags, context } = given;
  const { out, clock } = context;
  const isQuiet = flags.json === true;
  const interrupted = new AbortController();
  const stopListening = context.signals(() => interrupted.abort());
  const rate = new Rate();
  let job = started;
  try {
    for (; !isOver(job) && !interrupted.signal.aborted; job = await look(job.id, control)) {
      if (out.terminal && !isQuiet) out.redraw(progressText(job, rate.at(clock.nowMs(), job.bytesFetched)));
      await pause(clock, interrupted.signal);
    }
  } finally {
    stopListening();
  }
  if (isQuiet) out.json(job);
  else out.line(progressText(job, undefined));
  if (!isOver(job)) {
    out.note(`the job goes on; perigee prefetch cancel ${job.id} ends it`);
    return EXIT.partly;
  }
  if (job.state === 'failed') throw new PrefetchCommandError('failed', job.error ?? 'the job failed');
  const isWhole = job.state === 'done' && job.filesDeclined + job.filesFailed + job.pathsMissing === 0;
  if (isWhole) return EXIT.fine;
  return job.filesThere === 0 ? EXIT.failed : EXIT.partly;
}

/** Keeps the process alive; ends early when the command is interrupted. */
function pause(clock: Clock, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const cancel = clock.after(PROGRESS_MS, resolve, { keepAlive: true });
    const end = (): void => {
      cancel();
      resolve();
    };
    signal.addEventListener('abort', end, { once: true });
  });
}

async function look(id: string, control: MountControl): Promise<JobInfo> {
  const { jobs } = await control.prefetchList();
  const job = jobs.find((one) => one.id === id);
  if (job !== undefined) return job;
  throw new PrefetchCommandError('failed', `the satellite does not know the job ${id} any more`, {
    hint: 'perigee prefetch list shows the jobs',
  });
}

function listCommand(context: CommandContext): Command {
  const { out } = context;
  return makeCommand('list', {
    description: 'Prefetch jobs of a mount: those under way and the last ones that ended.',
    examples: ['perigee prefetch list', 'perigee prefetch list /mnt/data --json'],
  })
    .argument('[path]', 'a path under a mount')
    .option('--json', 'print JSON')
    .action(
      act(context, async (given: string | undefined, { json }: { readonly json?: true }) => {
        const { mountpoint } = await findMountPath(given, context);
        const { jobs, outcomes } = await (await context.runtime.control(mountpoint)).prefetchList();
        if (json) return out.json({ jobs, outcomes });
        if (jobs.length === 0) return out.line('no prefetch jobs');
        const rows = jobs.map((job) => [job.id, job.state, progressText(job, undefined), nameText(job.what)]);
        tableText([['JOB', 'STATE', 'PROGRESS', 'WHAT'], ...rows]).forEach((line) => out.line(line));
      }),
    );
}

function cancelCommand(context: CommandContext): Command {
  const { out } = context;
  return makeCommand('cancel', {
    description: 'Ends a prefetch job; what it has brought stays.',
    examples: ['perigee prefetch cancel 3', 'perigee prefetch cancel 3 /mnt/data'],
  })
    .argument('<job>', 'its number in the list')
    .argument('[path]', 'a path under its mount')
    .option('--json', 'print JSON')
    .action(
      act(context, async (id: string, given: string | undefined, { json }: { readonly json?: true }) => {
        const { mountpoint } = await findMountPath(given, context);
        const job = await (await context.runtime.control(mountpoint)).prefetchCancel(id);
        if (json) out.json(job);
        else out.line(`job ${id} is ${job.state}: ${countText(job.filesThere, 'file')} there`);
      }),
    );
}
