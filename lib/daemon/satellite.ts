/**
 * One satellite: names from the origin, bytes from tiers through the NVMe cache, a mount in front, an admin socket
 * beside it. This is the only place where these implementations meet.
 *
 * Order of start: cheap refusals first (mount point), then the origin, the cache, the fetchers, and the mount last,
 * so that nothing is mounted unless it can answer. The end is the reverse; an unmount from outside ends it too.
 */
import os from 'node:os';
import { openNvmeCache } from '../../cache/nvme-cache.ts';
import { ROOT_INODE } from '../base/brand.ts';
import { bootClock } from '../base/boot-clock.ts';
import { nextTurn, systemClock } from '../base/clock.ts';
import { describeError } from '../base/errors.ts';
import { ORIGIN_DEADLINE_MS } from '../base/limits.ts';
import { systemPrng } from '../base/prng.ts';
import type { MountOptions, MountStatus, Running } from '../cli/runtime.ts';
import { startControlServer } from '../control/control-server.ts';
import { mountKernel } from '../fuse/kernel-driver.ts';
import { prepareMountpoint } from '../fuse/mountpoint.ts';
import { mountPortable } from '../fuse/portable-driver.ts';
import { LeaseClient } from '../lease/lease-client.ts';
import { LEASE_TIMING_DEFAULT } from '../lease/lease.ts';
import { HeldNames } from '../namespace/held-names.ts';
import { LeaseSession } from '../namespace/lease-session.ts';
import { LeasedNamespace } from '../namespace/leased-namespace.ts';
import { NameCache } from '../namespace/name-cache.ts';
import { openOriginNames } from '../namespace/origin-names.ts';
import type { RemoteNames } from '../namespace/remote-names.ts';
import { PolicyHolder } from '../policy/policy-holder.ts';
import { startMetricsServer } from '../rpc/metrics-server.ts';
import { createLogger, type Logger } from '../telemetry/log.ts';
import { S3QuickReader } from '../store/s3-quick-reader.ts';
import { createMetrics } from '../telemetry/metrics.ts';
import { createStoreTier } from '../tiers/store-tier.ts';
import { createTierStack } from '../tiers/tier-stack.ts';
import { createVfs } from '../vfs/vfs.ts';
import { consistencyByPolicy } from './consistency-by-policy.ts';
import { controlHandlers } from './control-handlers.ts';
import { startFetchWorker } from './fetch-worker-thread.ts';
import { LastLife } from './last-life.ts';
import { keepingByPolicy } from './keeping-by-policy.ts';
import { PolicyReceiver } from './policy-receiver.ts';
import { Prefetching } from './prefetching.ts';
import { Teardown } from './teardown.ts';
import { openWriting } from './writing.ts';
import { writeAt } from './write-at.ts';

/** How long `status` waits for the origin. */
const ORIGIN_PROBE_MS = 1_000;
/** How long a stop waits for open files before it detaches lazily. */
const STOP_WAIT_MS = 5_000;
/** How long an unmount waits for a program that is just letting go before it refuses. */
const UNMOUNT_WAIT_MS = 1_000;

export interface Satellite extends Running {
  /** @param reason for the log */
  stop(reason?: string): Promise<void>;
  status(): Promise<MountStatus>;
}

export interface SatelliteOptions extends MountOptions {
  /** Of this software. */
  readonly version: string;
}

export interface SatelliteSurroundings {
  /** Default: one of its own, made from the options. */
  readonly logger?: Logger;
  /** Ends the start: after the step under way everything is taken back, and the signal's reason is thrown. */
  readonly signal?: AbortSignal;
}

export async function startSatellite(
  options: SatelliteOptions,
  { logger: given, signal = new AbortController().signal }: SatelliteSurroundings = {},
): Promise<Satellite> {
  const logger =
    given ??
    createLogger({
      level: options.logLevel,
      ...(options.logFile === undefined ? {} : { file: options.logFile }),
    });
  const teardown = new Teardown(logger);
  try {
    const satellite = await assemble(options, { logger, teardown, signal });
    signal.throwIfAborted();
    return satellite;
  } catch (error) {
    if (signal.aborted) logger.info({ reason: describeError(signal.reason) }, 'stopping');
    await teardown.run();
    throw error;
  }
}

