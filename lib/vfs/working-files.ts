/**
 * The files of this host that are being written, and who has them open.
 *
 * From the moment that a write of a file begins until its working copy has become a version, everything on this host
 * shares that copy: readers that open it meanwhile too, as on a local file system. A copy with a user is open; when
 * the last one leaves it is released, and whoever comes then opens it again, or is told that it is one no more.
 *
 * Invariants: one copy an inode; while one is being made nobody decides without it; a copy is released exactly as often
 * as it was begun or opened again.
 */
import type { WorkingCopy, WriteBack, WriteMode } from '../../cache/working-copy.ts';
import type { InodeNumber } from '../base/brand.ts';
import type { Clock } from '../base/clock.ts';
import { invariant } from '../base/errors.ts';
import type { RequestContext } from '../fuse/operations.ts';
import type { InodeAttributes } from '../namespace/namespace.ts';
import type { OwnPolicies } from '../policy/policy.ts';
import { bounded, READ_DEADLINE_MS } from './bounded.ts';

/** An open waits so long for a copy that is being made of a version, or made a version. */
const COPY_DEADLINE_MS = 10 * READ_DEADLINE_MS;

export interface WorkingFilesOptions {
  readonly writeBack: WriteBack;
  readonly clock: Clock;
  /** Where no policy says otherwise. */
  readonly mode: WriteMode;
  readonly policies?: OwnPolicies;
}

interface Use {
  readonly copy: WorkingCopy;
  readonly isOpen: Promise<boolean>;
  count: number;
}

export class WorkingFiles {
  readonly #options: WorkingFilesOptions;
  readonly #uses = new Map<InodeNumber, Use>();
  readonly #beginning = new Map<InodeNumber, Promise<unknown>>();

  constructor(options: WorkingFilesOptions) {
    this.#options = options;
  }

  /** What programs see of this inode, if that is no version. */
  of(inode: InodeNumber): WorkingCopy | undefined {
    return this.#uses.get(inode)?.copy ?? this.#options.writeBack.of(inode);
  }

  /** Those that somebody has open. */
  *used(): Generator<WorkingCopy> {
    for (const { copy } of this.#uses.values()) yield copy;
  }

  isUsed(copy: WorkingCopy): boolean {
    return this.#uses.get(copy.grant.inode)?.copy === copy;
  }

  /** Whether the copy, and no version, is what its inode is now. */
  isLive(copy: WorkingCopy): boolean {
    return this.of(copy.grant.inode) === copy;
  }

  modeOf(copy: WorkingCopy): WriteMode {
    const { policies, mode } = this.#options;
    const subject = { path: copy.path, sizeBytes: copy.stat().sizeBytes };
    const ruling = policies?.decide(subject).rulings['write.mode'];
    return ruling === undefined || ruling.reason === 'default' ? mode : ruling.value;
  }

  /**
   * Whether the copy's attributes are the inode's, because a version that carries them is to come. Else they are the
   * origin's: of a copy that nobody has open, and that only takes its time to become a blob.
   */
  isAhead(copy: WorkingCopy, inode: InodeAttributes | undefined): boolean {
    if (this.isUsed(copy)) return true;
    const isPending = inode?.source === undefined;
    return copy.isDirty && (isPending || this.modeOf(copy) === 'back');
  }

  /** Resolves when the copy of this inode that is being made is made, or not; undefined: none is. */
  settled(inode: InodeNumber, context: RequestContext): Promise<void> | undefined {
    const beginning = this.#beginning.get(inode);
    if (beginning === undefined) return undefined;
    const done = beginning.then(
      () => undefined,
      () => undefined,
    );
    return bounded(this.#options.clock, bound(context), () => done);
  }

  /** Makes the copy of an inode that has none, with one user. */
  async begin(inode: InodeNumber, make: () => Promise<WorkingCopy>): Promise<WorkingCopy> {
    invariant(!this.#beginning.has(inode) && this.of(inode) === undefined, 'an inode has one working copy');
    const made = make().then((copy) => {
      this.#uses.set(inode, { copy, isOpen: Promise.resolve(true), count: 1 });
      return copy;
    });
    this.#beginning.set(inode, made);
    try {
      return await made;
    } finally {
      this.#beginning.delete(inode);
    }
  }

  /** Counts a user. False: the copy is none any more, and the inode is to be looked up again. */
  async enter(copy: WorkingCopy, context: RequestContext): Promise<boolean> {
    const entered = this.#enter(copy);
    try {
      return await bounded(this.#options.clock, bound(context), () => entered);
    } catch (error) {
      void entered.then(
        (isIn) => isIn && this.leave(copy),
        () => undefined,
      );
      throw error;
    }
  }

  /** Gives back one user. */
  leave(copy: WorkingCopy): void {
    const use = this.#uses.get(copy.grant.inode);
    invariant(use?.copy === copy, 'a working copy that is left had a user');
    if (this.#dropUser(use)) copy.release(this.modeOf(copy));
  }

  async #enter(copy: WorkingCopy): Promise<boolean> {
    const { inode } = copy.grant;
    let use = this.#uses.get(inode);
    if (use === undefined) {
      use = { copy, isOpen: copy.reopen(), count: 0 };
      this.#uses.set(inode, use);
    } else if (use.copy !== copy) return false;
    use.count += 1;
    let isOpen = false;
    try {
      isOpen = await use.isOpen;
    } finally {
      if (!isOpen) this.#dropUser(use);
    }
    return isOpen;
  }

  /** Whether it was the last one. */
  #dropUser(use: Use): boolean {
    use.count -= 1;
    if (use.count > 0) return false;
    this.#uses.delete(use.copy.grant.inode);
    return true;
  }
}

function bound({ signal }: RequestContext): { readonly signal: AbortSignal; readonly deadlineMs: number } {
  return { signal, deadlineMs: COPY_DEADLINE_MS };
}
