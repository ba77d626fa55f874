/**
 * The locks that programs of this host hold on files: what a file system needs to be `LockOperations`, keyed by
 * whatever number stands for a file there.
 *
 * fcntl locks are ranges: taking one replaces what its owner had of the range, giving back may split one in two. A flock
 * is whole, and changing its kind gives the old one back first, as flock(2) has it. The two families do not see each
 * other. Who waits is served in the order of asking, as soon as nobody is in the way; a wait has no deadline, since
 * fcntl(2) has none, but ends when its program is interrupted. Owners that would wait for each other for ever are told
 * EDEADLK (fcntl only). Pure but for the promises of those who wait.
 */
import { Errno } from './errno.ts';
import { ErrnoError } from './operations.ts';
import type { HeldLock, LockFamily, LockRange, LockRequest } from './write-operations.ts';

/** Locks that are held or waited for in one mount. */
const LOCKS_MAX = 1_048_576;

interface Lock extends HeldLock {
  readonly owner: bigint;
}

interface Waiter {
  readonly request: LockRequest;
  readonly granted: () => void;
}

/** The locks of one family on one file. */
interface FileState {
  held: readonly Lock[];
  readonly waiting: Set<Waiter>;
}

type Owned = LockRange & { readonly owner: bigint };

export class FileLocks {
  readonly #families: Readonly<Record<LockFamily, Map<bigint, FileState>>> = {
    posix: new Map(),
    flock: new Map(),
  };
  readonly #locksMax: number;
  #count = 0;

  constructor(options: { readonly locksMax?: number } = {}) {
    this.#locksMax = options.locksMax ?? LOCKS_MAX;
  }

  /** Locks that are held or waited for. */
  get size(): number {
    return this.#count;
  }

  /** A lock of another owner that is in the way. */
  test(file: bigint, request: LockRequest): HeldLock | undefined {
    return obstacles(this.#families[request.family].get(file), request)[0];
  }

  /** @throws ErrnoError EAGAIN, EDEADLK, ENOLCK, or why `signal` aborted */
  async take(
    file: bigint,
    request: LockRequest & { readonly wait: boolean },
    signal: AbortSignal,
  ): Promise<void> {
    const state = this.#state(file, request.family);
    try {
      if (this.#count >= this.#locksMax) throw new ErrnoError(Errno.ENOLCK, 'too many locks');
      if (request.family === 'flock') this.#dropOtherKind(state, request);
      if (obstacles(state, request).length === 0) return this.#grant(state, request);
      if (!request.wait) throw new ErrnoError(Errno.EAGAIN, 'another owner holds a lock');
      if (request.family === 'posix' && this.#wouldDeadlock(state, request))
        throw new ErrnoError(Errno.EDEADLK, 'the owners would wait for each other');
      signal.throwIfAborted();
      await this.#wait(state, request, signal);
    } finally {
      // A lock that became weaker, or a wait that was given up, may let others in.
      this.#settled(file, request.family, state);
    }
  }

  giveBack(file: bigint, range: Owned & { readonly family: LockFamily }): void {
    const state = this.#families[range.family].get(file);
    if (state === undefined) return;
    this.#hold(state, withoutRange(state.held, range));
    this.#settled(file, range.family, state);
  }

  #state(file: bigint, family: LockFamily): FileState {
    const known = this.#families[family].get(file);
    if (known !== undefined) return known;
    const fresh: FileState = { held: [], waiting: new Set() };
    this.#families[family].set(file, fresh);
    return fresh;
  }

  #dropOtherKind(state: FileState, request: LockRequest): void {
    const own = state.held.find(({ owner }) => owner === request.owner);
    if (own === undefined || own.kind === request.kind) return;
    this.#hold(state, withoutRange(state.held, request));
    this.#wake(state);
  }

  #grant(state: FileState, request: LockRequest): void {
    const { start, end, kind, owner, pid } = request;
    const rest = withoutRange(state.held, request);
    this.#hold(state, merged([...rest, { start, end, kind, owner, pid }], request));
  }

  async #wait(state: FileState, request: LockRequest, signal: AbortSignal): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const waiter: Waiter = { request, granted: resolve };
    const aborted = (): void => reject(signal.reason as Error);
    signal.addEventListener('abort', aborted, { once: true });
    state.waiting.add(waiter);
    this.#count++;
    try {
      await promise;
    } finally {
      signal.removeEventListener('abort', aborted);
      if (state.waiting.delete(waiter)) this.#count--;
    }
  }

  /** Grants, in the order of asking, what nothing is in the way of any more. */
  #wake(state: FileState): void {
    for (const waiter of state.waiting) {
      if (obstacles(state, waiter.request).length > 0) continue;
      state.waiting.delete(waiter);
      this.#count--;
      this.#grant(state, waiter.request);
      waiter.granted();
    }
  }

  #settled(file: bigint, family: LockFamily, state: FileState): void {
    this.#wake(state);
    this.#tidy(file, family, state);
  }

  #tidy(file: bigint, family: LockFamily, state: FileState): void {
    if (state.held.length === 0 && state.waiting.size === 0 && this.#families[family].get(file) === state)
      this.#families[family].delete(file);
  }

  #hold(state: FileState, held: readonly Lock[]): void {
    this.#count += held.length - state.held.length;
    state.held = held;
  }

  /** Whether one of those in the way waits, over any number of others, for the one who asks. */
  #wouldDeadlock(state: FileState, request: LockRequest): boolean {
    const waits = new Map<bigint, bigint[]>();
    for (const each of this.#families.posix.values())
      for (const waiter of each.waiting) {
        const known = waits.get(waiter.request.owner) ?? [];
        const owners = obstacles(each, waiter.request).map(({ owner }) => owner);
        waits.set(waiter.request.owner, [...known, ...owners]);
      }
    const seen = new Set<bigint>();
    const next = obstacles(state, request).map(({ owner }) => owner);
    for (let owner = next.pop(); owner !== undefined; owner = next.pop()) {
      if (owner === request.owner) return true;
      if (seen.has(owner)) continue;
      seen.add(owner);
      next.push(...(waits.get(owner) ?? []));
    }
    return false;
  }
}

