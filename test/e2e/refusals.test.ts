/** Bad input at the command line, against real processes: a clear error with a hint, the right exit code, nothing left mounted. */
import { once } from 'node:events';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import t from 'tap';
import { needs, unmet } from '../support/requirements.ts';
import { run, System } from '../support/system.ts';

const skip = unmet(needs.fuse);

t.test('mount refuses what cannot work, in words', { skip }, async (t) => {
  const system = await System.start(t);
  fs.writeFileSync(path.join(system.objects, 'file'), 'x');
  const mountpoint = path.join(system.directory, 'mnt');
  fs.mkdirSync(mountpoint);
  const cache = path.join(system.directory, 'cache');
  const source = `${system.address}/data`;
  const size = ['--cache-size', '1GiB'];
  const foreign = path.join(system.directory, 'foreign');
  fs.mkdirSync(foreign);
  fs.writeFileSync(path.join(foreign, 'precious'), 'mine');
  const link = path.join(system.directory, 'link');
  fs.symlinkSync(mountpoint, link);

  const cases: Readonly<
    Record<string, { readonly args: readonly string[]; readonly code: number; readonly says: RegExp }>
  > = {
    'an unknown export': {
      args: [`${system.address}/nope`, mountpoint, '--cache', cache, ...size],
      code: 1,
      says: /nope/,
    },
    'an unreachable origin': {
      args: ['127.0.0.1:1/data', mountpoint, '--cache', cache, ...size],
      code: 1,
      says: /127\.0\.0\.1:1/,
    },
    'a missing mount point': {
      args: [source, `${mountpoint}-missing`, '--cache', cache, ...size],
      code: 1,
      says: /mnt-missing/,
    },
    'a mount point that is a file': {
      args: [source, path.join(system.objects, 'file'), '--cache', cache, ...size],
      code: 1,
      says: /director/,
    },
    'a source without an export': {
      args: [system.address, mountpoint, '--cache', cache, ...size],
      code: 2,
      says: /EXPORT|export/,
    },
    'a nonsense size': {
      args: [source, mountpoint, '--cache', cache, '--cache-size', '10 bananas'],
      code: 2,
      says: /bananas/,
    },
    'a cache smaller than one block': {
      args: [source, mountpoint, '--cache', cache, '--cache-size', '1MiB'],
      code: 2,
      says: /small|least/,
    },
    'a cache directory that is not ours': {
      args: [source, mountpoint, '--cache', foreign, ...size],
      code: 1,
      says: /foreign/,
    },
    'a cache below the mount point': {
      args: [source, mountpoint, '--cache', path.join(mountpoint, 'cache'), ...size],
      code: 2,
      says: /--cache.*below the mount point/,
    },
    'a log below the mount point, by a link': {
      args: [source, mountpoint, '--cache', cache, '--log-file', path.join(link, 'new/log'), ...size],
      code: 2,
      says: /--log-file.*below the mount point/,
    },
    'a log that cannot be made': {
      args: [source, mountpoint, '--cache', cache, '--log-file', path.join(foreign, 'precious/log'), ...size],
      code: 1,
      says: /cannot open the log/,
    },
    'an unreachable origin, with a cache in new directories': {
      args: ['127.0.0.1:1/data', mountpoint, '--cache', path.join(system.directory, 'new/er/cache'), ...size],
      code: 1,
      says: /127\.0\.0\.1:1/,
    },
    'an unknown flag': {
      args: [source, mountpoint, '--cache', cache, '--cahce-size', '1GiB'],
      code: 2,
      says: /--cahce-size/,
    },
  };
  for (const [name, { args, code, says }] of Object.entries(cases)) {
    const ran = await system.cli(['mount', ...args]);
    t.equal(ran.code, code, `${name}: exit code ${code}: ${ran.stderr}`);
    t.match(ran.stderr, says, `${name}: says what is wrong`);
    t.match(ran.stderr, /^perigee: /, `${name}: has the shape of an error`);
    t.match(ran.stderr, /^hint: /m, `${name}: has a hint`);
  }
  t.equal(fs.readFileSync(path.join(foreign, 'precious'), 'utf8'), 'mine', 'foreign files are untouched');
  t.notMatch(fs.readFileSync('/proc/mounts', 'utf8'), mountpoint, 'nothing is left mounted');
  t.same(fs.readdirSync(mountpoint), [], 'nothing is left in the mount point');
  t.notOk(fs.existsSync(path.join(system.directory, 'new')), 'nor directories made for a log');
  const logs = fs.readdirSync(system.directory).filter((name) => name.endsWith('.log'));
  const empty = logs.filter((name) => fs.statSync(path.join(system.directory, name)).size === 0);
  t.same(empty, [], 'no refused mount leaves an empty log');
});

