/** One origin over a plain folder, and one mount of it, as a user would start them; the folder itself is the other side. */
import { once } from 'node:events';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { freePorts } from '../../servers/free-ports.ts';
import { REPOSITORY, type Stage } from '../read/stage.ts';

const PERIGEE = path.join(REPOSITORY, 'bin/perigee.ts');
const CACHE_SIZE = '8GiB';

export interface NamesMount {
  /** The plain folder. */
  readonly native: string;
  readonly mountpoint: string;
  /** Of the satellite: the sum of a metric over the labels that match. */
  metric(name: string, labels?: RegExp): Promise<number>;
  leases(): Promise<number>;
}

export async function mountNames(stage: Stage, native: string): Promise<NamesMount> {
  const env = { PERIGEE_RUN_DIR: stage.place('run') };
  const perigee = (args: readonly string[]): Promise<string> =>
    stage.run(process.execPath, [PERIGEE, ...args], { env });
  const address = `127.0.0.1:${await freePorts(1)}`;
  const origin = ['origin', '--data', stage.place('origin'), '--listen', address, '--export'];
  stage.commands.add('perigee origin --data D --listen H:P --export names=file:///FOLDER');
  const { child } = stage.start(process.execPath, [PERIGEE, ...origin, `names=file://${native}`], { env });
  const [line] = await Promise.race([
    once(createInterface({ input: child.stdout! }), 'line'),
    once(child, 'exit'),
  ]);
  if (!String(line).startsWith('ready')) throw new Error(`perigee origin: ${String(line)}`);
  const mountpoint = stage.place('mount');
  const metricsPort = await freePorts(1);
  const cache = ['--cache', stage.place('cache'), '--cache-size', CACHE_SIZE];
  stage.commands.add(`perigee mount H:P/names M --cache D --cache-size ${CACHE_SIZE}`);
  await perigee(['mount', `${address}/names`, mountpoint, ...cache, '--metrics', `127.0.0.1:${metricsPort}`]);
  stage.atEnd(mountpoint, async () => {
    await perigee(['unmount', mountpoint]).catch(() => perigee(['unmount', '--force', mountpoint]));
  });
  return {
    native,
    mountpoint,
    async metric(name, labels = /./) {
      const text = await (await fetch(`http://127.0.0.1:${metricsPort}/metrics`)).text();
      const lines = text.split('\n').filter((each) => each.startsWith(`${name}{`) && labels.test(each));
      return lines.reduce((sum, each) => sum + Number(each.slice(each.lastIndexOf(' '))), 0);
    },
    async leases() {
      const status = JSON.parse(await perigee(['status', mountpoint, '--json'])) as {
        readonly leases: { readonly leases: number };
      };
      return status.leases.leases;
    },
  };
}