/** Locks of other owners that may not be held together with the one that is asked for. */
function obstacles(state: FileState | undefined, request: LockRequest): Lock[] {
  return (state?.held ?? []).filter(
    (lock) =>
      lock.owner !== request.owner &&
      overlaps(lock, request) &&
      (lock.kind === 'write' || request.kind === 'write'),
  );
}

function overlaps(one: LockRange, other: LockRange): boolean {
  return one.start <= other.end && other.start <= one.end;
}

/** What is left when an owner gives a range back. */
function withoutRange(held: readonly Lock[], range: Owned): Lock[] {
  return held.flatMap((lock) => {
    if (lock.owner !== range.owner || !overlaps(lock, range)) return [lock];
    const parts: Lock[] = [];
    if (lock.start < range.start) parts.push({ ...lock, end: range.start - 1n });
    if (lock.end > range.end) parts.push({ ...lock, start: range.end + 1n });
    return parts;
  });
}

/** Makes one of an owner's locks of one kind that touch each other. */
function merged(held: readonly Lock[], of: { readonly owner: bigint }): Lock[] {
  const own = held
    .filter(({ owner }) => owner === of.owner)
    .sort((one, other) => (one.start < other.start ? -1 : 1));
  const joined: Lock[] = [];
  for (const lock of own) {
    const last = joined.at(-1);
    if (last !== undefined && last.kind === lock.kind && last.end + 1n === lock.start)
      joined[joined.length - 1] = { ...last, end: lock.end };
    else joined.push(lock);
  }
  return [...held.filter(({ owner }) => owner !== of.owner), ...joined];
}
