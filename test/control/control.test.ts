import { fork } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { pino } from 'pino';
import t, { type Test } from 'tap';
import { PerigeeError } from '../../lib/base/errors.ts';
import { RunFiles } from '../../lib/config/run-files.ts';
import { connectControl, listControls } from '../../lib/control/control-client.ts';
import { type ControlServer, startControlServer } from '../../lib/control/control-server.ts';
import { FakeClock, FakeControl, fakeStatus } from '../cli/fakes.ts';

const logger = pino({ level: 'silent' });

class TestError extends PerigeeError<'no-space'> {
  override readonly layer = 'test';
}

/** A run directory with a short name: a socket's path has a hundred bytes. */
function runFilesOf(t: Test): RunFiles {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'perigee-run-'));
  t.teardown(() => fs.rmSync(directory, { recursive: true, force: true }));
  return new RunFiles(directory);
}

async function serve(
  t: Test,
  {
    runFiles,
    mountpoint,
    handlers = new FakeControl(mountpoint),
  }: {
    readonly runFiles: RunFiles;
    readonly mountpoint: string;
    readonly handlers?: FakeControl;
  },
): Promise<ControlServer> {
  const server = await startControlServer({ mountpoint, handlers, logger, runFiles });
  t.teardown(() => server.close());
  return server;
}

const mountpoints = [
  '/mnt/data',
  '/mnt/mit leer zeichen',
  '/mnt/größe/データ',
  `/mnt/${'x'.repeat(255)}`,
  '/mnt/a\nb',
  '/a',
];

t.test('every call reaches the mount and comes back', async (t) => {
  for (const mountpoint of mountpoints) {
    const runFiles = runFilesOf(t);
    const handlers = new FakeControl(mountpoint);
    await serve(t, { runFiles, mountpoint, handlers });
    const control = await connectControl(mountpoint, { runFiles });
    t.same(await control.status(), fakeStatus(mountpoint));
    t.same(await control.cacheList('train'), await new FakeControl(mountpoint).cacheList('train'));
    t.equal((await control.cacheList(undefined)).length, 1);
    t.equal(await control.cachePin('a b/ü', true), 3);
    t.same(await control.cacheEvict(undefined), { freedBytes: 5 * 1024 ** 2, keptBlobs: 0 });
    t.same(await control.cacheVerify('x'), { blobs: 2, bytes: 4096, badBlocks: 0, missingBlobs: 0 });
    t.equal(await control.unmount({ force: true }), undefined);
    t.same(handlers.calls, [
      'status',
      'list train',
      'list undefined',
      'pin a b/ü true',
      'evict undefined',
      'verify x',
      'unmount true',
    ]);
    t.same(await listControls({ runFiles }), [
      { mountpoint, pid: process.pid, socketPath: runFiles.socketPath(mountpoint) },
    ]);
  }
});

t.test('only the owner may connect', async (t) => {
  const runFiles = new RunFiles(path.join(runFilesOf(t).directory, 'made'));
  const server = await serve(t, { runFiles, mountpoint: '/m' });
  t.equal(fs.statSync(server.socketPath).mode & 0o777, 0o600);
  t.equal(fs.statSync(runFiles.directory).mode & 0o777, 0o700);
});

t.test('what the mount refuses comes with its hint', async (t) => {
  const runFiles = runFilesOf(t);
  const handlers = new FakeControl('/m');
  handlers.failure = new TestError('no-space', 'no room to pin', {
    hint: 'unpin something',
    cause: new Error('full'),
  });
  await serve(t, { runFiles, mountpoint: '/m', handlers });
  const control = await connectControl('/m', { runFiles });
  await t.rejects(control.cachePin('a', true), {
    name: 'ControlError',
    code: 'remote',
    message: 'no room to pin: full',
    hint: 'unpin something',
  });
});

t.test('a mount point without a mount is refused in words', async (t) => {
  const runFiles = runFilesOf(t);
  await t.rejects(connectControl('/m', { runFiles }), {
    code: 'not-running',
    message: 'no perigee mount answers at /m',
  });
  t.same(await listControls({ runFiles: new RunFiles('/nonexistent/run') }), []);
});

t.test('a second process for the same mount point is refused', async (t) => {
  const runFiles = runFilesOf(t);
  await serve(t, { runFiles, mountpoint: '/m' });
  await t.rejects(
    startControlServer({ mountpoint: '/m', handlers: new FakeControl('/m'), logger, runFiles }),
    {
      code: 'in-use',
      hint: 'perigee unmount /m ends it',
    },
  );
  t.equal((await listControls({ runFiles })).length, 1, 'the first one still answers');
});

