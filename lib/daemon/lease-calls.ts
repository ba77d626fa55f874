/** Sessions and leases, as their origin tells them. */
import { systemClock } from '../base/clock.ts';
import { ORIGIN_DEADLINE_MS } from '../base/limits.ts';
import type { LeaseCalls, LeaseCallsOptions } from '../cli/lease-calls.ts';
import { createOriginClient } from '../rpc/origin-client.ts';

export function openLeaseCalls({ origin, credentials }: LeaseCallsOptions): LeaseCalls {
  const client = createOriginClient({
    address: origin,
    credentials,
    clock: systemClock,
    deadlineMs: ORIGIN_DEADLINE_MS,
  });
  return {
    async sessions(exportName = '') {
      const { sessions, sessionsAwaited, graceLeftMs } = await client.listSessions({ exportName });
      return {
        sessionsAwaited: Number(sessionsAwaited),
        graceLeftMs: Number(graceLeftMs),
        sessions: sessions.map((one) => ({
          session: one.session,
          export: one.exportName,
          host: one.host,
          tenant: one.tenant,
          address: one.address,
          labels: { ...one.labels },
          connected: one.connected,
          ageMs: Number(one.ageMs),
          expiresInMs: Number(one.expiresInMs),
          leases: Number(one.leases),
          acknowledgementsOwed: Number(one.acknowledgementsOwed),
          sequence: Number(one.sequence),
        })),
      };
    },
    async leases({ exportName = '', path, leasesMax }) {
      const { leases, more } = await client.listLeases({ exportName, path, leasesMax });
      return {
        more,
        leases: leases.map((one) => ({
          path: one.path,
          subtree: one.subtree,
          session: one.session,
          host: one.host,
          ageMs: Number(one.ageMs),
        })),
      };
    },
    async close() {
      client.close();
    },
  };
}
