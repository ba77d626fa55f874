/**
 * One simulated world: an origin, satellites, writers and a bucket, with faults, from one seed. The same seed is the
 * same world, event for event.
 *
 * A run has three parts: the workload under faults; then the faults end and all that was begun must end too; then every
 * satellite reads every name once more. The history of it all must be linearizable, and nothing may be left over.
 */
import crypto from 'node:crypto';
import { syncBuiltinESMExports } from 'node:module';
import { type Prng, seededPrng } from '../../lib/base/prng.ts';
import type { LeaseTiming } from '../../lib/lease/lease.ts';
import { createMetrics } from '../../lib/telemetry/metrics.ts';
import { checkLinearizable } from '../history/linearizability.ts';
import { reportOf, type TraceLine } from '../history/report.ts';
import { Nemesis, type Victim } from './nemesis.ts';
import { directoryValue, Recorder } from './recorder.ts';
import { SimOrigin } from './sim-origin.ts';
import { DIRECTORIES, Outsider, type Program, Reader, type World, Writer } from './sim-programs.ts';
import { SimSatellite } from './sim-satellite.ts';
import { SimBucket } from './sim-store.ts';
import { SimTime } from './sim-time.ts';
import { SimTool } from './sim-tool.ts';

export const TIMING: LeaseTiming = { termMs: 4_000, heartbeatMs: 1_000, clockRateError: 0.1 };
const WORK_MS = 25_000;
const THINK_MS = 150;
const FAULT_EVERY_MS = 2_500;
/** Any operation ends within this time after the faults have ended: two terms, and the deadlines of calls. */
const SETTLE_MS = 60_000;
const STORE_FAILURES_SHARE = 0.005;
const READERS_PER_SATELLITE = 2;
const WRITERS = 2;

export interface SimulationOptions {
  readonly isTraced?: boolean;
  /** Directories are renamed; default true. */
  readonly movesDirectories?: boolean;
}

export interface SimulationResult {
  readonly seed: number;
  readonly events: number;
  readonly operations: number;
  /** Empty if all is well. */
  readonly problems: readonly string[];
  readonly trace: readonly TraceLine[];
  /** What the run exercised. */
  readonly counts: Readonly<Record<string, number>>;
}

export async function simulate(seed: number, options: SimulationOptions = {}): Promise<SimulationResult> {
  const restore = seedIdentities(seed);
  const simulation = new Simulation(seed, options);
  try {
    return await simulation.run();
  } finally {
    simulation.end();
    restore();
  }
}

/** Identities are the system's randomness (lib/base/prng.ts); here they follow from the seed, and so do rows in their order. */
function seedIdentities(seed: number): () => void {
  const prng = seededPrng(seed);
  const { randomBytes } = crypto;
  const seeded = (bytes: number): Buffer => Buffer.from(Array.from({ length: bytes }, () => prng.below(256)));
  const use = (source: unknown): void => {
    Object.assign(crypto, { randomBytes: source });
    syncBuiltinESMExports();
  };
  use(seeded);
  return () => use(randomBytes);
}

class Simulation {
  readonly #seed: number;
  readonly #options: SimulationOptions;
  readonly #time = new SimTime();
  readonly #root: Prng;
  readonly #trace: TraceLine[] = [];
  readonly #problems: string[] = [];
  readonly #recorder = new Recorder(() => this.#time.nowMs);
  readonly #bucket = new SimBucket();
  readonly #origin: SimOrigin;
  readonly #satellites: SimSatellite[] = [];
  readonly #tools: SimTool[] = [];

