/**
 * Lists a file store in the order of its keys.
 *
 * Directories are read whole, sorted by the UTF-8 bytes of what their entries contribute to keys (a directory as
 * its name and `/`), and walked depth first; only what a page shows is examined. Sorted large directories are kept
 * for the next page while their modification time proves that they have not changed.
 */
import { type Dirent } from 'node:fs';
import { lstat, readdir, realpath } from 'node:fs/promises';
import { join } from 'node:path';
import { type Clock } from '../base/clock.ts';
import { errnoOf, unlessAbsent } from './file-errors.ts';
import { decodeName, encodeSegment } from './file-keys.ts';
import { summaryOf } from './file-objects.ts';
import { type FilePaths, isObject } from './file-paths.ts';
import { compareKeys } from './key-order.ts';
import { KEY_BYTES_MAX, LIST_KEYS_MAX } from './object-checks.ts';
import { type ListPage, type ListRequest, type ObjectSummary } from './object-store.ts';

/** Directories below this are cheaper to read again than to keep. */
const SNAPSHOT_ENTRIES_MIN = 1000;
const SNAPSHOTS_MAX = 8;
const SNAPSHOT_ENTRIES_TOTAL_MAX = 2_000_000;
/** A directory changed this recently may change again without a new time stamp. */
const SNAPSHOT_SETTLE_MS = 50;
const STATS_AT_ONCE = 64;

interface Entry {
  /** The segment, with `/` for a directory. */
  readonly part: string;
  readonly name: string;
  readonly aside: boolean;
}

interface Directory {
  readonly entries: readonly Entry[];
  readonly undecodable: readonly string[];
}

interface Snapshot extends Directory {
  readonly stamp: string;
}

interface Level {
  readonly path: string;
  readonly prefix: string;
  readonly entries: readonly Entry[];
  index: number;
}

export class FileListing {
  readonly #paths: FilePaths;
  readonly #clock: Clock;
  readonly #snapshots = new Map<string, Snapshot>();

  constructor(paths: FilePaths, clock: Clock) {
    this.#paths = paths;
    this.#clock = clock;
  }

  async page(request: ListRequest): Promise<ListPage> {
    const keysMax = Math.min(Math.max(1, request.keysMax ?? LIST_KEYS_MAX), LIST_KEYS_MAX);
    const after = request.token === undefined ? (request.startAfter ?? '') : decodeToken(request.token);
    const found: { key: string; path: string }[] = [];
    const prefixes: string[] = [];
    const undecodable: string[] = [];
    let last = '';
    let more = false;
    for await (const item of this.#walk(request, { after, undecodable })) {
      if (found.length + prefixes.length === keysMax) {
        more = true;
        break;
      }
      if (item.path === undefined) prefixes.push(item.key);
      else found.push({ key: item.key, path: item.path });
      last = item.key;
    }
    return {
      objects: await summaries(found),
      prefixes,
      nextToken: more ? Buffer.from(last).toString('base64url') : undefined,
      ...(undecodable.length === 0 ? {} : { undecodable }),
    };
  }

