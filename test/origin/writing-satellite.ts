/** A satellite that writes, as the origin sees it. */
import type { MessageInitShape } from '@bufbuild/protobuf';
import type * as wire from '../../lib/rpc/gen/origin_pb.js';
import type { UploadedPart } from '../../lib/store/object-store.ts';
import { TestSatellite } from './lease-fixture.ts';
import type { MemoryStore } from './memory-store.ts';

type Attributes = MessageInitShape<typeof wire.FileAttributesSchema>;
type CommitOptions = Attributes & { readonly operation?: string; readonly last?: boolean };
export type Write = Pick<wire.Write, 'write' | 'token' | 'inode'>;

let operations = 0;

export class WritingSatellite extends TestSatellite {
  get #call() {
    return { exportName: this.exportName, session: this.session, operation: `operation ${++operations}` };
  }

  /** Looks without a lease, so that nothing waits for this one. */
  async see(name: string, parent = 1n): Promise<wire.Inode | undefined> {
    const { exportName } = this;
    return (await this.client.lookup({ exportName, parent, name, session: '' })).inode;
  }

  async goodbye(): Promise<void> {
    this.send({ kind: 'goodbye' });
    await this.ended();
  }

  async create(name: string, create: Attributes = {}, parent = 1n) {
    return opened(await this.client.openWrite({ ...this.#call, place: { parent, name }, create }));
  }

  async openFile(inode: bigint) {
    return opened(await this.client.openWrite({ ...this.#call, inode }));
  }

  async reclaim(writes: readonly Write[]): Promise<string[]> {
    return (await this.client.reclaimWrites({ ...this.#call, writes: [...writes] })).writes;
  }

  begin(write: Write) {
    return this.client.beginWriteUpload({ ...this.#call, write });
  }

  part(
    store: MemoryStore,
    { objectKey, storeUpload }: { readonly objectKey: string; readonly storeUpload: string },
    text: string,
  ): Promise<UploadedPart> {
    return store.uploadPart({ key: objectKey, uploadId: storeUpload, partNumber: 1 }, Buffer.from(text));
  }

  commitAnswered(write: Write, text: string, options: CommitOptions = {}) {
    const { operation, last = true, ...attributes } = options;
    const content = Buffer.from(text);
    return this.client.commitWrite({
      ...this.#call,
      ...(operation === undefined ? {} : { operation }),
      ...{ write, content, last, attributes },
      sizeBytes: BigInt(content.length),
    });
  }

  async commit(write: Write, text: string, options: CommitOptions = {}): Promise<wire.Inode> {
    return inodeOf(await this.commitAnswered(write, text, options));
  }

  async commitParts(
    write: Write,
    { upload }: { readonly upload: string },
    parts: readonly UploadedPart[],
    options: CommitOptions = {},
  ): Promise<wire.Inode> {
    const { last = true, ...attributes } = options;
    const sizes = parts.map(({ sizeBytes }) => BigInt(sizeBytes));
    return inodeOf(
      await this.client.commitWrite({
        ...this.#call,
        ...{ write, upload, last, attributes },
        parts: parts.map((part, at) => ({ ...part, sizeBytes: sizes[at] as bigint })),
        sizeBytes: sizes.reduce((sum, one) => sum + one, 0n),
      }),
    );
  }

  async make(name: string, parent = 1n): Promise<wire.Inode> {
    return inodeOf(await this.client.makeName({ ...this.#call, place: { parent, name }, attributes: {} }));
  }

  async remove(name: string, directory = false): Promise<wire.Inode> {
    return inodeOf(await this.client.removeName({ ...this.#call, place: { parent: 1n, name }, directory }));
  }

  async rename(
    from: string,
    to: string,
    mode = 'replace',
    parents: { readonly from?: bigint | undefined; readonly to?: bigint | undefined } = {},
  ): Promise<wire.Inode | undefined> {
    const answer = await this.client.renameName({
      ...this.#call,
      from: { parent: parents.from ?? 1n, name: from },
      to: { parent: parents.to ?? 1n, name: to },
      mode,
    });
    return answer.replaced;
  }

  async setAttributes(inode: bigint, attributes: Attributes): Promise<wire.Inode> {
    return inodeOf(await this.client.setAttributes({ ...this.#call, inode, attributes }));
  }
}

function opened({ write, inode }: wire.OpenWriteResponse): {
  readonly write: Write;
  readonly inode: wire.Inode;
} {
  if (write === undefined || inode === undefined) throw new Error('a write has an inode');
  const { write: id, token, inode: number } = write;
  return { write: { write: id, token, inode: number }, inode };
}

function inodeOf({ inode }: { readonly inode?: wire.Inode | undefined }): wire.Inode {
  if (inode === undefined) throw new Error('a change answers with an inode');
  return inode;
}
