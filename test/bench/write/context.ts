/** What every measure of writing gets. */
import type { MeasureOf } from '../read/run-measures.ts';
import { withCeph } from '../../servers/servers.ts';
import { startLatencyProxy } from '../../faults/latency-proxy.ts';
import { openStore } from '../../../lib/store/open-store.ts';
import type { ObjectStore } from '../../../lib/store/object-store.ts';
import { type Bucket, type Mounter, peers, Perigee } from '../read/mounts.ts';
import type { Stage } from '../read/stage.ts';

export interface WriteContext {
  readonly stage: Stage;
  readonly bucket: Bucket;
  readonly store: ObjectStore;
  readonly perigee: Perigee;
  readonly peers: readonly Mounter[];
  /** A second way to the same server, on which every request takes so much longer. */
  slowEndpoint(delayMs: number): Promise<string>;
}

export type WriteMeasure = MeasureOf<WriteContext>;

/** On a Ceph gateway of the benchmark's own, with an empty bucket. */
export async function prepareWriting(stage: Stage): Promise<WriteContext> {
  stage.tell('starting a Ceph gateway');
  const server = await withCeph({ teardown: (run) => stage.atEnd('Ceph gateway', run) });
  const store = openStore(server.url());
  stage.atEnd('store', () => store.close());
  const { endpoint, bucket: name } = server;
  const bucket: Bucket = { endpoint, bucket: name, env: { ...server.env, AWS_REGION: 'us-east-1' } };
  let slow: Promise<string> | undefined;
  return {
    stage,
    bucket,
    store,
    perigee: new Perigee(stage, bucket),
    peers: peers(stage, bucket, { isWritable: true }),
    slowEndpoint: (delayMs) =>
      (slow ??= startLatencyProxy({ target: endpoint, delayMs }).then((proxy) => {
        stage.atEnd('proxy', () => proxy.close());
        return proxy.endpoint;
      })),
  };
}

/** Empties the bucket, so that the server's memory lasts for all runs. */
export async function emptyBucket({ store }: WriteContext): Promise<void> {
  for (let page = await store.list({ prefix: '' }); ; page = await store.list({ prefix: '' })) {
    await Promise.all(page.objects.map(({ key }) => store.delete(key)));
    if (page.nextToken === undefined) return;
  }
}
