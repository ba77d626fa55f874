/** The calls that change names: checked, and handed to the export's uploads and name changes. */
import type { ChangeService } from '../../rpc/gen/origin_pb.js';
import { rpcCodeOf, toConnectError } from '../../rpc/rpc-errors.ts';
import type { RpcServiceImpl } from '../../rpc/unary-handler.ts';
import { metadataOf } from './file-attributes.ts';
import { createAnswer, type ServiceContext } from './origin-service.ts';
import { Refresh } from '../tree/refresh.ts';
import { findExport, findWritable, toMessage } from '../served-export.ts';

export function createChangeService(context: ServiceContext): RpcServiceImpl<typeof ChangeService> {
  const { exports, index, metrics } = context;
  const answer = createAnswer(context);
  return {
    beginUpload: (request) =>
      answer('BeginUpload', async () => {
        const { uploads, options } = findWritable(exports, request.exportName);
        const { attributes } = request;
        const kind = attributes?.target === undefined ? 'file' : 'symlink';
        const begun = await uploads.begin(request.path, {
          metadata: metadataOf(kind, attributes),
          empty: kind === 'symlink',
        });
        return { ...begun, storeUrl: options.storeUrl };
      }),
    commitUpload: (request) =>
      answer('CommitUpload', async () => {
        const { uploads, options } = findWritable(exports, request.exportName);
        const inode = await uploads.commit(request.upload, {
          parts: request.parts.map(({ number, entityTag, sizeBytes }) => ({
            number,
            entityTag,
            sizeBytes: Number(sizeBytes),
          })),
          sizeBytes: Number(request.sizeBytes),
        });
        return { inode: toMessage(inode, options) };
      }),
    abortUpload: (request) =>
      answer('AbortUpload', async () => {
        await findWritable(exports, request.exportName).uploads.abort(request.upload);
        return {};
      }),
    remove: (request) =>
      answer('Remove', async () => {
        const { names } = findWritable(exports, request.exportName);
        const removed = await names.remove(request.path, { recursive: request.recursive });
        return { removed: BigInt(removed) };
      }),
    rename: (request) =>
      answer('Rename', async () => {
        const { names, options } = findWritable(exports, request.exportName);
        const { from, to, noReplace } = request;
        return { inode: toMessage(await names.rename(from, to, { noReplace }), options) };
      }),
    makeDirectory: (request) =>
      answer('MakeDirectory', async () => {
        const { uploads, options } = findWritable(exports, request.exportName);
        const metadata = metadataOf('directory', request.attributes);
        const inode = await uploads.makeDirectory(request.path, { metadata, parents: request.parents });
        return { inode: toMessage(inode, options) };
      }),
    async *refresh(request, { signal }) {
      let code = 'ok';
      try {
        const { indexed, tree, revalidation } = findExport(exports, request.exportName);
        const refresh = new Refresh({ exportId: indexed.exportId, index, tree, revalidation, signal });
        for await (const figures of refresh.run(request.path, { recursive: request.recursive })) {
          yield {
            directories: BigInt(figures.directories),
            names: BigInt(figures.names),
            added: BigInt(figures.added),
            changed: BigInt(figures.changed),
            gone: BigInt(figures.gone),
          };
        }
      } catch (error) {
        code = rpcCodeOf(error);
        throw toConnectError(error);
      } finally {
        metrics.originRequests.inc({ method: 'Refresh', code });
      }
    },
  };
}
