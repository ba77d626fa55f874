/** `npm run bench -- prefetch`: what a program waits with policies and without, and what prefetching costs others. */
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { buffer } from 'node:stream/consumers';
import { openStore } from '../../../lib/store/open-store.ts';
import { machineLine, onStage, type Stage, until } from '../read/stage.ts';
import { Rig, type RigMount } from './rig.ts';

const MIB = 1024 * 1024;
const DELAY_MS = 20;
const SMALL_BYTES = 10_000;
/** What is fetched at once at the least. */
const BLOCK_BYTES = 4 * MIB;
/** The consumer reads at this share of what the store was measured to give. */
const CONSUMED = 0.8;
const GETS_AT_ONCE = 4;

export interface PrefetchBenchOptions {
  readonly quick: boolean;
  readonly dir: string | undefined;
}

interface Line {
  readonly measure: string;
  readonly value: string;
  readonly beside: string;
  readonly must: string;
  readonly isMet: boolean;
}

interface Sizes {
  readonly files: number;
  readonly fileBytes: number;
  /** Of the store, at most. */
  readonly bytesPerSecond: number;
  readonly smallFiles: number;
  readonly budget: number;
}

function sizesOf(isQuick: boolean): Sizes {
  return isQuick
    ? { files: 12, fileBytes: 4 * MIB, bytesPerSecond: 32 * MIB, smallFiles: 60, budget: 8 * MIB }
    : { files: 200, fileBytes: 20_000_000, bytesPerSecond: 150 * MIB, smallFiles: 1_000, budget: 100 * MIB };
}

/** Resolves with false if something was not met. */
export async function runPrefetchBench({ quick, dir }: PrefetchBenchOptions): Promise<boolean> {
  const lines: Line[] = [];
  await onStage({ dir, runs: 1, quick }, async (stage) => {
    const wanted = sizesOf(quick);
    const rig = await Rig.start(stage, { delayMs: DELAY_MS, bytesPerSecond: wanted.bytesPerSecond });
    await fillBucket(rig, { stage, sizes: wanted });
    // On a machine that has other things to do the store gives less than it may.
    const sizes = { ...wanted, bytesPerSecond: await rateOf(rig, wanted) };
    for (const measure of [manifest, numbers, budget, foreground, publish]) {
      stage.tell(measure.name);
      const line = await measure(rig, { stage, sizes });
      stage.tell(JSON.stringify(line));
      lines.push(line);
    }
    const rate = `${(sizes.bytesPerSecond / MIB).toFixed(0)} of ${wanted.bytesPerSecond / MIB} MiB/s`;
    const given = `${sizes.files} files of ${sizes.fileBytes} bytes, store at ${rate} and +${DELAY_MS} ms`;
    console.log(`${machineLine(stage.directory)}\n${given}\n`);
    const rows = [['measure', 'perigee', 'beside', 'must', 'met'], ...lines.map(rowOf)];
    const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
    for (const row of rows) console.log(row.map((cell, column) => cell.padEnd(widths[column]!)).join('  '));
  });
  return lines.every(({ isMet }) => isMet);
}

function rowOf({ measure, value, beside, must, isMet }: Line): string[] {
  return [measure, value, beside, must, isMet ? 'yes' : 'no'];
}

const nameOf = (file: number): string => `train/f-${String(file).padStart(4, '0')}.bin`;

async function fillBucket(
  rig: Rig,
  { stage, sizes }: { readonly stage: Stage; readonly sizes: Sizes },
): Promise<void> {
  stage.tell('uploading');
  const body = randomBytes(sizes.fileBytes);
  for (let file = 0; file < sizes.files; file++) {
    body.writeUInt32LE(file);
    await rig.store.put(nameOf(file), body);
  }
  const small = randomBytes(SMALL_BYTES);
  for (let file = 0; file < 2 * sizes.smallFiles; file++) {
    small.writeUInt32LE(file);
    await rig.store.put(`small/${file}`, small);
  }
}

