/**
 * What leases cost an origin: the time of a change by the number of its holders, updates and lookups a second, and memory
 * by leases and sessions. Holders are in this process, so the figures are the origin's own, without a network.
 */
import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { pino } from 'pino';
import type { Epoch, InodeNumber, SessionId } from '../../../lib/base/brand.ts';
import { systemClock } from '../../../lib/base/clock.ts';
import type { InodeInit } from '../../../lib/lease/lease-messages.ts';
import { LeaseTable } from '../../../lib/lease/lease-table.ts';
import { LEASE_TIMING_DEFAULT, type OriginMessage } from '../../../lib/lease/lease.ts';
import { ExportLeases } from '../../../lib/origin/leases/export-leases.ts';
import { NamespaceIndex } from '../../../lib/origin/index/namespace-index.ts';
import { startOrigin } from '../../../lib/origin/origin-server.ts';
import { createOriginClient } from '../../../lib/rpc/origin-client.ts';
import { createMetrics } from '../../../lib/telemetry/metrics.ts';
import { MemoryStore } from '../../origin/memory-store.ts';

export interface OriginFigure {
  readonly figure: string;
  readonly value: number;
  readonly unit: string;
}

const logger = pino({ level: 'silent' });
const ROOT = 1;
const SETTINGS = { timing: LEASE_TIMING_DEFAULT, quietMs: 10_000 };

export async function originFigures(options: { readonly quick?: boolean } = {}): Promise<OriginFigure[]> {
  const directory = await fs.mkdtemp(path.join(os.tmpdir(), 'perigee-figures-'));
  const times = options.quick ? 100 : 2_000;
  try {
    const figures: OriginFigure[] = [];
    for (const holders of [0, 1, 8, 64]) {
      figures.push(...(await changeFigures(path.join(directory, `index-${holders}`), { holders, times })));
    }
    figures.push(...(await lookupFigures(path.join(directory, 'origin'), times)));
    figures.push(...memoryFigures());
    return figures;
  } finally {
    await fs.rm(directory, { recursive: true, force: true });
  }
}

/** Changes one after the other, of a name that all holders hold; each acknowledges at once. */
async function changeFigures(
  file: string,
  { holders, times }: { readonly holders: number; readonly times: number },
): Promise<OriginFigure[]> {
  const index = new NamespaceIndex({ file, clock: systemClock });
  const { exportId } = await index.openExport('bench', { identity: 'memory://bench', nowMs: 0 });
  const inode: InodeInit = { inode: 2n, kind: 'file', sizeBytes: 1n };
  const parts = { clock: systemClock, logger, metrics: createMetrics(), index, settings: SETTINGS };
  const leases = new ExportLeases({ ...parts, exportId, exportName: 'bench', describe: async () => inode });
  let told = 0;
  for (let at = 0; at < holders; at++) {
    await holder(leases, (message) => {
      if (message.kind === 'update') told += 1;
    });
  }
  const latencies: number[] = [];
  const beganMs = performance.now();
  for (let at = 0; at < times; at++) {
    const startedMs = performance.now();
    await leases.run({ names: [{ directory: ROOT, name: 'file' }] }, async () => undefined);
    latencies.push(performance.now() - startedMs);
  }
  const tookS = (performance.now() - beganMs) / 1_000;
  leases.close();
  index.close();
  latencies.sort((one, other) => one - other);
  const median = latencies[Math.floor(latencies.length / 2)] ?? NaN;
  const figures = [{ figure: `change with ${holders} holders, median`, value: median * 1_000, unit: 'µs' }];
  if (holders > 0)
    figures.push({ figure: `updates with ${holders} holders`, value: told / tookS, unit: '/s' });
  return figures;
}

async function holder(
  leases: ExportLeases,
  listen: (message: OriginMessage<InodeInit>) => void,
): Promise<void> {
  let session = '';
  const sink = {
    send(message: OriginMessage<InodeInit>): boolean {
      listen(message);
      if (message.kind === 'welcome') session = message.session;
      if (message.kind === 'withdraw') {
        const { sequence } = message;
        queueMicrotask(
          () => void leases.receive(stream, { kind: 'acknowledgement', sequence, released: [] }),
        );
      }
      return true;
    },
    close: () => undefined,
  };
  const stream = leases.open(sink, { tenant: 'bench', address: 'here' });
  await leases.receive(stream, { kind: 'hello', host: `host-${stream}`, labels: {}, earlier: undefined });
  const grant = await leases.grantName(session, { directory: ROOT, name: 'file' });
  if (grant === undefined) throw new Error('a holder holds nothing');
}

