/**
 * Everything that changes something, as a driver calls it: each operation goes to the part that does it, through the
 * guard that makes errnos of failures.
 */
import type { WorkingCopy } from '../../cache/working-copy.ts';
import type { NodeId } from '../base/brand.ts';
import { MIB } from '../base/limits.ts';
import { Errno } from '../fuse/errno.ts';
import {
  ErrnoError,
  type AttributesReply,
  type EntryReply,
  type RequestContext,
} from '../fuse/operations.ts';
import type {
  AllocateMode,
  AttributeChanges,
  CreateReply,
  Place,
  RenameMode,
  WriteOperations,
  WriteRange,
} from '../fuse/write-operations.ts';
import type { AttributeChanger } from './attribute-changes.ts';
import type { HandleTable } from './handle-table.ts';
import type { NameOperations } from './name-operations.ts';
import type { OperationGuard } from './operation-guard.ts';
import type { Writer } from './writer.ts';

/** Copied at a time: programs ask again. */
const COPY_BYTES_MAX = 8 * MIB;
/** Of what comes through this process. */
const COPY_SERVED_BYTES_MAX = 1 * MIB;

export interface ChangeOperationsOptions {
  readonly guard: OperationGuard;
  readonly handles: HandleTable;
  readonly names: NameOperations;
  readonly attributes: AttributeChanger;
  readonly writer: Writer;
  /** Reads a version. */
  readonly read: (
    handle: bigint,
    range: { readonly offset: number; readonly length: number },
    context: RequestContext,
  ) => Promise<Uint8Array>;
}

export class ChangeOperations implements WriteOperations {
  readonly #options: ChangeOperationsOptions;
  readonly #run: OperationGuard['run'];

  constructor(options: ChangeOperationsOptions) {
    this.#options = options;
    this.#run = (operation, body) => options.guard.run(operation, body);
  }

  create(
    place: Place,
    how: { readonly mode: number; readonly flags: number },
    context: RequestContext,
  ): Promise<CreateReply> {
    return this.#run('create', () => this.#options.writer.create(place, how, context));
  }

  makeFile(place: Place, mode: number, context: RequestContext): Promise<EntryReply> {
    return this.#run('mknod', () => this.#options.writer.makeFile(place, mode, context));
  }

  makeDirectory(place: Place, mode: number, context: RequestContext): Promise<EntryReply> {
    return this.#run('mkdir', () => this.#options.names.makeDirectory(place, mode, context));
  }

  makeSymlink(place: Place, target: Uint8Array, context: RequestContext): Promise<EntryReply> {
    return this.#run('symlink', () => this.#options.names.makeSymlink(place, target, context));
  }

  link(): Promise<EntryReply> {
    return Promise.reject(new ErrnoError(Errno.EPERM, 'a file of an export has one name'));
  }

  unlink(place: Place): Promise<void> {
    return this.#run('unlink', () => this.#options.names.unlink(place));
  }

  removeDirectory(place: Place, context: RequestContext): Promise<void> {
    return this.#run('rmdir', () => this.#options.names.removeDirectory(place, context));
  }

  rename(from: Place, to: Place & { readonly mode: RenameMode }, context: RequestContext): Promise<void> {
    return this.#run('rename', () => this.#options.names.rename(from, to, context));
  }

  setAttributes(
    node: NodeId,
    changes: AttributeChanges & { readonly handle?: bigint },
    context: RequestContext,
  ): Promise<AttributesReply> {
    return this.#run('setattr', () => this.#options.attributes.setAttributes(node, changes, context));
  }

  setExtendedAttribute(
    node: NodeId,
    attribute: Parameters<WriteOperations['setExtendedAttribute']>[1],
    context: RequestContext,
  ): Promise<void> {
    const { attributes } = this.#options;
    return this.#run('setxattr', () => attributes.setExtendedAttribute(node, attribute, context));
  }

  removeExtendedAttribute(node: NodeId, name: string, context: RequestContext): Promise<void> {
    const { attributes } = this.#options;
    return this.#run('removexattr', () => attributes.removeExtendedAttribute(node, name, context));
  }

  write(handle: bigint, { offset, bytes, dropSetIds }: WriteRange): Promise<number> {
    return this.#run('write', async () => {
      const copy = this.#written(handle);
      if (dropSetIds) this.#options.attributes.dropSetIds(copy);
      return copy.write(offset, bytes);
    });
  }

  sync(handle: bigint, what: { readonly dataOnly: boolean }): Promise<void> {
    return this.#run('fsync', async () => {
      const { node, copy } = this.#options.handles.file(handle);
      // A version is durable; so is nothing that has no name to be found by.
      if (copy !== undefined && !node.isGone) await copy.sync(what);
    });
  }

  /** What changes of names were acknowledged are durable at the origin. */
  syncDirectory(handle: bigint): Promise<void> {
    return this.#run('fsyncdir', async () => void this.#options.handles.directory(handle));
  }

  allocate(
    handle: bigint,
    range: { readonly offset: number; readonly length: number; readonly mode: AllocateMode },
  ): Promise<void> {
    return this.#run('fallocate', () => this.#written(handle).allocate(range, range.mode));
  }

  seek(
    handle: bigint,
    { offset, kind }: { readonly offset: number; readonly kind: 'data' | 'hole' },
  ): Promise<number> {
    return this.#run('lseek', async () => {
      const { copy, node } = this.#options.handles.file(handle);
      const found = copy === undefined ? inVersion(node.attributes?.sizeBytes ?? 0) : copy.seek(offset, kind);
      const at = await found;
      if (at === undefined) throw new ErrnoError(Errno.ENXIO, 'nothing of that kind comes after');
      return at;
    });

    function inVersion(sizeBytes: number): number | undefined {
      if (offset >= sizeBytes) return undefined;
      return kind === 'data' ? offset : sizeBytes;
    }
  }

  copyRange(
    from: { readonly handle: bigint; readonly offset: number },
    to: { readonly handle: bigint; readonly offset: number; readonly length: number },
    context: RequestContext,
  ): Promise<number> {
    return this.#run('copy_file_range', async () => {
      const { handles, read } = this.#options;
      const target = this.#written(to.handle);
      const { copy, node } = handles.file(from.handle);
      const { offset } = from;
      const fd = copy?.fd ?? node.backing?.fd;
      if (fd !== undefined) {
        const length = Math.min(to.length, COPY_BYTES_MAX);
        return target.copyFrom(fd, { from: offset, to: to.offset, length });
      }
      const length = Math.min(to.length, COPY_SERVED_BYTES_MAX);
      return target.write(to.offset, await read(from.handle, { offset, length }, context));
    });
  }

  #written(handle: bigint): WorkingCopy {
    const { copy, isWriter } = this.#options.handles.file(handle);
    if (copy === undefined || !isWriter) throw new ErrnoError(Errno.EBADF, 'not open for writing');
    return copy;
  }
}
