/**
 * A satellite in the simulated world: the production code from the namespace down to the lease machine, with a kernel
 * above it and a link to the origin below. It can be stopped, killed and started again; its machine's clock goes on.
 */
import { type Prng, seededPrng } from '../../lib/base/prng.ts';
import { create } from '@bufbuild/protobuf';
import { LeaseClient } from '../../lib/lease/lease-client.ts';
import type { LeaseTiming, OriginMessage, SatelliteMessage } from '../../lib/lease/lease.ts';
import { HeldNames } from '../../lib/namespace/held-names.ts';
import {
  LeaseSession,
  type LeaseStream,
  type LeaseStreamListener,
} from '../../lib/namespace/lease-session.ts';
import { LeasedNamespace } from '../../lib/namespace/leased-namespace.ts';
import { NameCache } from '../../lib/namespace/name-cache.ts';
import type { InodeAttributes } from '../../lib/namespace/namespace.ts';
import { attributesOf } from '../../lib/namespace/origin-answers.ts';
import { OriginNames } from '../../lib/namespace/origin-names.ts';
import type * as wire from '../../lib/rpc/gen/origin_pb.js';
import { OriginService, SatelliteMessageSchema } from '../../lib/rpc/gen/origin_pb.js';
import type { OriginClient } from '../../lib/rpc/origin-client.ts';
import { decodeOriginMessage, encodeSatelliteMessage } from '../../lib/lease/lease-messages.ts';
import { RpcError } from '../../lib/rpc/rpc-errors.ts';
import { createLogger } from '../../lib/telemetry/log.ts';
import type { Metrics } from '../../lib/telemetry/metrics.ts';
import { SimKernel } from './sim-kernel.ts';
import { SimLink } from './sim-network.ts';
import { SimClient } from './sim-client.ts';
import { EXPORT_NAME, type SimOrigin } from './sim-origin.ts';
import type { Trace } from '../history/report.ts';
import type { Mount } from './sim-programs.ts';
import { type SimBucket, simStore } from './sim-store.ts';
import { SimProcess, type SimTime } from './sim-time.ts';

const PARTITION_WAIT_MS = 8_000;
const NOTIFICATION_MS_MAX = 40;
const STUCK_SHARE = 0.02;
const STUCK_TERMS = 2.5;
/** So few that directories are given up now and then, in worlds where that is drawn. */
const NAMES_MAX_SMALL = 8;

export interface SimSatelliteOptions {
  readonly name: string;
  readonly time: SimTime;
  readonly timing: LeaseTiming;
  readonly prng: Prng;
  readonly bucket: SimBucket;
  readonly origin: SimOrigin;
  readonly metrics: Metrics;
  readonly trace: Trace;
  /** Messages are told too, which costs more than to send them. */
  readonly isTraced: boolean;
}

interface Life extends Mount {
  readonly process: SimProcess;
  readonly session: LeaseSession;
  readonly cache: NameCache;
}

export class SimSatellite {
  readonly name: string;
  readonly link: SimLink;
  readonly counts: Record<string, number> = {};
  readonly #options: SimSatelliteOptions;
  readonly #machine: { readonly offsetMs: number; readonly rate: number };
  readonly #namesMax: number | undefined;
  /** Of notifications that take longer than a term: a satellite that sends heartbeats and acknowledges nothing. */
  readonly #stuckShare: number;
  #life: Life | undefined;

  constructor(options: SimSatelliteOptions) {
    const { prng, timing, time, origin } = options;
    this.name = options.name;
    this.#options = options;
    // Against the origin's clock, which is the true one. The extremes matter most.
    const off = prng.below(2) === 0 ? (prng.below(2) === 0 ? 1 : -1) : 2 * prng.next() - 1;
    this.#machine = { offsetMs: prng.below(1_000_000), rate: 1 + off * timing.clockRateError };
    this.#stuckShare = prng.below(8) === 0 ? STUCK_SHARE : 0;
    this.#namesMax = prng.below(4) === 0 ? NAMES_MAX_SMALL : undefined;
    this.link = new SimLink({
      time,
      prng: seededPrng(prng.below(2 ** 32)),
      client: () => this.#alive.process,
      origin: () => origin.process,
    });
  }

  get mount(): Mount {
    return this.#alive;
  }