async function assemble(
  options: SatelliteOptions,
  {
    logger,
    teardown,
    signal,
  }: { readonly logger: Logger; readonly teardown: Teardown; readonly signal: AbortSignal },
): Promise<Satellite> {
  const clock = systemClock;
  const metrics = createMetrics();
  const startedMs = clock.nowMs();
  // The path as the mount table shows it: links are followed here, once.
  const prepared = await prepareMountpoint(options.mountpoint, clock);
  const { mountpoint } = prepared;
  const lastLife = new LastLife(options.cacheDirectory, mountpoint);

  const { remote, remoteChanges, openStream, exportInfo } = await openOriginNames({
    address: options.origin,
    credentials: options.credentials,
    exportName: options.exportName,
    host: os.hostname(),
    clock,
    logger,
    signal,
  });
  const policies = new PolicyHolder({
    exportName: options.exportName,
    host: { name: os.hostname(), labels: options.labels },
  });
  const prefetching = new Prefetching({ ...options, policies, mountpoint, clock, logger, metrics });
  const policySets = new PolicyReceiver({ holder: policies, clock, logger, metrics });
  const leaseClock = bootClock();
  const consistency = consistencyByPolicy(policies, { immutable: exportInfo.immutable });
  const held = new HeldNames({
    cache: new NameCache(consistency.rules),
    metrics,
    onReleased: (directories) => session.release(directories),
    onUpdated: (names) => prefetching.updated(names),
  });
  consistency.listen(() => void held.judgeAnew());
  const session = new LeaseSession({
    machine: new LeaseClient({
      clockRateError: LEASE_TIMING_DEFAULT.clockRateError,
      successorOf: lastLife.session(prepared),
    }),
    open: (listener) => openStream(listener, (set) => policySets.take(set)),
    held,
    clock: leaseClock,
    nextTurn,
    prng: systemPrng(),
    host: os.hostname(),
    labels: options.labels,
    logger,
    metrics,
    onLive: (current) => {
      lastLife.remember(current);
      namespace.originIsBack();
    },
  });
  const namespace = new LeasedNamespace({
    remote,
    held,
    term: session,
    clock: leaseClock,
    metrics,
    partitionWaitMs: options.partitionWaitMs,
  });
  teardown.add('namespace', () => namespace.close());
  teardown.add('session', () => session.close());
  session.start();
  signal.throwIfAborted();

  await policySets.first();
  signal.throwIfAborted();

  const stack = createTierStack([
    createStoreTier({
      startWorker: startFetchWorker,
      workerCount: options.fetchThreads,
      storeUrlOf: () => exportInfo.storeUrl,
      storeUrls: [exportInfo.storeUrl],
      quick: {
        openReader: (access, connectionsMax) => new S3QuickReader({ access, clock, connectionsMax }),
        writeAt,
      },
      clock,
      logger,
      metrics,
    }),
  ]);
  const tier = prefetching.watched(stack);
  teardown.add('tiers', () => tier.close());

  const cache = await openNvmeCache({
    directory: options.cacheDirectory,
    capacityBytes: options.cacheBytes,
    blockBytes: options.blockBytes,
    wholeOnOpenBytes: options.wholeOnOpenBytes,
    keepingOf: keepingByPolicy(policies),
    tier,
    clock,
    logger,
    metrics,
  });
  teardown.add('cache', () => cache.close());
  lastLife.own();
  policies.listen(() => cache.reconsider());
  cache.reconsider();
  signal.throwIfAborted();

  const parts = { namespace, held, term: session, policies, clock, leaseClock, logger, metrics };
  const writing = options.readOnly
    ? undefined
    : openWriting({ ...options, ...parts, remote: remoteChanges, staging: cache.staging }, teardown);
  const vfs = createVfs({
    namespace,
    cache,
    observer: prefetching.observer(),
    uses: prefetching.uses(),
    clock,
    leaseClock,
    nextTurn,
    namesDeadlineMs: options.partitionWaitMs + 2 * ORIGIN_DEADLINE_MS,
    logger,
    metrics,
    wholeOnOpenBytes: options.wholeOnOpenBytes,
    policies,
    ...(writing && { writing }),
  });
  teardown.add('vfs', () => vfs.close());

  let mounted = false;
  let ending: string | undefined;
  const ready = async (): Promise<true | string> => {
    if (ending !== undefined) return `stopping: ${ending}`;
    if (!mounted) return 'not mounted yet';
    return (await answers(remote)) || 'the origin does not answer';
  };
  if (options.metrics !== undefined) {
    const server = await startMetricsServer({
      listen: options.metrics,
      registry: metrics.registry,
      ready,
    });
    teardown.add('metrics', () => server.close());
  }

  const mountDriver = options.driver === 'kernel' ? mountKernel : mountPortable;
  const driver = await mountDriver({
    mountpoint,
    source: `${options.origin}/${options.exportName}`,
    readOnly: options.readOnly,
    allowOther: options.allowOther,
    operations: vfs,
    ...(vfs.writes && { writes: vfs.writes }),
    ...(vfs.locks && { locks: vfs.locks }),
    logger,
    metrics,
    clock,
  });
  teardown.add('mount', () => driver.unmount({ deadlineMs: STOP_WAIT_MS }));
  signal.throwIfAborted();
  prefetching.start({
    ...{ names: namespace, cache },
    isWrittenHere: (inode) => writing?.writeBack.of(inode) !== undefined,
  });
  teardown.add('prefetching', () => prefetching.close());

  const status = async (): Promise<MountStatus> => {
    const { openFiles, nodes, passthrough, ...reads } = vfs.stat();
    return {
      mountpoint,
      pid: process.pid,
      version: options.version,
      origin: options.origin,
      exportName: options.exportName,
      labels: options.labels,
      driver: options.driver,
      passthrough,
      readOnly: options.readOnly,
      upSeconds: (clock.nowMs() - startedMs) / 1000,
      originReachable: await answers(remote),
      leases: { ...session.stat(), ...held.cache.stat(), leases: held.cache.leases().length },
      store: exportInfo.storeUrl,
      openFiles,
      nodes,
      reads,
      cache: cache.stat(),
      writeBack: writing?.writeBack.stat(),
      memoryBytes: process.memoryUsage.rss(),
    };
  };
  const stop = async (reason: string): Promise<void> => {
    ending ??= reason;
    await teardown.run();
  };
  const unmount = async ({ force }: { readonly force: boolean }): Promise<void> => {
    const reason = force ? 'perigee unmount --force' : 'perigee unmount';
    ending ??= reason;
    try {
      if (force) await driver.unmount({ deadlineMs: 0 });
      else await driver.unmount({ deadlineMs: UNMOUNT_WAIT_MS, whenBusy: 'refuse' });
    } catch (error) {
      ending = undefined;
      throw error;
    }
    await stop(reason);
  };
  const control = await startControlServer({
    mountpoint,
    handlers: controlHandlers({
      ...{ cache, policies, prefetching, names: namespace, status, unmount },
      writeBack: writing?.writeBack,
    }),
    logger,
  });
  teardown.add('control', () => control.close());
  // The first step of an end.
  teardown.add('log', () => logger.info({ mountpoint, reason: ending }, 'stopping'));
  mounted = true;
  logger.info({ mountpoint, origin: options.origin, export: options.exportName }, 'ready');
  return {
    address: mountpoint,
    ended: driver.ended.then(({ reason, error }) =>
      stop(
        reason === 'unmounted' ? 'unmounted from outside' : `the connection broke: ${describeError(error)}`,
      ),
    ),
    stop: (reason = 'asked to end') => stop(reason),
    status,
  };
}

/** Whether the origin answers a small question now. */
async function answers(remote: RemoteNames): Promise<boolean> {
  const abort = new AbortController();
  const cancel = systemClock.after(ORIGIN_PROBE_MS, () => abort.abort(new Error('no answer in time')));
  try {
    await remote.attributes(ROOT_INODE, { signal: abort.signal });
    return true;
  } catch {
    return false;
  } finally {
    cancel();
  }
}