t.test('a closed server leaves nothing behind', async (t) => {
  const runFiles = runFilesOf(t);
  const server = await serve(t, { runFiles, mountpoint: '/m' });
  const control = await connectControl('/m', { runFiles });
  await server.close();
  t.same(fs.readdirSync(runFiles.directory), []);
  await t.rejects(control.status(), { code: 'not-running' });
  await server.close();
});

t.test('what a killed process left behind is found and removed', async (t) => {
  const runFiles = runFilesOf(t);
  const child = fork(fileURLToPath(import.meta.resolve('./control-process.ts')), [runFiles.directory, '/m'], {
    stdio: 'inherit',
  });
  await once(child, 'message');
  t.same(
    (await listControls({ runFiles })).map(({ pid }) => pid),
    [child.pid],
  );
  child.kill('SIGKILL');
  await once(child, 'exit');
  t.equal(fs.readdirSync(runFiles.directory).length, 2);
  t.same(await listControls({ runFiles }), []);
  t.same(fs.readdirSync(runFiles.directory), []);
});

t.test('a stale socket gives way to a new mount, and is no mount to a command', async (t) => {
  const runFiles = runFilesOf(t);
  leaveStaleSocket(runFiles, '/m');
  await t.rejects(connectControl('/m', { runFiles }), { code: 'not-running' });
  t.same(fs.readdirSync(runFiles.directory), []);
  leaveStaleSocket(runFiles, '/m');
  await serve(t, { runFiles, mountpoint: '/m' });
  t.equal((await (await connectControl('/m', { runFiles })).status()).mountpoint, '/m');
});

/** A file that nobody listens on is what the kernel leaves of a socket. */
function leaveStaleSocket(runFiles: RunFiles, mountpoint: string): void {
  runFiles.prepare();
  fs.writeFileSync(runFiles.socketPath(mountpoint), '');
  runFiles.writeRecord(mountpoint, 999_999);
}

t.test('records that cannot be read are no mounts', async (t) => {
  const runFiles = runFilesOf(t);
  for (const [name, text] of Object.entries({
    'a.json': 'not json',
    'b.json': '{"version":99,"mountpoint":"/m","pid":1}',
    'c.json': '{"version":1,"mountpoint":"relative","pid":1}',
    'd.json': '{"version":1,"mountpoint":"/m","pid":-1}',
  })) {
    fs.writeFileSync(path.join(runFiles.directory, name), text);
  }
  t.same(await listControls({ runFiles }), []);
});

t.test('a mount that ends while it unmounts has done so', async (t) => {
  const runFiles = runFilesOf(t);
  const handlers = new FakeControl('/m');
  const server = await serve(t, { runFiles, mountpoint: '/m', handlers });
  // As a daemon does: the handler itself closes the server.
  handlers.unmount = async () => void (await server.close());
  const control = await connectControl('/m', { runFiles });
  t.equal(await control.unmount({ force: false }), undefined);
});

t.test('a mount that ends without an answer is an error, after an orderly unmount it is not', async (t) => {
  const runFiles = runFilesOf(t);
  const hangUp = await rawServer(t, { runFiles, mountpoint: '/m' }, (_, response) => response.destroy());
  const control = await connectControl('/m', { runFiles });
  await t.rejects(control.status(), { code: 'closed' });
  await t.rejects(control.unmount({ force: false }), { code: 'closed' });
  hangUp.once('request', () => runFiles.remove('/m'));
  t.equal(await control.unmount({ force: false }), undefined);
});

t.test('an answer that is not what was agreed is refused', async (t) => {
  const bodies = ['', 'nonsense', '{}', '{"result":{"mountpoint":7}}', '{"result":null}', '[]'];
  for (const body of bodies) {
    const runFiles = runFilesOf(t);
    await rawServer(t, { runFiles, mountpoint: '/m' }, (_, response) => response.end(body));
    const control = await connectControl('/m', { runFiles });
    await t.rejects(control.status(), { code: 'protocol', hint: /use the perigee command of the release/ });
  }
});

