/**
 * `perigee up`: origin with the embedded store, satellite and mount in one process, for a first look. What it was
 * not told to keep lives in a temporary directory that goes away with it.
 */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { systemClock } from '../base/clock.ts';
import {
  BLOCK_BYTES_DEFAULT,
  PARTITION_WAIT_MS_DEFAULT,
  WHOLE_ON_OPEN_BYTES_DEFAULT,
} from '../base/limits.ts';
import { type UpOptions, type UpRunning } from '../cli/runtime.ts';
import { startOrigin } from '../origin/origin-server.ts';
import { openStore } from '../store/open-store.ts';
import { createLogger } from '../telemetry/log.ts';
import { createMetrics } from '../telemetry/metrics.ts';
import { writeSampleData } from './sample-data.ts';
import { startSatellite } from './satellite.ts';
import { Teardown } from './teardown.ts';

const EXPORT_NAME = 'sample';
const FETCH_THREADS = 2;

export async function up(options: UpOptions, version: string): Promise<UpRunning> {
  const logger = createLogger({ level: 'warn' });
  const teardown = new Teardown(logger);
  try {
    const directory = options.directory ?? fs.mkdtempSync(path.join(os.tmpdir(), 'perigee-up-'));
    if (options.directory === undefined) {
      teardown.add('directory', () => fs.rmSync(directory, { recursive: true, force: true }));
    }
    const objects = path.join(directory, 'objects');
    fs.mkdirSync(objects, { recursive: true });
    const storeUrl = pathToFileURL(objects).href;
    const mountpoint = path.resolve(options.mountpoint ?? path.join(directory, 'mnt'));
    if (!fs.existsSync(mountpoint)) {
      fs.mkdirSync(mountpoint, { recursive: true });
      teardown.add('mountpoint', () => fs.rmdirSync(mountpoint));
    }
    if (options.sample) await fillOnce(storeUrl);

    const origin = await startOrigin({
      dataDirectory: path.join(directory, 'origin'),
      listen: { host: '127.0.0.1', port: 0 },
      exports: [{ name: EXPORT_NAME, url: storeUrl }],
      openStore,
      insecure: false,
      clock: systemClock,
      logger,
      metrics: createMetrics(),
      version,
    });
    teardown.add('origin', () => origin.close());

    const satellite = await startSatellite({
      origin: origin.address,
      exportName: EXPORT_NAME,
      mountpoint,
      cacheDirectory: path.join(directory, 'cache'),
      cacheBytes: options.cacheBytes,
      blockBytes: BLOCK_BYTES_DEFAULT,
      wholeOnOpenBytes: WHOLE_ON_OPEN_BYTES_DEFAULT,
      partitionWaitMs: PARTITION_WAIT_MS_DEFAULT,
      driver: options.driver,
      readOnly: false,
      writeMode: 'through',
      writeBackBytesMax: Math.floor(options.cacheBytes / 2),
      allowOther: true,
      fetchThreads: FETCH_THREADS,
      labels: {},
      metrics: undefined,
      logLevel: 'warn',
      logFile: undefined,
      version,
    });
    teardown.add('satellite', () => satellite.stop());
    return {
      address: mountpoint,
      mountpoint,
      ended: satellite.ended.then(() => teardown.run()),
      stop: () => teardown.run(),
      status: async () => satellite.status(),
    };
  } catch (error) {
    await teardown.run();
    throw error;
  }
}

/** Writes the sample unless an earlier run with the same directory has finished doing so. */
async function fillOnce(storeUrl: string): Promise<void> {
  const store = openStore(storeUrl);
  try {
    const page = await store.list({ prefix: 'SHA256SUMS', keysMax: 1 });
    if (page.objects.length === 0) await writeSampleData(store);
  } finally {
    await store.close();
  }
}
