/** A satellite as the origin sees it: a stream, questions, and acknowledgements when the test says so. */
import type { Test } from 'tap';
import { systemClock } from '../../lib/base/clock.ts';
import type { InodeNumber, SessionId } from '../../lib/base/brand.ts';
import { decodeGrant, decodeOriginMessage, encodeSatelliteMessage } from '../../lib/lease/lease-messages.ts';
import type { OriginMessage, SatelliteMessage } from '../../lib/lease/lease.ts';
import { createOriginClient } from '../../lib/rpc/origin-client.ts';
import type { RpcError } from '../../lib/rpc/rpc-errors.ts';

type Told = OriginMessage<bigint>;
type ToldOf<Kind> = Extract<Told, { readonly kind: Kind }>;
type Earlier = Extract<SatelliteMessage, { readonly kind: 'hello' }>['earlier'];

export class TestSatellite {
  readonly client;
  readonly exportName = 'data';
  session = '' as SessionId;
  broken: RpcError | undefined;
  readonly #told: Told[] = [];
  #onChange = (): void => undefined;
  #stream: ReturnType<ReturnType<typeof createOriginClient>['openLeaseStream']> | undefined;

  constructor(t: Test, address: string) {
    this.client = createOriginClient({ address, clock: systemClock, deadlineMs: 10_000 });
    t.teardown(() => this.client.close());
  }

  open(): void {
    this.broken = undefined;
    this.#stream = this.client.openLeaseStream({
      opened: () => undefined,
      message: (message) => {
        // Not about leases; it comes behind each welcome.
        if (message.message.case === 'policies') return;
        this.#told.push(decodeOriginMessage(message, ({ inode }) => inode));
        this.#onChange();
      },
      broken: (error) => {
        this.broken = error;
        this.#onChange();
      },
    });
  }

  send(message: SatelliteMessage): void {
    this.#stream?.send(encodeSatelliteMessage(message, this.exportName));
  }

  end(): void {
    this.#stream?.end();
  }

  async hello(host = 'host', earlier?: Earlier): Promise<ToldOf<'welcome'>> {
    this.open();
    this.send({ kind: 'hello', host, labels: { rack: '7' }, earlier });
    const welcome = await this.next('welcome');
    this.session = welcome.session;
    return welcome;
  }

  acknowledge(sequence: number, released: readonly InodeNumber[] = []): void {
    this.send({ kind: 'acknowledgement', sequence, released });
  }

  /** The next message, which must be of this kind. */
  async next<Kind extends Told['kind']>(kind: Kind): Promise<ToldOf<Kind>> {
    while (this.#told.length === 0) {
      if (this.broken !== undefined) throw this.broken;
      await new Promise<void>((resolve) => (this.#onChange = resolve));
    }
    const message = this.#told.shift() as Told;
    if (message.kind !== kind) throw new Error(`${message.kind} came instead of ${kind}`);
    return message as ToldOf<Kind>;
  }

  async ended(): Promise<RpcError> {
    while (this.broken === undefined) await new Promise<void>((resolve) => (this.#onChange = resolve));
    return this.broken;
  }

  get unread(): readonly string[] {
    return this.#told.map(({ kind }) => kind);
  }

  async lookup(name: string, parent = 1n) {
    const { exportName, session } = this;
    const answer = await this.client.lookup({ exportName, parent, name, session });
    return { inode: answer.inode, grant: decodeGrant(answer.grant) };
  }

  async list(directory = 1n, after = '') {
    const { exportName, session } = this;
    const answer = await this.client.listDirectory({
      exportName,
      directory,
      after,
      entriesMax: 100,
      session,
    });
    return { ...answer, grant: decodeGrant(answer.grant) };
  }
}
