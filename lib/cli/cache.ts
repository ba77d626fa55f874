/** `perigee cache`: looks into the tier of a mount and changes what is kept there. */
import { type Command } from 'commander';
import type { CachedVersion, CacheStat, VerifyReport } from '../../cache/block-cache.ts';
import { PerigeeError } from '../base/errors.ts';
import { cacheSalvageCommand } from './cache-salvage.ts';
import { act, type Action, type CommandContext, makeCommand } from './command.ts';
import { EXIT } from './environment.ts';
import { bytesText, countText, nameText, tableText } from './format.ts';
import { findMountPath } from './mount-path.ts';
import { type MountControl } from './runtime.ts';

class CacheCommandError extends PerigeeError<'not-cached' | 'bad-blocks'> {
  override readonly layer = 'cli';
}

interface JsonFlag {
  readonly json?: true;
}

const PATH_MEANING = 'a file or directory under a mount';

export function cacheCommand(context: CommandContext): Command {
  return makeCommand('cache', {
    description: 'Shows and changes what the NVMe of this host keeps.',
    examples: [
      'perigee cache stat',
      'perigee cache list /mnt/data/train',
      'perigee cache pin /mnt/data/train',
    ],
  })
    .addCommand(statCommand(context))
    .addCommand(listCommand(context))
    .addCommand(pinCommand(context, true))
    .addCommand(pinCommand(context, false))
    .addCommand(evictCommand(context))
    .addCommand(verifyCommand(context))
    .addCommand(cacheSalvageCommand(context));
}

/** The mount that the path lies in, and the path inside it. */
async function reach(
  given: string | undefined,
  context: CommandContext,
): Promise<{ readonly control: MountControl; readonly inside: string | undefined }> {
  const { mountpoint, inside } = await findMountPath(given, context);
  return { control: await context.runtime.control(mountpoint), inside };
}

function withJson(command: Command): Command {
  return command.option('--json', 'print JSON');
}

function statCommand(context: CommandContext): Command {
  const { out } = context;
  const action: Action<[string | undefined, JsonFlag]> = async (given, { json }) => {
    const { control } = await reach(given, context);
    const { cache } = await control.status();
    if (json) out.json(cache);
    else statLines(cache).forEach((line) => out.line(line));
  };
  return withJson(
    makeCommand('stat', {
      description: 'Figures of the tier.',
      examples: ['perigee cache stat', 'perigee cache stat /mnt/data --json'],
    }).argument('[path]', PATH_MEANING),
  ).action(act(context, action));
}

function statLines(cache: CacheStat): string[] {
  const share = cache.capacityBytes === 0 ? 0 : (100 * cache.usedBytes) / cache.capacityBytes;
  const count = (value: number): string => value.toLocaleString('en-US');
  return tableText([
    ['directory', nameText(cache.directory)],
    ['health', cache.health],
    ['capacity', bytesText(cache.capacityBytes)],
    ['used', `${bytesText(cache.usedBytes)} (${share.toFixed(1)}%)`],
    ['reserved', bytesText(cache.reservedBytes)],
    ['pinned', bytesText(cache.pinnedBytes)],
    ['being written', bytesText(cache.dirtyBytes)],
    ['blobs', `${count(cache.blobs)}, ${count(cache.completeBlobs)} complete`],
    ['hits', count(cache.hits)],
    ['misses', count(cache.misses)],
    ['fetched', bytesText(cache.fetchedBytes)],
    ['evicted', bytesText(cache.evictedBytes)],
    ['bad blocks', count(cache.checksumFailures)],
    ['bypassed reads', count(cache.bypassedReads)],
  ]);
}

function listCommand(context: CommandContext): Command {
  const { out } = context;
  const action: Action<[string | undefined, JsonFlag]> = async (given, { json }) => {
    const { control, inside } = await reach(given, context);
    const versions = await control.cacheList(inside);
    if (json) return out.json(versions);
    if (versions.length === 0) return out.line('nothing is cached there');
    const rows = [['CACHED', 'SIZE', 'STATE', 'USES', 'PATH'], ...versions.map(versionRow)];
    tableText(rows).forEach((line) => out.line(line));
  };
  return withJson(
    makeCommand('list', {
      description: 'Files that the tier keeps, whole or in part.',
      examples: ['perigee cache list', 'perigee cache list /mnt/data/train --json'],
    }).argument('[path]', PATH_MEANING),
  ).action(act(context, action));
}

