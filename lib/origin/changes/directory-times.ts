/**
 * Moves the times of a directory when its entries have changed.
 *
 * A change of its own that follows the change of the entry, so that many changes in one directory do not wait for each
 * other; those that come while one waits for the gate share it. Whoever sees the new time sees the new entries.
 */
import { ROOT_INODE } from '../../base/brand.ts';
import type { Clock } from '../../base/clock.ts';
import type { ChangedName, ChangeGate } from './change-gate.ts';
import type { IndexedInode } from '../index/index-rows.ts';
import type { NamespaceIndex } from '../index/namespace-index.ts';

const NS_PER_MS = 1_000_000n;

export class DirectoryTimes {
  readonly #exportId: number;
  readonly #index: NamespaceIndex;
  readonly #gate: ChangeGate;
  readonly #clock: Clock;
  /** Not begun yet. */
  readonly #waiting = new Map<number, Promise<void>>();

  constructor(options: {
    readonly exportId: number;
    readonly index: NamespaceIndex;
    readonly gate: ChangeGate;
    readonly clock: Clock;
  }) {
    this.#exportId = options.exportId;
    this.#index = options.index;
    this.#gate = options.gate;
    this.#clock = options.clock;
  }

  touch(directory: number): Promise<void> {
    let touch = this.#waiting.get(directory);
    if (touch === undefined) {
      touch = this.#touch(directory).finally(() => this.#waiting.delete(directory));
      this.#waiting.set(directory, touch);
    }
    return touch;
  }

  async #touch(directory: number): Promise<void> {
    const row = await this.#index.inode(this.#exportId, directory);
    if (row === undefined) return;
    await this.#gate.run({ names: [attributesName(row)] }, async () => {
      this.#waiting.delete(directory);
      const nowNs = BigInt(Math.round(this.#clock.wallMs())) * NS_PER_MS;
      this.#index.changes.quickly((rows) => {
        const now = rows.inode(this.#exportId, directory);
        // Renamed meanwhile: the rename has told of it.
        if (now?.parent !== row.parent || now.name !== row.name) return;
        rows.setTimes(this.#exportId, directory, nowNs > now.modifiedNs ? nowNs : now.modifiedNs);
      });
    });
  }
}

/** Where the attributes of an inode are leased. */
export function attributesName(row: IndexedInode): ChangedName {
  const root = Number(ROOT_INODE);
  return row.inode === root
    ? { directory: root, name: '', attributesOnly: true }
    : { directory: row.parent, name: row.name, attributesOnly: true };
}
