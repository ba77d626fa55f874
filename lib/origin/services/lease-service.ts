/** The streams of satellites; and who holds what, for people. */
import type { MessageInitShape } from '@bufbuild/protobuf';
import { type InodeNumber, ROOT_INODE } from '../../base/brand.ts';
import type * as wire from '../../rpc/gen/origin_pb.js';
import { rpcCodeOf, toConnectError } from '../../rpc/rpc-errors.ts';
import type { RpcServiceImpl } from '../../rpc/unary-handler.ts';
import { serveLeaseStream } from '../leases/lease-stream.ts';
import type { NamespaceIndex } from '../index/namespace-index.ts';
import { createAnswer, type ServiceContext } from './origin-service.ts';
import type { PolicyStore } from './policy-store.ts';
import { findExport, type ServedExport } from '../served-export.ts';

/** Of a session's identity, which is not to be guessed. */
const SESSION_DIGITS_SHOWN = 8;
const LEASES_DEFAULT = 1_000;
const LEASES_MAX = 10_000;

type SessionStatus = MessageInitShape<typeof wire.SessionStatusSchema>;
type LeaseStatus = MessageInitShape<typeof wire.LeaseStatusSchema>;

export function createLeaseService(
  context: ServiceContext & { readonly policies: PolicyStore },
): RpcServiceImpl<typeof wire.LeaseService> {
  const { exports, index, clock, metrics, policies } = context;
  const leasesOf = (name: string) => findExport(exports, name).leases;
  const answer = createAnswer(context);
  const named = (exportName: string): ServedExport[] =>
    exportName === '' ? [...exports.values()] : [findExport(exports, exportName)];
  return {
    async *session(messages, handler) {
      let code = 'ok';
      try {
        yield* serveLeaseStream(messages, handler, { leasesOf, policies });
      } catch (error) {
        code = rpcCodeOf(error);
        throw toConnectError(error);
      } finally {
        metrics.originRequests.inc({ method: 'Session', code });
      }
    },
    listSessions: ({ exportName }) =>
      answer('ListSessions', async () => {
        const served = named(exportName);
        const graces = served.map(({ leases }) => leases.grace);
        return {
          graceLeftMs: BigInt(Math.ceil(Math.max(0, ...graces.map(({ leftMs }) => leftMs)))),
          sessionsAwaited: BigInt(graces.reduce((sum, { awaited }) => sum + awaited, 0)),
          sessions: served.flatMap((one) => sessionsOf(one, clock.nowMs())),
        };
      }),
    listLeases: ({ exportName, path, leasesMax }) =>
      answer('ListLeases', async () => {
        const limit = Math.min(leasesMax === 0 ? LEASES_DEFAULT : leasesMax, LEASES_MAX);
        const found: LeaseStatus[] = [];
        for (const { leases, indexed } of named(exportName)) {
          const paths = new DirectoryPaths(index, indexed.exportId);
          for (const { directory, subtree, session, host, sinceMs } of leases.leases()) {
            const at = await paths.of(directory);
            if (!concerns({ path: at, subtree }, path)) continue;
            if (found.length === limit) return { leases: found, more: true };
            const ageMs = BigInt(Math.max(0, Math.floor(clock.nowMs() - sinceMs)));
            found.push({ path: at, subtree, session: session.slice(0, SESSION_DIGITS_SHOWN), host, ageMs });
          }
        }
        return { leases: found, more: false };
      }),
  };
}

function sessionsOf({ options, leases }: ServedExport, nowMs: number): SessionStatus[] {
  return [...leases.sessions()].map(({ session, openedMs, expiresMs, ...view }) => ({
    session: session.slice(0, SESSION_DIGITS_SHOWN),
    exportName: options.name,
    host: view.host,
    tenant: view.tenant,
    address: view.address,
    labels: { ...view.labels },
    connected: view.connected,
    ageMs: BigInt(Math.max(0, Math.floor(nowMs - openedMs))),
    expiresInMs: BigInt(Math.ceil(expiresMs - nowMs)),
    leases: BigInt(view.leases),
    acknowledgementsOwed: BigInt(view.acknowledgementsOwed),
    sequence: BigInt(view.sequence),
  }));
}

/** The lease is at or below the path, or covers it from above. Paths are without slashes in front; the root is empty. */
function concerns(lease: { readonly path: string; readonly subtree: boolean }, path: string): boolean {
  const isBelow = (lower: string, upper: string): boolean =>
    upper === '' || lower === upper || lower.startsWith(`${upper}/`);
  return isBelow(lease.path, path) || (lease.subtree && isBelow(path, lease.path));
}

/** Of directories, as people write them. */
class DirectoryPaths {
  readonly #index: NamespaceIndex;
  readonly #exportId: number;
  readonly #known = new Map<InodeNumber, string>([[ROOT_INODE, '']]);

  constructor(index: NamespaceIndex, exportId: number) {
    this.#index = index;
    this.#exportId = exportId;
  }

  /** A directory that is gone is shown by its number. */
  async of(directory: InodeNumber): Promise<string> {
    const known = this.#known.get(directory);
    if (known !== undefined) return known;
    const row = await this.#index.inode(this.#exportId, Number(directory));
    const parent = row && (await this.of(BigInt(row.parent) as InodeNumber));
    const path = row === undefined ? `(gone: ${directory})` : parent ? `${parent}/${row.name}` : row.name;
    this.#known.set(directory, path);
    return path;
  }
}
