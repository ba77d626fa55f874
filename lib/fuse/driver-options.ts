/** What both drivers are made from. */
import type { Clock } from '../base/clock.ts';
import type { Logger } from '../telemetry/log.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import type { FileSystemOperations } from './operations.ts';
import type { LockOperations, WriteOperations } from './write-operations.ts';

export interface DriverOptions {
  readonly mountpoint: string;
  /** Shown as the device in the mount table, such as `127.0.0.1:7070/research`. */
  readonly source: string;
  readonly readOnly: boolean;
  /** Let users other than the one who mounts in; modes are checked by the kernel either way. */
  readonly allowOther: boolean;
  readonly operations: FileSystemOperations;
  /** Absent: every change is answered by `operations.refuseChange`. */
  readonly writes?: WriteOperations;
  /** Absent: the kernel keeps the locks. The portable driver always leaves them to it. */
  readonly locks?: LockOperations;
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly clock: Clock;
}

/** Type of our mounts in the mount table. */
export const FILE_SYSTEM_TYPE = 'fuse.perigee';
