/** One origin as a process: the service, its metrics, and the address where notifications of object stores are taken. */
import fs from 'node:fs';
import { systemClock } from '../base/clock.ts';
import { UsageError } from '../base/errors.ts';
import { type OriginOptions, type Running } from '../cli/runtime.ts';
import { leaseSettings } from '../origin/leases/export-leases.ts';
import { startOrigin } from '../origin/origin-server.ts';
import { startEventServer } from '../rpc/event-server.ts';
import { startMetricsServer } from '../rpc/metrics-server.ts';
import { openStore } from '../store/open-store.ts';
import { createLogger } from '../telemetry/log.ts';
import { createMetrics } from '../telemetry/metrics.ts';
import { Teardown } from './teardown.ts';

const EVENTS_TOKEN_CHARACTERS_MIN = 16;

export async function runOrigin(options: OriginOptions, version: string): Promise<Running> {
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
