/**
 * Drives the satellite's side of the lease protocol: performs the effects of `LeaseClient`, and tells it what happens.
 *
 * Messages are applied each in a turn of the event loop of their own, in order. What the namespace answered before has
 * left for the kernel by then, so it is found there and dropped; what it answers after knows of the message. The machine
 * is told that a message is applied when that is true for the kernel too.
 */
import type { InodeNumber, SessionId } from '../base/brand.ts';
import type { Clock } from '../base/clock.ts';
import { describeError } from '../base/errors.ts';
import type { Prng } from '../base/prng.ts';
import type { LeaseClient, LeaseClientEffect, LeaseClientEvent } from '../lease/lease-client.ts';
import type { OriginMessage, SatelliteMessage } from '../lease/lease.ts';
import type { Logger } from '../telemetry/log.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import type { HeldNames } from './held-names.ts';
import type { LeaseTerm } from './leased-namespace.ts';
import type { InodeAttributes } from './namespace.ts';

type EffectOf<Kind> = Extract<LeaseClientEffect<InodeAttributes>, { readonly kind: Kind }>;

/** What happens on a stream: `broken` once, whoever ended it, and nothing after that. */
export interface LeaseStreamListener {
  opened(): void;
  message(message: OriginMessage<InodeAttributes>): void;
  broken(error: unknown): void;
}

export interface LeaseStream {
  /** Does not wait; a stream that cannot take more breaks. */
  send(message: SatelliteMessage): void;
  end(): void;
}

export interface LeaseSessionOptions {
  readonly machine: LeaseClient<InodeAttributes>;
  readonly open: (listener: LeaseStreamListener) => LeaseStream;
  readonly held: HeldNames;
  /** Counts suspension. */
  readonly clock: Clock;
  readonly nextTurn: (run: () => void) => void;
  readonly prng: Prng;
  /** Told to the origin, for people. */
  readonly host: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly logger: Logger;
  readonly metrics: Metrics;
  /** The origin has said welcome, to a session that goes on or to a new one. */
  readonly onLive: (session: SessionId) => void;
}

export interface LeaseSessionStat {
  /** `live`: the stream is up. `reconnecting`: the term still runs. `lost`: names are asked for one by one. */
  readonly state: 'live' | 'reconnecting' | 'lost';
  /** The first digits of its identity. */
  readonly session: string | undefined;
  readonly termLeftMs: number;
}

const SESSION_DIGITS_SHOWN = 8;
/** The origin ends the stream as soon as it has heard the goodbye. */
const CLOSE_WAIT_MS = 1_000;

export class LeaseSession implements LeaseTerm {
  session: SessionId | undefined;
  validUntilMs = 0;
  readonly #options: LeaseSessionOptions;
  #stream: LeaseStream | undefined;
  #cancelWake = (): void => undefined;
  #hasTold = false;
  #onBroken = (): void => undefined;

  constructor(options: LeaseSessionOptions) {
    this.#options = options;
  }

  start(): void {
    this.#step({ kind: 'start' });
  }

  stat(): LeaseSessionStat {
    const { clock, machine } = this.#options;
    const termLeftMs = Math.max(0, this.validUntilMs - clock.nowMs());
    return {
      state: termLeftMs === 0 ? 'lost' : machine.state.kind === 'live' ? 'live' : 'reconnecting',
      session: this.session?.slice(0, SESSION_DIGITS_SHOWN),
      termLeftMs,
    };
  }

  /** Asks the origin to take these back. */
  release(directories: readonly InodeNumber[]): void {
    this.#step({ kind: 'released', directories });
  }

  /** Nothing is served any more. Resolves when the origin has been told, or cannot be. */
  async close(): Promise<void> {
    const { clock } = this.#options;
    this.#step({ kind: 'closing' });
    this.#cancelWake();
    if (this.#stream === undefined) return;
    await new Promise<void>((resolve) => {
      const cancel = clock.after(CLOSE_WAIT_MS, resolve);
      this.#onBroken = () => {
        cancel();
        resolve();
      };
    });
  }

  #step(event: LeaseClientEvent<InodeAttributes>): void {
    const { machine, clock } = this.#options;
    for (const effect of machine.step(event, clock.nowMs())) this.#perform(effect);
  }

  #perform(effect: LeaseClientEffect<InodeAttributes>): void {
    switch (effect.kind) {
      case 'open-stream':
        return this.#open();
      case 'end-stream':
        this.#options.logger.info({ reason: effect.reason }, 'the lease stream is ended');
        return this.#stream?.end();
      case 'send':
        return this.#stream?.send(effect.message);
      case 'apply-withdraw':
        return void this.#apply(effect, () => this.#options.held.withdraw(effect.message));
      case 'apply-recall':
        return void this.#apply(effect, async () => {
          await this.#options.held.recall(effect.message);
          return [];
        });
      case 'apply-update':
        return this.#options.held.update(effect.message);
      case 'drop':
        return void this.#drop(effect);
      case 'session':
        this.session = effect.session;
        return;
      case 'set-term':
        this.validUntilMs = effect.validUntilMs;
        return;
      case 'wake-at':
        return this.#wakeAt(effect.ms);
    }
  }

  #open(): void {
    const { open, nextTurn, host, labels, held } = this.#options;
    this.#stream = open({
      opened: () =>
        nextTurn(() => this.#step({ kind: 'connected', host, labels, held: held.cache.leases() })),
      message: (message) => nextTurn(() => this.#received(message)),
      broken: (error) => nextTurn(() => this.#broken(error)),
    });
  }

  #received(message: OriginMessage<InodeAttributes>): void {
    this.#step({ kind: 'message', message });
    if (message.kind !== 'welcome') return;
    this.#options.held.cache.forgetStale();
    const { resumed, session } = message;
    this.#hasTold = false;
    this.#options.logger.info({ session: this.stat().session, resumed }, 'lease session is live');
    this.#options.onLive(session);
  }

  #broken(error: unknown): void {
    const { logger, prng } = this.#options;
    this.#stream = undefined;
    this.#onBroken();
    // Attempts go on for as long as an outage lasts; the first is news.
    const line = { error: describeError(error) };
    if (this.#hasTold) logger.debug(line, 'no lease session');
    else logger.warn(line, 'the lease session has no stream: names are used until its term ends');
    this.#hasTold = true;
    this.#step({ kind: 'stream-broken', jitter: prng.next() });
  }

  async #apply(
    { session, message: { sequence } }: EffectOf<'apply-withdraw' | 'apply-recall'>,
    run: () => Promise<readonly InodeNumber[]>,
  ): Promise<void> {
    const released = await run();
    this.#step({ kind: 'applied', session, sequence, released });
  }

  async #drop({ drop, reason, keep }: EffectOf<'drop'>): Promise<void> {
    this.#options.metrics.sessionsLost.inc({ reason });
    this.#options.logger.warn({ reason }, 'names are forgotten');
    // A term that has ended is the only loss without a word of the origin.
    await this.#options.held.drop(keep, { withStale: reason === 'expired' });
    this.#step({ kind: 'dropped', drop });
  }

  #wakeAt(ms: number): void {
    const { clock } = this.#options;
    this.#cancelWake();
    this.#cancelWake = clock.after(Math.max(0, ms - clock.nowMs()), () => {
      // A timer may be early by a part of a millisecond.
      if (clock.nowMs() < ms) this.#wakeAt(ms);
      else this.#step({ kind: 'time-passed' });
    });
  }
}
