/** A process that serves the admin socket of a mount point until it is killed. */
import { pino } from 'pino';
import { RunFiles } from '../../lib/config/run-files.ts';
import { startControlServer } from '../../lib/control/control-server.ts';
import { FakeControl } from '../cli/fakes.ts';

const [directory = '', mountpoint = ''] = process.argv.slice(2);
await startControlServer({
  mountpoint,
  handlers: new FakeControl(mountpoint),
  logger: pino({ level: 'silent' }),
  runFiles: new RunFiles(directory),
});
process.send?.('serving');
