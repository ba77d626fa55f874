/** What this host can do for the kernel driver, for `perigee doctor`. */
import { deviceError, readCapabilities, readKernelRelease } from './device.ts';

/** Bit of CAP_SYS_ADMIN in a capability set. */
const CAP_SYS_ADMIN = 21n;
/** First kernels with FUSE passthrough, and the first that the driver serves. */
const PASSTHROUGH_RELEASE = [6, 9] as const;
const OLDEST_RELEASE = [5, 10] as const;

export interface KernelProbe {
  /** `present`, or the name of the errno that opening `/dev/fuse` gave. */
  readonly device: string;
  readonly sysAdmin: boolean;
  /** Such as `6.18.44`; empty where this is no Linux. */
  readonly release: string;
  /** New enough for the kernel driver. */
  readonly supported: boolean;
  /** New enough for passthrough, and privileged enough to use it. Whether it was compiled in shows at mount. */
  readonly passthrough: boolean;
}

function atLeast(release: string, least: readonly [number, number]): boolean {
  const [major = 0, minor = 0] = release.split(/[.-]/).map(Number);
  return major > least[0] || (major === least[0] && minor >= least[1]);
}

function orElse<T>(read: () => T, otherwise: T): T {
  try {
    return read();
  } catch {
    return otherwise;
  }
}

export function probeKernel(): KernelProbe {
  const release = orElse(readKernelRelease, '');
  const sysAdmin = orElse(() => ((readCapabilities() >> CAP_SYS_ADMIN) & 1n) === 1n, false);
  return {
    device: deviceError() ?? 'present',
    sysAdmin,
    release,
    supported: atLeast(release, OLDEST_RELEASE),
    passthrough: sysAdmin && atLeast(release, PASSTHROUGH_RELEASE),
  };
}
