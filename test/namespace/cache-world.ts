/**
 * A name cache, a kernel above it, and a naive origin that keeps the protocol of lib/lease/README.md, as a machine that
 * a script of numbers drives.
 *
 * The origin has two directories with five names each. Others replace, remove, rename and rewrite files: a change sends
 * a withdraw, is performed when that has been applied, and sends an update. This satellite does the same: its own
 * changes send no withdraw, only the update, and are answered with the sequence of the stream behind that. Lookups of a name
 * under change wait; pages name those as withdrawn. Answers lie on the wire for as long as the script wants. The kernel is
 * shown whatever is known, forgets what it is told to forget, and knows what its own changes do to entries.
 */
import type { InodeNumber } from '../../lib/base/brand.ts';
import type { Grant, LeasedName } from '../../lib/lease/lease.ts';
import { type Dropped, NameCache } from '../../lib/namespace/name-cache.ts';
import type { InodeAttributes } from '../../lib/namespace/namespace.ts';
import type { OwnChange } from '../../lib/namespace/own-changes.ts';
import { attributesOf, grantOf, inodeNumber, leasedName, leaseOn } from './fixture.ts';

const DIRECTORIES = [1, 2];
const NAMES = ['a', 'b', 'c', 'd', 'e'];
const PAGE_ENTRIES = 2;

/** What a change does to the truth; false: it finds that it cannot. */
type Effect = () => boolean;

interface Change {
  readonly names: readonly LeasedName[];
  /** The session that is not told; undefined: all are. */
  readonly by: number | undefined;
  readonly perform: Effect;
  readonly done: (sequence: number | undefined) => void;
  isApplied: boolean;
  performed: { readonly isDone: boolean } | undefined;
}

interface Own {
  readonly change: OwnChange;
  readonly kernel: () => void;
}

export class CacheWorld {
  readonly cache = new NameCache({ namesMax: 9 });
  /** By directory and name; missing: absent. */
  readonly #truth = new Map<string, InodeAttributes>();
  /** Entries and attributes that the kernel may use. */
  readonly #entries = new Map<string, bigint | 'absent'>();
  readonly #attributes = new Map<bigint, number>();
  readonly #leased = new Set<number>();
  readonly #grantedAt = new Map<number, number>();
  readonly #own = new Set<Own>();
  #changes: Change[] = [];
  /** Under way on the stream, in order. */
  #stream: (() => void)[] = [];
  /** Under way by other ways. */
  #wire: (() => void)[] = [];
  #sequence = 0;
  #session = 0;
  #lastInode = 100;
  #lastSize = 0;
  /** What the script has met; each must be there. */
  readonly met = { kept: 0, ownDone: 0, ownFailed: 0, ownKnownAtOnce: 0, shownToKernel: 0 };

  step(kind: number, pick: number): void {
    const directory = DIRECTORIES[pick % DIRECTORIES.length] as number;
    const name = NAMES[(pick >> 1) % NAMES.length] as string;
    switch (kind) {
      case 0:
        return pick % 2 === 0 ? this.#othersChange(directory, name, pick >> 5) : undefined;
      case 1:
      case 2:
        return this.#goOn(pick);
      case 3:
      case 4:
        return this.#lookup(directory, name);
      case 5:
        return this.#list(directory, pick);
      case 6:
        return this.#askAttributes(directory, name);
      case 7:
      case 8:
        return this.#deliver(this.#stream, 0);
      case 9:
      case 10:
      case 11:
        return this.#deliver(this.#wire, pick);
      case 12:
        if (pick % 60 === 0) return this.#lose();
        return pick % 60 < 4 ? this.#recall(directory) : undefined;
      case 13:
        return pick % 16 === 0 ? this.#shrink() : undefined;
      case 14:
      case 15:
        return pick % 2 === 0 ? this.#ownChange(directory, name, pick >> 5) : undefined;
      default:
        return this.#look(directory, name);
    }
  }

