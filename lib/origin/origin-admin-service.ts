/** The calls of people and tools: how the origin is, and which keys of a store no mount can show. */
import type { OriginAdminService } from '../rpc/gen/origin_pb.js';
import { rpcCodeOf, toConnectError } from '../rpc/rpc-errors.ts';
import type { RpcServiceImpl } from '../rpc/unary-handler.ts';
import { KeyInspector } from './key-names.ts';
import { createAnswer, type ServiceContext } from './origin-service.ts';
import { findExport } from './served-export.ts';

/** Keys walked where the caller names no number. */
const INSPECT_KEYS_DEFAULT = 100_000;
const LIST_KEYS_MAX = 1_000;

export function createOriginAdminService(context: ServiceContext): RpcServiceImpl<typeof OriginAdminService> {
  const { exports, index, metrics, version } = context;
  const answer = createAnswer(context);
  return {
    getOriginStatus: () =>
      answer('GetOriginStatus', async () => ({
        epoch: BigInt(index.epoch),
        version,
        exports: [...exports.values()].map(({ options, indexed }) => {
          const { inodes, directoriesListed } = index.totals(indexed.exportId);
          return {
            name: options.name,
            storeUrl: options.storeUrl,
            readOnly: true,
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
        let left = request.keysMax === 0 ? INSPECT_KEYS_DEFAULT : request.keysMax;
        let token: string | undefined;
        do {
          const page = await store.list({
            prefix: request.prefix,
            keysMax: Math.min(left, LIST_KEYS_MAX),
            ...(token === undefined ? {} : { token }),
          });
          for (const object of page.objects) yield* inspector.next(object);
          left -= page.objects.length;
          token = page.nextToken;
        } while (token !== undefined && left > 0 && !signal.aborted);
      } catch (error) {
        code = rpcCodeOf(error);
        throw toConnectError(error);
      } finally {
        metrics.originRequests.inc({ method: 'InspectKeys', code });
      }
    },
  };
}
