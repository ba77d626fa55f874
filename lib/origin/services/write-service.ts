/**
 * The calls by which satellites change what their programs change: checked, and handed to the export's writes and name
 * changes. A session is believed only to its owner; a change without a good one is made for all, its maker included.
 */
import type * as wire from '../../rpc/gen/origin_pb.js';
import { INLINE_BYTES_MAX } from '../../base/limits.ts';
import type { SessionId } from '../../base/brand.ts';
import type { Caller } from '../../rpc/gate.ts';
import type { RpcServiceImpl } from '../../rpc/unary-handler.ts';
import type { RenameMode } from '../changes/name-changes.ts';
import type { WriteContent, Writer, WriteToken } from '../changes/writes.ts';
import { OriginError } from '../origin.ts';
import { findWritable, type ServedExport, toMessage } from '../served-export.ts';
import type { Place } from '../tree/export-paths.ts';
import { AnsweredOperations } from './answered-operations.ts';
import { carriedMetadata, changedAttributes, metadataOf } from './file-attributes.ts';
import { createAnswer, inodeNumber, type ServiceContext } from './origin-service.ts';
import { extendedMetadata, changeExtended } from '../tree/extended-attributes.ts';

const OPERATION_CHARACTERS_MAX = 128;
const RENAME_MODES: ReadonlySet<string> = new Set<RenameMode>(['replace', 'keep', 'exchange']);
const NS_PER_MS = 1_000_000n;

interface Request {
  readonly exportName: string;
  readonly session: string;
  readonly operation?: string;
}

export function createWriteService(context: ServiceContext): RpcServiceImpl<typeof wire.WriteService> {
  const { exports, clock } = context;
  const answer = createAnswer(context);
  const operations = new AnsweredOperations();

  interface Call {
    readonly request: Request;
    readonly caller: Caller;
  }
  type Run<T> = (served: ServedExport, writer: Writer) => Promise<T>;

  /** Counted, permitted, performed once. */
  const serve = <T>(method: string, { request, caller }: Call, run: Run<T>): Promise<T> =>
    answer(method, async () => {
      const served = findWritable(exports, request.exportName);
      const writer = writerOf(served, request.session, caller);
      const { tenant, host } = caller.principal;
      const operation = operationOf(request);
      const whole =
        operation === '' ? '' : JSON.stringify([request.exportName, tenant, host, method, operation]);
      return operations.run(whole, () => run(served, writer));
    });

  /** The same for what changes names: the answer says how far the caller's stream was then. */
  const change = async <T>(method: string, call: Call, run: Run<T>): Promise<T & { sequence: bigint }> => {
    const answered = await serve(method, call, run);
    const { exportName, session } = call.request;
    return { ...answered, sequence: BigInt(findWritable(exports, exportName).leases.sequenceOf(session)) };
  };

  return {
    openWrite: (request, caller) =>
      serve('OpenWrite', { request, caller }, async ({ writes, options }, writer) => {
        const { place, create, inode } = request;
        const nowNs = BigInt(Math.round(clock.wallMs())) * NS_PER_MS;
        const opened =
          place === undefined
            ? await writes.open(inodeNumber(inode), writer)
            : await writes.create(
                placeOf(place),
                changedAttributes({ modifiedNs: nowNs, changedNs: nowNs }, create),
                writer,
              );
        const { write, token, inode: number } = opened.row;
        return {
          write: { write, token: BigInt(token), inode: BigInt(number) },
          inode: toMessage(opened.inode, options),
        };
      }),
    beginWriteUpload: (request, caller) =>
      serve('BeginWriteUpload', { request, caller }, async ({ writes, options }) => {
        const begun = await writes.beginUpload(tokenOf(request.write), carriedMetadata);
        return { ...begun, storeUrl: options.storeUrl };
      }),
    commitWrite: (request, caller) =>
      // Remembered by the write itself.
      change('CommitWrite', { request: { ...request, operation: '' }, caller }, async (served, writer) => {
        const content = contentOf(request);
        const inode = await served.writes.commit(tokenOf(request.write), {
          content,
          attributes: (before) => changedAttributes(before, request.attributes),
          metadata: carriedMetadata,
          operation: operationOf(request),
          isLast: request.last,
          by: writer.by,
        });
        return { inode: toMessage(inode, served.options) };
      }),
    endWrite: (request, caller) =>
      serve('EndWrite', { request, caller }, async ({ writes }) => {
        await writes.end(tokenOf(request.write));
        return {};
      }),
    reclaimWrites: (request, caller) =>
      serve('ReclaimWrites', { request, caller }, async ({ writes }, writer) => ({
        writes: writes.reclaim(
          request.writes.map((write) => tokenOf(write)),
          writer,
        ),
      })),
    makeName: (request, caller) =>
      change('MakeName', { request, caller }, async ({ uploads, seats, options }, { by }) => {
        const { attributes } = request;
        const place = placeOf(request.place);
        if (seats.isTaken(place)) {
          throw new OriginError('exists', `there is ${JSON.stringify(place.name)} already`);
        }
        const kind = attributes?.target === undefined ? 'directory' : 'symlink';
        const extended =
          attributes === undefined ? {} : extendedMetadata(changeExtended(undefined, attributes));
        const metadata = { ...metadataOf(kind, attributes), ...extended };
        return { inode: toMessage(await uploads.makeAt(place, { kind, metadata, by }), options) };
      }),
    removeName: (request, caller) =>
      change('RemoveName', { request, caller }, async ({ names, options }, { by }) => {
        const kind = request.directory ? 'directory' : 'other';
        return { inode: toMessage(await names.removeAt(placeOf(request.place), { kind, by }), options) };
      }),
    renameName: (request, caller) =>
      change('RenameName', { request, caller }, async ({ names, options }, { by }) => {
        const { mode } = request;
        if (!isRenameMode(mode))
          throw new OriginError('invalid', `"${mode.slice(0, 64)}" is no way to rename`);
        const [from, to] = [placeOf(request.from), placeOf(request.to)];
        const { replaced } = await names.renameAt(from, to, { mode, by });
        return replaced === undefined ? {} : { replaced: toMessage(replaced, options) };
      }),
    setAttributes: (request, caller) =>
      change('SetAttributes', { request, caller }, async ({ names, options }, { by }) => {
        const inode = await names.setAttributes(
          inodeNumber(request.inode),
          (now) => changedAttributes(now, request.attributes),
          { by },
        );
        return { inode: toMessage(inode, options) };
      }),
  };
}