  start(): void {
    const { time, timing, prng, bucket, metrics, trace } = this.#options;
    const process = new SimProcess(time, this.#machine);
    const { clock } = process;
    const logger = createLogger({ level: 'silent' });
    const cache = new NameCache(this.#namesMax === undefined ? {} : { namesMax: this.#namesMax });
    let session: LeaseSession | undefined = undefined;
    const held = new HeldNames({
      cache,
      metrics,
      onReleased: (directories) => session?.release(directories),
    });
    session = new LeaseSession({
      machine: new LeaseClient({ clockRateError: timing.clockRateError }),
      open: (listener) => this.#open(process, listener),
      held,
      clock,
      nextTurn: (run) => void time.after(0, () => process.run(run)),
      prng: seededPrng(prng.below(2 ** 32)),
      host: this.name,
      labels: {},
      logger,
      metrics,
      onLive: () => namespace.originIsBack(),
    });
    const namespace = new LeasedNamespace({
      remote: this.#remote(),
      held,
      term: session,
      clock,
      metrics,
      partitionWaitMs: PARTITION_WAIT_MS,
    });
    const notifications = seededPrng(prng.below(2 ** 32));
    const delayMs = (): number =>
      notifications.next() < this.#stuckShare
        ? STUCK_TERMS * timing.termMs
        : notifications.next() * NOTIFICATION_MS_MAX;
    const kernel = new SimKernel({ machineClock: clock, process, namespace, delayMs });
    const store = simStore({ bucket, time, process, prng: seededPrng(prng.below(2 ** 32)), trace });
    this.#life = { process, session, cache, kernel, store };
    process.run(() => session.start());
  }

  stop(): void {
    this.#alive.process.stop();
  }

  resume(): void {
    this.#alive.process.resume();
  }

  /** SIGKILL, and a new mount at once. */
  restart(): void {
    const { process, kernel } = this.#alive;
    process.kill();
    this.link.cut();
    this.#count();
    kernel.abort();
    this.start();
  }

  #open(process: SimProcess, listener: LeaseStreamListener): LeaseStream {
    const { time, origin, trace } = this.#options;
    const end = this.link.open<wire.SatelliteMessage, wire.OriginMessage>((down) => origin.accept(down));
    end.onMessage = (received) => {
      const message = decodeOriginMessage(received, (inode) => attributesOf(inode, EXPORT_NAME));
      this.#traceMessage('gets', message);
      listener.message(message);
    };
    const broken = (reason: string): void => {
      trace(`${this.name} has no stream: ${reason}`);
      listener.broken(new RpcError('unavailable', reason));
    };
    end.onBroken = broken;
    time.after(0, () => process.run(() => listener.opened()));
    return {
      send: (message) => {
        this.#traceMessage('sends', message);
        end.send(create(SatelliteMessageSchema, encodeSatelliteMessage(message, EXPORT_NAME)));
      },
      end: () => {
        end.close();
        time.after(0, () => process.run(() => broken('ended by this side')));
      },
    };
  }

  #traceMessage(what: string, message: SatelliteMessage | OriginMessage<InodeAttributes>): void {
    const { isTraced, trace } = this.#options;
    if (isTraced) trace(`${this.name} ${what} ${describeMessage(message)}`, aboutOf(message));
  }

  #remote(): OriginNames {
    const { method } = OriginService;
    const client = new SimClient(this.link, this.#options.origin);
    const calls = {
      lookup: client.unary(method.lookup),
      getAttributes: client.unary(method.getAttributes),
      listDirectory: client.unary(method.listDirectory),
      reportStale: client.unary(method.reportStale),
    };
    return new OriginNames({ client: calls as unknown as OriginClient, exportName: EXPORT_NAME });
  }

  /** What is not over yet; all zero in the end. */
  open(): Record<string, number> {
    this.#count();
    const { cache, session } = this.#alive;
    return {
      [`questions of ${this.name}`]: cache.questions.size,
      [`lost sessions of ${this.name}`]: session.stat().state === 'live' ? 0 : 1,
    };
  }

  get #alive(): Life {
    if (this.#life === undefined) throw new Error('not started');
    return this.#life;
  }

  #count(): void {
    for (const [what, by] of Object.entries(this.#alive.kernel.counts)) {
      this.counts[what] = (this.counts[what] ?? 0) + by;
    }
  }
}

/** For a trace. */
function describeMessage(message: SatelliteMessage | OriginMessage<InodeAttributes>): string {
  return JSON.stringify(message, (key, value: unknown) =>
    typeof value === 'bigint'
      ? Number(value)
      : key === 'inode'
        ? (value as InodeAttributes | undefined)?.sizeBytes
        : value,
  );
}

function aboutOf(message: SatelliteMessage | OriginMessage<InodeAttributes>): readonly string[] | undefined {
  switch (message.kind) {
    case 'withdraw':
      return [...message.names.map(({ directory }) => directory), ...message.moved].map(String);
    case 'update':
      return message.names.map(({ name }) => String(name.directory));
    case 'recall':
      return message.leases.length === 0
        ? undefined
        : message.leases.map(({ directory }) => String(directory));
    case 'release':
      return message.directories.map(String);
    case 'heartbeat':
    case 'heartbeat-answer':
    case 'acknowledgement':
      return [];
    case 'hello':
    case 'welcome':
    case 'goodbye':
      return undefined;
  }
}
