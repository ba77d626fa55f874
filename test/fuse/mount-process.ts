/**
 * Mounts a `MemoryFs` in a process of its own and obeys the messages of its parent, so that tests can use plain
 * system calls on the mount. Arguments: one JSON object, see `mounting.ts`.
 */
import { systemClock } from '../../lib/base/clock.ts';
import { mountKernel } from '../../lib/fuse/kernel-driver.ts';
import { Errno } from '../../lib/fuse/errno.ts';
import { ErrnoError, type RequestContext } from '../../lib/fuse/operations.ts';
import { mountPortable } from '../../lib/fuse/portable-driver.ts';
import { createLogger } from '../../lib/telemetry/log.ts';
import { createMetrics } from '../../lib/telemetry/metrics.ts';
import { conformanceTree } from '../conformance/tree.ts';
import { MemoryFs } from './memory-fs.ts';
import type { MountCommand, MountSettings } from './mounting.ts';

const settings = JSON.parse(process.argv[2] ?? '{}') as MountSettings;
const fs = new MemoryFs(conformanceTree, settings);
const metrics = createMetrics();
const mount = settings.driver === 'kernel' ? mountKernel : mountPortable;

/** Reads that hang until they are interrupted. */
let blocked = 0;
function block(_name: string, { signal }: RequestContext): Promise<Uint8Array> {
  blocked++;
  process.send?.({ event: 'blocked', blocked });
  return new Promise((_resolve, reject) => {
    signal.addEventListener('abort', () => {
      process.send?.({ event: 'interrupted' });
      reject(signal.reason as Error);
    });
  });
}

async function obey(command: MountCommand): Promise<unknown> {
  switch (command.do) {
    case 'supersede':
      return fs.supersede(command.path, Buffer.from(command.content));
    case 'replace':
      return fs.replace(command.path, Buffer.from(command.content));
    case 'remove':
      return fs.remove(command.path);
    case 'invalidate-attributes':
      return fs.connection?.invalidateAttributes(fs.node(command.path).node);
    case 'invalidate-entry':
      return fs.connection?.invalidateEntry(fs.node(command.parent).node, Buffer.from(command.name));
    case 'invalidate-all':
      return fs.connection?.invalidateAllEntries();
    case 'block-reads':
      fs.onRead = block;
      return;
    case 'fail-reads':
      fs.onRead = () => {
        throw new Error('a fault of the file system');
      };
      return;
    case 'refuse-reads':
      fs.onRead = () => Promise.reject(new ErrnoError(Errno.ETIMEDOUT, 'refused'));
      return;
    case 'passthrough':
      fs.passthrough = command.on;
      return;
    case 'crash':
      setImmediate(() => {
        throw new Error('a crash');
      });
      return;
    case 'exit':
      return process.exit(3);
    case 'state':
      return {
        calls: Object.fromEntries(fs.calls),
        held: fs.held.size,
        nodes: fs.tree.size,
        locks: fs.locks?.locks.size ?? 0,
        openFiles: fs.openFiles.size,
        openDirectories: fs.openDirectories.size,
        passthrough: fs.connection?.abilities.passthrough,
      };
    case 'trace':
      return fs.trace.splice(0);
    case 'metrics':
      return metrics.registry.metrics();
    case 'unmount':
      return driver.unmount({ deadlineMs: command.deadlineMs });
  }
}

const driver = await mount({
  mountpoint: settings.mountpoint,
  source: settings.source ?? 'memory',
  readOnly: settings.readOnly ?? settings.writable !== true,
  allowOther: settings.allowOther ?? false,
  operations: fs,
  ...(fs.writes && { writes: fs.writes }),
  ...(fs.locks && { locks: fs.locks }),
  logger: createLogger({ level: 'silent' }),
  metrics,
  clock: systemClock,
}).catch((error: unknown) => {
  const { code, message, hint } = error as { code?: string; message: string; hint?: string };
  process.send?.({ event: 'failed', code, message, hint });
  fs.dispose();
  process.disconnect();
  throw error;
});

process.on('message', (message: { id: number; command: MountCommand }) => {
  const answer = (content: object): void => {
    if (process.connected) process.send?.({ id: message.id, ...content });
  };
  obey(message.command).then(
    (value) => answer({ value }),
    (error: unknown) => answer({ error: String(error) }),
  );
});
process.send?.({ event: 'mounted', mountpoint: driver.mountpoint });
const end = await driver.ended;
process.send?.({ event: 'ended', reason: end.reason, disconnections: fs.disconnections });
fs.dispose();
process.disconnect();