/** Over a real connection, 32 at once, with a session that holds the root; the processor's time is that of both sides. */
async function lookupFigures(dataDirectory: string, times: number): Promise<OriginFigure[]> {
  const store = new MemoryStore();
  store.fill(Array.from({ length: 1_000 }, (_, at) => `file-${at}`));
  const origin = await startOrigin({
    ...{ dataDirectory, listen: { host: '127.0.0.1', port: 0 }, insecure: false },
    exports: [{ name: 'bench', url: 'memory://bench?exclusive=true' }],
    openStore: () => store,
    ...{ clock: systemClock, logger, metrics: createMetrics(), version: '0' },
  });
  const client = createOriginClient({ address: origin.address, clock: systemClock, deadlineMs: 10_000 });
  try {
    const page = { exportName: 'bench', directory: 1n, after: '', entriesMax: 1_000, session: '' };
    await client.listDirectory(page);
    const lookups = times * 10;
    let next = 0;
    const worker = async (): Promise<void> => {
      for (let at = next++; at < lookups; at = next++) {
        await client.lookup({ exportName: 'bench', parent: 1n, name: `file-${at % 1_000}`, session: '' });
      }
    };
    const cpu = process.cpuUsage();
    const startedMs = performance.now();
    await Promise.all(Array.from({ length: 32 }, worker));
    const tookMs = performance.now() - startedMs;
    const { user, system } = process.cpuUsage(cpu);
    return [
      { figure: 'lookups, 32 at once', value: lookups / (tookMs / 1_000), unit: '/s' },
      { figure: 'processor time of a lookup, both sides', value: (user + system) / lookups, unit: 'µs' },
    ];
  } finally {
    client.close();
    await origin.close();
  }
}

/** Of the table itself. Run with --expose-gc for figures that mean something. */
function memoryFigures(): OriginFigure[] {
  const SESSIONS = 2_000;
  const LEASES = 100_000;
  const table = new LeaseTable<InodeInit>({ epoch: 1 as Epoch, ...SETTINGS });
  let stream = 0;
  const join = (): SessionId => {
    const session = `session-${stream}` as SessionId;
    table.step({ kind: 'stream-opened', stream: ++stream, tenant: 'bench', address: '10.0.0.1' }, 0);
    const message = { kind: 'hello', host: `host-${stream}`, labels: {}, earlier: undefined } as const;
    table.step({ kind: 'message', stream, message, hello: { session, places: new Map() } }, 0);
    return session;
  };
  const empty = usedBytes();
  for (let at = 0; at < SESSIONS; at++) join();
  const session = join();
  const root = 1n as InodeNumber;
  noteChange(table, root);
  const withSessions = usedBytes();
  for (let at = 0; at < LEASES; at++) {
    const directory = BigInt(2 ** 40 + at) as InodeNumber;
    table.step({ kind: 'grant-wanted', session, ancestors: [directory, root] }, 0);
  }
  const withLeases = usedBytes();
  return [
    { figure: 'memory of a session', value: (withSessions - empty) / table.sessionCount, unit: 'B' },
    {
      figure: 'memory of 1,000 leases',
      value: (withLeases - withSessions) / (table.leaseCount / 1_000),
      unit: 'B',
    },
  ];
}

/** So that the root is not quiet, and directories are leased one by one. */
function noteChange(table: LeaseTable<InodeInit>, root: InodeNumber): void {
  const name = { directory: root, name: 'x', attributesOnly: false };
  table.step(
    { kind: 'change-wanted', change: 1, names: [{ name, ancestors: [root] }], moved: [], by: undefined },
    0,
  );
  table.step({ kind: 'change-finished', change: 1, updates: [], moved: [] }, 0);
}

function usedBytes(): number {
  globalThis.gc?.();
  return process.memoryUsage().heapUsed;
}
