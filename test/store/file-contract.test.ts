/** The contract of object stores on the file store. */
import t from 'tap';
import { openStore } from '../../lib/store/open-store.ts';
import { storeContract } from './contract.ts';

storeContract(t, {
  name: 'file store',
  open: async (test) => openStore(`file://${test.testdir({})}`),
  capabilities: { conditionalPut: true, copyWholeBytesMax: 5 * 1024 * 1024 },
});
