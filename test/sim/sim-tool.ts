/** A command-line tool in the simulated world: calls of the change service, and parts put straight into the store. */
import type { DescMessage, DescMethodUnary, MessageInitShape, MessageShape } from '@bufbuild/protobuf';
import { type Prng, seededPrng } from '../../lib/base/prng.ts';
import { ChangeService } from '../../lib/rpc/gen/origin_pb.js';
import { toRpcError } from '../../lib/rpc/rpc-errors.ts';
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
    this.#store = simStore({ bucket, time, process, prng: seededPrng(prng.below(2 ** 32)), trace });
  }

  async put(change: ChangeCall, path: string, bytes: number): Promise<void> {
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
    await this.#change(ChangeService.method.remove, { path, recursive }, change);
  }

  async rename(change: ChangeCall, from: string, to: string): Promise<void> {
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
