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
import { systemClock } from '../base/clock.ts';
import type { MountOptions, MountStatus, Running } from '../cli/runtime.ts';
import { startControlServer } from '../control/control-server.ts';
import { mountKernel } from '../fuse/kernel-driver.ts';
import { prepareMountpoint } from '../fuse/mountpoint.ts';
import { mountPortable } from '../fuse/portable-driver.ts';
import type { Namespace } from '../namespace/namespace.ts';
import { openOriginNamespace } from '../namespace/origin-namespace.ts';
import { createStreamObserver } from '../prefetch/stream-observer.ts';
import { startMetricsServer } from '../rpc/metrics-server.ts';
import { createLogger, type Logger } from '../telemetry/log.ts';
import { createMetrics } from '../telemetry/metrics.ts';
import { createStoreTier } from '../tiers/store-tier.ts';
import { createTierStack } from '../tiers/tier-stack.ts';
import { createVfs } from '../vfs/vfs.ts';
import { controlHandlers } from './control-handlers.ts';
import { startFetchWorker } from './fetch-worker-thread.ts';
import { Teardown } from './teardown.ts';

/** How long `status` waits for the origin. */
const ORIGIN_PROBE_MS = 1_000;
/** How long a stop waits for open files before it detaches lazily. */
const STOP_WAIT_MS = 5_000;
/** How long an unmount waits for a program that is just letting go before it refuses. */
const UNMOUNT_WAIT_MS = 1_000;

export interface Satellite extends Running {
  status(): Promise<MountStatus>;
}

export interface SatelliteOptions extends MountOptions {
  /** Of this software. */
  readonly version: string;
}

export async function startSatellite(options: SatelliteOptions): Promise<Satellite> {
  const logger = createLogger({
    level: options.logLevel,
    ...(options.logFile === undefined ? {} : { file: options.logFile }),
  });
  const teardown = new Teardown(logger);
  try {
    return await assemble(options, { logger, teardown });
  } catch (error) {
    await teardown.run();
    throw error;
  }
}

async function assemble(
  options: SatelliteOptions,
  { logger, teardown }: { readonly logger: Logger; readonly teardown: Teardown },
): Promise<Satellite> {
  const clock = systemClock;
  const metrics = createMetrics();
  const startedMs = clock.nowMs();
  // The path as the mount table shows it: links are followed here, once.
  const mountpoint = await prepareMountpoint(options.mountpoint, clock);

  const { namespace, exportInfo } = await openOriginNamespace({
    address: options.origin,
    exportName: options.exportName,
    host: os.hostname(),
    clock,
    logger,
  });
  teardown.add('namespace', () => namespace.close());

  const tier = createTierStack([
    createStoreTier({
      startWorker: startFetchWorker,
      workerCount: options.fetchThreads,
      storeUrlOf: () => exportInfo.storeUrl,
      clock,
      logger,
      metrics,
    }),
  ]);
  teardown.add('tiers', () => tier.close());

  const cache = await openNvmeCache({
    directory: options.cacheDirectory,
    capacityBytes: options.cacheBytes,
    blockBytes: options.blockBytes,
    wholeOnOpenBytes: options.wholeOnOpenBytes,
    tier,
    clock,
    logger,
    metrics,
  });
  teardown.add('cache', () => cache.close());

  // Nothing writes yet, so every mount is read-only, whatever was asked for.
  const vfs = createVfs({
    namespace,
    cache,
    observer: createStreamObserver({ clock }),
    clock,
    logger,
    metrics,
    wholeOnOpenBytes: options.wholeOnOpenBytes,
    readOnly: true,
  });
  teardown.add('vfs', () => vfs.close());

  if (options.metrics !== undefined) {
    const server = await startMetricsServer({
      listen: options.metrics,
      registry: metrics.registry,
      ready: () => true,
    });
    teardown.add('metrics', () => server.close());
  }

  const mountDriver = options.driver === 'kernel' ? mountKernel : mountPortable;
  const driver = await mountDriver({
    mountpoint,
    source: `${options.origin}/${options.exportName}`,
    readOnly: true,
    allowOther: options.allowOther,
    operations: vfs,
    logger,
    metrics,
    clock,
  });
  teardown.add('mount', () => driver.unmount({ deadlineMs: STOP_WAIT_MS }));

  const status = async (): Promise<MountStatus> => {
    const { openFiles, nodes, passthrough, ...reads } = vfs.stat();
    return {
      mountpoint,
      pid: process.pid,
      version: options.version,
      origin: options.origin,
      exportName: options.exportName,
      driver: options.driver,
      passthrough,
      readOnly: true,
      upSeconds: (clock.nowMs() - startedMs) / 1000,
      originReachable: await answers(namespace),
      store: exportInfo.storeUrl,
      openFiles,
      nodes,
      reads,
      cache: cache.stat(),
      memoryBytes: process.memoryUsage.rss(),
    };
  };
  const unmount = async ({ force }: { readonly force: boolean }): Promise<void> => {
    if (force) await driver.unmount({ deadlineMs: 0 });
    else await driver.unmount({ deadlineMs: UNMOUNT_WAIT_MS, whenBusy: 'refuse' });
    await teardown.run();
  };
  const control = await startControlServer({
    mountpoint,
    handlers: controlHandlers({ cache, status, unmount }),
    logger,
  });
  teardown.add('control', () => control.close());
  logger.info({ mountpoint, origin: options.origin, export: options.exportName }, 'ready');
  return {
    address: mountpoint,
    ended: driver.ended.then(() => teardown.run()),
    stop: () => teardown.run(),
    status,
  };
}

/** Whether the origin answers a small question now. */
async function answers(namespace: Namespace): Promise<boolean> {
  const abort = new AbortController();
  const cancel = systemClock.after(ORIGIN_PROBE_MS, () => abort.abort(new Error('no answer in time')));
  try {
    await namespace.attributes(ROOT_INODE, { signal: abort.signal });
    return true;
  } catch {
    return false;
  } finally {
    cancel();
  }
}
