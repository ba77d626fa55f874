/** What became of the bytes that policies have fetched ahead, on the mounts of this host. */
import { type OutcomeBytes } from '../prefetch/prefetch.ts';
import { type CommandContext } from './command.ts';
import { bytesText, nameText, tableText } from './format.ts';

export interface MountOutcomes {
  readonly mountpoint: string;
  readonly outcomes: OutcomeBytes;
}

/** Of mounts of this origin that have fetched something by the policy since their start. */
export async function outcomesOf(
  policy: string,
  { origin, context }: { readonly origin: string; readonly context: CommandContext },
): Promise<readonly MountOutcomes[]> {
  const { runtime } = context;
  const asked = (await runtime.mounts()).map(async (mountpoint): Promise<readonly MountOutcomes[]> => {
    try {
      const control = await runtime.control(mountpoint);
      if ((await control.status()).origin !== origin) return [];
      const outcomes = (await control.prefetchList()).outcomes[policy];
      return outcomes === undefined ? [] : [{ mountpoint, outcomes }];
    } catch {
      return []; // A mount that does not answer has no figures.
    }
  });
  return (await Promise.all(asked)).flat();
}

export function outcomeLines(mounts: readonly MountOutcomes[]): string[] {
  if (mounts.length === 0) return [];
  const rows = mounts.map(({ mountpoint, outcomes: { fetched, used, wasted, late } }) => [
    ...[fetched, used, wasted, late].map(bytesText),
    nameText(mountpoint),
  ]);
  return tableText([['FETCHED', 'USED', 'WASTED', 'LATE', 'MOUNT'], ...rows]);
}
