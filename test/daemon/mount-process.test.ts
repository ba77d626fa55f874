/** The daemon as its parent and the system see it: how it is told to end, what its log says then. */
import { fork, type ChildProcess } from 'node:child_process';
import { on, once } from 'node:events';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import t, { type Test } from 'tap';
import type { SatelliteOptions } from '../../lib/daemon/satellite.ts';
import { needs, unmet } from '../support/requirements.ts';
import { System } from '../support/system.ts';

const ENTRY = path.resolve(import.meta.dirname, '../../lib/daemon/mount-process.ts');

/** A daemon that starts, against an origin that takes the call and never answers. */
async function starting(t: Test): Promise<{ readonly child: ChildProcess; readonly logFile: string }> {
  const server = net.createServer();
  const sockets = new Set<net.Socket>();
  server.on('connection', (socket) => sockets.add(socket.on('error', () => undefined)));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const directory = t.testdir({ mnt: {} });
  const logFile = path.join(directory, 'log');
  const child = fork(ENTRY, { stdio: 'ignore' });
  t.teardown(() => child.kill('SIGKILL'));
  const called = once(server, 'connection');
  child.send({
    origin: `127.0.0.1:${(server.address() as net.AddressInfo).port}`,
    exportName: 'data',
    mountpoint: path.join(directory, 'mnt'),
    cacheDirectory: path.join(directory, 'cache'),
    cacheBytes: 1024 ** 3,
    blockBytes: 4 * 1024 ** 2,
    wholeOnOpenBytes: 0,
    partitionWaitMs: 0,
    driver: 'kernel',
    readOnly: true,
    writeMode: 'through',
    writeBackBytesMax: 1024 ** 2,
    allowOther: false,
    fetchThreads: 1,
    labels: {},
    metrics: undefined,
    logLevel: 'info',
    logFile,
    version: 'test',
  } satisfies SatelliteOptions);
  await called;
  return { child, logFile };
}

t.test('mount process ends when the command that started it is gone before it answered', async (t) => {
  const { child, logFile } = await starting(t);
  const exited = once(child, 'exit');
  child.disconnect();
  t.same(await exited, [1, null]);
  t.match(fs.readFileSync(logFile, 'utf8'), /the command that started it has ended.*"stopping"/);
});

t.test('mount process that is told to end while it starts says so to its parent', async (t) => {
  const { child } = await starting(t);
  const answered = once(child, 'message');
  const exited = once(child, 'exit');
  child.kill('SIGTERM');
  t.match(await answered, [{ ready: false, code: 'stopped', message: /SIGTERM/ }]);
  t.same(await exited, [1, null]);
});

t.test(
  'mount process reopens its log on SIGHUP and says why it ends',
  { skip: unmet(needs.fuse) },
  async (t) => {
    const system = await System.start(t);
    const logFile = path.join(system.directory, 'log');
    const mount = await system.mount({ flags: ['--log-file', logFile] });
    const moved = `${logFile}.1`;
    fs.renameSync(logFile, moved);
    const watcher = fs.watch(system.directory);
    t.teardown(() => watcher.close());
    const made = (async () => {
      for await (const [, name] of on(watcher, 'change') as AsyncIterable<[string, string]>)
        if (name === 'log' && fs.existsSync(logFile)) return;
    })();
    process.kill(mount.pid, 'SIGHUP');
    await made;
    t.match(fs.readFileSync(moved, 'utf8'), /"ready"/);
    t.equal((await mount.unmount()).code, 0);
    t.match(fs.readFileSync(logFile, 'utf8'), /"reason":"perigee unmount".*"stopping"/);
  },
);
