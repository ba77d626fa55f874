/** Every limit of sending parts to object stores. */
import { MIB, STORE_DEADLINE_MS } from '../base/limits.ts';

export interface SendLimits {
  /** Of parts that lie in memory while they are sent; a larger one is sent alone. */
  readonly bytesMax: number;
  /** Parts on their way that a program waits for. */
  readonly throughSendsMax: number;
  /** Parts on their way behind programs' backs: they leave memory for the others. */
  readonly backSendsMax: number;
  /** The same while programs write. */
  readonly backSendsWhileWritingMax: number;
  /** For one part with its retries, besides the time that its bytes take at the lowest speed that is put up with. */
  readonly deadlineMs: number;
  readonly bytesPerMsMin: number;
}

export const SEND_LIMITS: SendLimits = {
  bytesMax: 64 * MIB,
  throughSendsMax: 8,
  backSendsMax: 4,
  backSendsWhileWritingMax: 1,
  deadlineMs: STORE_DEADLINE_MS,
  bytesPerMsMin: 256,
};
