/**
 * Notifications of object stores: each object that was created or removed behind our back is looked at, and a
 * difference becomes an ordinary change.
 *
 * A notification is a hint, never evidence: what is placed is what the store says then. So repeated, late, reordered or
 * forged ones do no harm but the cost of a look. Answered when all is done, so that a sender repeats what failed.
 */
import PQueue from 'p-queue';
import { ROOT_INODE } from '../../base/brand.ts';
import { describeError } from '../../base/errors.ts';
import type { EventAnswer } from '../../rpc/event-server.ts';
import type { Logger } from '../../telemetry/log.ts';
import type { Metrics } from '../../telemetry/metrics.ts';
import { type ObjectEvent, parseEvents } from './event-messages.ts';
import type { Differences } from '../tree/facts.ts';
import { nameProblem } from '../tree/key-names.ts';
import type { NamespaceIndex } from '../index/namespace-index.ts';
import type { ServedExport } from '../served-export.ts';

const EVENTS_AT_ONCE = 16;
/** Events that wait; a sender of more is asked to come again. */
const EVENTS_WAITING_MAX = 10_000;

export class EventEndpoint {
  readonly #exports: readonly ServedExport[];
  readonly #index: NamespaceIndex;
  readonly #logger: Logger;
  readonly #metrics: Metrics;
  readonly #queue = new PQueue({ concurrency: EVENTS_AT_ONCE });

  constructor(options: {
    readonly exports: readonly ServedExport[];
    readonly index: NamespaceIndex;
    readonly logger: Logger;
    readonly metrics: Metrics;
  }) {
    this.#exports = options.exports;
    this.#index = options.index;
    this.#logger = options.logger;
    this.#metrics = options.metrics;
  }

  async take(text: string): Promise<EventAnswer> {
    const events = parseEvents(text);
    if (typeof events === 'string') {
      this.#count('refused');
      this.#logger.warn(`a notification was refused: it ${events}`);
      return { status: 400, text: `the notification ${events}` };
    }
    if (this.#queue.size + events.length > EVENTS_WAITING_MAX) {
      this.#metrics.limitReached.inc({ limit: 'EVENTS_WAITING_MAX' });
      return { status: 503, text: 'too many notifications wait' };
    }
    const results = await Promise.allSettled(
      events.map((event) => this.#queue.add(() => this.#apply(event))),
    );
    const failure = results.find((result) => result.status === 'rejected');
    if (failure === undefined) return { status: 200, text: 'done' };
    this.#logger.warn(`a notification could not be followed: ${describeError(failure.reason)}`);
    return { status: 503, text: 'the object store could not be asked; try again' };
  }

  async #apply(event: ObjectEvent): Promise<void> {
    const concerned = this.#exports.flatMap((served) => {
      const key = keyIn(served, event);
      return key === undefined ? [] : [{ served, key }];
    });
    if (concerned.length === 0) this.#count('elsewhere');
    for (const { served, key } of concerned) {
      try {
        const { added, changed, gone } = await this.#look(served, key);
        this.#count(added + changed + gone > 0 ? 'changed' : 'same');
      } catch (error) {
        this.#count('failed');
        throw error;
      }
    }
  }

  /** Looks at the name of a key, and at the directories that may have come or gone with it. */
  async #look({ indexed, tree }: ServedExport, key: string): Promise<Differences> {
    const { exportId } = indexed;
    const names = key.replace(/\/$/, '').split('/');
    const sum = { added: 0, changed: 0, gone: 0 };
    const visible = names.findIndex((name) => nameProblem(name) !== undefined);
    const path: { readonly directory: number; readonly name: string }[] = [];
    let directory = Number(ROOT_INODE);
    for (const name of visible === -1 ? names : names.slice(0, visible)) {
      path.push({ directory, name });
      const child = await this.#index.child({ exportId, directory }, name);
      // What is below a name that nobody asked for is of no interest yet.
      if (child?.kind !== 'directory') break;
      directory = child.inode;
    }
    for (const { directory: at, name } of path.reverse()) {
      const parent = await this.#index.directory({ exportId, directory: at });
      if (parent === undefined) continue;
      const differences = await tree.facts.review(parent, [{ name }]);
      sum.added += differences.added;
      sum.changed += differences.changed;
      sum.gone += differences.gone;
      // A directory goes with the last of its keys, and only then.
      if (differences.gone === 0) break;
    }
    return sum;
  }

  #count(result: 'refused' | 'elsewhere' | 'same' | 'changed' | 'failed'): void {
    this.#metrics.originEvents.inc({ result });
  }
}

/** The key as the export's store has it; undefined if it lies outside of the export. */
function keyIn({ options }: ServedExport, { bucket, key }: ObjectEvent): string | undefined {
  const url = new URL(options.storeUrl);
  if (decodeURIComponent(url.hostname) !== bucket) return undefined;
  const prefix = decodeURIComponent(url.pathname).replace(/^\//, '').replace(/\/?$/, '/');
  if (prefix === '/') return key;
  return key.startsWith(prefix) ? key.slice(prefix.length) : undefined;
}