function versionRow(version: CachedVersion): string[] {
  const marks = [version.state, version.pinned ? 'pinned' : '', version.open ? 'open' : ''];
  return [
    bytesText(version.cachedBytes),
    bytesText(version.sizeBytes),
    marks.filter(Boolean).join(','),
    String(version.uses),
    nameText(version.path),
  ];
}

function pinCommand(context: CommandContext, pinned: boolean): Command {
  const { out } = context;
  const name = pinned ? 'pin' : 'unpin';
  const action: Action<[string, JsonFlag]> = async (given, { json }) => {
    const { control, inside } = await reach(given, context);
    const files = await control.cachePin(inside ?? '', pinned);
    if (files === 0) {
      throw new CacheCommandError('not-cached', `nothing at or below ${nameText(given)} is cached`, {
        hint: 'read the files first; perigee cache list shows what is there',
      });
    }
    if (json) out.json({ files, pinned });
    else out.line(`${name}ned: ${countText(files, 'file')}`);
  };
  return withJson(
    makeCommand(name, {
      description: pinned
        ? 'Keeps the cached files at or below a path whatever else needs room.'
        : 'Lets the cached files at or below a path be evicted again.',
      examples: [`perigee cache ${name} /mnt/data/train`],
    }).argument('<path>', PATH_MEANING),
  ).action(act(context, action));
}

function evictCommand(context: CommandContext): Command {
  const { out } = context;
  const action: Action<[string, JsonFlag]> = async (given, { json }) => {
    const { control, inside } = await reach(given, context);
    const report = await control.cacheEvict(inside);
    const { freedBytes, keptBlobs } = report;
    if (json) out.json(report);
    else {
      out.line(`evicted: ${bytesText(freedBytes)}`);
      if (keptBlobs > 0) out.line(`kept: ${countText(keptBlobs, 'file')} open or pinned`);
    }
    return keptBlobs > 0 ? EXIT.partly : EXIT.fine;
  };
  return withJson(
    makeCommand('evict', {
      description: 'Frees the room of cached files at or below a path; pinned and open ones stay.',
      examples: ['perigee cache evict /mnt/data/old', 'perigee cache evict /mnt/data'],
    }).argument('<path>', `${PATH_MEANING}; the mount point itself for everything`),
  ).action(act(context, action));
}

function verifyCommand(context: CommandContext): Command {
  const { out } = context;
  const action: Action<[string | undefined, JsonFlag]> = async (given, { json }) => {
    const { control, inside } = await reach(given, context);
    const report = await control.cacheVerify(inside);
    if (json) out.json(report);
    else verifyLines(report).forEach((line) => out.line(line));
    if (report.badBlocks > 0) throw badBlocks(report);
  };
  return withJson(
    makeCommand('verify', {
      description:
        'Reads what is cached and compares checksums; bad blocks are dropped and will be fetched again.',
      examples: ['perigee cache verify', 'perigee cache verify /mnt/data/train'],
    }).argument('[path]', PATH_MEANING),
  ).action(act(context, action));
}

function verifyLines({ bytes, blobs, missingBlobs }: VerifyReport): string[] {
  const verified = `verified: ${bytesText(bytes)} in ${countText(blobs, 'blob')}`;
  if (missingBlobs === 0) return [verified];
  const [whose, they] = missingBlobs === 1 ? ['file is', 'it'] : ['files are', 'they'];
  return [
    verified,
    `dropped: ${countText(missingBlobs, 'blob')} whose ${whose} gone; ${they} will be fetched again`,
  ];
}

function badBlocks({ badBlocks: count }: VerifyReport): CacheCommandError {
  return new CacheCommandError(
    'bad-blocks',
    `${countText(count, 'block')} did not match ${count === 1 ? 'its checksum and was' : 'their checksums and were'} dropped`,
    { hint: 'they will be fetched again; look at the health of the disk' },
  );
}