/** What the store gives through the proxy. */
async function rateOf(rig: Rig, { files, fileBytes }: Sizes): Promise<number> {
  const store = openStore(rig.slowUrl);
  const beganMs = performance.now();
  let next = 0;
  const getSome = async (): Promise<void> => {
    while (next < files) {
      const { body } = await store.get({ key: nameOf(next++) });
      await buffer(body);
    }
  };
  await Promise.all(Array.from({ length: GETS_AT_ONCE }, getSome));
  store.close();
  return (1_000 * files * fileBytes) / (performance.now() - beganMs);
}

/** Reads whole files and works on each as long as it takes at its rate; returns the share of time that it waited. */
async function consume(
  mount: RigMount,
  {
    names,
    sizes,
    from = 0,
  }: { readonly names: readonly string[]; readonly sizes: Sizes; readonly from?: number },
): Promise<number> {
  const workMs = (1_000 * sizes.fileBytes) / (CONSUMED * sizes.bytesPerSecond);
  let waitedMs = 0;
  for (const [at, name] of names.entries()) {
    const beganMs = performance.now();
    await fs.promises.readFile(path.join(mount.mountpoint, name));
    if (at >= from) waitedMs += performance.now() - beganMs;
    await new Promise((resolve) => setTimeout(resolve, workMs));
  }
  return waitedMs / (waitedMs + workMs * (names.length - from));
}

const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;

type Given = { readonly stage: Stage; readonly sizes: Sizes };

async function manifest(rig: Rig, { stage, sizes }: Given): Promise<Line> {
  const names = Array.from({ length: sizes.files }, (_, at) => nameOf((at * 7 + 3) % sizes.files));
  const order = [...new Set(names)];
  const file = path.join(stage.directory, 'manifest.txt');
  fs.writeFileSync(file, order.join('\n'));
  const bare = await rig.mount();
  const without = await consume(bare, { names: order, sizes });
  await bare.unmount();
  const mount = await rig.mount();
  await rig.perigee('prefetch', '--manifest', file, '--ahead', '8', mount.mountpoint);
  const share = await consume(mount, { names: order, sizes });
  await mount.unmount();
  return {
    measure: 'share of time waited, in the order of a manifest',
    ...{ value: percent(share), beside: `${percent(without)} without`, must: '<= 3 %', isMet: share <= 0.03 },
  };
}

async function numbers(rig: Rig, { sizes }: Given): Promise<Line> {
  const order = Array.from({ length: sizes.files }, (_, at) => nameOf(at));
  const bare = await rig.mount();
  const without = await consume(bare, { names: order, sizes, from: 3 });
  await bare.unmount();
  await rig.apply(
    '  - { name: seq, match: { prefix: train/ }, prefetch: { on: [open], what: sequence, ahead: 4 } }\n',
  );
  const mount = await rig.mount();
  const share = await consume(mount, { names: order, sizes, from: 3 });
  await mount.unmount();
  await rig.perigee('policy', 'delete', 'seq', '--origin', rig.origin);
  return {
    measure: 'share of time waited, a, b, c by name, from the 4th file on',
    ...{ value: percent(share), beside: `${percent(without)} without`, must: '<= 10 %', isMet: share <= 0.1 },
  };
}

