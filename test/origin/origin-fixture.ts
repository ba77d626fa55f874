/** An origin over a memory store, and a satellite's view of it, taken down at the end of the test. */
import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { pino } from 'pino';
import type { Test } from 'tap';
import { systemClock } from '../../lib/base/clock.ts';
import type { InodeAttributes } from '../../lib/namespace/namespace.ts';
import { openOriginNames } from '../../lib/namespace/origin-names.ts';
import type { RemoteNames } from '../../lib/namespace/remote-names.ts';
import { startOrigin, type StartOriginOptions } from '../../lib/origin/origin-server.ts';
import { createMetrics } from '../../lib/telemetry/metrics.ts';
import { MemoryStore } from './memory-store.ts';

export const logger = pino({ level: 'silent' });

export async function temporaryDirectory(t: Test): Promise<string> {
  const directory = await fs.mkdtemp(path.join(os.tmpdir(), 'perigee-origin-'));
  t.teardown(() => fs.rm(directory, { recursive: true, force: true }));
  return directory;
}

export function originOptions(
  options: Partial<StartOriginOptions> & Pick<StartOriginOptions, 'dataDirectory'>,
): StartOriginOptions {
  return {
    listen: { host: '127.0.0.1', port: 0 },
    exports: [{ name: 'data', url: 'memory://bucket' }],
    openStore: () => new MemoryStore(),
    insecure: false,
    clock: systemClock,
    logger,
    metrics: createMetrics(),
    version: '0.0.0',
    ...options,
  };
}

export interface Fixture {
  readonly store: MemoryStore;
  readonly namespace: RemoteNames;
  readonly address: string;
  readonly dataDirectory: string;
  end(): Promise<void>;
  /** Ends the origin and starts it again on the same data directory; `namespace` is then another one. */
  restart(): Promise<Fixture>;
}

export async function startFixture(
  t: Test,
  options: { readonly store?: MemoryStore; readonly dataDirectory?: string; readonly url?: string } = {},
): Promise<Fixture> {
  const store = options.store ?? new MemoryStore();
  const dataDirectory = options.dataDirectory ?? (await temporaryDirectory(t));
  const url = options.url ?? 'memory://bucket';
  const origin = await startOrigin(
    originOptions({ dataDirectory, exports: [{ name: 'data', url }], openStore: () => store }),
  );
  const { remote: namespace } = await openOriginNames({
    address: origin.address,
    exportName: 'data',
    host: 'test',
    clock: systemClock,
    logger,
  });
  let ended: Promise<void> | undefined;
  const end = (): Promise<void> => (ended ??= namespace.close().then(() => origin.close()));
  t.teardown(end);
  return {
    store,
    namespace,
    address: origin.address,
    dataDirectory,
    end,
    async restart() {
      await end();
      return startFixture(t, { store, dataDirectory, url });
    },
  };
}

/** Walks a path from the root; undefined where a part is missing. */
export async function walk(namespace: RemoteNames, pathText: string): Promise<InodeAttributes | undefined> {
  let at: InodeAttributes | undefined = (await namespace.attributes(1n as InodeAttributes['inode']))
    .attributes;
  for (const name of pathText.split('/').filter((part) => part !== '')) {
    if (at === undefined) return undefined;
    at = (await namespace.lookup(at.inode, name)).attributes;
  }
  return at;
}

/** Every entry of a directory, page by page. */
export async function readAll(
  namespace: RemoteNames,
  directory: InodeAttributes,
  entriesMax = 1_000,
): Promise<{ readonly name: string; readonly attributes: InodeAttributes }[]> {
  const entries = [];
  let after: string | undefined;
  do {
    const page = await namespace.list(directory.inode, {
      ...(after === undefined ? {} : { after }),
      entriesMax,
    });
    entries.push(...page.entries);
    after = page.next;
  } while (after !== undefined);
  return entries;
}
