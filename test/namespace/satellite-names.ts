/** The names of a satellite without a mount: a lease session with a real origin, and its calls counted. */
import type { Test } from 'tap';
import { pino } from 'pino';
import { nextTurn, systemClock } from '../../lib/base/clock.ts';
import { seededPrng } from '../../lib/base/prng.ts';
import { LeaseClient } from '../../lib/lease/lease-client.ts';
import { LEASE_TIMING_DEFAULT } from '../../lib/lease/lease.ts';
import { HeldNames } from '../../lib/namespace/held-names.ts';
import { LeasedChanges } from '../../lib/namespace/leased-changes.ts';
import { LeaseSession } from '../../lib/namespace/lease-session.ts';
import { LeasedNamespace } from '../../lib/namespace/leased-namespace.ts';
import { NameCache } from '../../lib/namespace/name-cache.ts';
import { openOriginNames } from '../../lib/namespace/origin-names.ts';
import { createMetrics } from '../../lib/telemetry/metrics.ts';

const PARTITION_WAIT_MS = 10_000;
let satellites = 0;

export async function startSatelliteNames(t: Test, address: string) {
  const host = `host-${(satellites += 1)}`;
  const logger = pino({ level: 'silent' });
  const metrics = createMetrics();
  const opened = await openOriginNames({ address, exportName: 'data', host, clock: systemClock, logger });
  const calls: string[] = [];
  const held = new HeldNames({
    cache: new NameCache(),
    metrics,
    onReleased: (directories) => session.release(directories),
  });
  const live = Promise.withResolvers<void>();
  const session = new LeaseSession({
    machine: new LeaseClient({ clockRateError: LEASE_TIMING_DEFAULT.clockRateError }),
    open: (listener) => opened.openStream(listener, () => undefined),
    held,
    clock: systemClock,
    nextTurn,
    prng: seededPrng(satellites),
    host,
    labels: {},
    logger,
    metrics,
    onLive: () => {
      names.originIsBack();
      live.resolve();
    },
  });
  const names = new LeasedNamespace({
    remote: counted(opened.remote, calls),
    held,
    term: session,
    clock: systemClock,
    metrics,
    partitionWaitMs: PARTITION_WAIT_MS,
  });
  const changes = new LeasedChanges({
    remote: counted(opened.remoteChanges, calls),
    held,
    term: session,
    wait: names.originWait,
    clock: systemClock,
    nextTurn,
    life: host,
  });
  t.teardown(async () => {
    changes.close();
    await session.close();
    await names.close();
  });
  session.start();
  await live.promise;
  return { names, changes, calls, held };
}

/** Each call is noted by its name. */
function counted<T extends object>(target: T, calls: string[]): T {
  return new Proxy(target, {
    get(object, name) {
      const member: unknown = Reflect.get(object, name);
      if (typeof member !== 'function') return member;
      return (...parameters: unknown[]): unknown => {
        calls.push(String(name));
        return (member as (...all: unknown[]) => unknown).apply(object, parameters);
      };
    },
  });
}
