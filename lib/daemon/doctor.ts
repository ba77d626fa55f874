/** `perigee doctor`: looks at everything a mount needs and says, finding by finding, what is wrong and what to do. Changes nothing. */
import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { systemClock } from '../base/clock.ts';
import { describeError, hintOf } from '../base/errors.ts';
import { GIB, ORIGIN_DEADLINE_MS } from '../base/limits.ts';
import type { DoctorOptions, Finding } from '../cli/runtime.ts';
import { probeKernel } from '../fuse/kernel-probe.ts';
import { openOriginNames } from '../namespace/origin-names.ts';
import { createOriginClient } from '../rpc/origin-client.ts';
import { openStore } from '../store/open-store.ts';
import { createLogger } from '../telemetry/log.ts';

/** Magic numbers of statfs(2) for the file systems that the cache is made for. */
const GOOD_FILE_SYSTEMS = new Map([
  [0xef53, 'ext4'],
  [0x58465342, 'xfs'],
]);
const FREE_BYTES_LEAST = GIB;

export async function* doctor(options: DoctorOptions): AsyncGenerator<Finding> {
  yield nodeVersion();
  yield* kernel();
  if (options.cacheDirectory !== undefined) yield* cacheDirectory(options.cacheDirectory);
  if (options.storeUrl !== undefined) yield* store('store', options.storeUrl);
  if (options.origin !== undefined) yield* origin(options.origin, options);
}

function nodeVersion(): Finding {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  const fine = major > 22 || (major === 22 && minor >= 18);
  return fine
    ? { level: 'ok', subject: 'node', text: process.version }
    : { level: 'failure', subject: 'node', text: process.version, hint: 'use Node 22.18 or newer' };
}

function* kernel(): Generator<Finding> {
  const subject = 'kernel';
  const probe = probeKernel();
  if (probe.device !== 'present') {
    yield {
      level: 'failure',
      subject,
      text: `/dev/fuse cannot be opened (${probe.device})`,
      hint: 'modprobe fuse; in a container pass --device /dev/fuse; run as root',
    };
  }
  if (!probe.sysAdmin) {
    yield {
      level: 'failure',
      subject,
      text: 'this process has no CAP_SYS_ADMIN, so the kernel driver cannot mount',
      hint: 'run as root, or mount with --driver portable',
    };
  }
  if (!probe.supported) {
    yield {
      level: 'failure',
      subject,
      text: `Linux ${probe.release} is too old for the kernel driver`,
      hint: 'use Linux 5.10 or newer, or mount with --driver portable',
    };
  } else if (!probe.passthrough) {
    yield {
      level: 'warning',
      subject,
      text: `Linux ${probe.release}: cached files are read through this process, not by the kernel itself`,
      hint: 'Linux 6.9 or newer and CAP_SYS_ADMIN give passthrough, which reads at the speed of the disk',
    };
  } else yield { level: 'ok', subject, text: `Linux ${probe.release} with passthrough` };
}

async function* cacheDirectory(directory: string): AsyncGenerator<Finding> {
  const subject = 'cache';
  const nearest = await nearestExisting(directory);
  try {
    const { type, bavail, bsize } = await fs.statfs(nearest);
    const name = GOOD_FILE_SYSTEMS.get(type);
    yield name === undefined
      ? {
          level: 'warning',
          subject,
          text: `${nearest} is on a file system of type 0x${type.toString(16)}`,
          hint: 'put the cache on ext4 or xfs on a local NVMe; passthrough and sparse files are tested there',
        }
      : { level: 'ok', subject, text: `${nearest} is on ${name}` };
    const free = bavail * bsize;
    const text = `${(free / GIB).toFixed(1)} GiB free`;
    yield free < FREE_BYTES_LEAST
      ? { level: 'warning', subject, text, hint: 'free some space or choose another directory' }
      : { level: 'ok', subject, text };
    await fs.access(nearest, fs.constants.W_OK);
  } catch (error) {
    yield failure(subject, error, 'give a directory on a local disk that this user may write');
  }
}

async function nearestExisting(directory: string): Promise<string> {
  let at = path.resolve(directory);
  for (;;) {
    const found = await fs.stat(at).catch(() => undefined);
    if (found !== undefined || at === path.dirname(at)) return at;
    at = path.dirname(at);
  }
}

async function* store(subject: string, url: string): AsyncGenerator<Finding> {
  try {
    const opened = openStore(url);
    try {
      await opened.list({ prefix: '', keysMax: 1 });
      yield { level: 'ok', subject, text: `${opened.url} answers and lets this host list` };
      if (opened.abilities.conditionalWrites !== 'enforced') {
        yield {
          level: 'note',
          subject,
          text: 'conditional writes depend on the server',
          hint: 'write to this bucket through one origin only',
        };
      }
    } finally {
      await opened.close();
    }
  } catch (error) {
    yield failure(subject, error, 'check the URL, the credentials of this host and the network');
  }
}

async function* origin(address: string, options: DoctorOptions): AsyncGenerator<Finding> {
  const subject = 'origin';
  const { exportName, keysMax } = options;
  try {
    const client = createOriginClient({
      address,
      credentials: options.credentials,
      clock: systemClock,
      deadlineMs: ORIGIN_DEADLINE_MS,
    });
    try {
      const status = await client.getOriginStatus({});
      const names = status.exports.map(({ name }) => name);
      yield {
        level: 'ok',
        subject,
        text: `${address} answers; it serves ${names.join(', ') || 'no export'}`,
      };
      if (exportName === undefined) return;
      const storeUrl = await storeUrlOf(address, { exportName, credentials: options.credentials });
      // This host reads the bytes itself, with credentials of its own.
      yield* store(`store of ${exportName}`, storeUrl);
      yield* unnameableKeys(client.inspectKeys({ exportName, prefix: '', keysMax }));
    } finally {
      client.close();
    }
  } catch (error) {
    yield failure(subject, error, 'check the address and that the origin runs');
  }
}

async function storeUrlOf(
  address: string,
  { exportName, credentials }: { readonly exportName: string } & Pick<DoctorOptions, 'credentials'>,
): Promise<string> {
  const { remote: namespace, exportInfo } = await openOriginNames({
    address,
    credentials,
    exportName,
    host: os.hostname(),
    clock: systemClock,
    logger: createLogger({ level: 'silent' }),
  });
  await namespace.close();
  return exportInfo.storeUrl;
}

/** Keys that cannot be reached below a mount, and how many were looked at. */
async function* unnameableKeys(
  found: AsyncIterable<{ readonly key: string; readonly finding: string; readonly keysSeen: number }>,
): AsyncGenerator<Finding> {
  const subject = 'keys';
  let count = 0;
  let seen = 0;
  for await (const { key, finding, keysSeen } of found) {
    seen = keysSeen;
    if (finding === '') continue;
    count += 1;
    yield {
      level: 'warning',
      subject,
      text: `${JSON.stringify(key)}: ${finding}`,
      hint: 'rename the object in the bucket if a mount shall show it',
    };
  }
  const looked = `${seen.toLocaleString('en-US')} ${seen === 1 ? 'key' : 'keys'} seen`;
  yield count === 0
    ? { level: 'ok', subject, text: `${looked}; all are names of files` }
    : { level: 'note', subject, text: `${looked}; ${count.toLocaleString('en-US')} findings` };
}

function failure(subject: string, error: unknown, fallback: string): Finding {
  return { level: 'failure', subject, text: describeError(error), hint: hintOf(error) ?? fallback };
}
