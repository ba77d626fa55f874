/**
 * A command-line tool in the simulated world: calls of the change service, and parts put straight into the store. Half
 * of what it does goes as satellites do it: by places, in writes, small files inside their commits.
 */
import type { DescMessage, DescMethodUnary, MessageInitShape, MessageShape } from '@bufbuild/protobuf';
import { type Prng, seededPrng } from '../../lib/base/prng.ts';
import { ROOT_INODE } from '../../lib/base/brand.ts';
import { ChangeService, OriginService, type Write, WriteService } from '../../lib/rpc/gen/origin_pb.js';
import { RpcError, toRpcError } from '../../lib/rpc/rpc-errors.ts';
import type { ObjectStore } from '../../lib/store/object-store.ts';
import type { Trace } from '../history/report.ts';
import type { ChangeCall } from './recorder.ts';
import { SimClient } from './sim-client.ts';
import { SimLink } from './sim-network.ts';
import { EXPORT_NAME, type SimOrigin } from './sim-origin.ts';
import type { ChangeClient } from './sim-programs.ts';
import { type SimBucket, simStore } from './sim-store.ts';
import { SimProcess, type SimTime } from './sim-time.ts';

export class SimTool implements ChangeClient {
  readonly name: string;
  readonly link: SimLink;
  readonly #client: SimClient;
  readonly #origin: SimOrigin;
  readonly #store: ObjectStore;
  readonly #prng: Prng;
  #operations = 0;

  constructor(options: {
    readonly name: string;
    readonly time: SimTime;
    readonly prng: Prng;
    readonly bucket: SimBucket;
    readonly origin: SimOrigin;
    readonly trace: Trace;
  }) {
    const { name, time, prng, bucket, origin, trace } = options;
    const process = new SimProcess(time, { offsetMs: 0, rate: 1 });
    this.name = name;
    this.link = new SimLink({
      time,
      prng: seededPrng(prng.below(2 ** 32)),
      client: () => process,
      origin: () => origin.process,
    });
    this.#client = new SimClient(this.link, origin);
    this.#origin = origin;
    this.#prng = seededPrng(prng.below(2 ** 32));
    this.#store = simStore({ bucket, time, process, prng: seededPrng(prng.below(2 ** 32)), trace });
  }

  async put(change: ChangeCall, path: string, bytes: number): Promise<void> {
    if (this.#isAsSatellites) return this.#write(change, path, bytes);
    const { upload, objectKey, storeUpload } = await this.#change(
      ChangeService.method.beginUpload,
      { path },
      change,
    );
    const part = await this.#store.uploadPart(
      { key: objectKey, uploadId: storeUpload, partNumber: 1 },
      Buffer.alloc(bytes, 'x'),
    );
    const sizeBytes = BigInt(bytes);
    const parts = [{ number: 1, entityTag: part.entityTag, sizeBytes }];
    await this.#change(ChangeService.method.commitUpload, { upload, parts, sizeBytes }, change);
  }

  async remove(change: ChangeCall, path: string, recursive: boolean): Promise<void> {
    if (!recursive && this.#isAsSatellites) {
      await this.#change(WriteService.method.removeName, { place: await this.#place(path) }, change);
      return;
    }
    await this.#change(ChangeService.method.remove, { path, recursive }, change);
  }

  async rename(change: ChangeCall, from: string, to: string): Promise<void> {
    if (this.#isAsSatellites) {
      const places = { from: await this.#place(from), to: await this.#place(to) };
      await this.#change(WriteService.method.renameName, { ...places, mode: 'replace' }, change);
      return;
    }
    await this.#change(ChangeService.method.rename, { from, to }, change);
  }

  async makeDirectory(change: ChangeCall, path: string): Promise<void> {
    await this.#change(ChangeService.method.makeDirectory, { path }, change);
  }

  async refresh(path: string): Promise<void> {
    try {
      await this.link.call(() => this.#origin.refresh(path), { deadlineMs: REFRESH_DEADLINE_MS });
    } catch (error) {
      throw toRpcError(error);
    }
  }

  get #isAsSatellites(): boolean {
    return this.#prng.below(2) === 0;
  }

  async #write(change: ChangeCall, path: string, bytes: number): Promise<void> {
    const write = await this.#openWrite(change, path);
    const operation = `${this.name} ${++this.#operations}`;
    const content = Buffer.alloc(bytes, 'x');
    const commit = { write, operation, content, sizeBytes: BigInt(bytes), last: true };
    let unknown: RpcError | undefined;
    for (let left = COMMITS_MAX; ; left--) {
      try {
        await this.#change(WriteService.method.commitWrite, commit, change);
        break;
      } catch (error) {
        // Whether it has happened is not known, nor by a refusal afterwards; the same again has the same result.
        const isOpen = error instanceof RpcError && ['unavailable', 'timeout', 'failed'].includes(error.code);
        if (isOpen) unknown ??= error;
        if (!isOpen || left === 0) throw unknown ?? error;
      }
    }
    // The gate has seen it in another call, of which nobody knows when it was done.
    if (unknown !== undefined) throw unknown;
  }

  async #openWrite(change: ChangeCall, path: string): Promise<Write> {
    const place = await this.#place(path);
    const opened = await this.#change(WriteService.method.openWrite, { place, create: {} }, change).catch(
      async (error: unknown) => {
        if (!(error instanceof RpcError) || error.code !== 'exists') throw error;
        const inode = await this.#lookup(place.parent, place.name);
        return this.#change(WriteService.method.openWrite, { inode }, change);
      },
    );
    if (opened.write === undefined) throw new Error('a write is answered');
    return opened.write;
  }

  async #place(path: string): Promise<{ readonly parent: bigint; readonly name: string }> {
    const names = path.split('/');
    const name = names.pop() ?? '';
    let parent: bigint = ROOT_INODE;
    for (const directory of names) parent = await this.#lookup(parent, directory);
    return { parent, name };
  }

  async #lookup(parent: bigint, name: string): Promise<bigint> {
    const { inode } = await this.#client.call(OriginService.method.lookup, {
      exportName: EXPORT_NAME,
      ...{ parent, name },
    });
    if (inode === undefined) throw new RpcError('not-found', `there is no ${name}`);
    return inode.inode;
  }

  #change<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
    change: ChangeCall,
  ): Promise<MessageShape<O>> {
    return this.#client.call(
      method,
      { ...request, exportName: EXPORT_NAME },
      {
        change,
      },
    );
  }
}

const REFRESH_DEADLINE_MS = 20_000;
/** Of one version, while its outcome is not known. */
const COMMITS_MAX = 3;
