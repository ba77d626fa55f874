/**
 * One mount and the process that looks at it. What the process has not answered is unknown and may be answered late;
 * asking never blocks the test.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { MountedSystem } from '../support/system.ts';
import type { ProbeAnswer, Probed, ProbeKind, ProbeRequest } from './prober.ts';

/** Calls that hang in a stopped mount each hold a thread of the prober. */
const PROBER_THREADS = '128';

export class ProbedMount {
  readonly name: string;
  #mount: MountedSystem;
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, (probed: Probed) => void>();
  #lastId = 0;
  #life = 0;
  #isDead = false;

  constructor(name: string, mount: MountedSystem) {
    this.name = name;
    this.#mount = mount;
    this.#child = fork(path.join(import.meta.dirname, 'prober.ts'), {
      env: { ...process.env, UV_THREADPOOL_SIZE: PROBER_THREADS },
    });
    this.#child.on('message', ({ id, probed }: ProbeAnswer) => {
      this.#waiting.get(id)?.(probed);
      this.#waiting.delete(id);
    });
  }

  get mount(): MountedSystem {
    return this.#mount;
  }

  /**
   * Another number for each life of the satellite; undefined while it is dead. Where nothing is mounted everything is
   * absent, so what was seen counts only if this is the same before and after.
   */
  get life(): number | undefined {
    return this.#isDead ? undefined : this.#life;
  }

  /** SIGKILL, until `replace`. */
  async kill(): Promise<void> {
    this.#isDead = true;
    await this.#mount.kill();
  }

  /** The satellite was mounted again at the same place. */
  replace(mount: MountedSystem): void {
    this.#mount = mount;
    this.#life += 1;
    this.#isDead = false;
  }

  /** Resolves when the call returns, perhaps never. */
  probe(kind: ProbeKind, relative: string): Promise<Probed> {
    const id = ++this.#lastId;
    const request: ProbeRequest = { id, kind, path: path.join(this.#mount.mountpoint, relative) };
    return new Promise((resolve) => {
      this.#waiting.set(id, resolve);
      this.#child.send(request);
    });
  }

  /** Undefined: no answer within the time. */
  async probeWithin(kind: ProbeKind, relative: string, ms: number): Promise<Probed | undefined> {
    return Promise.race([this.probe(kind, relative), sleep(ms, undefined, { ref: false })]);
  }

  signal(signal: NodeJS.Signals): void {
    process.kill(this.#mount.pid, signal);
  }

  async end(): Promise<void> {
    if (this.#child.exitCode !== null) return;
    const ended = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await ended;
  }
}