t.test('mount refuses a path or a cache in use, and cleans up a dead mount', { skip }, async (t) => {
  const system = await System.start(t);
  fs.writeFileSync(path.join(system.objects, 'file'), 'hello');
  const first = await system.mount({ name: 'a' });
  const again = await system.cli([
    'mount',
    `${system.address}/data`,
    first.mountpoint,
    '--cache',
    path.join(system.directory, 'other'),
    '--cache-size',
    '1GiB',
  ]);
  t.equal(again.code, 1);
  t.match(again.stderr, /already/);
  await t.rejects(
    system.mount({ name: 'b', cacheDirectory: path.join(system.directory, 'cache-a') }),
    /belongs|lock|use/,
  );

  await first.kill();
  await t.rejects(fs.promises.readdir(first.mountpoint), { code: /ENOTCONN|ECONNABORTED/ });
  const after = await system.mount({ name: 'a' });
  t.equal(await fs.promises.readFile(path.join(after.mountpoint, 'file'), 'utf8'), 'hello');
  t.equal((await run('grep', ['-c', after.mountpoint, '/proc/mounts'])).stdout.trim(), '1', 'mounted once');
});

t.test('unmount refuses a mount in use, which goes on serving; --force detaches it', { skip }, async (t) => {
  const system = await System.start(t);
  fs.writeFileSync(path.join(system.objects, 'file'), 'hello');
  fs.writeFileSync(path.join(system.objects, 'other'), 'there');
  const mount = await system.mount();
  const open = await fs.promises.open(path.join(mount.mountpoint, 'file'));
  t.teardown(() => open.close().catch(() => undefined));
  const refused = await mount.unmount();
  t.equal(refused.code, 1, 'a mount in use is not unmounted');
  t.match(refused.stderr, /^perigee: unmount: .*busy/);
  t.match(refused.stderr, /^hint: close the files .*--force/m);
  t.equal((await open.read(Buffer.alloc(5), 0, 5, 0)).buffer.toString(), 'hello', 'the open file reads on');
  t.equal(
    await fs.promises.readFile(path.join(mount.mountpoint, 'other'), 'utf8'),
    'there',
    'new opens work',
  );
  t.equal((await mount.status()).mountpoint, mount.mountpoint, 'the mount still answers');

  t.equal((await system.cli(['unmount', '--force', mount.mountpoint])).code, 0, 'by force it goes');
  t.notMatch(fs.readFileSync('/proc/mounts', 'utf8'), mount.mountpoint);
  t.equal((await system.cli(['status', mount.mountpoint])).code, 1, 'and its process ends');
});

t.test('unmount --force takes away a mount whose process hangs', { skip }, async (t) => {
  const system = await System.start(t);
  const mount = await system.mount();
  process.kill(mount.pid, 'SIGSTOP');
  // Far below the bound of an ordinary unmount.
  const ran = await system.cli(['unmount', '--force', mount.mountpoint], { timeoutMs: 60_000 });
  t.equal(ran.code, 0, ran.stderr);
  t.notMatch(fs.readFileSync('/proc/mounts', 'utf8'), mount.mountpoint);
  await mount.kill();
});

t.test('every write is refused with EROFS', { skip }, async (t) => {
  const system = await System.start(t);
  fs.writeFileSync(path.join(system.objects, 'file'), 'hello');
  const { mountpoint } = await system.mount({ flags: ['--read-only'] });
  const file = path.join(mountpoint, 'file');
  const { writeFile, mkdir, unlink, rename, chmod, utimes, symlink, truncate } = fs.promises;
  const attempts: Readonly<Record<string, () => Promise<unknown>>> = {
    overwrite: () => writeFile(file, 'x'),
    create: () => writeFile(`${file}-new`, 'x'),
    mkdir: () => mkdir(`${file}-dir`),
    unlink: () => unlink(file),
    rename: () => rename(file, `${file}-moved`),
    chmod: () => chmod(file, 0o600),
    utimes: () => utimes(file, 1, 1),
    symlink: () => symlink('file', `${file}-link`),
    truncate: () => truncate(file, 0),
  };
  for (const [name, attempt] of Object.entries(attempts)) await t.rejects(attempt(), { code: 'EROFS' }, name);
});

t.test(
  'when the origin is away operations fail within a bound, and go on when it is back',
  { skip },
  async (t) => {
    const system = await System.start(t, { originFlags: async () => ['--lease-term', '1s'] });
    fs.writeFileSync(path.join(system.objects, 'file'), 'hello');
    const metrics = `127.0.0.1:${await freePort()}`;
    const { mountpoint } = await system.mount({ flags: ['--metrics', metrics, '--partition-wait', '1s'] });
    const readiness = async (): Promise<number> => (await fetch(`http://${metrics}/readyz`)).status;
    const file = path.join(mountpoint, 'file');
    t.equal(await readiness(), 200);
    t.equal(await fs.promises.readFile(file, 'utf8'), 'hello');
    const port = Number(system.address.split(':')[1]);
    await system.stopOrigin('SIGKILL');
    let failure: unknown;
    // Until the term ends, names are used as before.
    while (failure === undefined) {
      failure = await fs.promises.stat(file).then(
        () => undefined,
        (error: unknown) => error,
      );
    }
    t.match(failure, { code: /ETIMEDOUT|EIO/ });
    t.equal(await readiness(), 503, 'and the mount is not ready');
    await system.startOrigin(`file://${system.objects}`, port);
    t.equal(await fs.promises.readFile(file, 'utf8'), 'hello');
    t.equal(await readiness(), 200);
  },
);

async function freePort(): Promise<number> {
  const server = net.createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as net.AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}
