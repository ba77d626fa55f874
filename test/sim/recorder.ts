/**
 * Turns what programs did and saw into a history of registers.
 *
 * A register is a name in a directory (`12/f1`), or the content of an inode (`#34`), because attributes are asked by
 * inode too. The value of a file is its length, which every write makes unique; that of a directory its inode. What an
 * operation has changed is taken from the origin's change gate, since only there it is known which directory a path led
 * to; what the gate did not see did not happen, and will show as a value that nobody wrote.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import type { InodeNumber } from '../../lib/base/brand.ts';
import type { InodeAttributes } from '../../lib/namespace/namespace.ts';
import type { ChangedName, ChangeGate } from '../../lib/origin/changes/change-gate.ts';
import type { IndexedInode } from '../../lib/origin/index/index-rows.ts';
import { type Begun, type Effect, History, type Operation, type Value } from '../history/history.ts';
import { UNTOLD } from '../history/linearizability.ts';

export function fileValue(sizeBytes: number): string {
  return `v${sizeBytes}`;
}

export function directoryValue(inode: bigint | number): string {
  return `dir#${inode}`;
}

export function valueOf(
  attributes: Pick<InodeAttributes, 'inode' | 'kind' | 'sizeBytes'> | undefined,
): Value {
  if (attributes === undefined) return undefined;
  return attributes.kind === 'directory' ? directoryValue(attributes.inode) : fileValue(attributes.sizeBytes);
}

function register(directory: bigint | number, name: string): string {
  return `${directory}/${name}`;
}

function contentOf(inode: bigint): string {
  return `#${inode}`;
}

/** What reads of one name tell. */
export function sightOf(
  parent: InodeNumber,
  name: string,
  attributes: InodeAttributes | undefined,
): Effect[] {
  const effects: Effect[] = [{ kind: 'read', name: register(parent, name), value: valueOf(attributes) }];
  if (attributes?.kind === 'file') effects.push(contentSight(attributes));
  return effects;
}

export function contentSight(attributes: InodeAttributes): Effect {
  return { kind: 'read', name: contentOf(attributes.inode), value: valueOf(attributes) };
}

/** What the gate let a call do. */
interface Attempt {
  readonly names: readonly ChangedName[];
  /** What became other by it; undefined: it did not come to its end. */
  changed: readonly Placed[] | undefined;
}

export interface Placed {
  readonly directory: number;
  readonly name: string;
  readonly value: Value;
}

/** One call that changes names, while it is under way. */
export interface ChangeCall {
  readonly begun: Begun;
  readonly attempts: Attempt[];
}

/** What an interrupted call may have done. */
export interface MayHaveDone {
  /** To names that the gate has seen. */
  readonly toNames: (names: readonly ChangedName[]) => Effect[];
  /** A file of which only this is known, if directories were to be made on the way. */
  readonly file?: { readonly basename: string; readonly value: Value };
}

export class Recorder {
  readonly history: History;
  readonly #calls = new AsyncLocalStorage<ChangeCall>();
  readonly #open: { readonly call: ChangeCall; readonly mayHaveDone: MayHaveDone }[] = [];

  constructor(nowMs: () => number) {
    this.history = new History(nowMs);
  }

  begin(client: string, text: string): ChangeCall {
    return { begun: this.history.begin(client, text), attempts: [] };
  }

  /** At the origin: whatever the gate does within `serve` belongs to the call. */
  within<T>(call: ChangeCall, serve: () => Promise<T>): Promise<T> {
    return this.#calls.run(call, serve);
  }

  /**
   * Watches every change that passes the gate from now on.
   *
   * @param rowOf what the index says of a name
   */
  observe(gate: ChangeGate, rowOf: (directory: number, name: string) => Promise<Row | undefined>): void {
    const run = gate.run.bind(gate);
    gate.run = (change, perform, signal) => {
      const call = this.#calls.getStore();
      const names = change.names.filter(({ attributesOnly }) => attributesOnly !== true);
      if (call === undefined || names.length === 0) return run(change, perform, signal);
      const attempt: Attempt = { names, changed: undefined };
      call.attempts.push(attempt);
      const look = (): Promise<Placed[]> =>
        Promise.all(
          names.map(async ({ directory, name }) => {
            const value = valueOfRow(await rowOf(directory, name));
            return { directory, name, value };
          }),
        );
      const observe = async (): ReturnType<typeof perform> => {
        const before = await look();
        const result = await perform();
        const changed = (await look()).filter(({ value }, at) => value !== before[at]?.value);
        // Below a directory that was made on the way the gate has no name.
        attempt.changed = isRow(result) ? [...changed, placedOf(result)] : changed;
        return result;
      };
      return run(change, observe, signal);
    };
  }

