/**
 * Ends what was started, in reverse order, each step even if an earlier one failed. Every life cycle in this
 * folder is built on it, so a start that fails half-way leaves as little behind as a stop.
 */
import { describeError } from '../base/errors.ts';
import { type Logger } from '../telemetry/log.ts';

export class Teardown {
  readonly #steps: { readonly name: string; readonly end: () => void | Promise<void> }[] = [];
  readonly #logger: Logger;
  #running: Promise<void> | undefined;

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  add(name: string, end: () => void | Promise<void>): void {
    this.#steps.push({ name, end });
  }

  /** Runs the steps once, however often it is called; never rejects. */
  run(): Promise<void> {
    this.#running ??= this.#runAll();
    return this.#running;
  }

  async #runAll(): Promise<void> {
    for (let step = this.#steps.pop(); step !== undefined; step = this.#steps.pop()) {
      try {
        await step.end();
      } catch (error) {
        this.#logger.error({ step: step.name, error: describeError(error) }, 'teardown step failed');
      }
    }
  }
}
