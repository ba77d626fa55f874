/** What people name in a command: an export of an origin, an object store, a mount point. */
import fs from 'node:fs';
import path from 'node:path';
import { UsageError } from '../base/errors.ts';
import { nearMiss } from './near-miss.ts';
import { formatEndpoint, pairsOf, parseEndpoint, textOf, valueSchema, withoutCredentials } from './values.ts';

const EXPORT_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
const EXPORT_NAME_RULE =
  'an export name has 1 to 64 letters, digits, dots, dashes or underscores and begins with a letter or digit';
const STORE_SCHEMES = ['file', 's3'] as const;
/** Links that a mount point may lead through. */
const LINKS_MAX = 16;

export interface NamedExport {
  readonly name: string;
  readonly url: string;
}

/** `host:port/export`. */
export function parseSource(source: string): { readonly origin: string; readonly exportName: string } {
  const refuse = (why: string): never => {
    throw new UsageError(`${JSON.stringify(source)} ${why}`, {
      hint: 'write ORIGIN/EXPORT as host:port/name, such as 10.0.0.1:7420/datasets',
    });
  };
  const at = source.indexOf('/');
  if (at < 0) return refuse('names no export');
  const endpoint = parseEndpoint(source.slice(0, at));
  if (typeof endpoint === 'string') return refuse(`is no ORIGIN/EXPORT: the origin ${endpoint}`);
  if (endpoint.port === 0) return refuse('is no ORIGIN/EXPORT: the origin has port 0');
  const exportName = source.slice(at + 1);
  if (exportName === '') return refuse('names no export');
  if (!EXPORT_NAME.test(exportName)) return refuse(`is no ORIGIN/EXPORT: ${EXPORT_NAME_RULE}`);
  return { origin: formatEndpoint(endpoint), exportName };
}

export const exportNameSchema = valueSchema<string>((given, refuse) => {
  const name = textOf(given);
  return EXPORT_NAME.test(name)
    ? name
    : refuse(`is refused: ${EXPORT_NAME_RULE}`, 'write a name such as datasets');
});

/** `NAME=URL`, repeated; in a file a map. */
export const exportsSchema = valueSchema<readonly NamedExport[]>((given, refuse) => {
  const hint = 'write NAME=URL, such as datasets=s3://bucket/prefix or sample=file:///srv/data';
  const exports: NamedExport[] = [];
  for (const pair of pairsOf(given, /\s+/)) {
    if (pair === undefined) return refuse('is not NAME=URL', hint);
    const [name, url] = pair;
    if (!EXPORT_NAME.test(name)) return refuse(`is refused: ${EXPORT_NAME_RULE}`, hint);
    if (exports.some((other) => other.name === name)) {
      return refuse(`gives the export ${name} twice`, 'give every export a name of its own');
    }
    const fault = faultOfStoreUrl(url);
    if (fault !== undefined) return refuse(`is refused: ${fault.message}`, fault.hint);
    exports.push({ name, url });
  }
  if (exports.length === 0) return refuse('names no export', hint);
  return exports;
});

/** The address of an object store. */
export const storeUrlSchema = valueSchema<string>((given, refuse) => {
  const url = textOf(given);
  const fault = faultOfStoreUrl(url);
  return fault === undefined ? url : refuse(`is refused: ${fault.message}`, fault.hint);
});

/** What every store's URL must be; parameters are the store's own to check. */
function faultOfStoreUrl(url: string): { readonly message: string; readonly hint: string } | undefined {
  const shown = JSON.stringify(withoutCredentials(url));
  const hint = 'write file:///dir or s3://bucket/prefix?endpoint=https://host&region=name';
  if (!/^[a-z][a-z0-9+.-]*:/i.test(url) || !URL.canParse(url)) {
    return { message: `${shown} is not a URL`, hint };
  }
  const { protocol, hostname, pathname, username, password } = new URL(url);
  const scheme = protocol.slice(0, -1);
  if (!STORE_SCHEMES.some((known) => known === scheme)) {
    const meant = nearMiss(scheme, STORE_SCHEMES);
    return {
      message: `${shown} is of the unknown kind ${scheme}`,
      hint: meant === undefined ? hint : `did you mean ${meant}? ${hint}`,
    };
  }
  if (username !== '' || password !== '') {
    return {
      message: `${shown} has credentials in it`,
      hint: 'leave them out; they come from the environment, a profile or the instance, as in other S3 tools',
    };
  }
  if (scheme === 'file' && (hostname !== '' || !pathname.startsWith('/'))) {
    return {
      message: `${shown} names a host instead of a directory`,
      hint: 'write three slashes: file:///dir',
    };
  }
  if (scheme === 's3' && hostname === '') return { message: `${shown} names no bucket`, hint };
  return undefined;
}

/**
 * The mount point as the kernel will show it: absolute, links in it resolved. Asks nothing of the directory
 * itself, because a hung mount there would hang the command.
 */
export function resolveMountpoint(given: string, workingDirectory: string): string {
  if (given === '' || given.includes('\0')) {
    throw new UsageError(`${JSON.stringify(given)} is not a mount point`, {
      hint: 'name an existing directory, such as /mnt/data',
    });
  }
  let mountpoint = path.resolve(workingDirectory, given);
  for (let links = 0; links < LINKS_MAX; links++) {
    mountpoint = path.join(realPathOf(path.dirname(mountpoint)), path.basename(mountpoint));
    const target = linkTarget(mountpoint);
    if (target === undefined) break;
    mountpoint = path.resolve(path.dirname(mountpoint), target);
  }
  if (mountpoint === '/') {
    throw new UsageError('the root directory cannot be a mount point', {
      hint: 'name an existing empty directory, such as /mnt/data',
    });
  }
  return mountpoint;
}

/**
 * Refuses a place at or below the mount point: the mount would hide it, and reads would wait for themselves. What
 * the path says is compared first, because asking a hung mount for the real path would hang.
 */
export function checkOutside(
  mountpoint: string,
  place: { readonly flag: string; readonly path: string },
): void {
  const lies = (candidate: string): boolean =>
    candidate === mountpoint || candidate.startsWith(`${mountpoint}/`);
  if (!lies(place.path) && !lies(realPlaceOf(place.path))) return;
  throw new UsageError(`${place.flag}: ${place.path} lies at or below the mount point ${mountpoint}`, {
    hint: 'name a place outside of the mount point, on a local disk',
  });
}

/** Links followed as far as the path exists. */
function realPlaceOf(file: string): string {
  try {
    return fs.realpathSync(file);
  } catch {
    const parent = path.dirname(file);
    return parent === file ? file : path.join(realPlaceOf(parent), path.basename(file));
  }
}

function realPathOf(directory: string): string {
  try {
    return fs.realpathSync(directory);
  } catch {
    return directory; // Missing or unreachable: whoever mounts there says so.
  }
}

function linkTarget(file: string): string | undefined {
  try {
    return fs.readlinkSync(file);
  } catch {
    return undefined;
  }
}
