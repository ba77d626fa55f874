/**
 * Calls of the origin that change names: the one way in which they are made.
 *
 * A change is not interrupted: nobody could say whether it was done. It has a deadline; whatever comes of it, the kernel
 * drops what else it knew by the names (listings, attributes of directories), and after a call that may or may not have
 * been done the names as well.
 */
import type { Clock } from '../base/clock.ts';
import { Errno } from '../fuse/errno.ts';
import { ErrnoError } from '../fuse/operations.ts';
import type { Place } from '../fuse/write-operations.ts';
import type { NamePlace } from '../namespace/changes.ts';
import { bounded } from './bounded.ts';
import { errnoOf } from './errno-of.ts';
import type { KernelCache } from './kernel-cache.ts';
import { decodeName } from './names.ts';
import { pathOf, type Node } from './node-table.ts';
import type { NodeView } from './node-view.ts';

/** Beside what an operation on names waits: a change waits for satellites that do not answer, and for the store. */
const CHANGE_WAIT_MS = 310_000;

/** A name in a directory. */
export interface NodePlace {
  readonly directory: Node;
  readonly name: string;
}

export interface NameCallsOptions {
  readonly view: NodeView;
  readonly kernel: KernelCache;
  readonly clock: Clock;
  readonly namesDeadlineMs: number;
  /** Aborts when the mount ends. */
  readonly ended: AbortSignal;
}

export class NameCalls {
  readonly #options: NameCallsOptions;

  constructor(options: NameCallsOptions) {
    this.#options = options;
  }

  /** Where a name is to be made. @throws ErrnoError EINVAL for one that an export cannot have: it is not UTF-8 */
  place({ parent, name }: Place): NodePlace {
    const directory = this.#options.view.directory(parent);
    const text = decodeName(name);
    if (text === undefined) throw new ErrnoError(Errno.EINVAL, 'names of an export are UTF-8');
    return { directory, name: text };
  }

  /** Where a name should be. @throws ErrnoError ENOENT */
  existing({ parent, name }: Place): NodePlace {
    const directory = this.#options.view.directory(parent);
    const text = decodeName(name);
    if (text === undefined) throw new ErrnoError(Errno.ENOENT, 'no such name');
    return { directory, name: text };
  }

  /** @param places whose names the call changes */
  async run<T>(places: readonly NodePlace[], call: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const { clock, kernel, namesDeadlineMs, ended } = this.#options;
    try {
      return await bounded(clock, { signal: ended, deadlineMs: namesDeadlineMs + CHANGE_WAIT_MS }, call);
    } catch (error) {
      if (isUncertain(error)) void kernel.drop(places.map(droppedName));
      throw error;
    } finally {
      for (const { directory } of places) kernel.changed(directory);
    }
  }
}

export function namePlace({ directory, name }: NodePlace): NamePlace {
  return { parent: directory.inode, name };
}

export function pathAt({ directory, name }: NodePlace): string {
  const above = pathOf(directory);
  return above === '' ? name : `${above}/${name}`;
}

/** The origin may have done it. */
function isUncertain(error: unknown): boolean {
  const errno = errnoOf(error);
  return errno === Errno.ETIMEDOUT || errno === Errno.EINTR || errno === Errno.EIO;
}

function droppedName({ directory, name }: NodePlace) {
  return { directory: directory.inode, name, inode: undefined, attributesOnly: false, wasAsked: true };
}
