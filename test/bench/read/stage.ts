/**
 * Where a benchmark plays: a working directory on the real disk, child processes, mounts, dropped caches.
 *
 * Guarantees: whatever was started through it is ended, unmounted and removed by `close`, in reverse order, also
 * when a measure failed or the run was interrupted.
 */
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { once } from 'node:events';

export const REPOSITORY = path.resolve(import.meta.dirname, '../../..');
const COMMAND_MS_MAX = 600_000;
const END_MS_MAX = 15_000;

export interface StageOptions {
  readonly directory: string | undefined;
  readonly runs: number;
  readonly isQuick: boolean;
  readonly tell: (line: string) => void;
}

/** Plays on a stage of its own, which is closed at the end, and when the run is interrupted. */
export async function onStage<T>(
  options: { readonly dir: string | undefined; readonly runs: number; readonly quick: boolean },
  play: (stage: Stage) => Promise<T>,
): Promise<T> {
  const stage = new Stage({
    directory: options.dir,
    runs: options.runs,
    isQuick: options.quick,
    tell: (line) => console.error(`# ${line}`),
  });
  const interrupted = (): void => void stage.close().then(() => process.exit(130));
  process.once('SIGINT', interrupted);
  process.once('SIGTERM', interrupted);
  try {
    return await play(stage);
  } finally {
    process.removeListener('SIGINT', interrupted);
    process.removeListener('SIGTERM', interrupted);
    await stage.close();
  }
}

export class Stage {
  readonly directory: string;
  readonly runs: number;
  readonly isQuick: boolean;
  readonly tell: (line: string) => void;
  /** Exact commands that were run, for whoever wants to repeat a figure. */
  readonly commands = new Set<string>();
  readonly #cleanups: { readonly what: string; readonly run: () => Promise<void> | void }[] = [];

  constructor(options: StageOptions) {
    this.directory = fs.mkdtempSync(path.join(options.directory ?? os.tmpdir(), 'perigee-bench-'));
    this.runs = options.runs;
    this.isQuick = options.isQuick;
    this.tell = options.tell;
    this.atEnd('working directory', () =>
      fs.rmSync(this.directory, { recursive: true, force: true, maxRetries: 5 }),
    );
  }

  atEnd(what: string, run: () => Promise<void> | void): void {
    this.#cleanups.push({ what, run });
  }

  async close(): Promise<void> {
    for (let cleanup = this.#cleanups.pop(); cleanup !== undefined; cleanup = this.#cleanups.pop()) {
      try {
        await cleanup.run();
      } catch (error) {
        this.tell(`could not clean up ${cleanup.what}: ${String(error)}`);
      }
    }
  }

  /** A new empty directory. */
  place(name: string): string {
    const place = path.join(this.directory, name);
    fs.rmSync(place, { recursive: true, force: true });
    fs.mkdirSync(place, { recursive: true });
    return place;
  }

  /** Runs a command to its end and returns its standard output. */
  run(
    command: string,
    args: readonly string[],
    options: { readonly env?: Readonly<Record<string, string | undefined>> } = {},
  ): Promise<string> {
    const env = { ...process.env, ...options.env };
    const limits = { timeout: COMMAND_MS_MAX, maxBuffer: 64 * 1024 * 1024 };
    return new Promise((resolve, reject) => {
      execFile(command, args, { env, ...limits }, (error, stdout, stderr) => {
        if (error) reject(new Error(`${command} ${args.join(' ')}: ${stderr || stdout}`, { cause: error }));
        else resolve(stdout);
      });
    });
  }

  /** Starts a process that is ended with the stage, or by the returned function. */
  start(
    command: string,
    args: readonly string[],
    options: { readonly env?: Readonly<Record<string, string | undefined>> } = {},
  ): { readonly child: ChildProcess; readonly end: () => Promise<void> } {
    const child = spawn(command, args, {
      env: { ...process.env, ...options.env },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const exited = once(child, 'exit').catch(() => undefined);
    const end = async (): Promise<void> => {
      if (child.exitCode !== null || child.signalCode !== null) return;
      child.kill('SIGTERM');
      const patience = setTimeout(() => child.kill('SIGKILL'), END_MS_MAX);
      await exited;
      clearTimeout(patience);
    };
    this.atEnd(command, end);
    return { child, end };
  }

  /** Page cache, dentries and inodes of everybody. */
  async dropCaches(): Promise<void> {
    await this.run('sync', []);
    fs.writeFileSync('/proc/sys/vm/drop_caches', '3');
  }
}

/** Polls until the condition holds. */
export async function until(
  what: string,
  condition: () => Promise<boolean> | boolean,
  deadlineMs = 120_000,
): Promise<void> {
  for (const end = Date.now() + deadlineMs; !(await condition());) {
    if (Date.now() > end) throw new Error(`${what}: not within ${deadlineMs} ms`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

export function isMounted(mountpoint: string): boolean {
  return fs.readFileSync('/proc/self/mounts', 'utf8').includes(` ${mountpoint} `);
}

export function hasCommand(command: string): boolean {
  return (process.env.PATH ?? '').split(':').some((folder) => fs.existsSync(path.join(folder, command)));
}

/** What figures depend on. */
export function machineLine(directory: string): string {
  const cpus = os.cpus();
  const mounts = fs.readFileSync('/proc/self/mounts', 'utf8').split('\n');
  const home = mounts
    .map((line) => line.split(' '))
    .filter(
      ([, place]) => place !== undefined && `${directory}/`.startsWith(place === '/' ? '/' : `${place}/`),
    )
    .sort((a, b) => b[1]!.length - a[1]!.length)[0];
  const gib = Math.round(os.totalmem() / 1024 ** 3);
  return `${cpus.length} x ${cpus[0]?.model ?? 'CPU'}, ${gib} GiB, Linux ${os.release()}, ${home?.[2] ?? '?'} on ${home?.[0] ?? '?'}, Node ${process.versions.node}`;
}