t.test('a request that is not what was agreed is refused and harms nothing', async (t) => {
  const runFiles = runFilesOf(t);
  const handlers = new FakeControl('/m');
  const { socketPath } = await serve(t, { runFiles, mountpoint: '/m', handlers });
  const cases: [string, string, string, number][] = [
    ['GET', '/v1/status', '', 404],
    ['POST', '/v2/status', '{}', 404],
    ['POST', '/v1/toString', '{}', 404],
    ['POST', '/v1/cachePin', '{}', 500],
    ['POST', '/v1/cachePin', '{"path":1,"pinned":true}', 500],
    ['POST', '/v1/status', '{', 500],
    ['POST', '/v1/cacheList', JSON.stringify({ path: 'x'.repeat(70_000) }), 500],
  ];
  for (const [method, url, body, statusCode] of cases) {
    const answer = await rawCall(socketPath, { method, url, body });
    t.equal(answer.statusCode, statusCode, `${method} ${url}`);
    t.match(JSON.parse(answer.text), { error: { message: String, code: String } });
  }
  const nonsense = net.connect(socketPath);
  nonsense.end('\0\0\0 not http\r\n\r\n');
  nonsense.resume();
  await once(nonsense, 'close');
  t.same(handlers.calls, []);
  t.equal((await (await connectControl('/m', { runFiles })).status()).pid, 4242);
});

t.test('a mount that does not answer is given up at the deadline', async (t) => {
  const runFiles = runFilesOf(t);
  const clock = new FakeClock();
  await rawServer(t, { runFiles, mountpoint: '/m' }, () => clock.pass(10_000));
  const control = await connectControl('/m', { runFiles, clock });
  await t.rejects(control.status(), { code: 'timeout', message: 'did not answer within 10000 ms' });
});

t.test('a caller that goes away aborts its verification', async (t) => {
  const runFiles = runFilesOf(t);
  const handlers = new FakeControl('/m');
  const caller = new AbortController();
  const aborted = new Promise<void>((resolve) => {
    handlers.cacheVerify = (async (_path: string, { signal }: { signal: AbortSignal }) => {
      caller.abort(new Error('gone'));
      await once(signal, 'abort');
      resolve();
      throw new Error('aborted');
    }) as never;
  });
  await serve(t, { runFiles, mountpoint: '/m', handlers });
  const control = await connectControl('/m', { runFiles });
  await t.rejects(control.cacheVerify(undefined, { signal: caller.signal }), { message: 'gone' });
  await aborted;
});

t.test('a server that closes aborts verifications under way', async (t) => {
  const runFiles = runFilesOf(t);
  const handlers = new FakeControl('/m');
  const server = await serve(t, { runFiles, mountpoint: '/m', handlers });
  handlers.cacheVerify = (async (_path: string, { signal }: { signal: AbortSignal }) => {
    void server.close();
    if (!signal.aborted) await once(signal, 'abort');
    throw new Error('the mount ends');
  }) as never;
  const control = await connectControl('/m', { runFiles });
  await t.rejects(control.cacheVerify(undefined), { code: 'remote', message: 'the mount ends' });
});

t.test('the run directory follows the environment', async (t) => {
  t.equal(RunFiles.ofEnvironment({ PERIGEE_RUN_DIR: '/x/y' }, 0).directory, '/x/y');
  t.equal(RunFiles.ofEnvironment({}, 0).directory, '/run/perigee');
  t.equal(RunFiles.ofEnvironment({ XDG_RUNTIME_DIR: '/run/user/7' }, 7).directory, '/run/user/7/perigee');
  t.equal(RunFiles.ofEnvironment({}, 7).directory, '/tmp/perigee-7');
});

t.test('a run directory that cannot be used is refused with a hint', async (t) => {
  const long = new RunFiles(`/tmp/${'d'.repeat(100)}`);
  await t.rejects(connectControl('/m', { runFiles: long }), { name: 'UsageError', hint: /PERIGEE_RUN_DIR/ });
  const file = path.join(runFilesOf(t).directory, 'file');
  fs.writeFileSync(file, '');
  const blocked = new RunFiles(path.join(file, 'run'));
  await t.rejects(
    startControlServer({ mountpoint: '/m', handlers: new FakeControl('/m'), logger, runFiles: blocked }),
    {
      code: 'disk',
      hint: /PERIGEE_RUN_DIR/,
    },
  );
});

async function rawServer(
  t: Test,
  { runFiles, mountpoint }: { readonly runFiles: RunFiles; readonly mountpoint: string },
  answer: http.RequestListener,
): Promise<http.Server> {
  const server = http.createServer(answer);
  runFiles.prepare();
  server.listen(runFiles.socketPath(mountpoint));
  await once(server, 'listening');
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  return server;
}

async function rawCall(
  socketPath: string,
  { method, url, body }: { readonly method: string; readonly url: string; readonly body: string },
): Promise<{ readonly statusCode: number | undefined; readonly text: string }> {
  const request = http.request({ socketPath, method, path: url, agent: false });
  request.end(body);
  const [response] = (await once(request, 'response')) as [http.IncomingMessage];
  let text = '';
  for await (const chunk of response) text += String(chunk);
  return { statusCode: response.statusCode, text };
}
