/** The composition root: what the commands call. Every implementation is known here and in `satellite.ts` alone. */
import fs from 'node:fs';
import { systemClock } from '../base/clock.ts';
import { UsageError } from '../base/errors.ts';
import { type OriginOptions, type Runtime, type Running } from '../cli/runtime.ts';
import { connectControl, listControls } from '../control/control-client.ts';
import { detachMount, listMounts } from '../fuse/mountpoint.ts';
import { leaseSettings } from '../origin/export-leases.ts';
import { startOrigin } from '../origin/origin-server.ts';
import { startEventServer } from '../rpc/event-server.ts';
import { startMetricsServer } from '../rpc/metrics-server.ts';
import { openStore } from '../store/open-store.ts';
import { createLogger } from '../telemetry/log.ts';
import { createMetrics } from '../telemetry/metrics.ts';
import { startInBackground } from './background.ts';
import { issueCertificates } from './certificates.ts';
import { doctor } from './doctor.ts';
import { openChanges } from './export-changes.ts';
import { openLeaseCalls } from './lease-calls.ts';
import { openPolicyCalls } from './policy-calls.ts';
import { startSatellite } from './satellite.ts';
import { Teardown } from './teardown.ts';
import { up } from './up.ts';
import { softwareVersion } from './version.ts';

const EVENTS_TOKEN_CHARACTERS_MIN = 16;

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
    leases: async (options) => openLeaseCalls(options),
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
      leases: leaseSettings(options.leases),
      clock: systemClock,
      logger,
      metrics,
      version,
    });
    teardown.add('origin', () => origin.close());
    if (options.events !== undefined) {
      const { listen, tokenFile } = options.events;
      const token = tokenFile === undefined ? undefined : readToken(tokenFile);
      const server = await startEventServer({ listen, token, take: (text) => origin.takeEvent(text) });
      logger.info({ address: server.address }, `notifications are taken on ${server.address}`);
      teardown.add('events', () => server.close());
    }
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

/** @throws UsageError */
function readToken(file: string): string {
  try {
    const token = fs.readFileSync(file, 'utf8').trim();
    if (token.length >= EVENTS_TOKEN_CHARACTERS_MIN) return token;
  } catch (error) {
    throw new UsageError(`--events-token: cannot read ${file}`, {
      cause: error,
      hint: 'name a file that holds nothing but the token',
    });
  }
  throw new UsageError(
    `--events-token: the token in ${file} is shorter than ${EVENTS_TOKEN_CHARACTERS_MIN} characters`,
    {
      hint: 'make one with: openssl rand -hex 32',
    },
  );
}
