/** `perigee status`: the mounts of this host. A mount that does not answer is told beside the others. */
import { type Command } from 'commander';
import { describeError, hintOf } from '../base/errors.ts';
import { resolveMountpoint } from '../config/names.ts';
import { act, type CommandContext, makeCommand } from './command.ts';
import { EXIT, type ExitCode } from './environment.ts';
import { bytesText, countText, durationText, nameText, tableText } from './format.ts';
import { reportError } from './report.ts';
import { type MountStatus } from './runtime.ts';

interface Unanswered {
  readonly mountpoint: string;
  readonly error: unknown;
}

export function statusCommand(context: CommandContext): Command {
  const { runtime, out, workingDirectory } = context;
  return makeCommand('status', {
    description: 'Shows the mounts of this host, or one of them.',
    examples: ['perigee status', 'perigee status /mnt/data', 'perigee status --json'],
  })
    .argument('[mountpoint]')
    .option('--json', 'print JSON: one mount as an object, all mounts as an array')
    .action(
      act(context, async (given: string | undefined, flags: { readonly json?: true }) => {
        if (given !== undefined) {
          const mountpoint = resolveMountpoint(given, workingDirectory);
          const status = await (await runtime.control(mountpoint)).status();
          if (flags.json) out.json(status);
          else statusLines(status).forEach((line) => out.line(line));
          return EXIT.fine;
        }
        return statusOfAll(context, flags.json === true);
      }),
    );
}

async function statusOfAll({ runtime, out }: CommandContext, json: boolean): Promise<ExitCode> {
  const mountpoints = await runtime.mounts();
  const answers = await Promise.all(
    mountpoints.map(async (mountpoint): Promise<MountStatus | Unanswered> => {
      try {
        return await (await runtime.control(mountpoint)).status();
      } catch (error) {
        return { mountpoint, error };
      }
    }),
  );
  const unanswered = answers.filter((answer) => 'error' in answer);
  if (json) {
    out.json(
      answers.map((answer) =>
        'error' in answer
          ? { mountpoint: answer.mountpoint, error: describeError(answer.error), hint: hintOf(answer.error) }
          : answer,
      ),
    );
  } else if (answers.length === 0) {
    out.line('no mounts on this host');
  } else {
    for (const answer of answers) {
      if (!('error' in answer)) statusLines(answer).forEach((line) => out.line(line));
    }
  }
  for (const { error, mountpoint } of unanswered) {
    reportError(error, { what: `status: ${nameText(mountpoint)}`, out });
  }
  if (unanswered.length === 0) return EXIT.fine;
  return unanswered.length === answers.length ? EXIT.failed : EXIT.partly;
}

function labelRows({ labels }: MountStatus): string[][] {
  const pairs = Object.entries(labels).map(([key, value]) => nameText(`${key}=${value}`));
  return pairs.length === 0 ? [] : [['labels', pairs.join(', ')]];
}

function leasesText({ leases }: MountStatus): string {
  const { state, session, termLeftMs, names, directories } = leases;
  if (state === 'lost') return 'no lease session: names are asked for one by one';
  const many = directories.toLocaleString('en-US');
  return [
    `${countText(names, 'name')} in ${many} ${directories === 1 ? 'directory' : 'directories'}`,
    countText(leases.leases, 'lease'),
    `session ${session ?? ''} ${state}, ${durationText(termLeftMs / 1000)} left`,
  ].join(', ');
}

function writeBackRows({ writeBack }: MountStatus): string[][] {
  if (writeBack === undefined) return [];
  const { dirtyFiles, dirtyBytes, openFiles, oldestMs, failing, convergedFiles, convergedBytes } = writeBack;
  const left =
    dirtyFiles === 0
      ? 'all is converged'
      : `${countText(dirtyFiles, 'file')}, ${bytesText(dirtyBytes)} to be converged`;
  const parts = [left, `${countText(openFiles, 'file')} open`];
  if (oldestMs > 0) parts.push(`the oldest waits for ${durationText(oldestMs / 1000)}`);
  if (failing > 0) parts.push(`${failing.toLocaleString('en-US')} failing: perigee flush tells why`);
  parts.push(`${countText(convergedFiles, 'version')} made (${bytesText(convergedBytes)})`);
  return [
    ['writes', parts.join(', ')],
    ...writeBack.conflicts.map((path, index) => [index === 0 ? 'conflicts' : '', nameText(path)]),
  ];
}

function statusLines(status: MountStatus): string[] {
  const { cache, reads } = status;
  const driver = `${status.driver}, passthrough ${status.passthrough ? 'on' : 'off'}, ${status.readOnly ? 'read-only' : 'read-write'}`;
  const rows = [
    ['export', `${status.exportName} of ${status.origin}${status.originReachable ? '' : ' (unreachable)'}`],
    ['names', leasesText(status)],
    ['store', status.store],
    ...labelRows(status),
    ['driver', driver],
    [
      'process',
      `${status.pid}, version ${status.version}, up ${durationText(status.upSeconds)}, ${bytesText(status.memoryBytes)}`,
    ],
    [
      'cache',
      `${bytesText(cache.usedBytes)} of ${bytesText(cache.capacityBytes)} in ${countText(cache.blobs, 'blob')} (${cache.completeBlobs.toLocaleString('en-US')} complete), health ${cache.health}`,
    ],
    ['', nameText(cache.directory)],
    [
      'block reads',
      `${countText(cache.hits, 'hit')}, ${cache.misses.toLocaleString('en-US')} ${cache.misses === 1 ? 'miss' : 'misses'}, ${bytesText(cache.fetchedBytes)} fetched`,
    ],
    [
      'opens',
      `${reads.passthroughOpens.toLocaleString('en-US')} passthrough (read by the kernel itself), ${reads.servedOpens.toLocaleString('en-US')} served (${bytesText(reads.servedBytes)})`,
    ],
    ['open', `${countText(status.openFiles, 'file')}, ${countText(status.nodes, 'node')}`],
  ];
  rows.push(...writeBackRows(status));
  const faults = cache.checksumFailures + cache.bypassedReads;
  if (faults > 0) {
    rows.push([
      'faults',
      `${countText(cache.checksumFailures, 'bad block')} fetched again, ${countText(cache.bypassedReads, 'read')} past the cache`,
    ]);
  }
  return [nameText(status.mountpoint), ...tableText(rows).map((line) => `  ${line}`)];
}
