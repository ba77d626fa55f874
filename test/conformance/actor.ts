/**
 * Another process for checks that need one: locks between processes, other users, a working directory that goes away.
 * It makes the system calls that it is told, and fails as they fail. Run as a program it is the process itself.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import * as fs from 'node:fs/promises';
import * as posix from './posix.ts';

const opened = new Set<number>();

/** Calls that take and give plain data. */
const calls = {
  access: posix.accessAsIs,
  chmod: (path: string, mode: number) => fs.chmod(path, mode),
  chown: (path: string, uid: number, gid: number) => fs.chown(path, uid, gid),
  close: (fd: number) => {
    opened.delete(fd);
    return posix.closeRaw(fd);
  },
  flock: posix.flock,
  lock: posix.lock,
  mkdir: async (path: string, mode: number) => void (await fs.mkdir(path, mode)),
  open: async (path: string, flags: number, mode: number) => {
    const fd = await posix.openRaw(path, flags, mode);
    opened.add(fd);
    return fd;
  },
  read: posix.readRaw,
  readdir: (path: string) => fs.readdir(path),
  rename: (from: string, to: string) => fs.rename(from, to),
  rmdir: (path: string) => fs.rmdir(path),
  setTimes: posix.setTimes,
  truncate: (path: string, size: number) => fs.truncate(path, size),
  unlink: (path: string) => fs.unlink(path),
  write: posix.writeRaw,
  chdir: async (path: string) => process.chdir(path),
  umask: async (mask: number) => process.umask(mask),
  /** From here on everything is done as this user, in these groups. */
  become: async (uid: number, groups: readonly [number, ...number[]]): Promise<void> => {
    process.seteuid?.(0);
    process.setgroups?.([...groups]);
    process.setegid?.(groups[0]);
    process.seteuid?.(uid);
  },
  /** Everything is as at the start. */
  reset: async (): Promise<void> => {
    await calls.become(0, [0]);
    process.umask(0o022);
    process.chdir('/');
    for (const fd of opened) await calls.close(fd);
  },
} as const;

type Calls = typeof calls;
type Message = {
  readonly id: number;
  readonly value?: unknown;
  readonly code?: string;
  readonly text?: string;
};

export class Actor {
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, (message: Message) => void>();
  #nextId = 1;

  private constructor(child: ChildProcess) {
    this.#child = child;
    child.on('message', (message: Message) => {
      this.#waiting.get(message.id)?.(message);
      this.#waiting.delete(message.id);
    });
    child.once('exit', () => {
      for (const [id, done] of this.#waiting) done({ id, code: 'EXITED', text: 'the process ended' });
    });
  }

  static async start(): Promise<Actor> {
    const child = fork(import.meta.filename, { execArgv: [], stdio: ['ignore', 'ignore', 'inherit', 'ipc'] });
    await once(child, 'message');
    return new Actor(child);
  }

  get isAlive(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** Fails with `code`, the name of the errno, or `EXITED`. */
  async do<K extends keyof Calls>(
    call: K,
    ...values: Parameters<Calls[K]>
  ): Promise<Awaited<ReturnType<Calls[K]>>> {
    const id = this.#nextId++;
    const answer = new Promise<Message>((resolve) => this.#waiting.set(id, resolve));
    this.#child.send({ id, call, values });
    const { value, code, text } = await answer;
    if (code !== undefined) throw Object.assign(new Error(text), { code });
    return value as Awaited<ReturnType<Calls[K]>>;
  }

  async kill(signal: 'SIGTERM' | 'SIGKILL' = 'SIGKILL'): Promise<void> {
    if (!this.isAlive) return;
    this.#child.kill(signal);
    await once(this.#child, 'exit');
  }
}

/** Processes that are used again by the next check: starting one takes longer than most checks. */
export class ActorPool {
  readonly #idle: Actor[] = [];

  async take(): Promise<Actor> {
    for (let idle = this.#idle.pop(); idle !== undefined; idle = this.#idle.pop())
      if (idle.isAlive) return idle;
    return Actor.start();
  }

  async giveBack(actor: Actor): Promise<void> {
    if (!actor.isAlive) return;
    await actor.do('reset');
    this.#idle.push(actor);
  }

  async end(): Promise<void> {
    await Promise.all(this.#idle.splice(0).map((actor) => actor.kill()));
  }
}

if (import.meta.main) {
  process.on('message', ({ id, call, values }: { id: number; call: keyof Calls; values: never[] }) => {
    const run = calls[call] as (...values: never[]) => Promise<unknown>;
    run(...values).then(
      (value) => process.send?.({ id, value }),
      (error: NodeJS.ErrnoException) => process.send?.({ id, code: error.code ?? '?', text: String(error) }),
    );
  });
  process.send?.({ id: 0 });
}
