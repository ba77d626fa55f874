/** A `FakeMount` that is written to, called as the kernel would: it walks again, once, when it is told so. */
import { ROOT_NODE, type NodeId } from '../../lib/base/brand.ts';
import { Errno } from '../../lib/fuse/errno.ts';
import { ErrnoError, type NodeAttributes, type OpenReply } from '../../lib/fuse/operations.ts';
import type { Place, WriteOperations } from '../../lib/fuse/write-operations.ts';
import { FakeMount } from './fake-mount.ts';

export const O_RDWR = 2;
export const O_EXCL = 0o200;
export const O_TRUNC = 0o1000;

export interface WrittenFile {
  readonly node: NodeId;
  readonly reply: OpenReply;
}

export class WritingMount extends FakeMount {
  get writes(): WriteOperations {
    if (this.vfs.writes === undefined) throw new Error('the mount is read-only');
    return this.vfs.writes;
  }

  place(name: string, parent: NodeId = ROOT_NODE): Place {
    return { parent, name: Buffer.from(name) };
  }

  async create(name: string, options: { readonly flags?: number; readonly mode?: number } = {}) {
    const { flags = O_RDWR, mode = 0o644 } = options;
    const { entry, open } = await this.writes.create(this.place(name), { mode, flags }, this.context());
    this.took(entry.node);
    return { node: entry.node, reply: open, entry };
  }

  /** As open(2). */
  async openFlags(path: string, flags: number): Promise<WrittenFile> {
    const once = async (): Promise<WrittenFile> => {
      const { node } = await this.walk(path);
      return { node, reply: await this.vfs.open(node, flags, this.context()) };
    };
    try {
      return await once();
    } catch (error) {
      if (!(error instanceof ErrnoError) || error.errno !== Errno.ESTALE) throw error;
      return once();
    }
  }

  write({ reply }: WrittenFile, text: string, offset = 0): Promise<number> {
    const range = { offset, bytes: Buffer.from(text), dropSetIds: false };
    return this.writes.write(reply.handle, range, this.context());
  }

  async text({ reply }: WrittenFile): Promise<string> {
    const bytes = await this.vfs.read(reply.handle, { offset: 0, length: 100 }, this.context());
    return Buffer.from(bytes).toString();
  }

  /** As close(2) of the last descriptor. */
  async close({ reply }: WrittenFile): Promise<void> {
    try {
      await this.vfs.flush(reply.handle, this.context());
    } finally {
      this.vfs.release(reply.handle);
    }
  }

  async attributesOf(node: NodeId): Promise<NodeAttributes> {
    return (await this.vfs.attributes(node, undefined, this.context())).attributes;
  }

  /** What is committed. */
  async committed(path: string): Promise<string | undefined> {
    const source = this.namespace.find(path)?.source;
    const bytes = source && this.namespace.bytesOf(source.version);
    return bytes && Buffer.from(bytes).toString();
  }
}
