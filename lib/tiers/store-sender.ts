/**
 * Sends parts to object stores from threads of its own: a hash of a part takes milliseconds in which nothing else runs
 * in its thread, and no reader shall wait for that. What a program waits for has threads apart from what goes behind
 * its back, so that the system can be told to prefer the former. Threads are started with the first part.
 *
 * Invariant: parts in memory are bounded in sum, and those of the first size that go behind programs' backs take half of
 * that at most.
 */
import PQueue from 'p-queue';
import type { Clock } from '../base/clock.ts';
import { invariant } from '../base/errors.ts';
import type { Logger } from '../telemetry/log.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { ByteBudget, BytePace } from './byte-budget.ts';
import { FETCH_LIMITS, type FetchLimits } from './fetch-limits.ts';
import { FetchPool } from './fetch-pool.ts';
import type { FetchWorkerFactory } from './fetch-protocol.ts';
import { PART_BYTES_FIRST } from './part-geometry.ts';
import type { PartSender, PartToSend, SendUrgency, SentPart } from './part-sender.ts';
import { SEND_LIMITS, type SendLimits } from './send-limits.ts';
import { TierError } from './tier.ts';

export interface StoreSenderOptions {
  readonly startWorker: Readonly<Record<SendUrgency, FetchWorkerFactory>>;
  readonly workerCount: number;
  /** For what goes behind programs' backs; undefined: as fast as it can. */
  readonly backBytesPerSecond?: number | undefined;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly limits?: Partial<SendLimits>;
  readonly poolLimits?: Partial<FetchLimits>;
}

export function createStoreSender(options: StoreSenderOptions): PartSender {
  return new StoreSender(options);
}

class StoreSender implements PartSender {
  readonly #options: StoreSenderOptions;
  readonly #limits: SendLimits;
  readonly #pools = new Map<SendUrgency, FetchPool>();
  readonly #queues: Readonly<Record<SendUrgency, PQueue>>;
  readonly #memory: ByteBudget;
  readonly #pace: BytePace | undefined;
  #isClosed = false;

  constructor(options: StoreSenderOptions) {
    invariant(options.workerCount >= 1, 'a sender has a worker');
    this.#options = options;
    const limits = (this.#limits = { ...SEND_LIMITS, ...options.limits });
    invariant(
      limits.backSendsMax * PART_BYTES_FIRST <= limits.bytesMax / 2,
      'what goes behind the back of programs leaves memory for what they wait for',
    );
    this.#queues = {
      through: new PQueue({ concurrency: limits.throughSendsMax }),
      back: new PQueue({ concurrency: limits.backSendsMax }),
    };
    this.#memory = new ByteBudget(limits.bytesMax);
    const { backBytesPerSecond, clock } = options;
    if (backBytesPerSecond !== undefined) this.#pace = new BytePace(clock, backBytesPerSecond);
  }

  async send(send: PartToSend, { signal }: { readonly signal?: AbortSignal } = {}): Promise<SentPart> {
    const { metrics } = this.#options;
    const queue = this.#queues[send.urgency];
    if (queue.pending >= queue.concurrency) metrics.limitReached.inc({ limit: `tier.${send.urgency}Sends` });
    try {
      const sent = await queue.add(() => this.#sendNow(send, signal));
      metrics.tierRequests.inc({ tier: 'store', result: 'sent' });
      return sent;
    } catch (error) {
      metrics.tierRequests.inc({
        tier: 'store',
        result: error instanceof TierError ? error.code : 'cancelled',
      });
      throw error;
    }
  }

  yieldToWriters(isWriting: boolean): void {
    const { backSendsMax, backSendsWhileWritingMax } = this.#limits;
    this.#queues.back.concurrency = isWriting ? backSendsWhileWritingMax : backSendsMax;
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    await Promise.all(Array.from(this.#pools.values(), (pool) => pool.close()));
  }

  async #sendNow(send: PartToSend, signal: AbortSignal | undefined): Promise<SentPart> {
    const { upload, part, descriptor, blockBytes, known, urgency } = send;
    if (urgency === 'back') await this.#pace?.take(part.length, signal);
    return this.#memory.hold(part.length, async () => {
      signal?.throwIfAborted();
      const isComparable = known?.range.length === part.length;
      const { blockChecksums, entityTag } = await this.#poolOf(urgency).send(
        {
          storeUrl: upload.storeUrl,
          upload: { key: upload.objectKey, uploadId: upload.storeUpload },
          part,
          descriptor,
          blockBytes,
          known: isComparable ? known.blockChecksums : undefined,
          deadlineMs: this.#limits.deadlineMs + part.length / this.#limits.bytesPerMsMin,
        },
        { signal },
      );
      if (entityTag === undefined) {
        invariant(isComparable, 'a part that is not known is sent');
        return known;
      }
      this.#options.metrics.tierBytes.inc({ tier: 'store', direction: 'out' }, part.length);
      return { range: part, blockChecksums, entityTag };
    });
  }

  #poolOf(urgency: SendUrgency): FetchPool {
    if (this.#isClosed) throw new TierError('closed', 'the sender is closed');
    let pool = this.#pools.get(urgency);
    if (pool === undefined) {
      const { startWorker, poolLimits, ...rest } = this.#options;
      const limits = { ...FETCH_LIMITS, ...poolLimits };
      pool = new FetchPool({ ...rest, startWorker: startWorker[urgency], limits });
      this.#pools.set(urgency, pool);
    }
    return pool;
  }
}
