/** Finds the mount that a path lies in, and what the path is called inside its export. */
import fs from 'node:fs';
import path from 'node:path';
import { UsageError } from '../base/errors.ts';
import { type CommandContext } from './command.ts';
import { nameText } from './format.ts';
import { type Runtime } from './runtime.ts';

export interface MountPath {
  readonly mountpoint: string;
  /** Relative to the root of the export; undefined for the root itself. */
  readonly inside: string | undefined;
}

/** Without a path, the only mount of this host that answers. */
export async function findMountPath(
  given: string | undefined,
  { runtime, workingDirectory }: CommandContext,
): Promise<MountPath> {
  const mountpoints = await runtime.mounts();
  const shown = mountpoints.map(nameText).join(', ');
  if (mountpoints.length === 0) {
    throw new UsageError('there is no mount on this host', { hint: 'perigee mount makes one' });
  }
  if (given === undefined) {
    // One whose process is gone, or belongs to another run directory, is none to choose from.
    const answers = await answering(mountpoints, runtime);
    const candidates = answers.length === 0 ? mountpoints : answers;
    const [only, ...others] = candidates;
    if (only !== undefined && others.length === 0) return { mountpoint: only, inside: undefined };
    throw new UsageError('there are several mounts on this host', {
      hint: `name a path in one of ${candidates.map(nameText).join(', ')}`,
    });
  }
  const absolute = path.resolve(workingDirectory, given);
  const found = within(absolute, mountpoints) ?? within(realPathOf(absolute), mountpoints);
  if (found !== undefined) return found;
  throw new UsageError(`${nameText(absolute)} is in no mount of this host`, {
    hint: `the mounts are ${shown}`,
  });
}

async function answering(mountpoints: readonly string[], runtime: Runtime): Promise<string[]> {
  const answers = await Promise.all(
    mountpoints.map((mountpoint) =>
      runtime.control(mountpoint).then(
        () => [mountpoint],
        () => [],
      ),
    ),
  );
  return answers.flat();
}

/** The innermost mount wins. */
function within(absolute: string, mountpoints: readonly string[]): MountPath | undefined {
  const mountpoint = mountpoints
    .filter((candidate) => absolute === candidate || absolute.startsWith(`${candidate}/`))
    .reduce<string | undefined>((best, next) => (next.length > (best?.length ?? 0) ? next : best), undefined);
  if (mountpoint === undefined) return undefined;
  return { mountpoint, inside: absolute.slice(mountpoint.length + 1) || undefined };
}

/** Links in the directories that lead to it are followed; what is missing is taken as it is written. */
function realPathOf(absolute: string): string {
  try {
    return path.join(fs.realpathSync(path.dirname(absolute)), path.basename(absolute));
  } catch {
    return absolute;
  }
}
