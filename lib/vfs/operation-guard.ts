/**
 * The one way out for failures of operations: each becomes an `ErrnoError` by `errno-of.ts`. An EIO is logged as an
 * error with its cause; what a store or an origin did to a program is logged as a warning; what POSIX says of a name, and
 * an interruption, is nobody's fault and not logged.
 */
import { describeError } from '../base/errors.ts';
import { Errno, errnoName } from '../fuse/errno.ts';
import { ErrnoError } from '../fuse/operations.ts';
import type { Logger } from '../telemetry/log.ts';
import { errnoOf } from './errno-of.ts';

const QUIET: ReadonlySet<number> = new Set([Errno.ENOENT, Errno.ENOTDIR, Errno.EINTR]);

export class OperationGuard {
  readonly #logger: Logger;

  constructor(options: { readonly logger: Logger }) {
    this.#logger = options.logger;
  }

  async run<T>(operation: string, body: () => Promise<T>): Promise<T> {
    try {
      return await body();
    } catch (error) {
      if (error instanceof ErrnoError) throw error;
      const errno = errnoOf(error);
      const cause = describeError(error);
      const line = { operation, errno: errnoName(errno), cause };
      if (errno === Errno.EIO) this.#logger.error(line, 'an operation failed');
      else if (!QUIET.has(errno)) this.#logger.warn(line, 'an operation failed');
      throw new ErrnoError(errno, `${operation}: ${cause}`, { cause: error });
    }
  }
}
