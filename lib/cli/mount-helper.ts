/**
 * `mount.perigee SOURCE MOUNTPOINT [-sfnv] [-o options]`, as mount(8) calls it.
 *
 * Options of `-o` are the settings of a mount by key (`cache=/nvme/p,cache-size=1TiB,allow_other`); generic ones
 * that say nothing to a file system are passed over; what is unknown, or asks for what a mount cannot keep, is
 * refused. Exit codes are those of mount(8).
 */
import { describeError, hintOf, UsageError } from '../base/errors.ts';
import { mountSettings } from '../config/mount-settings.ts';
import { nearMiss } from '../config/near-miss.ts';
import { type CommandEnvironment } from './environment.ts';
import { countText, nameText } from './format.ts';
import { mountOptionsOf } from './mount-options.ts';
import { type Flags, resolveWithFile } from './options.ts';

/** mount(8), EXIT STATUS. */
const MOUNT_EXIT = { fine: 0, usage: 1, failed: 32 } as const;
type MountExitCode = (typeof MOUNT_EXIT)[keyof typeof MOUNT_EXIT];

/** Meant for mount(8) or systemd, or true of every mount of ours. */
const GENERIC =
  /^(auto|noauto|user|nouser|users|owner|group|defaults|nofail|_netdev|_rnetdev|nosuid|nodev|suid|dev|exec|async|(no|rel|strict)?atime|(no)?diratime|(no)?lazytime|(no)?iversion|silent|loud|comment=.*|[xX]-.*)$/;

/** What another tool calls it. */
const ALIASES: Readonly<Record<string, string>> = { ro: 'read-only' };

interface HelperWords {
  readonly source: string;
  readonly mountpoint: string;
  readonly options: readonly string[];
  /** -s: pass over what is unknown. */
  readonly sloppy: boolean;
  /** -f: do everything but mount. */
  readonly fake: boolean;
  /** -v: say what was done. */
  readonly verbose: boolean;
}

export async function runMountHelper(
  words: readonly string[],
  environment: CommandEnvironment,
): Promise<MountExitCode> {
  const { out, runtime, workingDirectory } = environment;
  try {
    const parsed = parseWords(words);
    const { source, mountpoint, fake, verbose } = parsed;
    const values = resolveWithFile('mount', flagsOf(parsed), environment);
    const options = mountOptionsOf({ source, mountpoint, workingDirectory }, values);
    if (fake) return MOUNT_EXIT.fine;
    const { pid } = await runtime.mountBackground(options);
    if (verbose)
      out.line(`mount.perigee: ${source} mounted on ${nameText(options.mountpoint)} (process ${pid})`);
    return MOUNT_EXIT.fine;
  } catch (error) {
    out.note(`mount.perigee: ${describeError(error)}`);
    const hint = hintOf(error);
    if (hint !== undefined) out.note(`hint: ${hint}`);
    return error instanceof UsageError ? MOUNT_EXIT.usage : MOUNT_EXIT.failed;
  }
}

/** mount(8) puts the two names first and joins short flags (`-sfnv`); people may write them anywhere. */
function parseWords(words: readonly string[]): HelperWords {
  const names: string[] = [];
  const options: string[] = [];
  const letters = new Set<string>();
  for (let i = 0; i < words.length; i++) {
    const word = words[i] ?? '';
    if (/^-[oNt]$/.test(word)) {
      const value = words[++i];
      if (value === undefined) throw usage(`${word} has no value`);
      if (word === '-o') options.push(...value.split(',').filter(Boolean));
    } else if (/^-[sfnv]+$/.test(word)) {
      for (const letter of word.slice(1)) letters.add(letter);
    } else if (/^-./.test(word)) {
      throw usage(`unknown option ${word}`);
    } else {
      names.push(word);
    }
  }
  const [source, mountpoint, ...more] = names;
  if (source === undefined || mountpoint === undefined || more.length > 0) {
    throw usage(`expected a source and a mount point, got ${countText(names.length, 'name')}`);
  }
  const has = (letter: string): boolean => letters.has(letter);
  return { source, mountpoint, options, sloppy: has('s'), fake: has('f'), verbose: has('v') };
}

function usage(message: string): UsageError {
  return new UsageError(message, {
    hint: 'mount.perigee ORIGIN/EXPORT MOUNTPOINT [-sfnv] [-o cache=DIRECTORY,cache-size=SIZE,…]',
  });
}

/** The options as the flags of `perigee mount`; a repeated label is a list. */
function flagsOf({ options, sloppy }: HelperWords): Flags {
  const flags: Record<string, unknown> = {};
  for (const option of options) {
    if (GENERIC.test(option)) continue;
    if (option === 'rw') {
      // mount(8) says so whenever nobody said `ro`: it takes that back, and no more.
      delete flags['read-only'];
      continue;
    }
    const at = option.indexOf('=');
    const written = at < 0 ? option : option.slice(0, at);
    const value = at < 0 ? true : option.slice(at + 1);
    const name = ALIASES[written] ?? written.replaceAll('_', '-');
    const definition = Object.entries(mountSettings).find(
      ([key, candidate]) => key === name || ('flag' in candidate && candidate.flag === name),
    );
    if (definition === undefined && name !== 'config') {
      if (sloppy) continue;
      throw unknownOption(written);
    }
    if (value === true && definition?.[1].placeholder !== undefined) {
      throw usage(`the option ${written} has no value`);
    }
    if (name === 'label' || name === 'labels') {
      flags.label = [...((flags.label as string[] | undefined) ?? []), value];
    } else {
      flags[name] = value;
    }
  }
  return flags;
}

function unknownOption(written: string): UsageError {
  const asksTooMuch: Readonly<Record<string, string>> = {
    noexec: 'mounts do not keep programs from running; with user or users in fstab add exec',
    remount: 'unmount and mount again to change options; the cache is kept',
  };
  const meant = nearMiss(written, [...Object.keys(mountSettings), 'label', 'allow_other']);
  return new UsageError(
    `the option ${JSON.stringify(written)} is ${written in asksTooMuch ? 'not supported' : 'unknown'}`,
    {
      hint:
        asksTooMuch[written] ??
        (meant === undefined
          ? `known are ${Object.keys(mountSettings).join(', ')}`
          : `did you mean ${meant}?`),
    },
  );
}
