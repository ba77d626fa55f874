/**
 * The shape of a policy document, and how each of its values is written. Every refusal is in words that follow the
 * value (`"5 bananas" is not a duration`) with a hint; unknown keys are refused.
 */
import { Cron } from 'croner';
import { z } from 'zod';
import { NAME_BYTES_MAX, GIB } from '../base/limits.ts';
import { exportNameSchema } from '../config/names.ts';
import {
  choiceSchema,
  durationSchema,
  labelsSchema,
  type Refusal,
  sizeSchema,
  switchSchema,
  textOf,
  valueSchema,
  wholeNumberSchema,
} from '../config/values.ts';
import { GlobSyntaxError, parseGlob } from './glob-syntax.ts';
import {
  ADMISSIONS,
  PARTITION_ANSWERS,
  PREFETCHES,
  PUBLICATIONS,
  READS_DURING_WRITE,
  TRIGGERS,
  WRITE_MODES,
} from './policy.ts';

export const API_VERSION = 'perigee/v1';
export const POLICIES_MAX = 1_000;

const POLICY_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
/** PATH_MAX of Linux. */
const PREFIX_BYTES_MAX = 4_096;
const LABELS_MAX = 32;
const CRON_CHARACTERS_MAX = 256;
const AHEAD_MAX = 10_000;
const DEPTH_MAX = 64;
const CONCURRENCY_MAX = 1_024;
/** Of ranks and priorities, to both sides of zero. */
const ORDER_MAX = 1_000;
const WHOLE_ON_OPEN_BYTES_MAX = 1 * GIB;
const TTL_MIN_MS = 1_000;
const SIZE_HINT = 'write min and max, as size: { min: 1MiB, max: 8GiB }';

const apiVersion = valueSchema<string>((given, refuse) =>
  given === API_VERSION
    ? API_VERSION
    : refuse('is not a version that this release knows', `write apiVersion: ${API_VERSION}`),
);

const policyName = valueSchema<string>((given, refuse) => {
  const name = textOf(given);
  return POLICY_NAME.test(name)
    ? name
    : refuse(
        'is not a name of a policy',
        'write 1 to 64 letters, digits, dots, dashes or underscores, beginning with a letter or digit',
      );
});

const prefix = valueSchema<string>((given, refuse) => {
  const hint = 'write the beginning of the paths, such as imagenet/train/';
  if (typeof given !== 'string') return refuse('is not a prefix', hint);
  if (given.startsWith('/')) return refuse('begins with a slash', 'paths begin at the root of the export');
  if (given.includes('\0')) return refuse('has a NUL byte in it', hint);
  if (Buffer.byteLength(given) > PREFIX_BYTES_MAX) return refuse(`has over ${PREFIX_BYTES_MAX} bytes`, hint);
  const names = given.split('/');
  if (names.some((name, at) => (name === '' && at < names.length - 1) || name === '..')) {
    return refuse('has an empty name or .. in it, which no path has', hint);
  }
  if (names.some((name) => Buffer.byteLength(name) > NAME_BYTES_MAX)) {
    return refuse(`has a name of over ${NAME_BYTES_MAX} bytes`, hint);
  }
  return given;
});

const glob = valueSchema<string>((given, refuse) => {
  const hint = 'write a pattern for what follows the prefix, such as "**/*.tar"';
  if (typeof given !== 'string') return refuse('is not a glob', hint);
  try {
    parseGlob(given);
    return given;
  } catch (error) {
    if (!(error instanceof GlobSyntaxError)) throw error;
    return refuse(error.message, hint);
  }
});

const size = z
  .strictObject({ min: sizeSchema({ min: 0 }).optional(), max: sizeSchema({ min: 0 }).optional() })
  .superRefine(({ min, max }, context) => {
    const refuse = (message: string): void =>
      context.addIssue({ code: 'custom', message, params: { hint: SIZE_HINT } satisfies Refusal });
    if (min === undefined && max === undefined) refuse('has neither min nor max');
    if (min !== undefined && max !== undefined && min > max) refuse('has a min that is more than its max');
  });

