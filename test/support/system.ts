/**
 * The product as its user has it: origin and mounts as processes of their own, driven through the command line.
 * Everything started here is ended and removed by the test's teardown.
 */
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { type Test } from 'tap';

const ROOT = path.resolve(import.meta.dirname, '../..');
const BIN = path.join(ROOT, 'bin/perigee.ts');

export interface Ran {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a command to its end; never throws for an exit code. */
export function run(
  command: string,
  args: readonly string[],
  options: { readonly timeoutMs?: number; readonly env?: NodeJS.ProcessEnv; readonly cwd?: string } = {},
): Promise<Ran> {
  return new Promise((resolve) => {
    execFile(
      command,
      [...args],
      {
        timeout: options.timeoutMs ?? 120_000,
        maxBuffer: 256 * 1024 * 1024,
        env: { ...process.env, ...options.env },
        ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
      },
      (error, stdout, stderr) => {
        const code = error === null ? 0 : typeof error.code === 'number' ? error.code : 255;
        resolve({ code, stdout, stderr });
      },
    );
  });
}

export interface MountedSystem {
  readonly mountpoint: string;
  readonly pid: number;
  status(): Promise<Record<string, never> & { readonly cache: Record<string, number> }>;
  /** SIGKILL; the mount stays behind, dead. */
  kill(): Promise<void>;
  unmount(): Promise<Ran>;
}

export class System {
  readonly directory: string;
  readonly objects: string;
  readonly env: NodeJS.ProcessEnv;
  #origin: ChildProcess | undefined;
  #originArgs: readonly string[] = [];
  address = '';
  originFlags: readonly string[] = [];
  readonly #mountpoints = new Set<string>();
  readonly #atEnd: (() => Promise<void>)[] = [];

  private constructor(env: NodeJS.ProcessEnv) {
    this.directory = fs.mkdtempSync(path.join(os.tmpdir(), 'perigee-e2e-'));
    this.objects = path.join(this.directory, 'objects');
    fs.mkdirSync(this.objects);
    this.env = { ...env, PERIGEE_RUN_DIR: path.join(this.directory, 'run') };
  }

  /** Makes the directories and starts an origin with one export, `data`, over `url` or a folder of its own. */
  static async start(
    t: Test,
    options: {
      readonly url?: string;
      readonly env?: NodeJS.ProcessEnv;
      /** Further flags of the origin, made before it starts. */
      readonly originFlags?: (system: System) => Promise<readonly string[]>;
    } = {},
  ): Promise<System> {
    const system = new System(options.env ?? {});
    t.teardown(() => system.end());
    system.originFlags = (await options.originFlags?.(system)) ?? [];
    await system.startOrigin(options.url ?? `file://${system.objects}`);
    return system;
  }

  async startOrigin(url: string, port = 0): Promise<void> {
    this.#originArgs = [
      BIN,
      'origin',
      '--data',
      path.join(this.directory, 'origin'),
      '--listen',
      `127.0.0.1:${port}`,
      '--export',
      `data=${url}`,
      ...this.originFlags,
    ];
    const child = spawn(process.execPath, this.#originArgs, {
      env: { ...process.env, ...this.env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#origin = child;
    const errors: string[] = [];
    child.stderr.on('data', (chunk: Buffer) => errors.push(chunk.toString()));
    for await (const line of createInterface({ input: child.stdout })) {
      const match = /(127\.0\.0\.1:\d+)/.exec(line);
      if (match?.[1] === undefined) continue;
      this.address = match[1];
      child.stdout.resume();
      return;
    }
    throw new Error(`the origin did not start: ${errors.join('')}`);
  }

  async stopOrigin(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    const child = this.#origin;
    this.#origin = undefined;
    if (child === undefined || child.exitCode !== null) return;
    const ended = once(child, 'exit');
    child.kill(signal);
    await ended;
  }

  cli(args: readonly string[], options: { readonly timeoutMs?: number } = {}): Promise<Ran> {
    return run(process.execPath, [BIN, ...args], { ...options, env: this.env });
  }

  /** `perigee mount` with a cache of this system's own, named by `name`, so that a second call finds the same cache. */
  async mount(
    options: {
      readonly name?: string;
      readonly cacheSize?: string;
      readonly cacheDirectory?: string;
      readonly flags?: readonly string[];
    } = {},
  ): Promise<MountedSystem> {
    const name = options.name ?? 'a';
    const mountpoint = path.join(this.directory, `mnt-${name}`);
    // A dead mount of an earlier call may still be there, and answers nothing.
    if (!this.#mountpoints.has(mountpoint)) fs.mkdirSync(mountpoint);
    this.#mountpoints.add(mountpoint);
    const cache = options.cacheDirectory ?? path.join(this.directory, `cache-${name}`);
    const ran = await this.cli([
      'mount',
      `${this.address}/data`,
      mountpoint,
      '--cache',
      cache,
      '--cache-size',
      options.cacheSize ?? '1GiB',
      ...(options.flags ?? []),
    ]);
    if (ran.code !== 0) throw new Error(`mount failed: ${ran.stderr}`);
    const status = async () => {
      const answer = await this.cli(['status', mountpoint, '--json']);
      if (answer.code !== 0) throw new Error(answer.stderr);
      return JSON.parse(answer.stdout);
    };
    const pid = Number(/process (\d+)/.exec(ran.stdout)?.[1]);
    return {
      mountpoint,
      pid,
      status,
      kill: () => killAndWait(pid),
      unmount: () => this.cli(['unmount', mountpoint]),
    };
  }

  /** Called when mounts and origin are gone, before the directory goes. */
  onEnd(run: () => Promise<void>): void {
    this.#atEnd.push(run);
  }

  async end(): Promise<void> {
    for (const mountpoint of this.#mountpoints) {
      const status = await this.cli(['status', mountpoint, '--json']);
      await this.cli(['unmount', mountpoint, '--force']);
      await run('umount', ['-l', mountpoint]);
      if (status.code === 0) await killAndWait((JSON.parse(status.stdout) as { pid: number }).pid);
    }
    await this.stopOrigin('SIGKILL');
    for (const run of this.#atEnd) await run();
    fs.rmSync(this.directory, { recursive: true, force: true });
  }
}

/** SIGKILL, and wait until the process is no more (it is not our child). */
async function killAndWait(pid: number): Promise<void> {
  try {
    process.kill(pid, 'SIGKILL');
    for (;;) {
      process.kill(pid, 0);
      if (/State:\s+Z/.test(fs.readFileSync(`/proc/${pid}/status`, 'utf8'))) return;
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  } catch {
    return;
  }
}
