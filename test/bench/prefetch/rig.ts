/** A bucket behind a proxy that takes its time, an origin over it, and mounts with caches of their own. */
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { openStore } from '../../../lib/store/open-store.ts';
import type { ObjectStore } from '../../../lib/store/object-store.ts';
import { startStoreProxy, type StoreProxy } from '../../faults/store-proxy.ts';
import { freePorts } from '../../servers/free-ports.ts';
import { withCeph } from '../../servers/servers.ts';
import { REPOSITORY, type Stage } from '../read/stage.ts';

const PERIGEE = path.join(REPOSITORY, 'bin/perigee.ts');
const EXPORT = 'bench';

export interface RigMount {
  readonly mountpoint: string;
  /** Sum of a counter over the labels that match. */
  metric(name: string, labels?: RegExp): Promise<number>;
  unmount(): Promise<void>;
}

export class Rig {
  /** The bucket, without the proxy. */
  readonly store: ObjectStore;
  readonly proxy: StoreProxy;
  readonly slowUrl: string;
  readonly origin: string;
  readonly #stage: Stage;
  readonly #env: Readonly<Record<string, string>>;
  #mounts = 0;

  private constructor(parts: {
    readonly stage: Stage;
    readonly store: ObjectStore;
    readonly proxy: StoreProxy;
    readonly slowUrl: string;
    readonly origin: string;
    readonly env: Readonly<Record<string, string>>;
  }) {
    this.#stage = parts.stage;
    this.store = parts.store;
    this.proxy = parts.proxy;
    this.slowUrl = parts.slowUrl;
    this.origin = parts.origin;
    this.#env = parts.env;
  }

  static async start(
    stage: Stage,
    limits: { readonly delayMs: number; readonly bytesPerSecond: number },
  ): Promise<Rig> {
    stage.tell('starting a Ceph gateway');
    const server = await withCeph({ teardown: (run) => stage.atEnd('Ceph gateway', run) });
    const proxy = await startStoreProxy({ target: server.endpoint, seed: 1 });
    stage.atEnd('proxy', () => proxy.close());
    proxy.setFaults([
      { fault: { kind: 'delay', ms: limits.delayMs } },
      { fault: { kind: 'bandwidth', bytesPerSecond: limits.bytesPerSecond }, methods: ['GET'] },
    ]);
    const store = openStore(server.url());
    stage.atEnd('store', () => store.close());
    const env = { ...server.env, AWS_REGION: 'us-east-1', PERIGEE_RUN_DIR: stage.place('run') };
    const origin = `127.0.0.1:${await freePorts(1)}`;
    const slowUrl = server.url('', proxy.endpoint);
    const words = [
      'origin',
      '--data',
      stage.place('origin'),
      '--listen',
      origin,
      '--export',
      `${EXPORT}=${slowUrl}`,
    ];
    stage.commands.add(
      'perigee origin --data D --listen H:P --export bench=s3://BUCKET?endpoint=PROXY&pathStyle=true',
    );
    const { child } = stage.start(process.execPath, [PERIGEE, ...words], { env });
    const [line] = await Promise.race([
      once(createInterface({ input: child.stdout! }), 'line'),
      once(child, 'exit'),
    ]);
    if (!String(line).startsWith('ready')) throw new Error(`perigee origin: ${String(line)}`);
    return new Rig({ stage, store, proxy, slowUrl, origin, env });
  }

  perigee(...words: string[]): Promise<string> {
    return this.#stage.run(process.execPath, [PERIGEE, ...words], { env: this.#env });
  }

  /** In force on mounts that are made from now on. */
  async apply(policies: string): Promise<void> {
    const file = path.join(this.#stage.directory, 'policies.yaml');
    fs.writeFileSync(file, `apiVersion: perigee/v1\npolicies:\n${policies}`);
    await this.perigee('policy', 'apply', '-f', file, '--origin', this.origin);
  }

  /** With nothing cached. */
  async mount(): Promise<RigMount> {
    const number = this.#mounts++;
    const mountpoint = this.#stage.place(`mount-${number}`);
    const cache = this.#stage.place(`cache-${number}`);
    const metrics = `127.0.0.1:${await freePorts(1)}`;
    const words = ['--cache', cache, '--cache-size', '16GiB', '--metrics', metrics];
    this.#stage.commands.add('perigee mount H:P/bench M --cache D --cache-size 16GiB');
    await this.perigee('mount', `${this.origin}/${EXPORT}`, mountpoint, ...words);
    let isMounted = true;
    const unmount = async (): Promise<void> => {
      if (!isMounted) return;
      isMounted = false;
      await this.perigee('unmount', '--force', mountpoint);
      fs.rmSync(cache, { recursive: true, force: true });
    };
    this.#stage.atEnd(mountpoint, unmount);
    return {
      mountpoint,
      unmount,
      async metric(name, labels = /./) {
        const text = await (await fetch(`http://${metrics}/metrics`)).text();
        const lines = text.split('\n').filter((each) => each.startsWith(`${name}{`) && labels.test(each));
        return lines.reduce((sum, each) => sum + Number(each.slice(each.lastIndexOf(' '))), 0);
      },
    };
  }
}
