/** The origin's lease table on a bench: events one by one, and what it wants done. */
import type { Epoch, InodeNumber, SessionId } from '../../lib/base/brand.ts';
import { LeaseTable } from '../../lib/lease/lease-table.ts';
import type {
  Ancestors,
  LeaseEffect,
  LeaseEvent,
  LeaseTableLimits,
  RememberedSession,
} from '../../lib/lease/lease-table-events.ts';
import type { OriginMessage, SatelliteMessage } from '../../lib/lease/lease.ts';

export const TERM_MS = 20_000;
const timing = { termMs: TERM_MS, heartbeatMs: 5_000, clockRateError: 0.01 };

type Hello = Extract<SatelliteMessage, { readonly kind: 'hello' }>;
type EffectOf<Kind> = Extract<LeaseEffect<string>, { readonly kind: Kind }>;
type ToldOf<Kind> = Extract<OriginMessage<string>, { readonly kind: Kind }>;

export const chain = (...numbers: number[]): Ancestors =>
  numbers.map((number) => BigInt(number) as InodeNumber);

export class Bench {
  nowMs = 0;
  readonly table;
  effects: readonly LeaseEffect<string>[] = [];
  #streams = 0;

  constructor(
    options: {
      readonly awaited?: readonly RememberedSession[];
      readonly quietMs?: number;
      readonly limits?: Partial<LeaseTableLimits>;
    } = {},
  ) {
    const { awaited = [], quietMs = 10_000, limits = {} } = options;
    this.table = new LeaseTable<string>({ epoch: 7 as Epoch, timing, quietMs, limits });
    this.step({ kind: 'started', awaited });
  }

  step(event: LeaseEvent<string>): void {
    this.effects = this.table.step(event, this.nowMs);
  }

  pass(ms: number): void {
    this.nowMs += ms;
    this.step({ kind: 'time-passed' });
  }

  of<Kind extends LeaseEffect<string>['kind']>(kind: Kind): EffectOf<Kind>[] {
    return this.effects.filter((effect): effect is EffectOf<Kind> => effect.kind === kind);
  }

  /** Messages of a kind in the last step, with their streams. */
  told<Kind extends OriginMessage<string>['kind']>(
    kind: Kind,
  ): (ToldOf<Kind> & { readonly stream: number })[] {
    return this.of('send')
      .filter(({ message }) => message.kind === kind)
      .map(({ stream, message }) => ({ ...(message as ToldOf<Kind>), stream }));
  }

  open(tenant = 'tenant'): number {
    const stream = ++this.#streams;
    this.step({ kind: 'stream-opened', stream, tenant, address: '10.0.0.1' });
    return stream;
  }

  say(stream: number, message: SatelliteMessage): void {
    this.step({ kind: 'message', stream, message });
  }

  hello(
    stream: number,
    session: string,
    given: { readonly host?: string; readonly earlier?: Hello['earlier'] } = {},
  ) {
    const { host = 'host', earlier } = given;
    const places = new Map(
      (earlier?.reclaim ?? []).map(({ directory }) => [directory, chain(Number(directory), 1)]),
    );
    this.step({
      kind: 'message',
      stream,
      message: { kind: 'hello', host, labels: {}, earlier },
      hello: { session: session as SessionId, places },
    });
  }

  /** A session that is live. @returns its stream */
  join(session: string): number {
    const stream = this.open();
    this.hello(stream, session);
    return stream;
  }

  grant(session: string, ...place: number[]) {
    this.step({ kind: 'grant-wanted', session: session as SessionId, ancestors: chain(...place) });
    return this.of('granted')[0]?.grant;
  }

  want(
    change: number,
    name: string,
    place: Ancestors,
    options: { readonly moved?: Ancestors[]; readonly by?: string; readonly isShared?: boolean } = {},
  ) {
    const directory = place[0] as InodeNumber;
    this.step({
      kind: 'change-wanted',
      change,
      names: [
        {
          name: { directory, name, attributesOnly: false },
          ancestors: place,
          isShared: options.isShared === true,
        },
      ],
      moved: options.moved ?? [],
      by: options.by as SessionId | undefined,
    });
  }

  finish(
    change: number,
    update?: { readonly directory: number; readonly name: string },
    moved: Ancestors[] = [],
  ) {
    const updates =
      update === undefined
        ? []
        : [
            {
              name: {
                directory: BigInt(update.directory) as InodeNumber,
                name: update.name,
                attributesOnly: false,
              },
              inode: 'now',
            },
          ];
    this.step({ kind: 'change-finished', change, updates, moved });
  }

  get mayPerform(): number[] {
    return this.of('change-may-perform').map(({ change }) => change);
  }

  get closed(): string[] {
    return this.of('close-stream').map(({ reason }) => reason);
  }
}
