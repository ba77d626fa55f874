/** Write-through: from the first open until every file is an object, against the bare SDK and what Debian has for the job. */
import fs from 'node:fs';
import path from 'node:path';
import { alternate } from '../read/context.ts';
import type { Row, Side } from '../read/figures.ts';
import type { Mounter } from '../read/mounts.ts';
import { REPOSITORY, type Stage, until } from '../read/stage.ts';
import { smallLoad } from './back.ts';
import { emptyBucket, type WriteContext, type WriteMeasure } from './context.ts';
import type { SdkWriterTask } from './sdk-writer.ts';
import { loadBytes, loadFiles, type WriteLoad, writeLoad } from './writers.ts';

const MIB = 1024 ** 2;
const SLOW_MS = 20;
const SDK_PARALLEL = 8;

/** What one Ceph in memory holds of all runs and sides. */
function bigLoad({ isQuick }: Stage): WriteLoad {
  return { writers: 4, files: 1, fileBytes: isQuick ? 16 * MIB : 256 * MIB, sync: false };
}

interface Runs {
  readonly perigee: Side;
  readonly peers: readonly Side[];
  readonly bare: Side;
}

/** Amounts a second. Each side is mounted anew for every run. */
async function throughRuns(
  context: WriteContext,
  load: WriteLoad,
  options: { readonly endpoint: string; readonly amount: number; readonly withBare: boolean },
): Promise<Runs> {
  const { stage, perigee, peers } = context;
  const { endpoint, amount, withBare } = options;
  const usable = peers.filter(({ missing }) => missing === undefined);
  const rate = async (seconds: Promise<number>): Promise<number> => {
    const value = amount / (await seconds);
    await emptyBucket(context);
    return value;
  };
  const sides: Record<string, () => Promise<number>> = {
    perigee: () => rate(perigeeSeconds(context, load, endpoint)),
    ...(withBare ? { bare: () => rate(bareSeconds(context, load, endpoint)) } : {}),
  };
  for (const peer of usable) sides[peer.name] = () => rate(peerSeconds(context, load, { peer, endpoint }));
  const values = await alternate(stage.runs, sides);
  await perigee.forgetOrigins();
  return {
    perigee: { name: 'perigee', values: values.perigee! },
    bare: { name: 'bare SDK multipart upload', values: values.bare ?? [] },
    peers: peers.map(({ name, missing }) => ({
      name,
      values: values[name] ?? [],
      ...(missing === undefined ? {} : { note: `${name} is missing: ${missing}` }),
    })),
  };
}

async function perigeeSeconds(
  { perigee, stage }: WriteContext,
  load: WriteLoad,
  endpoint: string,
): Promise<number> {
  const satellite = await perigee.mount({ endpoint, flags: ['--write-mode', 'through'] });
  try {
    // The satellite is not cold: it has written something before.
    fs.writeFileSync(path.join(satellite.mountpoint, 'warm-up'), Buffer.alloc(20 * MIB));
    const directory = path.join(satellite.mountpoint, `run-${Math.round(performance.now())}`);
    fs.mkdirSync(directory);
    await stage.dropCaches();
    // A close is answered when the version is committed.
    return await writeLoad(directory, load);
  } finally {
    await satellite.unmount();
  }
}

async function peerSeconds(
  { stage, store }: WriteContext,
  load: WriteLoad,
  { peer, endpoint }: { readonly peer: Mounter; readonly endpoint: string },
): Promise<number> {
  const mounted = await peer.mount(endpoint);
  try {
    await stage.dropCaches();
    const startedMs = performance.now();
    await writeLoad(mounted.mountpoint, load);
    // Some answer a close before they have uploaded anything.
    const keys = new Set(loadFiles(load).flat());
    await until(`${peer.name} has uploaded`, async () => {
      for (const key of keys) {
        const head = await store.head(key).catch(() => undefined);
        if (head?.sizeBytes !== load.fileBytes) return false;
        keys.delete(key);
      }
      return true;
    });
    return (performance.now() - startedMs) / 1000;
  } finally {
    await mounted.unmount();
  }
}

/** Of files that lie in the page cache, as one has them who writes a file and then uploads it. */
async function bareSeconds(
  { stage, bucket }: WriteContext,
  load: WriteLoad,
  endpoint: string,
): Promise<number> {
  const directory = stage.place('bare');
  await stage.dropCaches();
  const startedMs = performance.now();
  await writeLoad(directory, load);
  const writtenSeconds = (performance.now() - startedMs) / 1000;
  const files = loadFiles(load)
    .flat()
    .map((key) => ({ key, file: path.join(directory, key) }));
  const task: SdkWriterTask = { endpoint, bucket: bucket.bucket, files, parallel: SDK_PARALLEL };
  const child = path.join(REPOSITORY, 'test/bench/write/sdk-writer.ts');
  const answer = await stage.run(process.execPath, [child, JSON.stringify(task)], { env: bucket.env });
  fs.rmSync(directory, { recursive: true });
  const { seconds } = JSON.parse(answer) as { readonly seconds: number };
  stage.tell(`bare: ${writtenSeconds.toFixed(2)} s to write, ${seconds.toFixed(2)} s to upload`);
  return seconds;
}

export const through: WriteMeasure = {
  name: 'through',
  about: 'write-through: 4 writers, against a bare multipart upload and the peers',
  async run(context) {
    const { stage, bucket } = context;
    stage.tell('write-through of big files');
    const load = bigLoad(stage);
    const amount = loadBytes(load) / 1e9;
    const runs = await throughRuns(context, load, { endpoint: bucket.endpoint, amount, withBare: true });
    const measure = `write-through: ${load.writers} writers x ${load.fileBytes / MIB} MiB, until committed`;
    const base = { unit: 'GB/s', better: 'higher', perigee: runs.perigee } as const;
    return [
      { ...base, measure, others: [runs.bare], must: 0.9, note: 'the upload alone, of files written before' },
      { ...base, measure: `${measure}, peers`, others: runs.peers, must: 1 },
    ];
  },
};

export const throughSlow: WriteMeasure = {
  name: 'through-slow',
  about: `the same with ${SLOW_MS} ms added to every request`,
  async run(context) {
    const { stage } = context;
    stage.tell(`write-through, +${SLOW_MS} ms`);
    const load = bigLoad(stage);
    const amount = loadBytes(load) / 1e9;
    const endpoint = await context.slowEndpoint(SLOW_MS);
    const { perigee, peers } = await throughRuns(context, load, { endpoint, amount, withBare: false });
    const row: Row = {
      measure: `write-through, +${SLOW_MS} ms on every request`,
      unit: 'GB/s',
      better: 'higher',
      perigee,
      others: peers,
      must: 1.5,
    };
    return [row];
  },
};

export const smallThrough: WriteMeasure = {
  name: 'small-through',
  about: 'write-through: create, write 10 kB and close, against the peers',
  async run(context) {
    const { stage, bucket } = context;
    stage.tell('write-through of small files');
    const load = smallLoad(stage);
    const amount = load.writers * load.files;
    const runs = await throughRuns(context, load, { endpoint: bucket.endpoint, amount, withBare: false });
    const row: Row = {
      measure: `write-through: create + write 10 kB + close of ${amount} files`,
      unit: 'files/s',
      better: 'higher',
      perigee: runs.perigee,
      others: runs.peers,
      must: 3,
    };
    return [row];
  },
};