  /** Objects have a path, common prefixes have none. */
  async *#walk(
    request: ListRequest,
    state: { readonly after: string; readonly undecodable: string[] },
  ): AsyncGenerator<{ readonly key: string; readonly path: string | undefined }> {
    const { prefix, delimiter } = request;
    const { after, undecodable } = state;
    const base = await this.#baseOf(prefix);
    if (!base) return;
    const levels: Level[] = [];
    const enter = async (path: string, keyPrefix: string): Promise<void> => {
      const { entries, undecodable: names } = await this.#read(path);
      for (const name of names) undecodable.push(keyPrefix + name);
      const from = levels.length === 0 ? prefix.slice(keyPrefix.length) : '';
      levels.push({
        path,
        prefix: keyPrefix,
        entries,
        index: firstAfter(entries, { keyPrefix, after, from }),
      });
    };
    await enter(base.path, base.prefix);
    for (let level = levels.at(-1); level; level = levels.at(-1)) {
      const entry = level.entries[level.index++];
      const key = entry && level.prefix + entry.part;
      if (entry === undefined || key === undefined || (levels.length === 1 && !key.startsWith(prefix))) {
        levels.pop();
        continue;
      }
      const path = join(level.path, entry.name);
      if (!entry.part.endsWith('/')) yield { key, path };
      else if (delimiter === undefined) await enter(path, key);
      else if (compareKeys(key, after) > 0) yield { key, path: undefined };
    }
  }

  /** The deepest directory that holds every key with this prefix. */
  async #baseOf(prefix: string): Promise<{ path: string; prefix: string } | undefined> {
    if (prefix.length > KEY_BYTES_MAX || !prefix.isWellFormed()) return undefined;
    const segments = prefix.split('/').slice(0, -1);
    const path = join(
      this.#paths.root,
      ...segments.map((segment, index) => encodeSegment(segment, index === 0).name),
    );
    const real = await unlessAbsent(realpath(path)).catch((error: unknown) => {
      if (errnoOf(error) === 'ENAMETOOLONG' || errnoOf(error) === 'ELOOP') return undefined;
      throw error;
    });
    return real === path ? { path, prefix: segments.map((segment) => `${segment}/`).join('') } : undefined;
  }

  async #read(path: string): Promise<Directory> {
    const stats = await unlessAbsent(lstat(path, { bigint: true }));
    if (!stats?.isDirectory()) return { entries: [], undecodable: [] };
    const stamp = `${stats.ino}:${stats.mtimeNs}:${stats.ctimeNs}`;
    const kept = this.#snapshots.get(path);
    if (kept?.stamp === stamp) return kept;
    this.#snapshots.delete(path);
    const settled = this.#clock.wallMs() - Number(stats.ctimeNs / 1_000_000n) > SNAPSHOT_SETTLE_MS;
    const directory = await this.#readAnew(path);
    if (settled && directory.entries.length >= SNAPSHOT_ENTRIES_MIN)
      this.#keep(path, { ...directory, stamp });
    return directory;
  }

  #keep(path: string, snapshot: Snapshot): void {
    this.#snapshots.set(path, snapshot);
    let total = 0;
    for (const { entries } of this.#snapshots.values()) total += entries.length;
    for (const [oldest, { entries }] of this.#snapshots) {
      if (this.#snapshots.size <= SNAPSHOTS_MAX && total <= SNAPSHOT_ENTRIES_TOTAL_MAX) return;
      this.#snapshots.delete(oldest);
      total -= entries.length;
    }
  }

  async #readAnew(path: string): Promise<Directory> {
    const dirents = (await unlessAbsent(readdir(path, { withFileTypes: true }))) ?? [];
    const undecodable = dirents.some(({ name }) => name.includes('\ufffd'))
      ? await undecodableNames(path)
      : [];
    const hidden = new Set(undecodable);
    const parts = new Map<string, Entry>();
    for (const dirent of dirents) {
      if (hidden.has(dirent.name)) continue;
      const entry = await this.#entryOf(path, dirent);
      // The natural name wins over an aside one of the same object.
      if (entry && (!entry.aside || !parts.has(entry.part))) parts.set(entry.part, entry);
    }
    const entries = [...parts.values()].sort((a, b) => compareKeys(a.part, b.part));
    return { entries, undecodable };
  }

  async #entryOf(path: string, dirent: Dirent): Promise<Entry | undefined> {
    const decoded = decodeName(dirent.name, path === this.#paths.root);
    if (decoded.kind === 'none') return undefined;
    let segment: string | undefined;
    if (decoded.kind === 'segment') segment = decoded.segment;
    else segment = await this.#paths.recallName(decoded.hash);
    if (segment === undefined) return undefined;
    const unknown = !dirent.isFile() && !dirent.isDirectory() && !dirent.isSymbolicLink();
    const kind = unknown ? await unlessAbsent(lstat(join(path, dirent.name))) : dirent;
    if (kind?.isDirectory()) {
      return decoded.aside ? undefined : { part: `${segment}/`, name: dirent.name, aside: false };
    }
    return kind && isObject(kind) ? { part: segment, name: dirent.name, aside: decoded.aside } : undefined;
  }
}

/** Where to begin: behind `after`, not before names that begin with `from`, but inside a directory that `after` is in. */
function firstAfter(
  entries: readonly Entry[],
  bound: { readonly keyPrefix: string; readonly after: string; readonly from: string },
): number {
  const { keyPrefix, after, from } = bound;
  const atPrefix = lowerBound(entries, (part) => compareKeys(part, from) >= 0);
  if (!after.startsWith(keyPrefix)) {
    return compareKeys(after, keyPrefix) < 0 ? atPrefix : entries.length;
  }
  const rest = after.slice(keyPrefix.length);
  const index = lowerBound(entries, (part) => compareKeys(part, rest) > 0);
  const before = entries[index - 1]?.part;
  const inside = before !== undefined && before.endsWith('/') && rest.startsWith(before);
  return Math.max(atPrefix, inside ? index - 1 : index);
}

function lowerBound(entries: readonly Entry[], isAtOrBehind: (part: string) => boolean): number {
  let low = 0;
  let high = entries.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (isAtOrBehind(entries[middle]?.part ?? '')) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** Those that vanished since the directory was read are left out. */
async function summaries(found: readonly { key: string; path: string }[]): Promise<ObjectSummary[]> {
  const summaries: ObjectSummary[] = [];
  for (let at = 0; at < found.length; at += STATS_AT_ONCE) {
    const some = found.slice(at, at + STATS_AT_ONCE);
    const stats = await Promise.all(some.map(({ path }) => unlessAbsent(lstat(path, { bigint: true }))));
    some.forEach(({ key }, index) => {
      const stat = stats[index];
      if (stat && isObject(stat)) summaries.push(summaryOf(key, stat));
    });
  }
  return summaries;
}

/** Names that are no UTF-8, with U+FFFD in place of what is wrong: they have no key. */
async function undecodableNames(path: string): Promise<string[]> {
  const names = (await unlessAbsent(readdir(path, { encoding: 'buffer' }))) ?? [];
  return names
    .filter((name) => !Buffer.from(name.toString('utf8')).equals(name))
    .map((name) => name.toString('utf8'));
}

function decodeToken(token: string): string {
  return Buffer.from(token, 'base64url').toString('utf8');
}
