/** The settings of a satellite. */
import { UsageError } from '../base/errors.ts';
import {
  BLOCK_BYTES_DEFAULT,
  FUSE_READ_BYTES_MAX,
  GIB,
  MIB,
  PARTITION_WAIT_MS_DEFAULT,
  WHOLE_ON_OPEN_BYTES_DEFAULT,
} from '../base/limits.ts';
import { clientSettings } from './client-settings.ts';
import { optionalFile } from './file-settings.ts';
import { processSettings } from './process-settings.ts';
import { type Settings, setting, type ValuesOf } from './settings.ts';
import {
  choiceSchema,
  durationSchema,
  formatSize,
  labelsSchema,
  pathSchema,
  sizeSchema,
  switchSchema,
  wholeNumberSchema,
} from './values.ts';

const BLOCK_BYTES_MAX = 64 * MIB;
const WHOLE_ON_OPEN_BYTES_MAX = 1 * GIB;
const FETCH_THREADS_MAX = 64;
const PARTITION_WAIT_MS_MAX = 24 * 60 * 60_000;
const FETCH_THREADS_DEFAULT = 2;

export const DRIVERS = ['kernel', 'portable'] as const;
export const WRITE_MODES = ['through', 'back'] as const;

export const mountSettings = {
  cache: setting({
    schema: pathSchema,
    description: "directory of this satellite's cache, on local NVMe",
    placeholder: 'directory',
  }),
  'cache-size': setting({
    schema: sizeSchema({ min: FUSE_READ_BYTES_MAX }),
    description: 'room the cache may take',
    placeholder: 'size',
  }),
  'block-size': setting({
    schema: sizeSchema({ min: FUSE_READ_BYTES_MAX, max: BLOCK_BYTES_MAX }),
    description: 'unit of fetching; a power of two',
    placeholder: 'size',
    fallback: { value: BLOCK_BYTES_DEFAULT, text: formatSize(BLOCK_BYTES_DEFAULT) },
  }),
  'whole-on-open': setting({
    schema: sizeSchema({ min: 0, max: WHOLE_ON_OPEN_BYTES_MAX }),
    description: 'files up to this size are fetched whole when they are opened',
    placeholder: 'size',
    fallback: { value: WHOLE_ON_OPEN_BYTES_DEFAULT, text: formatSize(WHOLE_ON_OPEN_BYTES_DEFAULT) },
  }),
  driver: setting<(typeof DRIVERS)[number]>({
    schema: choiceSchema(DRIVERS),
    description: 'kernel (own protocol on /dev/fuse) or portable (needs libfuse 2)',
    placeholder: 'driver',
    fallback: { value: 'kernel', text: 'kernel' },
  }),
  'read-only': setting({
    schema: switchSchema,
    description: 'refuse writes',
    fallback: { value: false },
  }),
  'write-mode': setting<(typeof WRITE_MODES)[number]>({
    schema: choiceSchema(WRITE_MODES),
    description: 'through: close waits for the object store; back: for the cache. A policy may say otherwise',
    placeholder: 'mode',
    fallback: { value: 'through', text: 'through' },
  }),
  'writeback-bytes-max': setting<number | undefined>({
    schema: sizeSchema({ min: FUSE_READ_BYTES_MAX }),
    description: 'bytes that may wait in the cache for the object store; beyond it writers wait',
    placeholder: 'size',
    fallback: { value: undefined, text: 'half of the cache' },
  }),
  'allow-other': setting({
    schema: switchSchema,
    description: 'let other users use the mount, under its permissions',
    fallback: { value: false },
  }),
  'fetch-threads': setting({
    schema: wholeNumberSchema({ min: 1, max: FETCH_THREADS_MAX }),
    description: 'threads that fetch from the object store',
    placeholder: 'count',
    fallback: { value: FETCH_THREADS_DEFAULT, text: String(FETCH_THREADS_DEFAULT) },
  }),
  'partition-wait': setting({
    schema: durationSchema({ minMs: 0 }),
    description: 'how long programs wait for an origin that cannot be reached, before they see ETIMEDOUT',
    placeholder: 'duration',
    fallback: { value: PARTITION_WAIT_MS_DEFAULT, text: '30s' },
  }),
  labels: setting<Readonly<Record<string, string>>>({
    schema: labelsSchema,
    description: 'a label of this satellite, key=value; may be repeated',
    placeholder: 'key=value',
    flag: 'label',
    fallback: { value: {} },
  }),
  ...clientSettings,
  ...processSettings,
  'log-file': optionalFile(
    'where to log; otherwise standard error in the foreground, a file beside the cache in the background',
  ),
} satisfies Settings;

/** What single values cannot tell. */
export function checkMountSettings(values: ValuesOf<typeof mountSettings>): void {
  const blockBytes = values['block-size'];
  if (!Number.isInteger(Math.log2(blockBytes))) {
    throw new UsageError(`--block-size: ${formatSize(blockBytes)} is not a power of two`, {
      hint: 'choose 1MiB, 2MiB, 4MiB, 8MiB, 16MiB, 32MiB or 64MiB',
    });
  }
  if (values['cache-size'] < blockBytes) {
    throw new UsageError(
      `--cache-size: ${formatSize(values['cache-size'])} is smaller than one block of ${formatSize(blockBytes)}`,
      { hint: 'give the cache the room of the data you read often, such as 100GiB' },
    );
  }
  if (values['partition-wait'] > PARTITION_WAIT_MS_MAX) {
    throw new UsageError('--partition-wait: is more than a day', { hint: 'choose at most 24h' });
  }
  const dirtyMax = values['writeback-bytes-max'];
  if (dirtyMax !== undefined && dirtyMax > values['cache-size']) {
    throw new UsageError('--writeback-bytes-max: is more than the cache has room for', {
      hint: 'choose at most the size of the cache, or leave it out for half of that',
    });
  }
}
