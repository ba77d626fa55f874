/**
 * The one way out for failures of operations: each becomes an `ErrnoError` by `errno-of.ts`. An EIO is logged as an
 * error with its cause; what a store or an origin did to a program is logged as a warning; what POSIX says of a name, and
 * an interruption, is nobody's fault and not logged.
 *
 * An outage fails thousands of operations alike. Of each kind (operation, errno, code of the cause) one is logged, and
 * then, once an interval, one more with the count of those between. The end of an interval is told by its timer, so
 * that the last count is not lost; nor is that of an end.
 */
import type { Clock } from '../base/clock.ts';
import { describeError, PerigeeError } from '../base/errors.ts';
import { Errno, errnoName } from '../fuse/errno.ts';
import { type Answer, ErrnoError } from '../fuse/operations.ts';
import type { Logger } from '../telemetry/log.ts';
import { errnoOf } from './errno-of.ts';

const QUIET: ReadonlySet<number> = new Set([Errno.ENOENT, Errno.ENOTDIR, Errno.EINTR]);
/** One line of a kind in this time. */
const LOG_INTERVAL_MS = 60_000;
/** Operations, errnos and codes are closed sets; beyond this something is wrong, and every failure is logged. */
const KINDS_MAX = 1_000;

interface Failure {
  readonly operation: string;
  readonly errno: string;
  readonly cause: string;
}

interface Kind {
  /** Stops its timer. */
  cancel: () => void;
  /** The last of those that were not logged. */
  last: Failure | undefined;
  count: number;
}

export class OperationGuard {
  readonly #logger: Logger;
  readonly #clock: Clock;
  /** Kinds that were logged less than an interval ago. */
  readonly #kinds = new Map<string, Kind>();

  constructor(options: { readonly logger: Logger; readonly clock: Clock }) {
    this.#logger = options.logger;
    this.#clock = options.clock;
  }

  async run<T>(operation: string, body: () => Promise<T>): Promise<T> {
    try {
      return await body();
    } catch (error) {
      throw this.#translated(operation, error);
    }
  }

  /** The same for operations that most often need no wait. Failures always reject. */
  answer<T>(operation: string, body: () => Answer<T>): Answer<T> {
    try {
      const answer = body();
      return answer instanceof Promise ? this.run(operation, () => answer) : answer;
    } catch (error) {
      return Promise.reject(this.#translated(operation, error));
    }
  }

  #translated(operation: string, error: unknown): ErrnoError {
    if (error instanceof ErrnoError) return error;
    const errno = errnoOf(error);
    const cause = describeError(error);
    if (!QUIET.has(errno)) this.#tell({ operation, errno: errnoName(errno), cause }, codeOf(error));
    return new ErrnoError(errno, `${operation}: ${cause}`, { cause: error });
  }

  #tell(failure: Failure, code: string): void {
    const key = `${failure.operation} ${failure.errno} ${code}`;
    const known = this.#kinds.get(key);
    if (known !== undefined) {
      known.last = failure;
      known.count += 1;
      return;
    }
    this.#log(failure, 'an operation failed');
    if (this.#kinds.size < KINDS_MAX) this.#begin(key);
  }

  /** Tells the counts of the intervals under way. */
  close(): void {
    for (const kind of this.#kinds.values()) {
      kind.cancel();
      this.#tellCount(kind);
    }
    this.#kinds.clear();
  }

  #begin(key: string): void {
    const cancel = this.#clock.after(LOG_INTERVAL_MS, () => {
      this.#kinds.delete(key);
      if (this.#tellCount(kind)) this.#begin(key);
    });
    const kind: Kind = { cancel, last: undefined, count: 0 };
    this.#kinds.set(key, kind);
  }

  #tellCount({ last, count }: Kind): boolean {
    if (last === undefined) return false;
    this.#log({ ...last, count }, 'operations failed');
    return true;
  }

  #log(line: Failure & { readonly count?: number }, message: string): void {
    if (line.errno === 'EIO') this.#logger.error(line, message);
    else this.#logger.warn(line, message);
  }
}

/** Of the error nearest to the top that has one. */
function codeOf(error: unknown): string {
  for (let at = error, depth = 0; at instanceof Error && depth < 8; at = at.cause, depth++) {
    if (at instanceof PerigeeError) return `${at.layer}/${at.code}`;
  }
  return '';
}
