/** Every metric of Perigee, by name, in one place. Units are in the names. No registry is global: each process makes one. */
import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import { HotCounter, HotHistogram } from './hot-metrics.ts';

export type Metrics = ReturnType<typeof createMetrics>;

const SECONDS_BUCKETS = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 30];

export function createMetrics() {
  const registry = new Registry();
  const registers = [registry];
  return {
    registry,
    fuseRequests: new HotCounter({
      name: 'perigee_fuse_requests_total',
      help: 'Requests from the kernel by operation and result',
      labelNames: ['op', 'errno'],
      registry,
    }),
    fuseRequestSeconds: new HotHistogram({
      name: 'perigee_fuse_request_seconds',
      help: 'Time from reading a request to writing its reply',
      labelNames: ['op'],
      buckets: SECONDS_BUCKETS,
      registry,
    }),
    cacheBytes: new Gauge({
      name: 'perigee_cache_bytes',
      help: 'Bytes of the NVMe tier by state: used, reserved, pinned, dirty, capacity',
      labelNames: ['state'] as const,
      registers,
    }),
    cacheReads: new HotCounter({
      name: 'perigee_cache_reads_total',
      help: 'Block reads by result: hit, miss, bypass, passthrough (opens)',
      labelNames: ['result'],
      registry,
    }),
    cacheChecksumFailures: new Counter({
      name: 'perigee_cache_checksum_failures_total',
      help: 'Cached blocks that did not match their checksum and were dropped',
      registers,
    }),
    cacheEvictedBytes: new Counter({
      name: 'perigee_cache_evicted_bytes_total',
      help: 'Bytes that left the NVMe tier',
      registers,
    }),
    cacheHealth: new Gauge({
      name: 'perigee_cache_health',
      help: '0 normal, 1 unstable, 2 down (reads bypass the tier)',
      registers,
    }),
    convergedFiles: new Counter({
      name: 'perigee_converged_files_total',
      help: 'Versions that were made of files written on this host',
      registers,
    }),
    convergedBytes: new Counter({
      name: 'perigee_converged_bytes_total',
      help: 'Bytes of such versions',
      registers,
    }),
    convergeFailures: new Counter({
      name: 'perigee_converge_failures_total',
      help: 'Attempts to make a version that failed, and are repeated',
      registers,
    }),
    conflicts: new Counter({
      name: 'perigee_conflicts_total',
      help: 'Files whose bytes were kept under another name, because another host had taken them over',
      registers,
    }),
    dirty: new Gauge({
      name: 'perigee_dirty',
      help: 'What no version has yet: bytes, files, and age of the oldest in seconds',
      labelNames: ['what'] as const,
      registers,
    }),
    tierBytes: new Counter({
      name: 'perigee_tier_bytes_total',
      help: 'Bytes moved between the cache and a tier',
      labelNames: ['tier', 'direction'] as const,
      registers,
    }),
    tierRequests: new Counter({
      name: 'perigee_tier_requests_total',
      help: 'Requests to a tier by result: ok or the error code',
      labelNames: ['tier', 'result'] as const,
      registers,
    }),
    originRequests: new Counter({
      name: 'perigee_origin_requests_total',
      help: 'Calls answered by the origin by method and code',
      labelNames: ['method', 'code'] as const,
      registers,
    }),
    originRequestSeconds: new Histogram({
      name: 'perigee_origin_request_seconds',
      help: 'Time the origin took for a call',
      labelNames: ['method'] as const,
      buckets: SECONDS_BUCKETS,
      registers,
    }),
    originRefusals: new Counter({
      name: 'perigee_origin_refusals_total',
      help: 'Callers that were refused by reason: credentials (none shown), certificate, token, tenant, role, method, handshake',
      labelNames: ['reason'] as const,
      registers,
    }),
    originStoreCalls: new Counter({
      name: 'perigee_origin_store_calls_total',
      help: 'Calls of the origin to object stores by kind and result',
      labelNames: ['call', 'result'] as const,
      registers,
    }),
    nameAnswers: new Counter({
      name: 'perigee_name_answers_total',
      help: 'Answers about names by result: held (no call), kept (asked, and held from now on), once (asked, and not held)',
      labelNames: ['result'] as const,
      registers,
    }),
    namesCached: new Gauge({
      name: 'perigee_names_cached',
      help: 'Names that the satellite holds under leases, absent ones included',
      registers,
    }),
    namesWithdrawn: new Counter({
      name: 'perigee_names_withdrawn_total',
      help: 'Names that the origin has withdrawn from this satellite',
      registers,
    }),
    namesUpdated: new Counter({
      name: 'perigee_names_updated_total',
      help: 'Names that the origin has told this satellite after a change',
      registers,
    }),
    kernelNotifications: new Counter({
      name: 'perigee_kernel_notifications_total',
      help: 'Notifications to the kernel by kind (entry, attributes, listing, epoch) and result (ok, late, failed)',
      labelNames: ['kind', 'result'] as const,
      registers,
    }),
    sessionsLost: new Counter({
      name: 'perigee_sessions_lost_total',
      help: 'Lease sessions that ended with all their names, by reason',
      labelNames: ['reason'] as const,
      registers,
    }),
    leaseSessions: new Gauge({
      name: 'perigee_lease_sessions',
      help: 'Sessions of satellites that hold or may hold leases',
      labelNames: ['export'] as const,
      registers,
    }),
    leases: new Gauge({
      name: 'perigee_leases',
      help: 'Leases that sessions hold',
      labelNames: ['export'] as const,
      registers,
    }),
    leaseChangesWaiting: new Gauge({
      name: 'perigee_lease_changes_waiting',
      help: 'Changes that were wanted and are not finished',
      labelNames: ['export'] as const,
      registers,
    }),
    leaseMessages: new Counter({
      name: 'perigee_lease_messages_total',
      help: 'Messages sent to satellites by kind',
      labelNames: ['kind'] as const,
      registers,
    }),
    leaseOccurrences: new Counter({
      name: 'perigee_lease_occurrences_total',
      help: 'Sessions that were resumed, reclaimed, expired or refused, recalls, and grants that a limit forbade',
      labelNames: ['what'] as const,
      registers,
    }),
    leaseAcknowledgementSeconds: new Histogram({
      name: 'perigee_lease_acknowledgement_seconds',
      help: 'Time from a withdrawal or recall to its acknowledgement',
      buckets: SECONDS_BUCKETS,
      registers,
    }),
    originLeftovers: new Gauge({
      name: 'perigee_origin_leftovers',
      help: 'Keys of removed and renamed names that are still to be emptied in the store',
      registers,
    }),
    originEvents: new Counter({
      name: 'perigee_origin_events_total',
      help: 'Notifications of object stores: changed, same, elsewhere (no export), refused, failed',
      labelNames: ['result'] as const,
      registers,
    }),
    policyVersion: new Gauge({
      name: 'perigee_policy_version',
      help: 'Version of the policies that are in force on this satellite; 0: there are none',
      registers,
    }),
    policyRefusals: new Counter({
      name: 'perigee_policy_refused_total',
      help: 'Sets of policies of the origin that this release does not know; the last ones hold',
      registers,
    }),
    prefetchBytes: new Counter({
      name: 'perigee_prefetch_bytes_total',
      help: 'Bytes fetched ahead by policy (-: by hand) and outcome: fetched; of these used (opened) and wasted (given up unopened); late (a program came first)',
      labelNames: ['policy', 'outcome'] as const,
      registers,
    }),
    prefetchUnreadBytes: new Gauge({
      name: 'perigee_prefetch_unread_bytes',
      help: 'Of the share of the cache, what is being fetched ahead or waits for its reader',
      registers,
    }),
    limitReached: new Counter({
      name: 'perigee_limit_reached_total',
      help: 'A named limit made something wait or fail',
      labelNames: ['limit'] as const,
      registers,
    }),
  };
}