/** Who makes the change: a session is believed to the tenant that opened it, and to the host if that is proven. */
function writerOf({ leases }: ServedExport, session: string, { principal }: Caller): Writer {
  const holder = leases.holderOf(session);
  const isOwn =
    holder !== undefined &&
    holder.tenant === principal.tenant &&
    (principal.provenBy !== 'certificate' || holder.host === principal.host);
  return isOwn ? { by: session as SessionId, host: holder.host } : { by: undefined, host: principal.host };
}

function operationOf({ operation = '' }: Request): string {
  if (operation.length <= OPERATION_CHARACTERS_MAX) return operation;
  throw new OriginError('invalid', 'the identity of the operation is too long');
}

function contentOf(request: wire.CommitWriteRequest): WriteContent['content'] {
  const { upload, content, parts } = request;
  const sizeBytes = Number(request.sizeBytes);
  if (upload !== '') {
    const given = parts.map((part) => ({
      number: part.number,
      entityTag: part.entityTag,
      sizeBytes: Number(part.sizeBytes),
    }));
    return { kind: 'parts', upload, parts: given, sizeBytes };
  }
  if (parts.length > 0 || content.length !== sizeBytes || sizeBytes > INLINE_BYTES_MAX) {
    throw new OriginError('invalid', `a commit of ${sizeBytes} bytes with ${content.length} and no upload`);
  }
  return { kind: 'bytes', bytes: content };
}

function tokenOf(write: wire.Write | undefined): WriteToken {
  if (write === undefined) throw new OriginError('invalid', 'a request without its write');
  return { write: write.write, token: write.token };
}

function placeOf(place: wire.Place | undefined): Place {
  if (place === undefined) throw new OriginError('invalid', 'a request without its place');
  return { directory: inodeNumber(place.parent), name: place.name };
}

function isRenameMode(mode: string): mode is RenameMode {
  return RENAME_MODES.has(mode);
}
