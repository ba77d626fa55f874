/**
 * The composition root: what the commands call. Every implementation is known here and in what this loads alone.
 *
 * What a command needs is loaded when it is called: all of it together takes half a second, which `perigee status` and a
 * shell's completion must not wait for.
 */
import { type Runtime } from '../cli/runtime.ts';
import { connectControl, listControls } from '../control/control-client.ts';
import { detachMount, listMounts } from '../fuse/mountpoint.ts';
import { softwareVersion } from './version.ts';

export function createRuntime(): Runtime {
  const version = softwareVersion();
  return {
    version,
    origin: async (options) => (await import('./run-origin.ts')).runOrigin(options, version),
    issueCertificates: async (options) => (await import('./certificates.ts')).issueCertificates(options),
    mountForeground: async (options) =>
      (await import('./satellite.ts')).startSatellite({ ...options, version }),
    mountBackground: async (options) =>
      (await import('./background.ts')).startInBackground({ ...options, version }),
    up: async (options) => (await import('./up.ts')).up(options, version),
    mounts,
    control: (mountpoint) => connectControl(mountpoint),
    forceUnmount: (mountpoint) => detachMount(mountpoint),
    changes: async (options) => (await import('./export-changes.ts')).openChanges(options),
    policies: async (options) => (await import('./policy-calls.ts')).openPolicyCalls(options),
    leases: async (options) => (await import('./lease-calls.ts')).openLeaseCalls(options),
    salvageCache: async (options) => (await import('../../cache/staging/salvage.ts')).salvageStaging(options),
    async *doctor(options) {
      yield* (await import('./doctor.ts')).doctor(options);
    },
  };
}

/** Those that answer, and those whose daemon is gone. */
async function mounts(): Promise<string[]> {
  const live = (await listControls()).map(({ mountpoint }) => mountpoint);
  return [...new Set([...live, ...listMounts()])];
}
