/** What goes wrong in a simulated world, drawn from one generator: the only source of faults besides delay and the store. */
import type { Prng } from '../../lib/base/prng.ts';
import type { Direction } from './sim-network.ts';
import type { SimTime } from './sim-time.ts';

/** A satellite or a writer's machine, as faults see it. */
export interface Victim {
  readonly name: string;
  /** Nothing passes in these directions; none: all is well. */
  part(...directions: readonly Direction[]): void;
  cut(): void;
  /** SIGSTOP and SIGCONT of its process; satellites only. */
  stop?(): void;
  resume?(): void;
  /** SIGKILL and a new mount. */
  restart?(): void;
}

export interface NemesisOptions {
  readonly time: SimTime;
  readonly prng: Prng;
  readonly victims: readonly Victim[];
  readonly restartOrigin: () => void;
  readonly termMs: number;
  readonly trace: (text: string) => void;
}

type Fault = 'part' | 'flap' | 'cut' | 'stop' | 'restart' | 'origin';

const DIRECTIONS: readonly Direction[] = ['up', 'down'];
const FLAP_MS_MAX = 1_500;
/** How often each happens. */
const FAULTS: readonly Fault[] = ['part', 'flap', 'flap', 'cut', 'cut', 'stop', 'stop', 'restart', 'origin'];

export class Nemesis {
  readonly #options: NemesisOptions;
  /** Ends of faults that are going on. */
  readonly #ends = new Set<() => void>();
  #isOver = false;

  constructor(options: NemesisOptions) {
    this.#options = options;
  }

  /** @param everyMs the mean time between two faults */
  start(everyMs: number): void {
    const { time, prng } = this.#options;
    const again = (): void => {
      if (this.#isOver) return;
      this.#strike();
      time.after(2 * everyMs * prng.next(), again);
    };
    time.after(2 * everyMs * prng.next(), again);
  }

  /** No more faults; those that go on end now. */
  end(): void {
    this.#isOver = true;
    for (const end of [...this.#ends]) end();
  }

  #strike(): void {
    const { prng, victims, restartOrigin, termMs, trace } = this.#options;
    const fault = FAULTS[prng.below(FAULTS.length)] as Fault;
    const victim = victims[prng.below(victims.length)] as Victim;
    // Around one term is where it matters whether both sides count right.
    const forMs = prng.below(3) === 0 ? termMs * (0.9 + prng.next() * 0.4) : termMs * prng.next() * 2;
    switch (fault) {
      case 'part':
        trace(`${victim.name} is cut off for ${Math.round(forMs)} ms`);
        victim.part('up', 'down');
        return this.#endAfter(forMs, () => victim.part());
      case 'flap':
        trace(`the link of ${victim.name} flaps for ${Math.round(forMs)} ms`);
        return this.#flap(victim, forMs);
      case 'cut':
        trace(`connections of ${victim.name} break`);
        return victim.cut();
      case 'stop':
        if (victim.stop === undefined) return;
        trace(`${victim.name} is stopped for ${Math.round(forMs)} ms`);
        victim.stop();
        return this.#endAfter(forMs, () => victim.resume?.());
      case 'restart':
        if (victim.restart === undefined) return;
        trace(`${victim.name} is killed and starts again`);
        return victim.restart();
      case 'origin':
        trace('the origin is killed and starts again');
        return restartOrigin();
    }
  }

  /** Each direction comes and goes by itself. */
  #flap(victim: Victim, forMs: number): void {
    const { time, prng } = this.#options;
    let isOver = false;
    const again = (): void => {
      if (isOver) return;
      victim.part(...DIRECTIONS.filter(() => prng.below(3) > 0));
      time.after(prng.next() * FLAP_MS_MAX, again);
    };
    again();
    this.#endAfter(forMs, () => {
      isOver = true;
      victim.part();
    });
  }

  #endAfter(ms: number, run: () => void): void {
    const end = (): void => {
      if (this.#ends.delete(end)) run();
    };
    this.#ends.add(end);
    this.#options.time.after(ms, end);
  }
}
