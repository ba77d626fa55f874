/** One export over a store in memory, with everything that changes it; a death and a restart on the same index. */
import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { pino } from 'pino';
import type { Test } from 'tap';
import { type Clock, systemClock } from '../../lib/base/clock.ts';
import { LEASE_SETTINGS_DEFAULT } from '../../lib/origin/leases/export-leases.ts';
import { parseExports } from '../../lib/origin/export-options.ts';
import type { IndexedInode } from '../../lib/origin/index/index-rows.ts';
import { NamespaceIndex } from '../../lib/origin/index/namespace-index.ts';
import { openServedExport, type ServedExport } from '../../lib/origin/served-export.ts';
import { createMetrics } from '../../lib/telemetry/metrics.ts';
import type { MemoryStore } from './memory-store.ts';

export interface ChangedExport {
  readonly served: ServedExport;
  readonly index: NamespaceIndex;
  readonly store: MemoryStore;
  /** Puts a file the way `perigee put` does. */
  put(file: string, text: string): Promise<IndexedInode>;
  /** The text of a file, read as a satellite does: by the key and tag that the index tells. */
  read(file: string): Promise<string | undefined>;
  /** Paths of files to their texts, and of directories to undefined, as a satellite sees them. */
  tree(): Promise<Record<string, string | undefined>>;
  find(file: string): Promise<IndexedInode | undefined>;
  close(): Promise<void>;
}

export async function openChanged(
  store: MemoryStore,
  options: { readonly file: string; readonly url?: string; readonly clock?: Clock },
): Promise<ChangedExport> {
  const clock = options.clock ?? systemClock;
  const index = new NamespaceIndex({ file: options.file, clock });
  const [parsed] = parseExports([
    { name: 'data', url: options.url ?? 'memory://bucket?attributes=head&exclusive=true' },
  ]);
  if (parsed === undefined) throw new Error('one export');
  const served = await openServedExport(parsed, {
    index,
    openStore: () => store,
    clock,
    logger: pino({ level: 'silent' }),
    metrics: createMetrics(),
    leases: LEASE_SETTINGS_DEFAULT,
  });
  const { tree, uploads } = served;
  const textOf = async ({ version }: IndexedInode): Promise<string> => {
    if (version === undefined) throw new Error('a file has a version');
    const { body } = await store.get({ key: version.objectKey, ifMatch: version.entityTag });
    const pieces: Buffer[] = [];
    for await (const piece of body) pieces.push(piece as Buffer);
    return Buffer.concat(pieces).toString();
  };
  const find = async (file: string): Promise<IndexedInode | undefined> => {
    let at: IndexedInode | undefined = await tree.root();
    for (const name of file.split('/').filter((one) => one !== '')) {
      if (at?.kind !== 'directory') return undefined;
      at = await tree.lookup(at.inode, name);
    }
    return at;
  };
  const walk = async (
    directory: number,
    prefix: string,
    found: Record<string, string | undefined>,
  ): Promise<void> => {
    for (let after = '', more = true; more;) {
      const page = await tree.list(directory, { after, entriesMax: 3 });
      for (const entry of page.entries) {
        found[prefix + entry.name] = entry.kind === 'file' ? await textOf(entry) : undefined;
        if (entry.kind === 'directory') await walk(entry.inode, `${prefix}${entry.name}/`, found);
      }
      after = page.entries.at(-1)?.name ?? after;
      more = page.more;
    }
  };
  let closed: Promise<void> | undefined;
  return {
    served,
    index,
    store,
    find,
    async put(file, text) {
      const begun = await uploads.begin(file, { metadata: {}, empty: false });
      const { objectKey: key, storeUpload: uploadId } = begun;
      const body = Buffer.from(text);
      const part =
        body.length === 0 ? undefined : await store.uploadPart({ key, uploadId, partNumber: 1 }, body);
      return uploads.commit(begun.upload, { parts: part ? [part] : [], sizeBytes: body.length });
    },
    async read(file) {
      const found = await find(file);
      return found?.kind === 'file' ? textOf(found) : undefined;
    },
    async tree() {
      const found: Record<string, string | undefined> = {};
      await walk(1, '', found);
      return found;
    },
    close: () => (closed ??= served.close().then(() => index.close())),
  };
}

export async function temporaryFile(t: Test): Promise<string> {
  const directory = await fs.mkdtemp(path.join(os.tmpdir(), 'perigee-changes-'));
  t.teardown(() => fs.rm(directory, { recursive: true, force: true }));
  return path.join(directory, 'index.sqlite');
}

export async function startChanged(t: Test, store: MemoryStore, url?: string): Promise<ChangedExport> {
  const file = await temporaryFile(t);
  const changed = await openChanged(store, { file, ...(url === undefined ? {} : { url }) });
  t.teardown(() => changed.close());
  return changed;
}

/** Waits, without sleeping, until a condition holds. */
export async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, 5));
}
