/** From words and settings to the options of a satellite; `perigee mount` and `mount.perigee` share it. */
import path from 'node:path';
import { checkMountSettings, type mountSettings } from '../config/mount-settings.ts';
import { parseSource, resolveMountpoint } from '../config/names.ts';
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
  const logFile = values['log-file'];
  return {
    ...parseSource(source),
    mountpoint: resolveMountpoint(mountpoint, workingDirectory),
    cacheDirectory: path.resolve(workingDirectory, values.cache),
    cacheBytes: values['cache-size'],
    blockBytes: values['block-size'],
    wholeOnOpenBytes: values['whole-on-open'],
    driver: values.driver,
    readOnly: values['read-only'],
    allowOther: values['allow-other'],
    fetchThreads: values['fetch-threads'],
    labels: values.labels,
    metrics: values.metrics,
    logLevel: values['log-level'],
    logFile: logFile === undefined ? undefined : path.resolve(workingDirectory, logFile),
  };
}
