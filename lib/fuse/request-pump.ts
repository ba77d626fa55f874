/**
 * Brings the requests of one connection to whoever takes them, in one of two ways:
 *
 * - `parked`: a thread of the pool waits in read(2). It costs nothing while nothing comes, but a request that comes this
 *   way has crossed from the kernel to that thread and from there to this one before it is looked at.
 * - `polling`: this thread itself asks a channel that never waits, in slices, and the event loop gets to all else between
 *   two of them. It begins when a request came right after the one before, and ends when none came for `POLL_MS`: so it
 *   costs at most about what parking costs, and nothing where requests are few.
 *
 * Invariants: nothing is parked while polling, but for what was before (a parked read would be woken for each request and
 * find it gone); one read is parked otherwise, and all while requests are large, since then the copying is worth a thread
 * of its own. At a limit neither happens until `resume`. Nothing is taken after the end.
 */
import type { Clock } from '../base/clock.ts';
import type { RequestChannel } from './device.ts';
import { type RequestMemory, RequestReader } from './request-reader.ts';

/** A request that came by a parked read this soon after the one before is one of a row. */
const CLOSE_MS = 0.2;
/** Polling without a request: about what the way through a parked read takes. */
const POLL_MS = 0.05;
/** One slice of polling: what a timer or another connection may have to wait for. */
const SLICE_MS = 0.1;
const SLICE_REQUESTS_MAX = 16;
/** Requests from this size on are writes of data. */
const LARGE_BYTES = 64 * 1024;

export interface PumpOptions {
  readonly memory: RequestMemory;
  readonly clock: Clock;
  readonly nextTurn: (run: () => void) => void;
  /** A request lies in the reader's memory. True: it is answered already. */
  readonly take: (reader: RequestReader, received: number) => boolean;
  /** The limit for which no request can be taken now. */
  readonly limit: () => string | undefined;
  readonly limitReached: (limit: string) => void;
  /** No request will come any more. */
  readonly ended: (error: NodeJS.ErrnoException) => void;
}

export class RequestPump {
  readonly #options: PumpOptions;
  readonly #channels: RequestChannel[] = [];
  /** Readers that are not parked. */
  readonly #idle: RequestReader[] = [];
  #polled: RequestReader | undefined;
  #parked = 0;
  #isPolling = false;
  /** Full, and nothing was parked. */
  #isPaused = false;
  #isEnded = false;
  #failure: NodeJS.ErrnoException | undefined;
  /** When the last request had been looked at, and how long the next one is polled for. */
  #lastMs = -Infinity;
  #patienceMs = 0;

  constructor(options: PumpOptions) {
    this.#options = options;
  }

  /** Another channel to park reads in; closed at the end. */
  park(channel: RequestChannel): void {
    if (this.#isEnded) return channel.close();
    this.#channels.push(channel);
    this.#park(new RequestReader(channel, this.#options.memory));
  }

  /** The channel to poll, one that never waits; closed at the end. */
  poll(channel: RequestChannel): void {
    if (this.#isEnded) return channel.close();
    this.#channels.push(channel);
    this.#polled = new RequestReader(channel, this.#options.memory);
  }

  /** There may be room again. */
  resume(): void {
    if (!this.#isPaused || this.#isEnded || this.#options.limit() !== undefined) return;
    this.#isPaused = false;
    this.#parkOne();
  }

  close(): void {
    for (const channel of this.#channels) channel.close();
  }

  #parkOne(): void {
    if (this.#parked > 0 || this.#isEnded) return;
    const reader = this.#idle.pop();
    if (reader !== undefined) this.#park(reader);
  }

  #park(reader: RequestReader): void {
    const limit = this.#options.limit();
    if (limit !== undefined) {
      this.#idle.push(reader);
      this.#isPaused = true;
      return this.#options.limitReached(limit);
    }
    this.#parked += 1;
    reader.channel.receive(reader.bytes, (error, received) => {
      this.#parked -= 1;
      if (error === null) this.#arrived(reader, received);
      else if (isTransient(error)) this.#park(reader);
      else this.#failed(error);
    });
  }

  #arrived(reader: RequestReader, received: number): void {
    const arrivedMs = this.#options.clock.nowMs();
    this.#patienceMs = arrivedMs - this.#lastMs < CLOSE_MS ? POLL_MS : 0;
    this.#options.take(reader, received);
    this.#lastMs = this.#options.clock.nowMs();
    this.#idle.push(reader);
    if (received >= LARGE_BYTES) this.#parkAll();
    else if (!this.#isPolling) this.#poll();
  }

  /** One slice: takes what waits, and asks again until none has come for as long as patience lasts. */
  readonly #poll = (): void => {
    const { clock, take, limit, nextTurn } = this.#options;
    const polled = this.#polled;
    this.#isPolling = true;
    const beganMs = this.#lastMs;
    for (let taken = 0; taken < SLICE_REQUESTS_MAX;) {
      if (this.#isEnded || polled === undefined || limit() !== undefined) return this.#stop();
      const received = polled.channel.tryReceive(polled.bytes);
      if (received === 0) {
        const nowMs = clock.nowMs();
        if (nowMs - this.#lastMs >= this.#patienceMs) return this.#stop();
        if (nowMs - beganMs >= SLICE_MS) break;
        continue;
      }
      taken += 1;
      const isAnswered = take(polled, received);
      this.#lastMs = clock.nowMs();
      this.#patienceMs = POLL_MS;
      if (received >= LARGE_BYTES) return this.#parkAll();
      // The answer comes in a later turn, or in the microtasks after this one.
      if (!isAnswered) break;
    }
    nextTurn(this.#poll);
  };

  #stop(): void {
    this.#isPolling = false;
    this.#parkOne();
  }

  #parkAll(): void {
    this.#isPolling = false;
    for (const reader of this.#idle.splice(0)) this.#park(reader);
  }

  #failed(error: NodeJS.ErrnoException): void {
    this.#failure ??= error;
    // Those that are not parked would wait for a connection that is gone.
    this.#idle.length = 0;
    if (this.#parked > 0 || this.#isEnded) return;
    this.#isEnded = true;
    this.#options.ended(this.#failure);
  }
}

/** ENOENT: the request was given up while it was being read. */
function isTransient(error: NodeJS.ErrnoException): boolean {
  return error.code === 'EINTR' || error.code === 'EAGAIN' || error.code === 'ENOENT';
}
