/**
 * The real thing under the checker of the simulator: two mounts of one origin, two writers, and everything that goes
 * wrong on purpose, for PERIGEE_CONSISTENCY_SECONDS (20 by default).
 *
 * Semantics 1: "A name operation takes effect at one instant between call and return, for every satellite of the export."
 * Semantics 4: "A reader never receives bytes that belong to no committed version of the file, whatever fails."
 */
import { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { type Prng, seededPrng } from '../../lib/base/prng.ts';
import type { ExportChanges } from '../../lib/cli/runtime.ts';
import { openChanges } from '../../lib/daemon/export-changes.ts';
import { RpcError } from '../../lib/rpc/rpc-errors.ts';
import { type LinkProxy, startLinkProxy } from '../faults/link-proxy.ts';
import { type Effect, History } from '../history/history.ts';
import { checkLinearizable } from '../history/linearizability.ts';
import { reportOf, type TraceLine } from '../history/report.ts';
import { needs, unmet } from '../support/requirements.ts';
import { type MountedSystem, System } from '../support/system.ts';
import { ProbedMount } from './probed-mount.ts';
import { contentOf, type Probed } from './prober.ts';

const skip = unmet(needs.fuse);
const seconds = Number(process.env['PERIGEE_CONSISTENCY_SECONDS'] ?? 20);
const seed = Number(process.env['PERIGEE_CONSISTENCY_SEED'] ?? 1);
const TERM_MS = 2_000;
/** What the machine, which has other things to do, adds to a term. */
const MARGIN_MS = 5_000;
const DIRECTORIES = ['d0', 'd1'];
const NAMES = DIRECTORIES.flatMap((directory) => ['f0', 'f1', 'f2'].map((file) => `${directory}/${file}`));
const READERS_PER_MOUNT = 3;
/** Longer than any call may wait; one that does not return by then is left behind. */
const PROBE_MS = 30_000;
/** What a program may be told of a mount that is cut off, stopped or killed. */
const ERRNOS = ['ETIMEDOUT', 'ENOTCONN', 'ECONNABORTED', 'EINTR', 'ESTALE', 'EIO'];
/** Answers after which it is certain that nothing has changed. */
const REFUSALS = ['not-found', 'not-directory', 'invalid', 'exists', 'is-directory', 'not-empty'];

interface Stage {
  readonly system: System;
  readonly url: string;
  readonly changes: ExportChanges;
  readonly mounts: readonly ProbedMount[];
  readonly links: readonly LinkProxy[];
  /** Mounts again what was killed. */
  remount(at: number): Promise<void>;
}

async function setStage(t: Test): Promise<Stage> {
  const system = await System.start(t, { originFlags: async () => ['--lease-term', `${TERM_MS}ms`] });
  const { address } = system;
  const url = `file://${system.objects}`;
  const changes = openChanges({ origin: address, exportName: 'data', credentials: {} });
  const links: LinkProxy[] = [];
  const mounts: ProbedMount[] = [];
  const mount = async (at: number): Promise<MountedSystem> => {
    system.address = links[at]?.address ?? '';
    const mounted = await system.mount({ name: `m${at}`, flags: ['--partition-wait', '3s'] });
    system.address = address;
    return mounted;
  };
  system.onEnd(async () => {
    await Promise.all([
      ...mounts.map((one) => one.end()),
      ...links.map((link) => link.close()),
      changes.close(),
    ]);
  });
  for (const at of [0, 1]) {
    links.push(await startLinkProxy(address));
    mounts.push(new ProbedMount(`mount-${at}`, await mount(at)));
  }
  return { system, url, changes, links, mounts, remount: async (at) => mounts[at]?.replace(await mount(at)) };
}

function put(changes: ExportChanges, path: string, bytes: number): Promise<unknown> {
  return changes.put(path, {
    attributes: {},
    content: Readable.from([contentOf(bytes)]),
    onSent: () => undefined,
  });
}

t.test(
  'a stopped mount delays a change by a term, and never shows what was before it',
  { skip },
  async (t) => {
    const { changes, mounts } = await setStage(t);
    const [a, b] = mounts as [ProbedMount, ProbedMount];
    await put(changes, 'd0/f0', 100);
    for (const mount of mounts) t.same(await mount.probe('read', 'd0/f0'), { kind: 'file', bytes: 100 });
    a.signal('SIGSTOP');
    const startedMs = performance.now();
    await put(changes, 'd0/f0', 200);
    const tookMs = performance.now() - startedMs;
    t.ok(tookMs < TERM_MS + MARGIN_MS, `the commit took ${tookMs.toFixed(0)} ms`);
    t.same(await b.probe('read', 'd0/f0'), { kind: 'file', bytes: 200 });
    // None returns while the process is stopped; what they return in the end is the new version.
    const kinds = ['stat', 'read', 'stat', 'read'] as const;
    const whileStopped = kinds.map((kind) => a.probe(kind, 'd0/f0'));
    await Promise.race([Promise.all(whileStopped), sleep(1_000)]);
    a.signal('SIGCONT');
    for (const probed of await Promise.all(whileStopped)) t.same(probed, { kind: 'file', bytes: 200 });
    t.same(await a.probe('read', 'd0/f0'), { kind: 'file', bytes: 200 });
  },
);

t.test(
  `histories of ${seconds} s are linearizable`,
  { skip, timeout: (seconds + 240) * 1_000 },
  async (t) => {
    t.comment(`PERIGEE_CONSISTENCY_SEED=${seed}`);
    const stage = await setStage(t);
    const run = new Consistency(stage, seededPrng(seed));
    await run.all(performance.now() + seconds * 1_000);
    const { operations } = run.history;
    const verdict = checkLinearizable(operations);
    if (verdict.violations.length > 0) t.comment(reportOf(verdict, run.trace));
    t.equal(verdict.violations.length, 0, `${operations.length} operations, ${run.trace.length} faults`);
    t.same(run.torn, []);
    t.same(run.strangeErrnos, []);
    if (verdict.undecided.length > 0) t.comment(reportOf({ ...verdict, violations: [] }));
    t.ok(operations.length > seconds, 'something happened');
  },
);

class Consistency {
  readonly history: History;
  readonly trace: TraceLine[] = [];
  readonly torn: string[] = [];
  readonly strangeErrnos: string[] = [];
  readonly #stage: Stage;
  readonly #prng: Prng;
  readonly #startedMs = performance.now();
  #bytes = 10;

  constructor(stage: Stage, prng: Prng) {
    this.#stage = stage;
    this.#prng = prng;
    this.history = new History(() => this.#nowMs());
  }

  async all(untilMs: number): Promise<void> {
    const { mounts } = this.#stage;
    const readers = mounts.flatMap((mount) =>
      Array.from({ length: READERS_PER_MOUNT }, () => this.#loop(untilMs, () => this.#read(mount))),
    );
    const writers = [0, 1].map((at) => this.#loop(untilMs, () => this.#write(`writer-${at}`)));
    await this.#loop(untilMs, () => this.#fault());
    await Promise.all([...readers, ...writers]);
    for (const mount of mounts) for (const name of NAMES) await this.#look(mount, 'read', name);
  }

  async #loop(untilMs: number, act: () => Promise<void>): Promise<void> {
    while (performance.now() < untilMs) {
      await sleep(this.#prng.next() * 100);
      await act();
    }
  }

  async #read(mount: ProbedMount): Promise<void> {
    if (this.#prng.below(6) === 0) return this.#list(mount, this.#pick(DIRECTORIES));
    return this.#look(mount, this.#prng.below(2) === 0 ? 'stat' : 'read', this.#pick(NAMES));
  }

  async #look(mount: ProbedMount, kind: 'stat' | 'read', name: string): Promise<void> {
    const begun = this.history.begin(mount.name, `${kind} ${name}`);
    const { life } = mount;
    const probed = await mount.probeWithin(kind, name, PROBE_MS);
    if (life === undefined || life !== mount.life) return;
    if (probed === undefined || this.#isFailure(probed, `${mount.name} ${kind} ${name}`)) return;
    begun.ok({ kind: 'read', name, value: probed.kind === 'file' ? `v${probed.bytes}` : undefined });
  }

  /** Says nothing of versions: only absences count. */
  async #list(mount: ProbedMount, directory: string): Promise<void> {
    const begun = this.history.begin(mount.name, `list ${directory}`);
    const { life } = mount;
    const probed = await mount.probeWithin('list', directory, PROBE_MS);
    if (life === undefined || life !== mount.life || probed?.kind !== 'directory') return;
    const absent = NAMES.filter(
      (name) => name.startsWith(directory) && !probed.names.includes(name.slice(directory.length + 1)),
    );
    begun.ok(...absent.map((name): Effect => ({ kind: 'read', name, value: undefined })));
  }

  #isFailure(probed: Probed, what: string): boolean {
    if (probed.kind === 'torn') this.torn.push(`${what}: ${probed.text}`);
    if (probed.kind === 'failed' && !ERRNOS.includes(probed.code))
      this.strangeErrnos.push(`${what}: ${probed.code}`);
    return probed.kind === 'torn' || probed.kind === 'failed';
  }

  async #write(client: string): Promise<void> {
    const { changes } = this.#stage;
    const name = this.#pick(NAMES);
    const kind = this.#prng.below(8);
    if (kind < 5) {
      const bytes = ++this.#bytes;
      const effect = { kind: 'write', name, value: `v${bytes}` } as const;
      return this.#change(client, `put ${name}`, effect, () => put(changes, name, bytes));
    }
    if (kind === 5) {
      const effect = { kind: 'write', name, value: undefined } as const;
      return this.#change(client, `rm ${name}`, effect, () => changes.remove(name, { recursive: false }));
    }
    const to = this.#pick(NAMES);
    if (to === name) return;
    const effect = { kind: 'move', from: name, to, value: undefined } as const;
    return this.#change(client, `mv ${name} ${to}`, effect, () =>
      changes.rename(name, to, { noReplace: false }),
    );
  }

  async #change(client: string, text: string, effect: Effect, run: () => Promise<unknown>): Promise<void> {
    const begun = this.history.begin(client, text);
    try {
      await run();
      begun.ok(effect);
    } catch (error) {
      const isRefused = error instanceof RpcError && REFUSALS.includes(error.code);
      if (!isRefused) begun.unknown(effect);
    }
  }

  async #fault(): Promise<void> {
    const { mounts, links, system, url } = this.#stage;
    const at = this.#prng.below(mounts.length);
    const [mount, link] = [mounts[at] as ProbedMount, links[at] as LinkProxy];
    const forMs = TERM_MS * (0.3 + this.#prng.next() * 1.2);
    await sleep(this.#prng.next() * TERM_MS);
    switch (this.#prng.below(6)) {
      case 0:
      case 1:
        this.#note(`${mount.name} is stopped for ${forMs.toFixed(0)} ms`);
        mount.signal('SIGSTOP');
        await sleep(forMs);
        return mount.signal('SIGCONT');
      case 2:
        this.#note(`the connections of ${mount.name} break`);
        return link.cut();
      case 3:
        this.#note(`${mount.name} is cut off for ${forMs.toFixed(0)} ms`);
        link.part();
        await sleep(forMs);
        return link.heal();
      case 4: {
        this.#note(`${mount.name} is killed and mounted again`);
        await mount.kill();
        return this.#stage.remount(at);
      }
      default: {
        this.#note('the origin is killed and starts again');
        const port = Number(system.address.split(':')[1]);
        await system.stopOrigin('SIGKILL');
        return system.startOrigin(url, port);
      }
    }
  }

  #note(text: string): void {
    this.trace.push({ atMs: this.#nowMs(), text });
  }

  #nowMs(): number {
    return performance.now() - this.#startedMs;
  }

  #pick<T>(from: readonly T[]): T {
    return from[this.#prng.below(from.length)] as T;
  }
}
