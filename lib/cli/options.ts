/** Turns settings into flags of a command, and a command's flags, the environment and the file into values. */
import { type Command, Option } from 'commander';
import { clientSettings } from '../config/client-settings.ts';
import { ConfigFile } from '../config/config-file.ts';
import { mountSettings } from '../config/mount-settings.ts';
import { originSettings } from '../config/origin-settings.ts';
import {
  environmentLayer,
  environmentVariableOf,
  flagLayer,
  flagOf,
  type Layer,
  resolveSettings,
  type Setting,
  type Settings,
  type ValuesOf,
} from '../config/settings.ts';
import { type CommandEnvironment } from './environment.ts';

/** Sections of the configuration file. */
const sections = { origin: originSettings, mount: mountSettings } as const;

/** The flags of a command as commander names them. */
export type Flags = Readonly<Record<string, unknown>>;

export function addSettings(command: Command, settings: Settings): Command {
  for (const [key, definition] of Object.entries(settings)) command.addOption(optionOf(key, definition));
  return command;
}

export function addConfigOption(command: Command): Command {
  return command.option('--config <file>', 'configuration file [PERIGEE_CONFIG]');
}

function optionOf(key: string, definition: Setting<unknown>): Option {
  const { placeholder, flag, fallback, description } = definition;
  const usual = fallback?.text === undefined ? '' : ` (default ${fallback.text})`;
  const option = new Option(
    placeholder === undefined ? flagOf(key, definition) : `${flagOf(key, definition)} <${placeholder}>`,
    `${description}${usual} [${environmentVariableOf(key)}]`,
  );
  // A list is one flag repeated.
  if (flag !== undefined) {
    option.argParser((value: string, before: readonly string[] = []) => [...before, value]);
  }
  return option;
}

export function resolveFlags<S extends Settings>(
  settings: S,
  flags: Flags,
  { env }: CommandEnvironment,
): ValuesOf<S> {
  return resolveSettings(settings, [flagLayer(kebab(flags)), environmentLayer(env)]);
}

export function resolveWithFile<Section extends keyof typeof sections>(
  section: Section,
  flags: Flags,
  environment: CommandEnvironment,
): ValuesOf<(typeof sections)[Section]> {
  const file = loadFile(flags, environment);
  const layers = [flagLayer(kebab(flags)), environmentLayer(environment.env)];
  if (file !== undefined) layers.push(file.layer(section));
  return resolveSettings(sections[section], layers);
}

/**
 * For commands that only talk to an origin: what they show it may also stand in the section `mount` of the file, as for
 * the mounts of this host; all else is a flag or a variable.
 */
export function resolveWithClient<S extends Settings>(
  settings: S,
  flags: Flags,
  environment: CommandEnvironment,
): ValuesOf<S> {
  const { env } = environment;
  const file = loadFile(flags, environment)?.layer('mount');
  const ofClient: Layer = (key, definition) => (key in clientSettings ? file?.(key, definition) : undefined);
  return resolveSettings(settings, [flagLayer(kebab(flags)), environmentLayer(env), ofClient]);
}

function loadFile(flags: Flags, { env, configFile }: CommandEnvironment): ConfigFile | undefined {
  const asked = typeof flags.config === 'string' ? flags.config : env.PERIGEE_CONFIG || undefined;
  return ConfigFile.load({ asked, usual: configFile }, sections);
}

/** commander knows `--cache-size` as cacheSize. */
function kebab(flags: Flags): Flags {
  return Object.fromEntries(
    Object.entries(flags).map(([name, value]) => [
      name.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`),
      value,
    ]),
  );
}