  check(): void {
    for (const directory of DIRECTORIES) {
      const at = inodeNumber(directory);
      for (const name of NAMES) this.#checkName(at, name);
      const page = this.cache.page(at, { entriesMax: 10 });
      if (page === undefined || page.next !== undefined) continue;
      const listed = page.entries.map((entry) => entry.name).join();
      const real = NAMES.filter((name) => this.#truth.has(key(at, name))).join();
      if (listed !== real) throw new Error(`${listed} is listed, ${real} is there`);
    }
    this.met.kept += this.cache.stat().names;
  }

  /** Everything comes to its end, and then nothing is held back for ever. */
  settle(): void {
    while (this.#stream.length + this.#wire.length + this.#changes.length > 0) {
      this.#deliver(this.#stream, 0);
      this.#deliver(this.#wire, 0);
      this.#goOn(0);
      this.check();
    }
    if (this.cache.own.size > 0) throw new Error(`${this.cache.own.size} subjects are guarded for ever`);
    if (this.cache.questions.size > 0) throw new Error('a question is open for ever');
  }

  #checkName(at: InodeNumber, name: string): void {
    const truth = this.#truth.get(key(at, name));
    const shown = this.#entries.get(key(at, name));
    // The kernel shows names that it is itself changing as they were, until it is answered.
    const isOwn = [...this.#own].some(({ change }) => change.isKernels && concerns(change, at, name));
    if (shown !== undefined && !isOwn && shown !== (truth?.inode ?? 'absent'))
      throw new Error(`the kernel shows ${at}/${name} as ${shown}, it is ${truth?.inode}`);
    const fact = this.cache.name(at, name);
    if (fact !== undefined) {
      const known = fact.state === 'known' ? fact.attributes : undefined;
      if (known?.inode !== truth?.inode) throw new Error(`${at}/${name} is known as another inode`);
      if (known?.sizeBytes !== truth?.sizeBytes) throw new Error(`${at}/${name} is known by an old version`);
    }
    if (truth === undefined) return;
    const size = this.#attributes.get(truth.inode);
    if (size !== undefined && size !== truth.sizeBytes) throw new Error('the kernel has old attributes');
    const byInode = this.cache.inode(truth.inode);
    if (byInode !== undefined && byInode.attributes.sizeBytes !== truth.sizeBytes)
      throw new Error('attributes are old');
  }

  #look(directory: number, name: string): void {
    const at = inodeNumber(directory);
    const fact = this.cache.name(at, name);
    if (fact === undefined) return;
    this.met.shownToKernel += 1;
    this.#entries.set(key(at, name), fact.state === 'known' ? fact.attributes.inode : 'absent');
    if (fact.state === 'known') this.#attributes.set(fact.attributes.inode, fact.attributes.sizeBytes);
  }

  // --- Changes ---

  /** What a change by whomever does, by the name it begins with. */
  #effect(directory: number, name: string, pick: number): { names: LeasedName[]; perform: Effect } {
    const here = leasedName(directory, name);
    const hereKey = key(here.directory, name);
    switch (pick % 4) {
      case 0:
        return { names: [here], perform: () => this.#truth.delete(hereKey) };
      case 1:
        return {
          names: [here],
          perform: () => {
            this.#truth.set(hereKey, attributesOf(++this.#lastInode, { size: ++this.#lastSize }));
            return true;
          },
        };
      case 2:
        return this.#rename(here, pick >> 2);
      default:
        return {
          names: [{ ...here, attributesOnly: pick % 8 < 4 }],
          perform: () => this.#rewrite(this.#truth.get(hereKey)?.inode),
        };
    }
  }

