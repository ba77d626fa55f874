/**
 * What travels over the admin socket: JSON over HTTP, one POST a call, validated on both ends by the schemas
 * here. The version is in the path, so that a command of one release and a mount of another refuse each other in words.
 */
import { z } from 'zod';
import type { CachedVersion, CacheStat, EvictReport, VerifyReport } from '../../cache/block-cache.ts';
import type { JobInfo, JobRequest, OutcomeBytes, Recording } from '../prefetch/prefetch.ts';
import type { WriteBackStat } from '../../cache/working-copy.ts';
import type { MountStatus, PolicyExplanation, Unconverged } from './control.ts';

export const CONTROL_PROTOCOL_VERSION = 1;
export const CALL_PATH_PREFIX = `/v${CONTROL_PROTOCOL_VERSION}/`;
/** A request is a path and a flag or two. */
export const REQUEST_BYTES_MAX = 64 * 1024;
/** A listing of a million blobs; beyond it a command must name a directory. */
export const RESPONSE_BYTES_MAX = 256 * 1024 * 1024;

const SECOND_MS = 1000;

const count = z.number().nonnegative();

const cacheStatSchema = z.object({
  directory: z.string(),
  health: z.enum(['normal', 'unstable', 'down']),
  capacityBytes: count,
  usedBytes: count,
  reservedBytes: count,
  pinnedBytes: count,
  // A mount of an older release has none.
  dirtyBytes: count.default(0),
  blobs: count,
  completeBlobs: count,
  hits: count,
  misses: count,
  fetchedBytes: count,
  evictedBytes: count,
  checksumFailures: count,
  bypassedReads: count,
}) satisfies z.ZodType<CacheStat>;

const writeBackStatSchema = z.object({
  dirtyBytes: count,
  dirtyFiles: count,
  openFiles: count,
  oldestMs: count,
  convergedFiles: count,
  convergedBytes: count,
  conflicts: z.array(z.string()).readonly(),
  failing: count,
}) satisfies z.ZodType<WriteBackStat>;

const unconvergedSchema = z.object({
  files: count,
  bytes: count,
  sentBytes: count,
  openFiles: count,
  failing: count,
  oldestMs: count,
  list: z
    .array(
      z.object({
        path: z.string(),
        sizeBytes: count,
        ageMs: count,
        state: z.enum(['open', 'waiting', 'uploading', 'committing', 'failing']),
        sentBytes: count,
        failure: z.string().optional(),
      }),
    )
    .readonly(),
}) satisfies z.ZodType<Unconverged>;

const mountStatusSchema = z.object({
  mountpoint: z.string(),
  pid: count,
  version: z.string(),
  origin: z.string(),
  exportName: z.string(),
  // A mount of an older release has none.
  labels: z.record(z.string(), z.string()).default({}),
  driver: z.enum(['kernel', 'portable']),
  passthrough: z.boolean(),
  readOnly: z.boolean(),
  upSeconds: count,
  originReachable: z.boolean(),
  // A mount of an older release has none.
  leases: z
    .object({
      state: z.enum(['live', 'reconnecting', 'lost']),
      session: z.string().optional(),
      termLeftMs: count,
      leases: count,
      names: count,
      directories: count,
      directoriesComplete: count,
    })
    .default({ state: 'lost', termLeftMs: 0, leases: 0, names: 0, directories: 0, directoriesComplete: 0 }),
  store: z.string(),
  openFiles: count,
  nodes: count,
  reads: z.object({ passthroughOpens: count, servedOpens: count, servedBytes: count }),
  cache: cacheStatSchema,
  writeBack: writeBackStatSchema.optional(),
  memoryBytes: count,
}) satisfies z.ZodType<MountStatus>;

const cachedVersionSchema = z.object({
  version: z.string(),
  exportName: z.string(),
  path: z.string(),
  sizeBytes: count,
  cachedBytes: count,
  state: z.enum(['filling', 'complete']),
  pinned: z.boolean(),
  uses: count,
  open: z.boolean(),
}) satisfies z.ZodType<CachedVersion>;

const evictReportSchema = z.object({
  freedBytes: count,
  keptBlobs: count,
}) satisfies z.ZodType<EvictReport>;

const verifyReportSchema = z.object({
  blobs: count,
  bytes: count,
  badBlocks: count,
  missingBlobs: count,
}) satisfies z.ZodType<VerifyReport>;

