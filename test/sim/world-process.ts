/** A process that simulates the worlds it is told, one after the other. */
import { simulate, type SimulationOptions, type SimulationResult } from './simulation.ts';

export interface WorldTask {
  readonly seed: number;
  readonly options: SimulationOptions;
}

export type WorldAnswer = SimulationResult;

// Errors are made by the thousand, and only their codes are looked at.
Error.stackTraceLimit = 0;

process.on('message', ({ seed, options }: WorldTask) => {
  void simulate(seed, options).then((answer: WorldAnswer) => {
    // Nobody waits for it any more where another world went wrong.
    if (process.connected) process.send!(answer);
  });
});
