/** The composition root: what the commands call. Every implementation is known here and in `satellite.ts` alone. */
import { systemClock } from '../base/clock.ts';
import { type OriginOptions, type Runtime, type Running } from '../cli/runtime.ts';
import { connectControl, listControls } from '../control/control-client.ts';
import { detachMount, listMounts } from '../fuse/mountpoint.ts';
import { startOrigin } from '../origin/origin-server.ts';
import { startMetricsServer } from '../rpc/metrics-server.ts';
import { openStore } from '../store/open-store.ts';
import { createLogger } from '../telemetry/log.ts';
import { createMetrics } from '../telemetry/metrics.ts';
import { startInBackground } from './background.ts';
import { issueCertificates } from './certificates.ts';
import { doctor } from './doctor.ts';
import { openChanges } from './export-changes.ts';
import { openPolicyCalls } from './policy-calls.ts';
import { startSatellite } from './satellite.ts';
import { Teardown } from './teardown.ts';
import { up } from './up.ts';
import { softwareVersion } from './version.ts';

export function createRuntime(): Runtime {
  const version = softwareVersion();
  return {
    version,
    origin: (options) => runOrigin(options, version),
    issueCertificates,
    mountForeground: (options) => startSatellite({ ...options, version }),
    mountBackground: (options) => startInBackground({ ...options, version }),
    up: (options) => up(options, version),
    mounts,
    control: (mountpoint) => connectControl(mountpoint),
    forceUnmount: (mountpoint) => detachMount(mountpoint),
    changes: async (options) => openChanges(options),
    policies: async (options) => openPolicyCalls(options),
    doctor,
  };
}

/** Those that answer, and those whose daemon is gone. */
async function mounts(): Promise<string[]> {
  const live = (await listControls()).map(({ mountpoint }) => mountpoint);
  return [...new Set([...live, ...listMounts()])];
}

async function runOrigin(options: OriginOptions, version: string): Promise<Running> {
  const logger = createLogger({ level: options.logLevel });
  const metrics = createMetrics();
  const teardown = new Teardown(logger);
  try {
    const origin = await startOrigin({
      dataDirectory: options.dataDirectory,
      listen: options.listen,
      exports: options.exports,
      openStore,
      insecure: options.insecure,
      credentials: options.credentials,
      access: options.access,
      clock: systemClock,
      logger,
      metrics,
      version,
    });
    teardown.add('origin', () => origin.close());
    if (options.metrics !== undefined) {
      const server = await startMetricsServer({
        listen: options.metrics,
        registry: metrics.registry,
        ready: () => true,
      });
      teardown.add('metrics', () => server.close());
    }
    let end = (): void => undefined;
    const ended = new Promise<void>((resolve) => (end = resolve));
    return {
      address: origin.address,
      ended,
      async stop() {
        await teardown.run();
        end();
      },
    };
  } catch (error) {
    await teardown.run();
    throw error;
  }
}
