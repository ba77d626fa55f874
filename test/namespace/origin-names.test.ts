/** The satellite's view of an origin that is wrong, newer, or lies: an error, never a crash, never wrong data. */
import type { Message, MessageInitShape } from '@bufbuild/protobuf';
import fc from 'fast-check';
import { pino } from 'pino';
import t, { type Test } from 'tap';
import type { InodeNumber } from '../../lib/base/brand.ts';
import { systemClock } from '../../lib/base/clock.ts';
import { NamespaceError } from '../../lib/namespace/namespace.ts';
import { openOriginNames } from '../../lib/namespace/origin-names.ts';
import {
  type InodeSchema,
  type ListDirectoryResponseSchema,
  type OpenExportResponseSchema,
  OriginService,
} from '../../lib/rpc/gen/origin_pb.js';
import { startRpcServer } from '../../lib/rpc/rpc-server.ts';
import { rpcService } from '../../lib/rpc/unary-handler.ts';

/** The part of an init type that is no message yet. */
type Plain<T> = Exclude<T, Message>;
type InodeInit = Plain<MessageInitShape<typeof InodeSchema>>;

const version = { id: 'a'.repeat(32), objectKey: 'k', entityTag: 'e', sizeBytes: 5n };
const file: InodeInit = { inode: 7n, kind: 'file', mode: 0o644, links: 1, sizeBytes: 5n, version };
const root: InodeInit = { inode: 1n, kind: 'directory', mode: 0o755, links: 2 };
const INODE = 7n as InodeNumber;

interface Lies {
  opened: Plain<MessageInitShape<typeof OpenExportResponseSchema>>;
  inode: InodeInit | undefined;
  list: MessageInitShape<typeof ListDirectoryResponseSchema>;
}

async function startLiar(t: Test) {
  const lies: Lies = {
    opened: {
      protocolVersion: 2,
      exportId: 'id',
      storeUrl: 'memory://x',
      epoch: 3n,
      readOnly: true,
      root,
      immutable: ['sets/**'],
    },
    inode: file,
    list: {},
  };
  const answer = async () => (lies.inode === undefined ? {} : { inode: lies.inode });
  const server = await startRpcServer({
    listen: { host: '127.0.0.1', port: 0 },
    insecure: false,
    authorize: () => undefined,
    clock: systemClock,
    services: [
      rpcService(OriginService, {
        openExport: async () => lies.opened,
        lookup: answer,
        getAttributes: answer,
        listDirectory: async () => lies.list,
        getUsage: async () => ({ bytesTotal: 1n << 60n }),
        reportStale: async () => ({}),
      }),
    ],
  });
  t.teardown(() => server.close());
  const open = async () => {
    const opened = await openOriginNames({
      address: server.address,
      exportName: 'data',
      host: 'test',
      clock: systemClock,
      logger: pino({ level: 'silent' }),
    });
    t.teardown(() => opened.remote.close());
    return opened;
  };
  return { lies, open };
}

t.test('namespace gives what a sound origin answers, without a lease', async (t) => {
  const { lies, open } = await startLiar(t);
  const { remote: namespace, exportInfo } = await open();
  t.match(exportInfo, {
    exportId: 'id',
    storeUrl: 'memory://x',
    epoch: 3,
    readOnly: true,
    immutable: ['sets/**'],
  });
  const { attributes, grant } = await namespace.lookup(INODE, 'x');
  t.equal(grant, undefined);
  t.match(attributes, {
    inode: 7n,
    kind: 'file',
    source: { version: version.id, exportName: 'data', sizeBytes: 5 },
  });
  t.match(await namespace.usage(), { bytesTotal: 1n << 60n, bytesUsed: 0n });
  lies.list = { entries: [{ name: 'a', inode: file }], more: true };
  t.match(await namespace.list(INODE, { entriesMax: 10 }), { next: 'a', grant: undefined, withdrawn: [] });
  lies.inode = undefined;
  t.same(await namespace.lookup(INODE, 'x'), { attributes: undefined, grant: undefined });
});

t.test('namespace refuses an export that makes no sense', async (t) => {
  const { lies, open } = await startLiar(t);
  const sound = lies.opened;
  for (const lie of [{ protocolVersion: 1 }, { root: file }, { storeUrl: '' }, { exportId: '' }]) {
    lies.opened = { ...sound, ...lie };
    await t.rejects(open(), { code: 'protocol', hint: /same release/ }, JSON.stringify(Object.keys(lie)));
  }
});

