/** The end of a working copy: its write is given back, and its bytes become the blob of their version, or go. */
import { type Clock, sleep } from '../../lib/base/clock.ts';
import { describeError } from '../../lib/base/errors.ts';
import type { Prng } from '../../lib/base/prng.ts';
import type { Logger } from '../../lib/telemetry/log.ts';
import type { SealOutcome, Staging } from '../staging/staging.ts';
import type { WriteGrant } from '../working-copy.ts';
import type { Publisher } from './publisher.ts';
import { retryPauseMs } from './retry-pause.ts';
import type { WorkingFile } from './working-file.ts';

export interface EndingOptions {
  readonly staging: Staging;
  readonly publisher: Publisher;
  readonly clock: Clock;
  readonly prng: Prng;
  readonly logger: Logger;
  /** Aborted when the satellite ends. */
  readonly signal: AbortSignal;
}

export class Ending {
  readonly #options: EndingOptions;

  constructor(options: EndingOptions) {
    this.#options = options;
  }

  /** As often as it takes: until the origin has answered, nobody may ask it for another write of that file. */
  async giveBack(grant: WriteGrant): Promise<void> {
    const { publisher, clock, prng, signal } = this.#options;
    for (let failures = 1; ; failures++) {
      try {
        return await publisher.endWrite(grant, { signal });
      } catch (error) {
        if (signal.aborted) throw error;
        await sleep(clock, retryPauseMs(failures, prng), signal);
      }
    }
  }

  async letGo(file: WorkingFile): Promise<SealOutcome> {
    const { staging } = this.#options;
    const { source, blockChecksums, stamp } = file.base ?? {};
    if (!file.isUnlinked && source !== undefined && stamp !== undefined && blockChecksums?.length) {
      const { inode } = file.grant;
      const sealed = { source, inode, path: file.path, blockChecksums, committed: stamp, isUse: false };
      try {
        return await staging.seal(file.file, sealed);
      } catch (error) {
        this.#warn(file, 'not kept in the cache', error);
      }
    }
    await staging
      .discard(file.file)
      .catch((error: unknown) => this.#warn(file, 'the next start removes it', error));
    return 'dropped';
  }

  #warn(file: WorkingFile, what: string, error: unknown): void {
    this.#options.logger.warn({ path: file.path, error: describeError(error) }, what);
  }
}