const labels = valueSchema<Readonly<Record<string, string>>>((given, refuse) => {
  const hint = 'write a map, as labels: { pool: h200 }';
  if (typeof given !== 'object' || given === null || Array.isArray(given)) {
    return refuse('is not a map of labels', hint);
  }
  const count = Object.keys(given).length;
  if (count === 0) return refuse('names no label', hint);
  if (count > LABELS_MAX) return refuse(`has over ${LABELS_MAX} labels`, hint);
  const read = labelsSchema.safeParse(given);
  return read.success ? read.data : refuse(read.error.issues[0]?.message ?? 'is refused', hint);
});

const schedule = valueSchema<string>((given, refuse) => {
  const hint = 'write the five fields of cron: minute, hour, day, month, weekday, as "0 2 * * *"';
  const text = textOf(given);
  if (text === '' || text.length > CRON_CHARACTERS_MAX) return refuse('is not a schedule', hint);
  try {
    new Cron(text, { mode: '5-part', paused: true });
    return text;
  } catch {
    return refuse('is not a schedule', hint);
  }
});

/** The step after which nothing is asked of the day of a leap year any more: any start does. */
const SCHEDULE_FROM = '2024-01-01T00:00:00';

/** Whether there is a time at all, as there is none for 30 February. */
export function everFires(cron: string): boolean {
  return new Cron(cron, { mode: '5-part', paused: true }).nextRun(SCHEDULE_FROM) !== null;
}

const bandwidth = valueSchema<number>((given, refuse) => {
  const hint = 'write it as 500MiB/s or 2GiB/s';
  const rate = /^(.*\S)\s*\/\s*s$/.exec(textOf(given))?.[1];
  const read = sizeSchema({ min: 1 }).safeParse(rate ?? '');
  return read.success ? read.data : refuse('is not a bandwidth', hint);
});

const order = valueSchema<number>((given, refuse) => {
  const text = textOf(given);
  const value = /^-?\d{1,4}$/.test(text) ? Number(text) : NaN;
  if (Math.abs(value) <= ORDER_MAX) return value;
  return refuse(`is not a whole number from -${ORDER_MAX} to ${ORDER_MAX}`, 'more is sooner, or kept longer');
});

const policy = z.strictObject({
  name: policyName,
  match: z.strictObject({
    export: exportNameSchema.optional(),
    prefix: prefix.optional(),
    glob: glob.optional(),
    size: size.optional(),
    hosts: z.strictObject({ labels }).optional(),
  }),
  prefetch: z
    .strictObject({
      on: z.array(choiceSchema(TRIGGERS)).min(1).max(TRIGGERS.length).optional(),
      schedule: schedule.optional(),
      what: choiceSchema(PREFETCHES).optional(),
      ahead: wholeNumberSchema({ min: 1, max: AHEAD_MAX }).optional(),
      depth: wholeNumberSchema({ min: 1, max: DEPTH_MAX }).optional(),
      concurrency: wholeNumberSchema({ min: 1, max: CONCURRENCY_MAX }).optional(),
      bandwidth: bandwidth.optional(),
      priority: order.optional(),
    })
    .optional(),
  cache: z
    .strictObject({
      admit: choiceSchema(ADMISSIONS).optional(),
      pin: switchSchema.optional(),
      ttl: durationSchema({ minMs: TTL_MIN_MS }).optional(),
      rank: order.optional(),
      wholeOnOpen: sizeSchema({ min: 0, max: WHOLE_ON_OPEN_BYTES_MAX }).optional(),
    })
    .optional(),
  write: z
    .strictObject({
      mode: choiceSchema(WRITE_MODES).optional(),
      readDuringWrite: choiceSchema(READS_DURING_WRITE).optional(),
      publish: choiceSchema(PUBLICATIONS).optional(),
    })
    .optional(),
  consistency: z
    .strictObject({
      immutable: switchSchema.optional(),
      onPartition: choiceSchema(PARTITION_ANSWERS).optional(),
    })
    .optional(),
});

export const documentSchema = z.strictObject({ apiVersion, policies: z.array(policy).max(POLICIES_MAX) });

export type WrittenPolicy = z.output<typeof policy>;
