/** `perigee session`: the satellites that an origin grants leases to. */
import { type Command } from 'commander';
import { act, type CommandContext, makeCommand } from './command.ts';
import { countText, durationText, nameText, tableText } from './format.ts';
import { type SessionInfo, type SessionList } from './lease-calls.ts';
import { type Flags } from './options.ts';
import { chosenOrigin, withOrigin } from './origin-option.ts';

export function sessionCommand(context: CommandContext): Command {
  return makeCommand('session', {
    description: 'Shows the satellites that an origin grants leases to.',
    examples: ['perigee session list', 'perigee session list --origin 10.0.0.1:7420 --json'],
  }).addCommand(listCommand(context));
}

function listCommand(context: CommandContext): Command {
  const { out, runtime } = context;
  const command = makeCommand('list', {
    description: 'Sessions of satellites, and whether changes wait for some of them.',
    examples: ['perigee session list', 'perigee session list --export datasets --json'],
  }).option('--export <name>', 'of this export only');
  return withOrigin(command).action(
    act(context, async (flags: Flags) => {
      const calls = await runtime.leases(await chosenOrigin(flags, context));
      const exportName = typeof flags.export === 'string' ? flags.export : undefined;
      const list = await calls.sessions(exportName).finally(() => calls.close());
      if (flags.json === true) out.json(list);
      else linesOf(list).forEach((line) => out.line(line));
    }),
  );
}

function linesOf({ sessions, sessionsAwaited, graceLeftMs }: SessionList): string[] {
  const head = ['SESSION', 'STATE', 'EXPIRES', 'LEASES', 'OWES', 'AGE', 'TENANT', 'EXPORT', 'HOST'];
  const lines = sessions.length === 0 ? ['no sessions'] : tableText([head, ...sessions.map(rowOf)]);
  if (sessionsAwaited === 0) return lines;
  const left = durationText(graceLeftMs / 1_000);
  const awaited = `changes wait for ${countText(sessionsAwaited, 'session')} of the origin's last life, ${left} at most`;
  return [...lines, awaited];
}

function rowOf(session: SessionInfo): string[] {
  return [
    session.session,
    session.connected ? 'live' : 'away',
    durationText(Math.max(0, session.expiresInMs) / 1_000),
    String(session.leases),
    String(session.acknowledgementsOwed),
    durationText(session.ageMs / 1_000),
    nameText(session.tenant),
    session.export,
    `${nameText(session.host)} (${session.address})`,
  ];
}
