/**
 * Simulates many worlds, in as many processes as are asked for: a world is one seed and shares nothing with another, so
 * it is the same in whichever process it runs. The processes end after the walk through the results, however it ends.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import type { SimulationOptions, SimulationResult } from './simulation.ts';
import type { WorldAnswer, WorldTask } from './world-process.ts';

export interface WorldsOptions extends SimulationOptions {
  readonly from: number;
  readonly seeds: number;
  readonly jobs: number;
}

/** In the order of seeds, each as soon as it and all before it are there. */
export async function* worlds({
  from,
  seeds,
  jobs,
  ...options
}: WorldsOptions): AsyncGenerator<SimulationResult> {
  const processes = Array.from({ length: Math.min(jobs, seeds) }, () => new WorldProcess());
  const results = new Map<number, Promise<SimulationResult>>();
  let next = from;
  const goOn = (one: WorldProcess): void => {
    if (next === from + seeds) return;
    const result = one.simulate({ seed: next, options });
    results.set(next, result);
    next += 1;
    // Whoever comes to this seed sees the failure.
    result.then(
      () => goOn(one),
      () => undefined,
    );
  };
  try {
    for (const one of processes) goOn(one);
    for (let seed = from; seed < from + seeds; seed++) {
      yield await results.get(seed)!;
      results.delete(seed);
    }
  } finally {
    for (const one of processes) one.end();
  }
}

class WorldProcess {
  readonly #child: ChildProcess = fork(path.join(import.meta.dirname, 'world-process.ts'), {
    serialization: 'advanced',
  });
  readonly #ended = once(this.#child, 'exit').then(([code, signal]) => {
    throw new Error(`a process of worlds ended: ${String(code ?? signal)}`);
  });

  constructor() {
    this.#ended.catch(() => undefined);
  }

  async simulate(task: WorldTask): Promise<SimulationResult> {
    this.#child.send(task);
    const [answer] = (await Promise.race([once(this.#child, 'message'), this.#ended])) as [WorldAnswer];
    return answer;
  }

  /** It ends when its world has, which removes what it had in memory files. */
  end(): void {
    this.#child.disconnect();
  }
}
