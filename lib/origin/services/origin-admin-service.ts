/** The calls of people and tools: how the origin is, and which keys of a store no mount can show. */
import type { OriginAdminService } from '../../rpc/gen/origin_pb.js';
import { rpcCodeOf, toConnectError } from '../../rpc/rpc-errors.ts';
import type { RpcServiceImpl } from '../../rpc/unary-handler.ts';
import type { ListPage } from '../../store/object-store.ts';
import { KeyInspector } from '../tree/key-names.ts';
import { createAnswer, type ServiceContext } from './origin-service.ts';
import { findExport } from '../served-export.ts';

/** Keys walked where the caller names no number. */
const INSPECT_KEYS_DEFAULT = 100_000;
const LIST_KEYS_MAX = 1_000;
const UNDECODABLE = 'is not valid UTF-8; what is wrong is shown as U+FFFD';

export function createOriginAdminService(context: ServiceContext): RpcServiceImpl<typeof OriginAdminService> {
  const { access, exports, index, metrics, version } = context;
  const answer = createAnswer(context);
  return {
    getOriginStatus: (_request, { principal }) =>
      answer('GetOriginStatus', async () => ({
        epoch: BigInt(index.epoch),
        version,
        exports: [...exports.values()]
          .filter(({ options }) => access.mayRead(principal, options.name))
          .map(({ options, indexed, writes }) => {
            const { inodes, directoriesListed } = index.totals(indexed.exportId);
            return {
              name: options.name,
              storeUrl: options.storeUrl,
              readOnly: options.readOnly,
              openWrites: BigInt(writes.count),
              inodes: BigInt(inodes),
              directoriesListed: BigInt(directoriesListed),
            };
          }),
      })),
    async *inspectKeys(request, { signal }) {
      let code = 'ok';
      try {
        const { store } = findExport(exports, request.exportName);
        const inspector = new KeyInspector();
        const undecodable = new UndecodableNames();
        let keysSeen = 0;
        let left = request.keysMax === 0 ? INSPECT_KEYS_DEFAULT : request.keysMax;
        let token: string | undefined;
        do {
          const page = await store.list({
            prefix: request.prefix,
            keysMax: Math.min(left, LIST_KEYS_MAX),
            ...(token === undefined ? {} : { token }),
          });
          const unreadable = undecodable.next(page);
          keysSeen += page.objects.length + unreadable.length;
          left -= page.objects.length + unreadable.length;
          for (const key of unreadable) yield { key, finding: UNDECODABLE, keysSeen };
          for (const object of page.objects) {
            for (const found of inspector.next(object)) yield { ...found, keysSeen };
          }
          token = page.nextToken;
        } while (token !== undefined && left > 0 && !signal.aborted);
        yield { keysSeen };
      } catch (error) {
        code = rpcCodeOf(error);
        throw toConnectError(error);
      } finally {
        metrics.originRequests.inc({ method: 'InspectKeys', code });
      }
    },
  };
}

/** Names that no key leads to. A store of files meets those of a directory again on each page that goes on in it. */
class UndecodableNames {
  #earlier = new Set<string>();

  /** Those that no earlier page has told. */
  next({ objects, undecodable = [] }: ListPage): string[] {
    const fresh = undecodable.filter((name) => !this.#earlier.has(name));
    const last = objects.at(-1)?.key ?? '';
    const told = [...this.#earlier, ...fresh];
    this.#earlier = new Set(told.filter((name) => last.startsWith(directoryOf(name))));
    return fresh;
  }
}

function directoryOf(key: string): string {
  return key.slice(0, key.lastIndexOf('/') + 1);
}
