/** The contract of object stores on Ceph's gateway, and the same server behind a proxy that misbehaves. */
import {
  CreateBucketCommand,
  DeleteBucketCommand,
  DeleteObjectCommand,
  PutBucketVersioningCommand,
  S3Client,
} from '@aws-sdk/client-s3';
import t from 'tap';
import { openStore } from '../../lib/store/open-store.ts';
import { withCeph } from '../servers/servers.ts';
import { needs, unmet } from '../support/requirements.ts';
import { bytesOf, codeOf, storeContract } from './contract.ts';
import { s3Faults } from './s3-faults.ts';

const copyWholeBytesMax = 6 * 1024 * 1024;

void t.test('S3 store on Ceph', { skip: unmet(needs.ceph) }, async (t) => {
  const server = await withCeph(t);
  let scenarios = 0;
  storeContract(t, {
    name: 'S3 store on Ceph',
    open: async () => openStore(server.url(`scenario-${scenarios++}`), { copyWholeBytesMax }),
    capabilities: { conditionalPut: true, copyWholeBytesMax },
  });
  s3Faults(t, server);

  t.test('S3 store reads the version that was asked for, where the bucket keeps versions', async (t) => {
    const client = new S3Client({ endpoint: server.endpoint, region: 'us-east-1', forcePathStyle: true });
    t.teardown(() => client.destroy());
    const Bucket = `${server.bucket}-v`;
    await client.send(new CreateBucketCommand({ Bucket }));
    await client.send(
      new PutBucketVersioningCommand({ Bucket, VersioningConfiguration: { Status: 'Enabled' } }),
    );
    const store = openStore(server.url().replace(server.bucket, Bucket));
    t.teardown(() => store.close());
    const first = await store.put('object', Buffer.from('first'));
    const second = await store.put('object', Buffer.from('second'));
    t.ok(first.versionId !== undefined && second.versionId !== undefined);
    for (const [written, text] of [
      [first, 'first'],
      [second, 'second'],
    ] as const) {
      const versionId = written.versionId ?? '';
      const head = await store.head('object', { versionId });
      t.match(head, { versionId, entityTag: written.entityTag, sizeBytes: text.length });
      const range = { offset: 1, length: 100 };
      for (const request of [
        { key: 'object', versionId, ifMatch: written.entityTag },
        { key: 'object', versionId, range },
      ]) {
        const got = await store.get(request);
        t.equal((await bytesOf(got.body)).toString(), 'range' in request ? text.slice(1) : text);
      }
    }
    t.equal(
      await codeOf(store.get({ key: 'object', versionId: first.versionId ?? '', ifMatch: second.entityTag })),
      'precondition-failed',
    );
    for (const { versionId } of [first, second]) {
      await client.send(new DeleteObjectCommand({ Bucket, Key: 'object', VersionId: versionId }));
    }
    await client.send(new DeleteBucketCommand({ Bucket }));
  });
});
