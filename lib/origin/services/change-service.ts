/** The calls that change names: checked, and handed to the export's uploads and name changes. */
import type { ChangeService, FileAttributes } from '../../rpc/gen/origin_pb.js';
import { rpcCodeOf, toConnectError } from '../../rpc/rpc-errors.ts';
import type { RpcServiceImpl } from '../../rpc/unary-handler.ts';
import type { ObjectMetadata } from '../../store/object-store.ts';
import { formatPosixMetadata, type PosixKind } from '../../store/posix-metadata.ts';
import { OriginError } from '../origin.ts';
import { createAnswer, type ServiceContext } from './origin-service.ts';
import { Refresh } from '../tree/refresh.ts';
import { findExport, toMessage } from '../served-export.ts';

/** 2^32 - 1 means "no change" to chown. */
const ID_MAX = 2 ** 32 - 2;
const TARGET_BYTES_MAX = 4_095;

export function createChangeService(context: ServiceContext): RpcServiceImpl<typeof ChangeService> {
  const { exports, index, metrics } = context;
  const answer = createAnswer(context);
  return {
    beginUpload: (request) =>
      answer('BeginUpload', async () => {
        const { uploads, options } = findExport(exports, request.exportName);
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
        const { uploads, options } = findExport(exports, request.exportName);
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
        await findExport(exports, request.exportName).uploads.abort(request.upload);
        return {};
      }),
    remove: (request) =>
      answer('Remove', async () => {
        const { names } = findExport(exports, request.exportName);
        const removed = await names.remove(request.path, { recursive: request.recursive });
        return { removed: BigInt(removed) };
      }),
    rename: (request) =>
      answer('Rename', async () => {
        const { names, options } = findExport(exports, request.exportName);
        const { from, to, noReplace } = request;
        return { inode: toMessage(await names.rename(from, to, { noReplace }), options) };
      }),
    makeDirectory: (request) =>
      answer('MakeDirectory', async () => {
        const { uploads, options } = findExport(exports, request.exportName);
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

/** @throws OriginError `invalid` */
function metadataOf(kind: PosixKind, attributes: FileAttributes | undefined): ObjectMetadata {
  const { mode, uid, gid, modifiedNs, target } = attributes ?? {};
  const refuse = (what: string): never => {
    throw new OriginError('invalid', `the ${what} makes no sense`);
  };
  if (mode !== undefined && mode > 0o7777) refuse(`mode ${mode.toString(8)}`);
  if (uid !== undefined && uid > ID_MAX) refuse(`owner ${uid}`);
  if (gid !== undefined && gid > ID_MAX) refuse(`group ${gid}`);
  if (target !== undefined) {
    const isPath = target !== '' && !target.includes('\0') && target.isWellFormed();
    if (!isPath || Buffer.byteLength(target) > TARGET_BYTES_MAX) refuse('target of the symlink');
  }
  return formatPosixMetadata({
    kind,
    ...(mode === undefined ? {} : { mode }),
    ...(uid === undefined ? {} : { uid }),
    ...(gid === undefined ? {} : { gid }),
    ...(modifiedNs === undefined ? {} : { modifiedNs }),
    ...(target === undefined ? {} : { symlinkTarget: target }),
  });
}
