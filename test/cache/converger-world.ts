/** A satellite's write-back over fakes, on a clock that the test moves. */
import { openWriteBack, type WriteBackOptions } from '../../cache/converger/write-back.ts';
import type { WorkingCopy, WriteBack } from '../../cache/working-copy.ts';
import type { InodeNumber } from '../../lib/base/brand.ts';
import { sleep } from '../../lib/base/clock.ts';
import { type Prng, seededPrng } from '../../lib/base/prng.ts';
import { NamespaceError } from '../../lib/namespace/namespace.ts';
import { createLogger } from '../../lib/telemetry/log.ts';
import { createMetrics, type Metrics } from '../../lib/telemetry/metrics.ts';
import { TierError } from '../../lib/tiers/tier.ts';
import { FakeOrigin } from './fake-publisher.ts';
import { type FakeFile, FakeStaging } from './fake-staging.ts';
import { ManualClock } from './manual-clock.ts';

export const BLOCK_BYTES = 16;
export const INLINE_BYTES = 48;
export const PART_BYTES = 64;

export const ATTRIBUTES = { mode: 0o644, uid: 1, gid: 1, extended: {} } as const;

export const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

export class ConvergerWorld {
  readonly clock = new ManualClock();
  readonly prng: Prng;
  readonly origin: FakeOrigin;
  staging: FakeStaging;
  writeBack: WriteBack;
  metrics: Metrics = createMetrics();
  /** The share of calls that fail, of those whose answer is lost, and the longest time that one takes. */
  weather = { fails: 0, loses: 0, delayMs: 0 };
  /** A call that does not come back before this does. */
  readonly holds = new Map<string, Promise<void>>();
  #life = 0;
  readonly #options: Partial<WriteBackOptions>;

  constructor({ seed = 1, ...options }: Partial<WriteBackOptions> & { readonly seed?: number } = {}) {
    this.prng = seededPrng(seed);
    this.#options = options;
    this.clock.advance(1_000_000);
    this.origin = new FakeOrigin({
      weather: (call, when) => this.#call(call, when),
      fileOf: (fd) => this.staging.byFd(fd),
    });
    this.staging = this.#makeStaging();
    this.writeBack = this.#open();
  }

  /** Kills the process, and starts the next life. */
  die(): void {
    this.#life += 1;
    this.origin.life += 1;
    const next = this.#makeStaging();
    this.staging.die(next);
    this.staging = next;
    this.writeBack = this.#open();
  }

  async create(name: string): Promise<WorkingCopy> {
    return this.during(
      this.writeBack.begin(this.origin.create(name), {
        path: name,
        attributes: ATTRIBUTES,
        isCommitted: false,
      }),
    );
  }

  /** A file that has a version, opened for write. */
  async open(inode: InodeNumber): Promise<WorkingCopy> {
    const { name, versions } = this.origin.inodes.get(inode)!;
    const bytes = Buffer.from(versions.at(-1)!.bytes, 'latin1');
    return this.during(
      this.writeBack.begin(this.origin.openWrite(inode), {
        path: name,
        attributes: ATTRIBUTES,
        isCommitted: true,
        modifiedNs: 1n,
        from: { read: async () => bytes } as never,
      }),
    );
  }

  fileOf(copy: WorkingCopy): FakeFile {
    return this.staging.byFd(copy.fd)!;
  }

  versionsOf(copy: { readonly grant: { readonly inode: InodeNumber } }): readonly string[] {
    return this.origin.inodes.get(copy.grant.inode)!.versions.map(({ bytes }) => bytes);
  }

  /** Lets everything happen that happens without time passing. */
  async calm(): Promise<void> {
    for (let turns = 0; turns < 12; turns++) await turn();
  }

  async advance(byMs: number, stepMs = 5): Promise<void> {
    for (let left = byMs; left > 0; left -= stepMs) {
      this.clock.advance(Math.min(stepMs, left));
      await this.calm();
    }
  }

  /** Moves time on until it has settled. */
  async during<T>(promise: Promise<T>, boundMs = 600_000): Promise<T> {
    let isSettled = false;
    const settled = promise.finally(() => (isSettled = true));
    settled.catch(() => undefined);
    await this.calm();
    for (let leftMs = boundMs; !isSettled; leftMs -= 5) {
      if (leftMs <= 0) throw new Error('it does not end');
      await this.advance(5);
    }
    return settled;
  }

  #makeStaging(): FakeStaging {
    const life = this.#life;
    return new FakeStaging({
      clock: this.clock,
      blockBytes: BLOCK_BYTES,
      pause: () => this.#ofLife(life, this.prng.next() * this.weather.delayMs),
    });
  }

  #open(): WriteBack {
    const life = this.#life;
    const { publisher } = this.origin;
    // A dead process asks for nothing more, and hears of nothing.
    const alive =
      <Words extends readonly unknown[], T>(call: (...words: Words) => Promise<T>) =>
      async (...words: Words): Promise<T> => {
        await this.#ofLife(life, 0);
        const answer = await call(...words).finally(() => this.#ofLife(life, 0));
        return answer;
      };
    return openWriteBack({
      staging: this.staging,
      publisher: {
        createFile: alive(publisher.createFile.bind(publisher)),
        beginUpload: alive(publisher.beginUpload.bind(publisher)),
        commit: alive(publisher.commit.bind(publisher)),
        endWrite: alive(publisher.endWrite.bind(publisher)),
        reclaim: alive(publisher.reclaim.bind(publisher)),
      },
      names: this.origin.names,
      sender: { ...this.origin.sender, send: alive(this.origin.sender.send.bind(this.origin.sender)) },
      host: 'gpu-1',
      bytesMax: 1e9,
      ageMaxMs: 1e9,
      sendsAhead: () => false,
      sizes: { inlineBytesMax: INLINE_BYTES, partBytes: PART_BYTES },
      clock: this.clock,
      prng: this.prng,
      logger: createLogger({ level: 'silent' }),
      metrics: this.metrics,
      ...this.#options,
    });
  }

  async #ofLife(life: number, delayMs: number): Promise<void> {
    if (delayMs >= 1) await sleep(this.clock, delayMs);
    if (life !== this.#life) await new Promise(() => undefined);
  }

  async #call(call: string, when: 'before' | 'lost'): Promise<void> {
    const { fails, loses, delayMs } = this.weather;
    if (delayMs >= 1) await sleep(this.clock, this.prng.next() * delayMs);
    if (when === 'before') await this.holds.get(call);
    if (this.prng.next() >= (when === 'before' ? fails : loses)) return;
    throw call === 'send'
      ? new TierError('unavailable', 'the store is away')
      : new NamespaceError('unavailable', 'the origin is away');
  }
}
