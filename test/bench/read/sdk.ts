/** The bare SDK and wrk against the same server, each in a process of its own. */
import fs from 'node:fs';
import path from 'node:path';
import { createHmac } from 'node:crypto';
import type { BenchContext } from './context.ts';
import type { Dataset, FileSet } from './dataset.ts';
import { median } from './figures.ts';
import { fileName } from './file-name.ts';
import type { SdkTask } from './sdk-child.ts';

const PARALLEL = 8;
const WRK_SECONDS = 5;

async function sdkChild<T>(
  { stage, dataset }: BenchContext,
  options: {
    readonly mode: string;
    readonly task?: Partial<SdkTask>;
    readonly sink?: string;
    readonly node?: readonly string[];
  },
): Promise<T> {
  const task: SdkTask = {
    endpoint: dataset.endpoint,
    bucket: dataset.bucket,
    ...dataset.big,
    parallel: PARALLEL,
    ...options.task,
  };
  const child = path.join(import.meta.dirname, 'sdk-child.ts');
  const args = [...(options.node ?? []), child, options.mode, JSON.stringify(task), options.sink ?? '-'];
  const { ms } = JSON.parse(await stage.run(process.execPath, args, { env: dataset.env })) as { ms: T };
  return ms;
}

/** @param sink a file, or `-` for nowhere */
export async function bareDownloadSeconds(context: BenchContext, sink: string): Promise<number> {
  await context.stage.dropCaches();
  const ms = await sdkChild<number>(context, { mode: 'download', sink });
  fs.rmSync(sink, { force: true });
  return ms / 1000;
}

/** Median of a series, on a connection that is open. */
export async function rangedGetsMs(context: BenchContext): Promise<number> {
  return median(await sdkChild<number[]>(context, { mode: 'first' }));
}

/** GETs of small objects a second through the SDK alone, one thread. */
export async function sdkGetsPerSecond(context: BenchContext, set: FileSet): Promise<number> {
  const task = { key: set.folder, bytes: set.count };
  return (set.count / (await sdkChild<number>(context, { mode: 'small', task }))) * 1000;
}

/** The same with presigned URLs and no SDK at all. */
export async function wrkGetsPerSecond({ stage, dataset }: BenchContext, set: FileSet): Promise<number> {
  const paths = Array.from({ length: set.count }, (_, index) =>
    JSON.stringify(presigned(dataset, `${set.folder}/${fileName(index)}`)),
  );
  const script = path.join(stage.directory, 'urls.lua');
  fs.writeFileSync(
    script,
    `local urls = {${paths.join(',\n')}}\nlocal i = math.random(#urls)\nfunction request()\n i = i % #urls + 1\n return wrk.format("GET", urls[i])\nend\n`,
  );
  const args = ['-t2', `-c${PARALLEL}`, `-d${WRK_SECONDS}s`, '-s', script, dataset.endpoint];
  stage.commands.add(`wrk ${args.slice(0, 3).join(' ')} -s URLS.lua E`);
  const text = await stage.run('wrk', args);
  if (/Non-2xx/.test(text)) throw new Error(`wrk: ${text}`);
  return Number(/Requests\/sec:\s+([\d.]+)/.exec(text)?.[1]);
}

/** Path and query of a GET that needs no headers: query authentication of S3, version 2, which every gateway has. */
function presigned({ bucket, env }: Dataset, key: string): string {
  const expires = Math.floor(Date.now() / 1000) + 3600;
  const resource = `/${bucket}/${key}`;
  const signature = createHmac('sha1', env.AWS_SECRET_ACCESS_KEY ?? '')
    .update(`GET\n\n\n${expires}\n${resource}`)
    .digest('base64');
  const query = new URLSearchParams({
    AWSAccessKeyId: env.AWS_ACCESS_KEY_ID ?? '',
    Expires: String(expires),
    Signature: signature,
  });
  return `${resource}?${query.toString()}`;
}

/** Where the processor time of a thread that only GETs small objects goes: share of each package, largest first. */
export async function sdkTimeShares(
  context: BenchContext,
  set: FileSet,
): Promise<readonly { readonly where: string; readonly share: number }[]> {
  const directory = context.stage.place('profile');
  const task = { key: set.folder, bytes: set.count };
  const node = ['--cpu-prof', `--cpu-prof-dir=${directory}`];
  await sdkChild<number>(context, { mode: 'small', task, node });
  const file = path.join(directory, fs.readdirSync(directory)[0]!);
  const profile = JSON.parse(fs.readFileSync(file, 'utf8')) as CpuProfile;
  const places = new Map(profile.nodes.map(({ id, callFrame }) => [id, placeOf(callFrame)]));
  const times = new Map<string, number>();
  profile.samples.forEach((id, index) => {
    const place = places.get(id)!;
    times.set(place, (times.get(place) ?? 0) + (profile.timeDeltas[index] ?? 0));
  });
  times.delete('(idle)');
  const total = [...times.values()].reduce((sum, time) => sum + time, 0);
  return [...times]
    .map(([where, time]) => ({ where, share: time / total }))
    .sort((a, b) => b.share - a.share);
}

interface CpuProfile {
  readonly nodes: readonly {
    readonly id: number;
    readonly callFrame: { readonly functionName: string; readonly url: string };
  }[];
  readonly samples: readonly number[];
  readonly timeDeltas: readonly number[];
}

function placeOf({ functionName, url }: CpuProfile['nodes'][number]['callFrame']): string {
  const inPackage = /node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(url)?.[1];
  if (inPackage !== undefined) return inPackage;
  const ofNode = /^node:(?:internal\/)?([^/]+)/.exec(url)?.[1];
  if (ofNode !== undefined) return `node: ${ofNode}`;
  return url === '' ? (functionName.startsWith('(') ? functionName : 'node: native code') : 'own code';
}