  ok(call: ChangeCall): void {
    call.begun.ok(...call.attempts.flatMap(effectsOf));
  }

  /** What it has changed is known at the end only: the origin may still be at it. */
  unknown(call: ChangeCall, mayHaveDone: MayHaveDone): void {
    this.#open.push({ call, mayHaveDone });
  }

  /** All operations, with what was learnt later: which inodes and directories were reached, by where a value was seen. */
  operations(): readonly Operation[] {
    const seen = new Map<Value, Set<string>>();
    for (const { effect } of this.history.operations) {
      if (effect.kind !== 'read' || effect.value === undefined) continue;
      seen.set(effect.value, (seen.get(effect.value) ?? new Set()).add(effect.name));
    }
    for (const { call, mayHaveDone } of this.#open.splice(0)) {
      const effects = call.attempts.flatMap((attempt) =>
        attempt.changed === undefined ? mayHaveDone.toNames(attempt.names) : effectsOf(attempt),
      );
      const { file } = mayHaveDone;
      const places = [...(seen.get(file?.value) ?? [])].filter((name) => name.endsWith(`/${file?.basename}`));
      for (const name of places) {
        if (effects.some((effect) => effect.kind === 'write' && effect.name === name)) continue;
        effects.push({ kind: 'write', name, value: file?.value });
      }
      call.begun.unknown(...effects);
    }
    const { operations } = this.history;
    const ofContents = operations.flatMap((operation) => {
      const { effect } = operation;
      if (effect.kind !== 'write' || effect.value === undefined) return [];
      const contents = [...(seen.get(effect.value) ?? [])].filter((name) => name.startsWith('#'));
      return contents.map((name) => ({ ...operation, effect: { ...effect, name } }));
    });
    return [...operations, ...ofContents];
  }
}

type Row = Pick<IndexedInode, 'inode' | 'kind' | 'version' | 'parent' | 'name'>;

function isRow(result: unknown): result is Row {
  return typeof result === 'object' && result !== null && 'parent' in result && 'kind' in result;
}

function valueOfRow(row: Row | undefined): Value {
  if (row === undefined) return undefined;
  return row.kind === 'directory' ? directoryValue(row.inode) : fileValue(row.version?.sizeBytes ?? 0);
}

function placedOf(row: Row): Placed {
  return { directory: row.parent, name: row.name, value: valueOfRow(row) };
}

/** Of two names one is gone and the other is new: a rename. Others were written one by one. */
function effectsOf({ names, changed = [] }: Attempt): Effect[] {
  const [first, second] = changed;
  if (names.length === 2 && first !== undefined && second?.value !== undefined && first.value === undefined) {
    const [from, to] = [register(first.directory, first.name), register(second.directory, second.name)];
    return [{ kind: 'move', from, to, value: second.value }];
  }
  const distinct = new Map(changed.map((placed) => [register(placed.directory, placed.name), placed.value]));
  return [...distinct].map(([name, value]) => ({ kind: 'write', name, value }));
}

/** An interrupted put or mkdir: the leaf is a new version; others are directories that were made on the way. */
export function mayHaveWritten(basename: string, value: Value): MayHaveDone {
  return {
    toNames: (names) =>
      names.map(({ directory, name }) => ({
        kind: 'write',
        name: register(directory, name),
        value: name === basename ? value : UNTOLD,
      })),
    ...(value === UNTOLD ? {} : { file: { basename, value } }),
  };
}

export const mayHaveRemoved: MayHaveDone = {
  toNames: (names) =>
    names.map(({ directory, name }) => ({
      kind: 'write',
      name: register(directory, name),
      value: undefined,
    })),
};

export const mayHaveMoved: MayHaveDone = {
  toNames: ([from, to]) => {
    if (from === undefined || to === undefined) return [];
    const [source, target] = [register(from.directory, from.name), register(to.directory, to.name)];
    return [{ kind: 'move', from: source, to: target, value: undefined }];
  },
};