  constructor(seed: number, options: SimulationOptions) {
    this.#seed = seed;
    this.#options = options;
    this.#root = seededPrng(seed);
    const shared = {
      time: this.#time,
      timing: TIMING,
      trace: (text: string, about?: readonly string[]) => {
        if (options.isTraced) this.#trace.push({ atMs: this.#time.nowMs, text, ...(about && { about }) });
      },
      isTraced: options.isTraced ?? false,
      metrics: createMetrics(),
      problem: (text: string) => this.#problem(text),
    };
    for (const directory of DIRECTORIES) this.#bucket.fill({ [`${directory}/`]: '' });
    this.#origin = new SimOrigin({
      ...shared,
      prng: this.#prng(),
      bucket: this.#bucket,
      recorder: this.#recorder,
    });
    const satellites = 2 + this.#root.below(3);
    for (let at = 0; at < satellites; at++) {
      const name = `satellite-${at}`;
      this.#satellites.push(
        new SimSatellite({
          ...shared,
          name,
          prng: this.#prng(),
          bucket: this.#bucket,
          origin: this.#origin,
        }),
      );
    }
    for (let at = 0; at < WRITERS + 1; at++) {
      const name = at === WRITERS ? 'outsider' : `writer-${at}`;
      this.#tools.push(
        new SimTool({
          ...shared,
          name,
          prng: this.#prng(),
          bucket: this.#bucket,
          origin: this.#origin,
        }),
      );
    }
  }

  async run(): Promise<SimulationResult> {
    await this.#origin.start();
    const directories = await this.#within(this.#initially());
    for (const satellite of this.#satellites) satellite.start();
    const programs = this.#programs(directories);
    const nemesis = new Nemesis({
      time: this.#time,
      prng: this.#prng(),
      victims: this.#victims(),
      restartOrigin: () => void this.#origin.restart(),
      termMs: TIMING.termMs,
      trace: (text) => this.#trace.push({ atMs: this.#time.nowMs, text }),
    });
    // One world in eight has no faults but delay: there nothing may fail at all.
    const isCalm = this.#root.below(8) === 0;
    if (!isCalm) this.#bucket.failuresShare = STORE_FAILURES_SHARE;
    if (!isCalm) nemesis.start(FAULT_EVERY_MS * (0.5 + this.#root.next()));
    let left = programs.length;
    const ended = (): void => {
      left -= 1;
    };
    for (const program of programs) {
      const thinkMs = THINK_MS * (0.3 + 2 * this.#root.next());
      program.run(WORK_MS, thinkMs).then(ended, (error: unknown) => {
        ended();
        this.#problem(`${program.name}: ${String(error instanceof Error ? error.stack : error)}`);
      });
    }
    await this.#time.run(WORK_MS);
    nemesis.end();
    this.#bucket.failuresShare = 0;
    await this.#time.run(WORK_MS + SETTLE_MS, () => left === 0);
    if (left > 0) {
      const busy = programs.filter(({ isBusy }) => isBusy).map(({ name }) => name);
      this.#problem(`never ended: ${busy.join(', ')}`);
    }
    await this.#readAll(programs);
    // Queues drain, background work ends.
    await this.#time.run(this.#time.nowMs + SETTLE_MS);
    this.#problems.push(...this.#leftOver());
    return this.#result(programs);
  }

  /** Lets the world go on until something has come about. */
  async #within<T>(work: Promise<T>): Promise<T> {
    let isDone = false;
    const done = (): void => {
      isDone = true;
    };
    work.then(done, done);
    await this.#time.run(SETTLE_MS, () => isDone);
    return work;
  }

  /** Gives the index and the database file back. */
  end(): void {
    this.#origin.end();
  }

  /** What is there before anybody comes: directories, with their inodes. */
  async #initially(): Promise<ReadonlyMap<string, number>> {
    const directories = new Map<string, number>();
    for (const name of DIRECTORIES) {
      const inode = await this.#origin.inodeOf(name);
      this.#recorder.history.initially(`1/${name}`, directoryValue(inode));
      directories.set(name, inode);
    }
    return directories;
  }

  #programs(directories: ReadonlyMap<string, number>): Program[] {
    let bytes = 1;
    const world = (tool: SimTool): World => ({
      time: this.#time,
      recorder: this.#recorder,
      bucket: this.#bucket,
      nextBytes: () => ++bytes,
      changes: tool,
      movesDirectories: this.#options.movesDirectories ?? true,
    });
    const [first] = this.#tools as [SimTool];
    const readers = this.#satellites.flatMap((satellite) =>
      Array.from({ length: READERS_PER_SATELLITE }, (_, at) => {
        const name = `${satellite.name}.${at}`;
        return new Reader({ name, world: world(first), prng: this.#prng(), mount: () => satellite.mount });
      }),
    );
    const others = this.#tools.map((tool) => {
      const own = { name: tool.name, world: world(tool), prng: this.#prng() };
      return tool.name === 'outsider' ? new Outsider({ ...own, directories }) : new Writer(own);
    });
    return [...readers, ...others];
  }

  #victims(): Victim[] {
    const linked = (one: SimSatellite | SimTool): Victim => ({
      name: one.name,
      part: (...directions) => one.link.part(...directions),
      cut: () => one.link.cut(),
    });
    return [
      ...this.#satellites.map((satellite) => ({
        ...linked(satellite),
        stop: () => satellite.stop(),
        resume: () => satellite.resume(),
        restart: () => satellite.restart(),
      })),
      ...this.#tools.map(linked),
    ];
  }

  async #readAll(programs: readonly Program[]): Promise<void> {
    let left = 0;
    for (const program of programs) {
      if (!(program instanceof Reader)) continue;
      left += 1;
      program.readAll().then(
        () => (left -= 1),
        (error: unknown) => this.#problem(`${program.name} in the end: ${String(error)}`),
      );
    }
    await this.#time.run(this.#time.nowMs + SETTLE_MS, () => left === 0);
    if (left > 0) this.#problem(`${left} readers do not come to the end`);
  }

  /** Every queue drains, every gauge returns to zero. */
  #leftOver(): string[] {
    const open = {
      ...this.#origin.open(),
      ...Object.assign({}, ...this.#satellites.map((one) => one.open())),
    };
    return Object.entries(open as Record<string, number>)
      .filter(([, count]) => count !== 0)
      .map(([what, count]) => `left over: ${count} of ${what}`);
  }

  #result(programs: readonly Program[]): SimulationResult {
    const operations = this.#recorder.operations();
    const report = reportOf(checkLinearizable(operations), this.#trace);
    if (report !== '') this.#problems.push(report);
    const counts: Record<string, number> = {};
    const add = (what: string, by: number): void => {
      counts[what] = (counts[what] ?? 0) + by;
    };
    for (const satellite of this.#satellites) {
      for (const [what, by] of Object.entries(satellite.counts)) add(what, by);
    }
    for (const program of programs) {
      for (const [what, by] of program.failures) add(`failed: ${what}`, by);
    }
    return {
      seed: this.#seed,
      events: this.#time.events,
      operations: operations.length,
      problems: this.#problems,
      trace: this.#trace,
      counts,
    };
  }

  #problem(text: string): void {
    this.#problems.push(`${this.#time.nowMs.toFixed(1)} ms: ${text}`);
  }

  /** A generator of its own for each part, so that one more draw here changes nothing there. */
  #prng(): Prng {
    return seededPrng(this.#root.below(2 ** 32));
  }
}
