/**
 * What is at a path where something shall be mounted, and getting rid of what a dead daemon left there.
 *
 * A mount whose daemon is gone answers ENOTCONN to everything. It is told from a live one by asking the file
 * system itself (statfs, which no cache answers); one that does not answer in time counts as alive.
 */
import { resolve } from 'node:path';
import { sleep, systemClock, type Clock } from '../base/clock.ts';
import {
  askFileSystem,
  inspectPath,
  readMountInfo,
  resolveMountpoint,
  systemErrorCode,
  UnmountFlag,
} from './device.ts';
import { FILE_SYSTEM_TYPE } from './driver-options.ts';
import { findMount, parseMountTable, type MountRecord } from './mount-table.ts';
import { FuseError } from './operations.ts';
import { unmountAsUser } from './user-unmount.ts';

/** How long a mount may take to answer before it counts as alive but slow. */
const ANSWER_DEADLINE_MS = 5_000;
/** Dead mounts stacked on one path that one call removes. */
const DEAD_MOUNTS_MAX = 16;

/**
 * - `free`: an empty directory, nothing mounted
 * - `not-empty`: a directory with files that a mount would hide
 * - `missing`, `not-directory`, `unreachable` (no permission, a failing disk)
 * - `alive-perigee`, `dead-perigee`: a mount of ours, with or without its daemon
 * - `other-mount`: another file system
 */
export type MountpointState =
  | 'free'
  | 'not-empty'
  | 'missing'
  | 'not-directory'
  | 'unreachable'
  | 'alive-perigee'
  | 'dead-perigee'
  | 'other-mount';

/** The path as the mount table writes it. @throws FuseError `mountpoint-missing` if its parent is not there. */
async function canonical(path: string): Promise<string> {
  try {
    return await resolveMountpoint(resolve(path));
  } catch (error) {
    throw new FuseError('mountpoint-missing', `mount point ${path} does not exist`, {
      cause: error,
      hint: `create it: mkdir -p ${path}`,
    });
  }
}

/** The mount on top of a path of the mount table's form. */
export function mountAt(canonicalPath: string): MountRecord | undefined {
  return findMount(parseMountTable(readMountInfo()), canonicalPath);
}

/** The paths at which file systems of ours are mounted, with or without their daemons. */
export function listMounts(): string[] {
  const records = parseMountTable(readMountInfo());
  return records.filter(({ type }) => type === FILE_SYSTEM_TYPE).map(({ mountpoint }) => mountpoint);
}

async function isDead(mountpoint: string, clock: Clock): Promise<boolean> {
  const settled = new AbortController();
  const slow = sleep(clock, ANSWER_DEADLINE_MS, settled.signal).catch(() => undefined);
  const code = await Promise.race([askFileSystem(mountpoint), slow]);
  settled.abort();
  return code === 'ENOTCONN' || code === 'ECONNABORTED';
}

async function inspect(mountpoint: string, clock: Clock): Promise<MountpointState> {
  const mounted = mountAt(mountpoint);
  if (mounted !== undefined) {
    if (mounted.type !== FILE_SYSTEM_TYPE) return 'other-mount';
    return (await isDead(mountpoint, clock)) ? 'dead-perigee' : 'alive-perigee';
  }
  switch (await inspectPath(mountpoint)) {
    case 'empty-directory':
      return 'free';
    case 'directory':
      return 'not-empty';
    case 'other':
    case 'ENOTDIR':
      return 'not-directory';
    case 'ENOENT':
      return 'missing';
    default:
      return 'unreachable';
  }
}

/** What is at a path. Never throws, and answers in bounded time even if a daemon hangs. */
export async function inspectMountpoint(
  path: string,
  options: { readonly clock?: Clock } = {},
): Promise<MountpointState> {
  try {
    return await inspect(await canonical(path), options.clock ?? systemClock);
  } catch (error) {
    return systemErrorCode((error as Error).cause) === 'ENOTDIR' ? 'not-directory' : 'missing';
  }
}