t.test('namespace refuses answers that make no sense', async (t) => {
  const { lies, open } = await startLiar(t);
  const { remote: namespace } = await open();
  const wrong: Record<string, InodeInit | undefined> = {
    'no inode': undefined,
    'another inode': { ...file, inode: 8n },
    'number zero': { ...file, inode: 0n },
    'unknown kind': { ...file, kind: 'socket' },
    'type bits in the mode': { ...file, mode: 0o100644 },
    'file without a version': { inode: 7n, kind: 'file' },
    'directory with a version': { ...file, kind: 'directory' },
    'symlink without a target': { inode: 7n, kind: 'symlink' },
    'symlink with an empty target': { inode: 7n, kind: 'symlink', target: '' },
    'version id that is a path': { ...file, version: { ...version, id: '../../etc/passwd' } },
    'version without an entity tag': { ...file, version: { ...version, entityTag: '' } },
    'sizes that differ': { ...file, sizeBytes: 6n },
    'size beyond 53 bits': { ...file, sizeBytes: 1n << 60n, version: { ...version, sizeBytes: 1n << 60n } },
  };
  for (const [lie, inode] of Object.entries(wrong)) {
    lies.inode = inode;
    await t.rejects(namespace.attributes(INODE), { code: 'protocol' }, lie);
  }
  const entry = (name: string) => ({ name, inode: file });
  const lists: Record<string, Lies['list']> = {
    'out of order': { entries: [entry('b'), entry('a')] },
    'one name twice': { entries: [entry('a'), entry('a')] },
    'before the page': { entries: [entry('0')] },
    'name with a slash': { entries: [entry('a/b')] },
    'name of a parent': { entries: [entry('..')] },
    'name over 255 bytes': { entries: [entry('é'.repeat(128))] },
    'entry without an inode': { entries: [{ name: 'a' }] },
    'more without end': { entries: [], more: true },
  };
  for (const [lie, list] of Object.entries(lists)) {
    lies.list = list;
    await t.rejects(namespace.list(INODE, { after: '1', entriesMax: 10 }), { code: 'protocol' }, lie);
  }
});

t.test('namespace fails with its own errors, whatever an origin answers', async (t) => {
  const { lies, open } = await startLiar(t);
  const { remote: namespace } = await open();
  const big = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n });
  const text = fc.string({ unit: 'binary', maxLength: 12 }).map((value) => value.toWellFormed());
  const inode: fc.Arbitrary<InodeInit> = fc.record({
    inode: fc.constantFrom(7n, 0n, 1n << 63n),
    kind: fc.constantFrom('file', 'directory', 'symlink', ''),
    mode: fc.constantFrom(0o644, 0xffff_ffff),
    sizeBytes: fc.oneof(fc.constant(5n), big),
    modifiedNs: fc.bigInt({ min: -(1n << 63n), max: (1n << 63n) - 1n }),
  });
  await fc.assert(
    fc.asyncProperty(
      inode,
      fc.option(fc.record({ id: fc.oneof(text, fc.constant(version.id)), objectKey: text, entityTag: text })),
      fc.array(text, { maxLength: 3 }),
      async (one, versionOrNot, names) => {
        lies.inode = versionOrNot === null ? one : { ...one, version: { ...versionOrNot, sizeBytes: 5n } };
        lies.list = { entries: names.map((name) => ({ name, inode: lies.inode ?? root })) };
        for (const call of [
          () => namespace.lookup(INODE, 'x'),
          () => namespace.attributes(INODE),
          () => namespace.list(INODE, { entriesMax: 10 }),
        ]) {
          try {
            await call();
          } catch (error) {
            if (!(error instanceof NamespaceError) || error.code !== 'protocol') throw error;
          }
        }
      },
    ),
    { numRuns: 100 },
  );
  t.pass();
});

t.test('namespace says what is wrong with an address or a name', async (t) => {
  const open = (address: string) =>
    openOriginNames({
      address,
      exportName: 'data',
      host: 'test',
      clock: systemClock,
      logger: pino({ level: 'silent' }),
    });
  await t.rejects(open('nonsense'), { code: 'usage', hint: /host:port/ });
  await t.rejects(open('127.0.0.1:1'), { code: 'unavailable', hint: /origin runs/ });
});
