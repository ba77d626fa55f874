/** The contract of object stores on Ceph's gateway, and the same server behind a proxy that misbehaves. */
import t from 'tap';
import { openStore } from '../../lib/store/open-store.ts';
import { withCeph } from '../servers/servers.ts';
import { needs, unmet } from '../support/requirements.ts';
import { storeContract } from './contract.ts';
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
});
