/** The figures under `perigee up`: one line drawn over on a terminal, one line a time elsewhere. */
import { type Clock } from '../base/clock.ts';
import { describeError } from '../base/errors.ts';
import { bytesText } from './format.ts';
import { type Output } from './output.ts';
import { type MountStatus, type UpRunning } from './runtime.ts';

export class LiveFigures {
  readonly #running: UpRunning;
  readonly #out: Output;
  readonly #clock: Clock;
  #before: { readonly atMs: number; readonly bytes: number } | undefined;
  #asking = false;
  #ended = false;

  constructor(options: { readonly running: UpRunning; readonly out: Output; readonly clock: Clock }) {
    this.#running = options.running;
    this.#out = options.out;
    this.#clock = options.clock;
  }

  /** @returns what ends the figures. */
  show(everyMs: number): () => void {
    const stop = this.#clock.every(everyMs, () => void this.#tick());
    return () => {
      this.#ended = true;
      stop();
    };
  }

  async #tick(): Promise<void> {
    if (this.#asking) return;
    this.#asking = true;
    try {
      this.#print(this.#line(await this.#running.status()));
    } catch (error) {
      this.#print(`no figures: ${describeError(error)}`);
    } finally {
      this.#asking = false;
    }
  }

  #print(line: string): void {
    if (this.#ended) return;
    if (this.#out.terminal) this.#out.redraw(line);
    else this.#out.line(line);
  }

  #line({ cache, reads }: MountStatus): string {
    const atMs = this.#clock.nowMs();
    const before = this.#before;
    this.#before = { atMs, bytes: cache.fetchedBytes };
    const elapsedMs = before === undefined ? 0 : atMs - before.atMs;
    const rate = elapsedMs <= 0 ? 0 : ((cache.fetchedBytes - (before?.bytes ?? 0)) * 1000) / elapsedMs;
    return [
      `opens ${reads.passthroughOpens + reads.servedOpens} (${reads.passthroughOpens} passthrough)`,
      `read through us ${bytesText(reads.servedBytes)}`,
      `hits ${cache.hits}`,
      `misses ${cache.misses}`,
      `cached ${bytesText(cache.usedBytes)}`,
      `fetched ${bytesText(cache.fetchedBytes)}`,
      `${bytesText(Math.max(0, rate))}/s`,
    ].join(', ');
  }
}
