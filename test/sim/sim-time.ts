/**
 * Simulated time: one heap of events for all nodes. An event runs alone, and everything that promises do because of it
 * is done before the next one, so a run is a function of its seed. Nothing here waits for real time.
 */
import type { Clock } from '../../lib/base/clock.ts';

interface SimEvent {
  readonly atMs: number;
  readonly order: number;
  readonly run: () => void;
  isCancelled: boolean;
}

export class SimTime {
  nowMs = 0;
  /** Events run so far: the name of an instant in a trace. */
  events = 0;
  readonly #heap: SimEvent[] = [];
  #order = 0;

  /** @returns cancels it */
  after(delayMs: number, run: () => void): () => void {
    const event = { atMs: this.nowMs + Math.max(delayMs, 0), order: this.#order++, run, isCancelled: false };
    this.#push(event);
    return () => {
      event.isCancelled = true;
    };
  }

  /** Runs events until `isDone`, until there are none, or until `untilMs`. */
  async run(untilMs: number, isDone: () => boolean = () => false): Promise<void> {
    await settled();
    while (!isDone()) {
      const next = this.#heap[0];
      if (next === undefined || next.atMs > untilMs) break;
      this.#pop();
      if (next.isCancelled) continue;
      this.nowMs = next.atMs;
      this.events += 1;
      next.run();
      await settled();
    }
    if (!isDone()) this.nowMs = Math.max(this.nowMs, untilMs);
  }

  #push(event: SimEvent): void {
    const heap = this.#heap;
    let at = heap.push(event) - 1;
    while (at > 0) {
      const up = (at - 1) >> 1;
      if (!isBefore(event, heap[up])) break;
      heap[at] = heap[up] ?? event;
      at = up;
    }
    heap[at] = event;
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return;
    let at = 0;
    for (;;) {
      let down = 2 * at + 1;
      const right = heap[down + 1];
      if (right !== undefined && isBefore(right, heap[down])) down += 1;
      const child = heap[down];
      if (child === undefined || !isBefore(child, last)) break;
      heap[at] = child;
      at = down;
    }
    heap[at] = last;
  }
}

function isBefore(a: SimEvent, b: SimEvent | undefined): boolean {
  return b === undefined || a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order);
}

/** All promises that can go on have gone on: Node runs an immediate when no microtask and no tick is left. */
function settled(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/**
 * One process on one machine. While it is stopped (SIGSTOP) time goes on and what would have run waits; when it is dead
 * nothing of it ever runs again.
 */
export class SimProcess {
  readonly clock: Clock;
  readonly #time: SimTime;
  readonly #waiting: (() => void)[] = [];
  #isStopped = false;
  #isDead = false;

  /** @param machine its clock: what it shows at the start, and how many of its milliseconds a true one has */
  constructor(time: SimTime, machine: { readonly offsetMs: number; readonly rate: number }) {
    this.#time = time;
    const nowMs = (): number => machine.offsetMs + time.nowMs * machine.rate;
    const after = (delayMs: number, run: () => void): (() => void) =>
      time.after(delayMs / machine.rate, () => this.run(run));
    this.clock = {
      nowMs,
      wallMs: () => 1_700_000_000_000 + nowMs(),
      after,
      every: (periodMs, run) => {
        let cancel = (): void => undefined;
        const again = (): void => {
          cancel = after(periodMs, () => {
            again();
            run();
          });
        };
        again();
        return () => cancel();
      },
    };
  }

  get isDead(): boolean {
    return this.#isDead;
  }

  get isStopped(): boolean {
    return this.#isStopped;
  }

  /** As soon as this process runs; never if it is dead. */
  run(work: () => void): void {
    if (this.#isDead) return;
    if (this.#isStopped) this.#waiting.push(work);
    else work();
  }

  stop(): void {
    this.#isStopped = true;
  }

  /** What has waited runs in the order in which it came, one event each. */
  resume(): void {
    if (!this.#isStopped) return;
    this.#isStopped = false;
    for (const work of this.#waiting.splice(0)) this.#time.after(0, () => this.run(work));
  }

  kill(): void {
    this.#isDead = true;
    this.#waiting.length = 0;
  }
}
