/** What a lease table shows to people. */
import type { LeaseSession } from './lease-session.ts';
import type { LeaseView, SessionView } from './lease-table-events.ts';

export function* sessionViews(all: Iterable<LeaseSession>): Generator<SessionView> {
  for (const session of all) {
    const { identity, labels, address, openedMs, expiresMs, holdings, owed, sequence } = session;
    yield {
      session: identity.session,
      tenant: identity.tenant,
      host: identity.host,
      address,
      labels,
      connected: session.stream !== undefined,
      openedMs,
      expiresMs,
      leases: holdings.leases.size,
      acknowledgementsOwed: owed.size,
      sequence,
    };
  }
}

export function* leaseViews(all: Iterable<LeaseSession>): Generator<LeaseView> {
  for (const { identity, holdings } of all) {
    for (const [directory, { subtree, sinceMs }] of holdings.leases) {
      yield { directory, subtree, session: identity.session, host: identity.host, sinceMs };
    }
  }
}
