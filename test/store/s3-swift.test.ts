/** The contract of object stores on OpenStack Swift. */
import t from 'tap';
import { openStore } from '../../lib/store/open-store.ts';
import { withSwift } from '../servers/servers.ts';
import { needs, unmet } from '../support/requirements.ts';
import { storeContract } from './contract.ts';

const copyWholeBytesMax = 6 * 1024 * 1024;

void t.test('S3 store on Swift', { skip: unmet(needs.swift) }, async (t) => {
  const server = await withSwift(t);
  let scenarios = 0;
  storeContract(t, {
    name: 'S3 store on Swift',
    open: async () => openStore(server.url(`scenario-${scenarios++}`), { copyWholeBytesMax }),
    capabilities: { conditionalPut: false, copyWholeBytesMax },
  });
});
