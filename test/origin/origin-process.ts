/** An origin over a directory in a process of its own, to be killed: arguments are its data directory and the objects'. */
import { pathToFileURL } from 'node:url';
import { startOrigin } from '../../lib/origin/origin-server.ts';
import { openStore } from '../../lib/store/open-store.ts';
import { originOptions } from './origin-fixture.ts';

const [dataDirectory = '', objects = ''] = process.argv.slice(2);
const origin = await startOrigin(
  originOptions({
    dataDirectory,
    exports: [{ name: 'data', url: pathToFileURL(objects).href }],
    openStore,
  }),
);
process.send?.(origin.address);
