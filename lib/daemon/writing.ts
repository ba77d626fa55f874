/**
 * What a satellite needs to write: the namespace's changes, working copies over the cache's staging, and the threads that
 * send their parts. Made and ended as one; nothing of it exists on a read-only mount.
 *
 * What is not converged when it ends is in the journal, and the next life goes on with it.
 */
import { randomUUID } from 'node:crypto';
import os from 'node:os';
import type { Staging } from '../../cache/staging/staging.ts';
import { openWriteBack } from '../../cache/converger/write-back.ts';
import type { WriteBack } from '../../cache/working-copy.ts';
import type { Clock } from '../base/clock.ts';
import { nextTurn } from '../base/clock.ts';
import { systemPrng } from '../base/prng.ts';
import type { MountOptions } from '../cli/runtime.ts';
import type { HeldNames } from '../namespace/held-names.ts';
import { LeasedChanges } from '../namespace/leased-changes.ts';
import type { LeasedNamespace, LeaseTerm } from '../namespace/leased-namespace.ts';
import type { RemoteChanges } from '../namespace/remote-changes.ts';
import type { PolicyHolder } from '../policy/policy-holder.ts';
import type { Logger } from '../telemetry/log.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { createStoreSender } from '../tiers/store-sender.ts';
import type { VfsWriting } from '../vfs/vfs.ts';
import { startFetchWorker } from './fetch-worker-thread.ts';
import type { Teardown } from './teardown.ts';

/** How long an end waits for what was written to converge. */
const CONVERGE_WAIT_MS = 5_000;
/** What was acknowledged does not wait longer than that for the object store before its writers do. */
const DIRTY_AGE_MAX_MS = 60 * 60_000;

export interface WritingOptions extends Pick<
  MountOptions,
  'writeMode' | 'writeBackBytesMax' | 'fetchThreads'
> {
  readonly remote: RemoteChanges;
  readonly held: HeldNames;
  readonly term: LeaseTerm;
  readonly namespace: LeasedNamespace;
  readonly staging: Staging;
  readonly policies: PolicyHolder;
  readonly clock: Clock;
  /** Counts suspension. */
  readonly leaseClock: Clock;
  readonly logger: Logger;
  readonly metrics: Metrics;
}

export function openWriting(options: WritingOptions, teardown: Teardown): VfsWriting {
  const { clock, logger, metrics, namespace, policies, writeMode } = options;
  const changes = new LeasedChanges({
    remote: options.remote,
    held: options.held,
    term: options.term,
    wait: namespace.originWait,
    clock: options.leaseClock,
    nextTurn,
    life: randomUUID(),
  });
  teardown.add('changes', () => changes.close());
  const sender = createStoreSender({
    startWorker: { through: startFetchWorker, back: startFetchWorker },
    workerCount: options.fetchThreads,
    clock,
    logger,
    metrics,
  });
  teardown.add('sender', () => sender.close());
  const writeBack: WriteBack = openWriteBack({
    staging: options.staging,
    publisher: changes,
    names: namespace,
    sender,
    host: os.hostname(),
    bytesMax: options.writeBackBytesMax,
    ageMaxMs: DIRTY_AGE_MAX_MS,
    sendsAhead: (path) => {
      const { value, reason } = policies.decide({ path, sizeBytes: undefined }).rulings['write.mode'];
      return (reason === 'default' ? writeMode : value) === 'through';
    },
    clock,
    prng: systemPrng(),
    logger,
    metrics,
  });
  teardown.add('write-back', () => writeBack.close({ deadlineMs: CONVERGE_WAIT_MS }));
  return { changes, writeBack, mode: writeMode };
}