/**
 * Takes a mount of ours off its path at once and cuts its connection: calls that wait for an answer fail, also those that
 * keep a killed daemon from ending (a thread of it may wait for a directory's lock that such a call holds). Files that the
 * kernel reads by itself go on. Nothing mounted there is no error, a file system of somebody else is.
 */
export async function detachMount(path: string): Promise<void> {
  const mountpoint = await canonical(path);
  const mounted = mountAt(mountpoint);
  if (mounted !== undefined && mounted.type !== FILE_SYSTEM_TYPE) {
    throw new FuseError('mountpoint-busy', `${mountpoint} is a mount of ${mounted.type}, not of Perigee`);
  }
  try {
    await unmountAsUser(mountpoint, UnmountFlag.FORCE | UnmountFlag.DETACH | UnmountFlag.NOFOLLOW);
  } catch (error) {
    const code = systemErrorCode(error);
    if (code === 'EINVAL' || code === 'ENOENT') return;
    throw new FuseError('unmount-failed', `cannot unmount ${mountpoint}`, {
      cause: error,
      ...(code === 'EPERM' ? { hint: 'run it as root' } : {}),
    });
  }
}

export interface PreparedMountpoint {
  /** The path as the mount table will show it. */
  readonly mountpoint: string;
  /** Dead mounts of ours were there, and no program used them any more: nothing is served from what they knew. */
  readonly hadForsakenMount: boolean;
}

/**
 * Makes sure that a mount can be made at `path`: removes dead mounts of ours, refuses everything else that is in
 * the way.
 * @throws FuseError
 */
export async function prepareMountpoint(path: string, clock: Clock): Promise<PreparedMountpoint> {
  const mountpoint = await canonical(path);
  let forsaken = 0;
  for (let removed = 0; removed <= DEAD_MOUNTS_MAX; removed++) {
    const state = await inspect(mountpoint, clock);
    if (state === 'free') return { mountpoint, hadForsakenMount: removed > 0 && forsaken === removed };
    if (state !== 'dead-perigee') throw refusal(state, mountpoint);
    if (await removeUnused(mountpoint)) forsaken += 1;
    else await detachMount(mountpoint);
  }
  throw new FuseError('mountpoint-busy', `more than ${DEAD_MOUNTS_MAX} dead mounts at ${mountpoint}`, {
    hint: `remove them: umount -l ${mountpoint}`,
  });
}

/** False: programs have it open or stand in it. */
async function removeUnused(mountpoint: string): Promise<boolean> {
  try {
    await unmountAsUser(mountpoint, UnmountFlag.NOFOLLOW);
    return true;
  } catch {
    return false;
  }
}

function refusal(state: Exclude<MountpointState, 'free' | 'dead-perigee'>, mountpoint: string): FuseError {
  switch (state) {
    case 'missing':
      return new FuseError('mountpoint-missing', `mount point ${mountpoint} does not exist`, {
        hint: `create it: mkdir -p ${mountpoint}`,
      });
    case 'not-directory':
      return new FuseError('mountpoint-not-directory', `mount point ${mountpoint} is not a directory`, {
        hint: 'choose an empty directory',
      });
    case 'not-empty':
      return new FuseError('mountpoint-not-empty', `mount point ${mountpoint} is not empty`, {
        hint: 'choose an empty directory: what is in it would be hidden by the mount',
      });
    case 'unreachable':
      return new FuseError('mount-failed', `mount point ${mountpoint} cannot be read`, {
        hint: 'check the permissions of the path and the health of its disk',
      });
    case 'alive-perigee':
      return new FuseError('already-mounted', `${mountpoint} is already mounted by Perigee`, {
        hint: `unmount it first: perigee unmount ${mountpoint} (with --force if its process is gone)`,
      });
    case 'other-mount':
      return new FuseError('mountpoint-busy', `another file system is mounted at ${mountpoint}`, {
        hint: 'choose another directory',
      });
  }
}
