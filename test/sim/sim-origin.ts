/**
 * The origin of the simulated world: production code from the services down to SQLite, over a simulated store. It can be
 * killed and started again; what its transactions had written is there then, and what it had sent is under way.
 */
import fs from 'node:fs';
import path from 'node:path';
import {
  create,
  type DescMessage,
  type DescMethodUnary,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from '@bufbuild/protobuf';
import { ROOT_INODE } from '../../lib/base/brand.ts';
import { invariant } from '../../lib/base/errors.ts';
import { type Prng, seededPrng } from '../../lib/base/prng.ts';
import { decodeSatelliteMessage, encodeOriginMessage } from '../../lib/lease/lease-messages.ts';
import type { LeaseTiming, OriginMessage as LeaseMessage } from '../../lib/lease/lease.ts';
import { createAccess } from '../../lib/origin/services/access.ts';
import { createChangeService } from '../../lib/origin/services/change-service.ts';
import type { ChangeGate } from '../../lib/origin/changes/change-gate.ts';
import { parseExports } from '../../lib/origin/export-options.ts';
import { NamespaceIndex } from '../../lib/origin/index/namespace-index.ts';
import { createWriteService } from '../../lib/origin/services/write-service.ts';
import { createOriginService } from '../../lib/origin/services/origin-service.ts';
import { Refresh } from '../../lib/origin/tree/refresh.ts';
import { openServedExport, type ServedExport } from '../../lib/origin/served-export.ts';
import {
  type OriginMessage,
  OriginMessageSchema,
  type SatelliteMessage,
  SatelliteMessageSchema,
} from '../../lib/rpc/gen/origin_pb.js';
import { toConnectError } from '../../lib/rpc/rpc-errors.ts';
import { createLogger } from '../../lib/telemetry/log.ts';
import type { Metrics } from '../../lib/telemetry/metrics.ts';
import type { Trace } from '../history/report.ts';
import type { ChangeCall, Recorder } from './recorder.ts';
import type { StreamEnd } from './sim-network.ts';
import { type SimBucket, simStore } from './sim-store.ts';
import { SimProcess, type SimTime } from './sim-time.ts';

export const EXPORT_NAME = 'data';
const EXPORT_URL = 's3://bucket/?exclusive=true';
const DELAY_MARGIN_MS = 10;
const QUIET_MS = 3_000;
/** Longer than a call to the store is under way. */
const DOWN_MS_MIN = 100;
const DOWN_MS_MAX = 3_000;
/** Memory: nothing here must survive the host. */
const PARENT_DIRECTORY = '/dev/shm';

export interface SimOriginOptions {
  readonly time: SimTime;
  readonly timing: LeaseTiming;
  readonly prng: Prng;
  readonly bucket: SimBucket;
  readonly recorder: Recorder;
  readonly metrics: Metrics;
  readonly trace: Trace;
  readonly problem: (text: string) => void;
}

type Handler = (request: unknown, caller: unknown) => Promise<Record<string, unknown>>;

interface Life {
  readonly served: ServedExport;
  readonly index: NamespaceIndex;
  readonly handlers: ReadonlyMap<string, Handler>;
}

export class SimOrigin {
  /** That runs now, or has died. */
  process: SimProcess;
  readonly #options: SimOriginOptions;
  readonly #directory: string;
  /** The machine by which all others' clocks are measured. */
  readonly #machine = { offsetMs: 5_000, rate: 1 };
  #life: Life | undefined;
  /** When names that are under change were withdrawn. */
  readonly #withdrawnMs = new Map<string, number>();

  constructor(options: SimOriginOptions) {
    this.#options = options;
    this.#directory = fs.mkdtempSync(path.join(PARENT_DIRECTORY, 'perigee-sim-'));
    this.process = new SimProcess(options.time, this.#machine);
    this.process.kill();
  }

  async start(): Promise<void> {
    const { time, prng, bucket, recorder, timing, trace, metrics } = this.#options;
    const process = new SimProcess(time, this.#machine);
    const { clock } = process;
    const logger = createLogger({ level: 'silent' });
    const index = new NamespaceIndex({ file: path.join(this.#directory, 'index.sqlite'), clock });
    const [options] = parseExports([{ name: EXPORT_NAME, url: EXPORT_URL }]);
    invariant(options !== undefined, 'one export is served');
    const openStore = () => simStore({ bucket, time, process, prng: seededPrng(prng.below(2 ** 32)), trace });
    const leases = { timing, quietMs: QUIET_MS };
    const served = await openServedExport(options, { index, openStore, clock, logger, metrics, leases });
    const { exportId } = served.indexed;
    this.#watchDelays(served.leases);
    recorder.observe(served.leases, (directory, name) => index.child({ exportId, directory }, name));
    const context = {
      exports: new Map([[EXPORT_NAME, served]]),
      access: createAccess({ exportNames: [EXPORT_NAME], lists: {} }),
      ...{ index, clock, logger, metrics },
      version: 'simulated',
    };
    const handlers = {
      ...createOriginService(context),
      ...createChangeService(context),
      ...createWriteService(context),
    };
    this.#life = {
      served,
      index,
      handlers: new Map(Object.entries(handlers as unknown as Readonly<Record<string, Handler>>)),
    };
    this.process = process;
    trace(`the origin runs, epoch ${index.epoch}`);
  }

  /** SIGKILL, and a new start after a while. */
  restart(): void {
    if (this.process.isDead) return;
    const { time, prng } = this.#options;
    this.process.kill();
    this.#withdrawnMs.clear();
    this.#life?.index.close();
    time.after(DOWN_MS_MIN + prng.next() * DOWN_MS_MAX, () => void this.start());
  }

  end(): void {
    if (!this.process.isDead) this.#life?.index.close();
    this.process.kill();
    fs.rmSync(this.#directory, { recursive: true, force: true });
  }

  /** @throws ConnectError, as it would travel */
  async serve<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
    change: ChangeCall | undefined,
  ): Promise<MessageShape<O>> {
    const { recorder } = this.#options;
    const handler = this.#alive.handlers.get(method.localName);
    invariant(handler !== undefined, `${method.localName} is served`);
    const received = fromBinary(method.input, toBinary(method.input, create(method.input, request)));
    const run = (): ReturnType<Handler> => handler(received, CALLER);
    const answer = await (change === undefined ? run() : recorder.within(change, run));
    return fromBinary(
      method.output,
      toBinary(method.output, create(method.output, answer as MessageInitShape<O>)),
    );
  }

  async refresh(at: string): Promise<void> {
    const { served, index } = this.#alive;
    const { signal } = new AbortController();
    const { exportId } = served.indexed;
    try {
      const refresh = new Refresh({
        exportId,
        index,
        tree: served.tree,
        revalidation: served.revalidation,
        signal,
      });
      for await (const figures of refresh.run(at, { recursive: true })) void figures;
    } catch (error) {
      throw toConnectError(error);
    }
  }

  /** A stream of a satellite: what the service does between RPC and the leases. */
  accept(down: StreamEnd<OriginMessage, SatelliteMessage>): void {
    const { leases } = this.#alive.served;
    let received = Promise.resolve();
    const stream = leases.open(
      {
        send: (message) => {
          this.#noteWithdrawal(message);
          const bytes = toBinary(
            OriginMessageSchema,
            create(OriginMessageSchema, encodeOriginMessage(message)),
          );
          down.send(fromBinary(OriginMessageSchema, bytes));
          return true;
        },
        close: () => down.close(),
      },
      { tenant: CALLER.principal.tenant, address: 'simulated' },
    );
    down.onMessage = (message) => {
      const bytes = toBinary(SatelliteMessageSchema, message);
      const decoded = decodeSatelliteMessage(fromBinary(SatelliteMessageSchema, bytes));
      received = received.then(() => leases.receive(stream, decoded));
    };
    down.onBroken = () => leases.broken(stream);
  }

  /** Semantics 6: between the withdrawal of a name and the change no more than a term passes. */
  #watchDelays(gate: ChangeGate): void {
    const { time, timing, problem } = this.#options;
    const run = gate.run.bind(gate);
    gate.run = (change, perform, signal) =>
      run(
        change,
        () => {
          for (const { directory, name } of change.names) {
            const key = `${directory}/${name}`;
            const delayMs = time.nowMs - (this.#withdrawnMs.get(key) ?? time.nowMs);
            this.#withdrawnMs.delete(key);
            if (delayMs > timing.termMs * (1 + timing.clockRateError) + DELAY_MARGIN_MS) {
              problem(`semantics 6: the change of ${key} was delayed for ${delayMs.toFixed(0)} ms`);
            }
          }
          return perform();
        },
        signal,
      );
  }

  #noteWithdrawal(message: LeaseMessage<unknown>): void {
    if (message.kind !== 'withdraw') return;
    for (const { directory, name } of message.names) {
      this.#withdrawnMs.set(`${directory}/${name}`, this.#options.time.nowMs);
    }
  }

  async inodeOf(name: string): Promise<number> {
    const row = await this.#alive.served.tree.lookup(Number(ROOT_INODE), name);
    invariant(row !== undefined, `there is ${name}`);
    return row.inode;
  }

  /** What is not over yet; all zero in the end. */
  open(): Record<string, number> {
    const { served } = this.#alive;
    const { awaited } = served.leases.grace;
    const names = [...served.leases.sessions()].reduce((sum, one) => sum + one.acknowledgementsOwed, 0);
    return { 'sessions awaited': awaited, 'acknowledgements owed': names };
  }

  get #alive(): Life {
    invariant(this.#life !== undefined, 'the origin was started');
    return this.#life;
  }
}

const CALLER = {
  principal: { tenant: 'simulated', host: 'simulated', role: 'admin', provenBy: 'nothing' },
  address: '',
};