async function budget(rig: Rig, { sizes }: Given): Promise<Line> {
  const mount = await rig.mount();
  const samples: { readonly atMs: number; readonly bytes: number }[] = [];
  const timer = setInterval(
    () => samples.push({ atMs: performance.now(), bytes: rig.proxy.counters.bodyBytes }),
    20,
  );
  const rate = `${sizes.budget / MIB}MiB/s`;
  await rig.perigee('prefetch', path.join(mount.mountpoint, 'train'), '--bandwidth', rate, '--wait');
  clearInterval(timer);
  await mount.unmount();
  let most = 0;
  for (const { atMs, bytes } of samples) {
    if (samples.at(-1)!.atMs < atMs + 1_000) break;
    most = Math.max(most, samples.findLast((sample) => sample.atMs <= atMs + 1_000)!.bytes - bytes);
  }
  return {
    measure: `most bytes in any second with a budget of ${rate}`,
    ...{
      value: `${(most / MIB).toFixed(1)} MiB`,
      beside: '',
      must: '<= 1.1 x, or a block',
      isMet: most <= Math.max(1.1 * sizes.budget, sizes.budget + BLOCK_BYTES) && most > 0,
    },
  };
}

async function foreground(rig: Rig, { sizes }: Given): Promise<Line> {
  const mount = await rig.mount();
  // Not in one call: the proxy is in this process.
  await fs.promises.readdir(path.join(mount.mountpoint, 'small'));
  const read = async (from: number): Promise<number[]> => {
    const tookMs: number[] = [];
    for (let file = from; file < from + sizes.smallFiles; file++) {
      const beganMs = performance.now();
      await fs.promises.readFile(path.join(mount.mountpoint, 'small', String(file)));
      tookMs.push(performance.now() - beganMs);
    }
    return tookMs.sort((a, b) => a - b);
  };
  const idle = await read(0);
  await rig.perigee('prefetch', path.join(mount.mountpoint, 'train'));
  const busy = await read(sizes.smallFiles);
  await mount.unmount();
  const at = (sorted: readonly number[], share: number): number =>
    sorted[Math.floor(share * (sorted.length - 1))]!;
  const [median, late] = [at(busy, 0.5) / at(idle, 0.5), at(busy, 0.99) / at(idle, 0.99)];
  return {
    measure: 'cold reads of small files while a prefetch runs: median, 99 %',
    value: `${at(busy, 0.5).toFixed(1)}, ${at(busy, 0.99).toFixed(1)} ms`,
    beside: `${at(idle, 0.5).toFixed(1)}, ${at(idle, 0.99).toFixed(1)} ms idle: ${median.toFixed(2)} x, ${late.toFixed(2)} x`,
    ...{ must: '<= 1.3 x, <= 2 x', isMet: median <= 1.3 && late <= 2 },
  };
}

async function publish(rig: Rig, { stage, sizes }: Given): Promise<Line> {
  await rig.apply('  - { name: ckpt, match: { prefix: ckpt/ }, prefetch: { on: [publish] } }\n');
  await rig.perigee('mkdir', `${rig.origin}/bench/ckpt`);
  const mount = await rig.mount();
  await until(
    'the directory is leased',
    async () => (await mount.metric('perigee_name_answers_total', /kept/)) > 0,
  );
  const file = path.join(stage.directory, 'checkpoint');
  fs.writeFileSync(file, randomBytes(4 * sizes.fileBytes));
  await rig.perigee('put', file, `${rig.origin}/bench/ckpt/one`);
  const beganMs = performance.now();
  const fetched = (): Promise<number> => mount.metric('perigee_prefetch_bytes_total', /ckpt.*fetched/);
  await until('the checkpoint is there', async () => (await fetched()) >= 4 * sizes.fileBytes);
  const tookMs = performance.now() - beganMs;
  const store = openStore(rig.slowUrl);
  const bareMs = performance.now();
  const { body } = await store.get({ key: 'ckpt/one' });
  await buffer(body);
  const bareTookMs = performance.now() - bareMs;
  store.close();
  await mount.unmount();
  await rig.perigee('policy', 'delete', 'ckpt', '--origin', rig.origin);
  return {
    measure: 'from a commit until its bytes are on NVMe',
    value: `${tookMs.toFixed(0)} ms`,
    ...{
      beside: `${bareTookMs.toFixed(0)} ms for a bare GET`,
      must: '<= 1.5 x',
      isMet: tookMs <= 1.5 * bareTookMs,
    },
  };
}