  #rename(from: LeasedName, pick: number): { names: LeasedName[]; perform: Effect } {
    const to = leasedName(DIRECTORIES[pick % 2] as number, NAMES[(pick >> 1) % NAMES.length] as string);
    const fromKey = key(from.directory, from.name);
    const toKey = key(to.directory, to.name);
    if (fromKey === toKey) return { names: [from], perform: () => false };
    const perform = (): boolean => {
      const attributes = this.#truth.get(fromKey);
      if (attributes === undefined) return false;
      this.#truth.delete(fromKey);
      this.#truth.set(toKey, attributes);
      return true;
    };
    return { names: [from, to], perform };
  }

  #rewrite(inode: InodeNumber | undefined): boolean {
    const at = this.#placeOf(inode);
    const attributes = at && this.#truth.get(key(at.directory, at.name));
    if (at === undefined || attributes === undefined) return false;
    const { inode: number } = attributes;
    this.#truth.set(key(at.directory, at.name), attributesOf(number, { size: ++this.#lastSize }));
    return true;
  }

  #othersChange(directory: number, name: string, pick: number): void {
    const { names, perform } = this.#effect(directory, name, pick);
    if (names.some((one) => this.#isChanging(Number(one.directory), one.name))) return;
    this.#begin({ names, perform, by: undefined, done: () => undefined });
  }

  #ownChange(directory: number, name: string, pick: number): void {
    const inode = this.#truth.get(key(inodeNumber(directory), name))?.inode;
    const isByInode = pick % 4 === 3;
    if (isByInode && inode === undefined) return;
    const { names, perform } = this.#effect(directory, name, pick);
    const known = inode === undefined ? undefined : this.cache.inode(inode);
    const places = names.map(({ directory: parent, name }) => ({ parent, name }));
    const change: OwnChange = isByInode
      ? {
          names: known === undefined ? [] : [{ parent: known.directory.inode, name: known.name }],
          inodes: [inode as InodeNumber],
          isKernels: false,
        }
      : { names: places, inodes: [], isKernels: true, ...(names.length > 1 && { moved: [] }) };
    const own: Own = { change, kernel: () => this.#kernelDid(places) };
    this.#told(this.cache.begin(change));
    this.#own.add(own);
    const session = this.#session;
    const done = (sequence: number | undefined): void =>
      void this.#wire.push(() => this.#end(own, sequence, session));
    const arrive = (): void => {
      const at = isByInode ? this.#placeOf(inode) : undefined;
      const named = isByInode ? (at === undefined ? [] : [at]) : names;
      if (named.some((one) => this.#isChanging(Number(one.directory), one.name))) {
        this.#wire.push(arrive);
        return;
      }
      const effect = isByInode ? () => this.#rewrite(inode) : perform;
      this.#begin({ names: named, perform: effect, by: session, done });
    };
    this.#wire.push(arrive);
  }

  #end(own: Own, sequence: number | undefined, session: number): void {
    this.#own.delete(own);
    const wasGuarded = own.change.names.length > 0;
    this.#told(this.cache.end(own.change, sequence === undefined ? undefined : { sequence, session }));
    this.met[sequence === undefined ? 'ownFailed' : 'ownDone'] += 1;
    if (sequence !== undefined) own.kernel();
    const isKnown = own.change.names.every(({ parent, name }) => this.cache.name(parent, name) !== undefined);
    if (sequence !== undefined && wasGuarded && isKnown) this.met.ownKnownAtOnce += 1;
  }

  /** What the kernel makes of its own change: a renamed entry is valid for as long as it was. */
  #kernelDid([from, to]: readonly { readonly parent: InodeNumber; readonly name: string }[]): void {
    if (from === undefined) return;
    const entry = this.#entries.get(key(from.parent, from.name));
    this.#entries.delete(key(from.parent, from.name));
    if (to === undefined) return;
    if (entry === undefined) this.#entries.delete(key(to.parent, to.name));
    else this.#entries.set(key(to.parent, to.name), entry);
  }

  #begin(given: Pick<Change, 'names' | 'by' | 'perform' | 'done'>): void {
    const isHeld = given.names.some(({ directory }) => this.#leased.has(Number(directory)));
    const isTold = isHeld && given.by !== this.#session;
    const change: Change = { ...given, isApplied: !isTold, performed: undefined };
    this.#changes.push(change);
    if (!isTold) return;
    const names = given.names.filter(({ directory }) => this.#leased.has(Number(directory)));
    this.#send((sequence) => {
      const done = this.cache.withdraw({ names, moved: [], sequence });
      this.#told(done);
      for (const released of done.released) this.#recall(Number(released));
      change.isApplied = true;
    });
  }

  /** A change is performed, and in another step it ends. */
  #goOn(pick: number): void {
    const change = this.#changes[pick % Math.max(1, this.#changes.length)];
    if (change?.isApplied !== true) return;
    if (change.performed === undefined) {
      change.performed = { isDone: change.perform() };
      return;
    }
    this.#changes = this.#changes.filter((other) => other !== change);
    const held = change.names.filter(({ directory }) => this.#leased.has(Number(directory)));
    const updates = held.map((name) => ({ name, inode: this.#truth.get(key(name.directory, name.name)) }));
    // Of others' changes it sometimes cannot be told what the names are.
    if (held.length > 0 && (pick % 5 > 0 || change.by !== undefined))
      this.#send((sequence) => this.#told(this.cache.update({ names: updates, sequence })));
    change.done(change.performed.isDone ? this.#sequence : undefined);
  }

  // --- Questions ---

  #lookup(directory: number, name: string): void {
    if (this.#isChanging(directory, name)) return;
    const question = this.cache.ask({ kind: 'name', directory: inodeNumber(directory), name });
    const session = this.#session;
    // The question travels, is granted and answered, and the answer travels.
    const arrive = (): void => {
      if (this.#isChanging(directory, name)) return void this.#wire.push(arrive);
      const grant = session === this.#session ? this.#grant(directory) : undefined;
      const attributes = this.#truth.get(key(inodeNumber(directory), name));
      this.#wire.push(() => this.cache.keepName(question, { attributes, grant }));
    };
    this.#wire.push(arrive);
  }

  #askAttributes(directory: number, name: string): void {
    const attributes = this.#truth.get(key(inodeNumber(directory), name));
    if (attributes === undefined || this.#isChanging(directory, name)) return;
    const question = this.cache.ask({ kind: 'inode', inode: attributes.inode });
    const grant = this.#grant(directory);
    const parent = inodeNumber(directory);
    this.#wire.push(() => this.cache.keepAttributes(question, { attributes, parent, name, grant }));
  }

  #list(directory: number, pick: number): void {
    const at = inodeNumber(directory);
    const after = pick % 3 === 0 ? '' : (NAMES[(pick >> 1) % NAMES.length] as string);
    const question = this.cache.ask({ kind: 'listing', directory: at });
    const session = this.#session;
    this.#wire.push(() => {
      const grant = session === this.#session ? this.#grant(directory) : undefined;
      const there = NAMES.filter((name) => name > after && this.#truth.has(key(at, name)));
      const names = there.slice(0, PAGE_ENTRIES);
      const next = there.length > names.length ? names.at(-1) : undefined;
      const withdrawn = NAMES.filter(
        (name) => name > after && (next === undefined || name <= next) && this.#isChanging(directory, name),
      );
      const entries = names.map((name) => ({
        name,
        attributes: this.#truth.get(key(at, name)) as InodeAttributes,
      }));
      this.#wire.push(() => this.cache.keepPage(question, { after, entries, next, withdrawn, grant }));
    });
  }

  // --- Leases ---

  #recall(directory: number): void {
    if (!this.#leased.has(directory)) return;
    this.#send((sequence) => {
      this.#told(this.cache.recall([leaseOn(directory)], sequence));
      // Acknowledged: unless it was granted anew since, as the origin knows by the sequence.
      if ((this.#grantedAt.get(directory) ?? -1) < sequence) this.#leased.delete(directory);
    });
  }

  #lose(): void {
    this.#stream = [];
    this.#session += 1;
    this.#sequence = 0;
    this.#grantedAt.clear();
    this.#told(this.cache.dropAll([]));
    this.#leased.clear();
    for (const change of this.#changes) change.isApplied = true;
  }

  #shrink(): void {
    const given = this.cache.shrink();
    if (given.length > 0) this.#forgetAll();
    for (const directory of given) this.#recall(Number(directory));
  }

  #grant(directory: number): Grant {
    this.#leased.add(directory);
    this.#grantedAt.set(directory, this.#sequence);
    return grantOf(directory, this.#sequence);
  }

  #isChanging(directory: number, name: string): boolean {
    return this.#changes.some(({ names }) =>
      names.some((one) => key(one.directory, one.name) === key(inodeNumber(directory), name)),
    );
  }

  #placeOf(inode: InodeNumber | undefined): LeasedName | undefined {
    for (const directory of DIRECTORIES) {
      for (const name of NAMES) {
        const attributes = this.#truth.get(key(inodeNumber(directory), name));
        if (attributes !== undefined && attributes.inode === inode) return leasedName(directory, name);
      }
    }
    return undefined;
  }

  #send(apply: (sequence: number) => void): void {
    const sequence = ++this.#sequence;
    this.#stream.push(() => apply(sequence));
  }

  #told({ names, everything }: Dropped): void {
    if (everything) this.#forgetAll();
    for (const { directory, name, inode, attributesOnly } of names) {
      if (inode !== undefined) this.#attributes.delete(inode);
      if (!attributesOnly) this.#entries.delete(key(directory, name));
    }
  }

  #forgetAll(): void {
    this.#entries.clear();
    this.#attributes.clear();
  }

  #deliver(queue: (() => void)[], pick: number): void {
    const [one] = queue.splice(pick % Math.max(1, queue.length), 1);
    one?.();
  }
}

function key(directory: InodeNumber, name: string): string {
  return `${directory}/${name}`;
}

function concerns({ names }: OwnChange, directory: InodeNumber, name: string): boolean {
  return names.some((place) => place.parent === directory && place.name === name);
}
