/** From words and settings to the options of a satellite; `perigee mount` and `mount.perigee` share it. */
import path from 'node:path';
import { clientCredentialFiles } from '../config/client-settings.ts';
import { resolveOptional } from '../config/file-settings.ts';
import { checkMountSettings, type mountSettings } from '../config/mount-settings.ts';
import { checkOutside, parseSource, resolveMountpoint } from '../config/names.ts';
import { type ValuesOf } from '../config/settings.ts';
import { type MountOptions } from './runtime.ts';

export interface MountWords {
  readonly source: string;
  readonly mountpoint: string;
  readonly workingDirectory: string;
}

export function mountOptionsOf(
  { source, mountpoint, workingDirectory }: MountWords,
  values: ValuesOf<typeof mountSettings>,
): MountOptions {
  checkMountSettings(values);
  const named = parseSource(source);
  const target = resolveMountpoint(mountpoint, workingDirectory);
  const cacheDirectory = path.resolve(workingDirectory, values.cache);
  const logFile = resolveOptional(workingDirectory, values['log-file']);
  checkOutside(target, { flag: '--cache', path: cacheDirectory });
  if (logFile !== undefined) checkOutside(target, { flag: '--log-file', path: logFile });
  return {
    ...named,
    mountpoint: target,
    cacheDirectory,
    cacheBytes: values['cache-size'],
    blockBytes: values['block-size'],
    wholeOnOpenBytes: values['whole-on-open'],
    partitionWaitMs: values['partition-wait'],
    driver: values.driver,
    readOnly: values['read-only'],
    writeMode: values['write-mode'],
    writeBackBytesMax: values['writeback-bytes-max'] ?? Math.floor(values['cache-size'] / 2),
    allowOther: values['allow-other'],
    fetchThreads: values['fetch-threads'],
    labels: values.labels,
    credentials: clientCredentialFiles(values, workingDirectory),
    metrics: values.metrics,
    logLevel: values['log-level'],
    logFile,
  };
}
