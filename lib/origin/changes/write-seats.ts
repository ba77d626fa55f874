/**
 * Who has which write, as the changes of names need it: files without a version by their place, and whether a session
 * lives. Whoever waits for a write is woken when it ends, or its session does.
 */
import type { SessionId } from '../../base/brand.ts';
import type { Clock } from '../../base/clock.ts';
import type { ChangedRows } from '../index/index-changes.ts';
import type { IndexedInode } from '../index/index-rows.ts';
import type { NamespaceIndex } from '../index/namespace-index.ts';
import type { WriteRow } from '../index/write-rows.ts';
import type { Place } from '../tree/export-paths.ts';

export interface Sessions {
  /** Undefined: nobody uses what such a session had. */
  holderOf(session: string): { readonly host: string } | undefined;
}

export class WriteSeats {
  readonly #exportId: number;
  readonly #index: NamespaceIndex;
  readonly #sessions: Sessions;
  readonly #clock: Clock;
  readonly #waiting = new Set<{ readonly write: string; readonly session: string; wake(): void }>();

  constructor(options: {
    readonly exportId: number;
    readonly index: NamespaceIndex;
    readonly sessions: Sessions;
    readonly clock: Clock;
  }) {
    this.#exportId = options.exportId;
    this.#index = options.index;
    this.#sessions = options.sessions;
    this.#clock = options.clock;
  }

  isAlive({ session }: WriteRow): boolean {
    return this.#sessions.holderOf(session) !== undefined;
  }

  /** The satellite's own file without a version. */
  own({ directory, name }: Place, by: SessionId | undefined): WriteRow | undefined {
    if (by === undefined) return undefined;
    const row = this.#index.changes.writes.at({ exportId: this.#exportId, directory }, name);
    return row?.session === by ? row : undefined;
  }

  /** A file without a version that some satellite is writing has the place. */
  isTaken({ directory, name }: Place): boolean {
    const row = this.#index.changes.writes.at({ exportId: this.#exportId, directory }, name);
    return row !== undefined && this.isAlive(row);
  }

  /** Satellites are writing files without a version in a directory. */
  areIn(directory: number): boolean {
    return this.#index.changes.writes
      .in({ exportId: this.#exportId, directory })
      .some((row) => this.isAlive(row));
  }

  /** Inside a transaction: its name was removed, and nobody commits it any more. */
  drop(rows: ChangedRows, row: WriteRow): void {
    rows.writes.setPlace(row.write, undefined);
    rows.writes.end(row, Math.round(this.#clock.wallMs()));
  }

  /** Resolves when the write may have ended, at the deadline at the latest. */
  wait({ write, session }: WriteRow, deadlineMs: number): Promise<void> {
    return new Promise((resolve) => {
      const waiter = {
        write,
        session,
        wake: () => {
          this.#waiting.delete(waiter);
          cancel();
          resolve();
        },
      };
      this.#waiting.add(waiter);
      const cancel = this.#clock.after(Math.max(0, deadlineMs - this.#clock.nowMs()), waiter.wake);
    });
  }

  ended(write: string): void {
    for (const waiter of [...this.#waiting]) if (waiter.write === write) waiter.wake();
  }

  sessionGone(session: string): void {
    for (const waiter of [...this.#waiting]) if (waiter.session === session) waiter.wake();
  }
}

/** A file without a version, as its satellite sees it. */
export function pendingInode({ inode, place, attributes }: WriteRow): IndexedInode {
  return {
    ...attributes,
    inode,
    parent: place?.directory ?? 0,
    name: place?.name ?? '',
    kind: 'file',
    target: undefined,
    version: undefined,
    resolved: true,
  };
}