const policyExplanationSchema = z.object({
  exportName: z.string(),
  path: z.string(),
  kind: z.enum(['file', 'directory', 'symlink', 'absent']),
  sizeBytes: count.optional(),
  documentVersion: count,
  host: z.string(),
  labels: z.record(z.string(), z.string()),
  settings: z
    .array(
      z.object({
        name: z.string(),
        value: z.union([z.string(), z.number(), z.boolean(), z.null(), z.array(z.string()).readonly()]),
        policy: z.string().optional(),
        reason: z.string(),
      }),
    )
    .readonly(),
  policies: z.array(z.object({ name: z.string(), outcome: z.string() })).readonly(),
  cachedBytes: count.optional(),
}) satisfies z.ZodType<PolicyExplanation>;

const jobInfoSchema = z.object({
  id: z.string(),
  what: z.string(),
  policy: z.string().optional(),
  state: z.enum(['running', 'waiting', 'done', 'cancelled', 'failed']),
  error: z.string().optional(),
  startedMs: count,
  isFound: z.boolean(),
  filesFound: count,
  bytesFound: count,
  filesThere: count,
  bytesThere: count,
  bytesFetched: count,
  filesDeclined: count,
  filesFailed: count,
  pathsMissing: count,
}) satisfies z.ZodType<JobInfo>;

const jobRequestSchema = z.object({
  paths: z.array(z.string()),
  manifest: z.string().optional(),
  ahead: count.optional(),
  bytesPerSecond: count.optional(),
  priority: z.number().optional(),
}) satisfies z.ZodType<JobRequest>;

const recordingSchema = z.object({
  paths: z.array(z.string()).readonly(),
  isCut: z.boolean(),
}) satisfies z.ZodType<Recording>;

const outcomesSchema = z.record(
  z.string(),
  z.object({ fetched: count, used: count, wasted: count, late: count }) satisfies z.ZodType<OutcomeBytes>,
);

const pathSchema = z.object({ path: z.string().optional() });

/** Each call with what it takes, what it answers, and how long it may take at most. */
export const controlCalls = {
  status: { request: z.object({}), response: mountStatusSchema, deadlineMs: 10 * SECOND_MS },
  cacheList: { request: pathSchema, response: z.array(cachedVersionSchema), deadlineMs: 60 * SECOND_MS },
  cachePin: {
    request: z.object({ path: z.string(), pinned: z.boolean() }),
    response: count,
    deadlineMs: 60 * SECOND_MS,
  },
  cacheEvict: { request: pathSchema, response: evictReportSchema, deadlineMs: 600 * SECOND_MS },
  // Reads the whole tier: terabytes at the speed of the disk.
  cacheVerify: { request: pathSchema, response: verifyReportSchema, deadlineMs: 24 * 3600 * SECOND_MS },
  unconverged: { request: pathSchema, response: unconvergedSchema, deadlineMs: 60 * SECOND_MS },
  // As long as the object store is away.
  flush: { request: pathSchema, response: z.null(), deadlineMs: 24 * 3600 * SECOND_MS },
  policyExplain: { request: pathSchema, response: policyExplanationSchema, deadlineMs: 60 * SECOND_MS },
  // A manifest of a million paths is read before the answer.
  prefetchStart: { request: jobRequestSchema, response: jobInfoSchema, deadlineMs: 60 * SECOND_MS },
  prefetchList: {
    request: z.object({}),
    response: z.object({ jobs: z.array(jobInfoSchema), outcomes: outcomesSchema }),
    deadlineMs: 10 * SECOND_MS,
  },
  prefetchCancel: {
    request: z.object({ id: z.string() }),
    response: jobInfoSchema,
    deadlineMs: 10 * SECOND_MS,
  },
  recordStart: { request: z.object({ path: z.string() }), response: z.string(), deadlineMs: 10 * SECOND_MS },
  recordStop: {
    request: z.object({ id: z.string() }),
    response: recordingSchema,
    deadlineMs: 60 * SECOND_MS,
  },
  unmount: {
    request: z.object({ force: z.boolean() }),
    response: z.null(),
    deadlineMs: 120 * SECOND_MS,
  },
} as const;

export type ControlCall = keyof typeof controlCalls;
export type RequestOf<Call extends ControlCall> = z.output<(typeof controlCalls)[Call]['request']>;
export type ResponseOf<Call extends ControlCall> = z.output<(typeof controlCalls)[Call]['response']>;

/** An answer is a result or a refusal with its hint. */
export const answerSchema = z.union([
  z.object({ result: z.unknown() }).strict(),
  z.object({ error: z.object({ code: z.string(), message: z.string(), hint: z.string().optional() }) }),
]);
export type Answer = z.output<typeof answerSchema>;
