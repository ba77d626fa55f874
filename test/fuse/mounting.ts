/** Starts mounts in processes of their own for tests, talks to them, and cleans up after them. */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';
import { SystemCalls, UnmountFlag } from '../../lib/fuse/device.ts';
import { needs, unmet } from '../support/requirements.ts';

export interface MountSettings {
  readonly driver: 'kernel' | 'portable';
  readonly mountpoint: string;
  readonly source?: string;
  readonly readOnly?: boolean;
  readonly allowOther?: boolean;
  readonly validForMs?: number;
  readonly passthrough?: boolean;
  /** The file system can be written to; `readOnly` is false then unless said otherwise. */
  readonly writable?: boolean;
}

export type MountCommand =
  | { readonly do: 'supersede' | 'replace'; readonly path: string; readonly content: string }
  | { readonly do: 'remove' | 'invalidate-attributes'; readonly path: string }
  | { readonly do: 'invalidate-entry'; readonly parent: string; readonly name: string }
  | { readonly do: 'passthrough'; readonly on: boolean }
  | { readonly do: 'unmount'; readonly deadlineMs: number }
  | {
      readonly do:
        | 'invalidate-all'
        | 'block-reads'
        | 'fail-reads'
        | 'refuse-reads'
        | 'state'
        | 'trace'
        | 'metrics'
        | 'crash'
        | 'exit';
    };

export interface MountState {
  readonly calls: Readonly<Record<string, number>>;
  readonly held: number;
  readonly nodes: number;
  readonly locks: number;
  readonly openFiles: number;
  readonly openDirectories: number;
  readonly passthrough: boolean;
}

/** False where mounts can be made; else why not. */
export function noMounts(driver: 'kernel' | 'portable' = 'kernel'): string | false {
  return unmet(needs.fuse, ...(driver === 'portable' ? [needs.libfuse2] : []));
}

/** A fresh empty directory; whatever is mounted there is detached at the end of the test. */
export function mountDirectory(t: Test): string {
  const mountpoint = mkdtempSync(join(tmpdir(), 'perigee-mount-'));
  t.teardown(async () => {
    const calls = new SystemCalls();
    for (let mounts = 0; mounts < 4; mounts++)
      await calls.unmount(mountpoint, UnmountFlag.DETACH).catch(() => undefined);
    if (existsSync(mountpoint)) rmdirSync(mountpoint);
  });
  return mountpoint;
}

type Message = { readonly id?: number; readonly event?: string } & Readonly<Record<string, unknown>>;

export class MountProcess {
  readonly mountpoint: string;
  readonly child: ChildProcess;
  readonly #seen: Message[] = [];
  #nextId = 1;

  constructor(settings: MountSettings) {
    this.mountpoint = settings.mountpoint;
    this.child = fork(join(import.meta.dirname, 'mount-process.ts'), [JSON.stringify(settings)], {
      env: { ...process.env, UV_THREADPOOL_SIZE: '8' },
      execArgv: [],
      stdio: ['ignore', 'ignore', process.env['MOUNT_DEBUG'] === undefined ? 'ignore' : 'inherit', 'ipc'],
    });
    this.child.on('message', (message) => this.#seen.push(message as Message));
    this.child.setMaxListeners(100);
  }

  /** The first message that fits, now or later. Rejects if the process ends before. */
  async message(fits: (message: Message) => boolean): Promise<Message> {
    for (;;) {
      const found = this.#seen.find(fits);
      if (found !== undefined) return found;
      if (this.child.exitCode !== null || this.child.signalCode !== null || !this.child.connected)
        throw new Error(`the mount process ended: ${JSON.stringify(this.#seen.at(-1))}`);
      await Promise.race([once(this.child, 'message'), once(this.child, 'disconnect')]);
    }
  }

  event(name: string): Promise<Message> {
    return this.message((message) => message.event === name);
  }

  async tell(command: MountCommand): Promise<unknown> {
    const id = this.#nextId++;
    this.child.send({ id, command });
    const answer = await this.message((message) => message.id === id);
    if (answer['error'] !== undefined) throw new Error(answer['error'] as string);
    return answer['value'];
  }

  state(): Promise<MountState> {
    return this.tell({ do: 'state' }) as Promise<MountState>;
  }

  /** The state once nothing is open or locked any more: the kernel releases a moment after the last close. */
  async idleState(): Promise<MountState> {
    const deadline = performance.now() + 10_000;
    let state = await this.state();
    while (state.openFiles + state.openDirectories + state.locks > 0 && performance.now() < deadline)
      state = await this.state();
    return state;
  }

  /** What the file system was asked since the last call, in order. */
  trace(): Promise<readonly string[]> {
    return this.tell({ do: 'trace' }) as Promise<readonly string[]>;
  }

  async exited(): Promise<{ readonly code: number | null; readonly signal: string | null }> {
    if (this.child.exitCode === null && this.child.signalCode === null) await once(this.child, 'exit');
    return { code: this.child.exitCode, signal: this.child.signalCode };
  }

  async kill(): Promise<void> {
    this.child.kill('SIGKILL');
    await this.exited();
  }
}

/** Mounts and waits until it answers; the process is gone at the end of the test. */
export async function startMount(
  t: Test,
  settings: Omit<MountSettings, 'mountpoint'> & { readonly mountpoint?: string },
): Promise<MountProcess> {
  const mountpoint = settings.mountpoint ?? mountDirectory(t);
  const mount = new MountProcess({ ...settings, mountpoint });
  t.teardown(() => mount.kill());
  await mount
    .message(({ event }) => event === 'mounted' || event === 'failed')
    .then((message) => {
      if (message.event === 'failed') throw Object.assign(new Error(String(message['message'])), message);
    });
  return mount;
}
