/** `perigee lease`: who may use which directories without asking. */
import { type Command } from 'commander';
import { UsageError } from '../base/errors.ts';
import { act, type CommandContext, makeCommand } from './command.ts';
import { durationText, nameText, tableText } from './format.ts';
import { type LeaseInfo } from './lease-calls.ts';
import { type Flags } from './options.ts';
import { chosenOrigin, withOrigin } from './origin-option.ts';

const LEASES_DEFAULT = 1_000;
const LEASES_MAX = 10_000;

export function leaseCommand(context: CommandContext): Command {
  return makeCommand('lease', {
    description: 'Shows which satellites may use which directories without asking.',
    examples: ['perigee lease list', 'perigee lease list train/images --origin 10.0.0.1:7420'],
  }).addCommand(listCommand(context));
}

function listCommand(context: CommandContext): Command {
  const { out, runtime } = context;
  const command = makeCommand('list', {
    description: 'Leases that concern a path: at or below it, or covering it from above.',
    examples: ['perigee lease list', 'perigee lease list train/images --export datasets --json'],
  })
    .argument('[path]', 'in the export; otherwise all')
    .option('--export <name>', 'of this export only')
    .option('--limit <number>', `at most so many (default ${LEASES_DEFAULT})`);
  return withOrigin(command).action(
    act(context, async (given: string | undefined, flags: Flags) => {
      const leasesMax = limitOf(flags.limit);
      const path = (given ?? '').replaceAll(/^\/+|\/+$/g, '');
      const exportName = typeof flags.export === 'string' ? flags.export : undefined;
      const calls = await runtime.leases(await chosenOrigin(flags, context));
      const list = await calls.leases({ exportName, path, leasesMax }).finally(() => calls.close());
      if (flags.json === true) return out.json(list);
      if (list.leases.length === 0) return out.line('no leases');
      const head = ['SESSION', 'COVERS', 'AGE', 'HOST', 'PATH'];
      tableText([head, ...list.leases.map(rowOf)]).forEach((line) => out.line(line));
      if (list.more) out.note(`there are more than ${leasesMax}; name a path, or a higher --limit`);
    }),
  );
}

function limitOf(flag: unknown): number {
  if (flag === undefined) return LEASES_DEFAULT;
  const given = typeof flag === 'string' ? flag : '';
  const limit = /^\d{1,5}$/.test(given) ? Number(given) : 0;
  if (limit >= 1 && limit <= LEASES_MAX) return limit;
  throw new UsageError(`--limit ${given} makes no sense`, {
    hint: `write a number from 1 to ${LEASES_MAX}`,
  });
}

function rowOf({ session, subtree, ageMs, host, path }: LeaseInfo): string[] {
  return [
    session,
    subtree ? 'subtree' : 'directory',
    durationText(ageMs / 1_000),
    nameText(host),
    `/${nameText(path)}`,
  ];
}
