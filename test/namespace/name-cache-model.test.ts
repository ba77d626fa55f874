/**
 * The name cache against a naive origin that keeps the protocol: whatever the order in which answers and messages arrive,
 * a name that the cache knows is what it is at the origin, and the kernel holds nothing that the cache does not.
 *
 * The origin has two directories with five names each. A change sends a withdraw, is performed when that has been
 * applied, and sends an update; lookups of a name under change wait; pages name those as withdrawn. Answers lie on the
 * wire for as long as the script wants. The kernel is shown whatever is known, and forgets what it is told to forget.
 */
import fc from 'fast-check';
import t from 'tap';
import type { InodeNumber } from '../../lib/base/brand.ts';
import type { Grant, LeasedName, NameUpdate } from '../../lib/lease/lease.ts';
import { type Dropped, NameCache } from '../../lib/namespace/name-cache.ts';
import type { InodeAttributes } from '../../lib/namespace/namespace.ts';
import { attributesOf, grantOf, inodeNumber, leasedName, leaseOn } from './fixture.ts';

const DIRECTORIES = [1, 2];
const NAMES = ['a', 'b', 'c', 'd', 'e'];
const PAGE_ENTRIES = 2;

interface Change {
  readonly name: LeasedName;
  readonly sequence: number;
  isApplied: boolean;
}

class World {
  readonly cache = new NameCache({ namesMax: 8 });
  /** By directory and name; missing: absent. */
  readonly #truth = new Map<string, InodeAttributes>();
  readonly #kernel = new Map<string, bigint | 'absent'>();
  readonly #leased = new Set<number>();
  #changes: Change[] = [];
  /** Under way on the stream, in order. */
  #stream: (() => void)[] = [];
  /** Under way by other ways. */
  #wire: (() => void)[] = [];
  #sequence = 0;
  #lastInode = 100;

  step(kind: number, pick: number): void {
    const directory = DIRECTORIES[pick % DIRECTORIES.length] as number;
    const name = NAMES[(pick >> 1) % NAMES.length] as string;
    switch (kind) {
      case 0:
        return pick % 3 === 0 ? this.#beginChange(directory, name) : undefined;
      case 1:
        return this.#perform(pick);
      case 2:
      case 3:
        return this.#lookup(directory, name);
      case 4:
        return this.#list(directory, pick);
      case 5:
        return this.#deliver(this.#stream, 0);
      case 6:
        return this.#deliver(this.#stream, 0);
      case 7:
      case 8:
        return this.#deliver(this.#wire, pick);
      case 9:
        return this.#look(directory, name);
      case 10:
        return this.#attributes(directory, name);
      case 11:
        if (pick % 20 === 0) return this.#lose();
        return pick % 20 < 4 ? this.#recall(directory) : undefined;
      case 12:
        return pick % 8 === 0 ? this.#shrink() : undefined;
      default:
        return this.#look(directory, name);
    }
  }

  check(): void {
    for (const directory of DIRECTORIES) {
      const at = inodeNumber(directory);
      for (const name of NAMES) {
        const shown = this.#kernel.get(key(at, name));
        const truth = this.#truth.get(key(at, name));
        if (shown !== undefined && shown !== (truth?.inode ?? 'absent'))
          throw new Error(`the kernel shows ${name} as ${shown}`);
        const fact = this.#peek(at, name);
        if (fact !== undefined && fact.inode !== truth?.inode) throw new Error(`${name} is known wrongly`);
        if (truth !== undefined) {
          const byInode = this.cache.inode(truth.inode);
          if (byInode !== undefined && byInode.attributes.sizeBytes !== truth.sizeBytes)
            throw new Error('attributes are old');
        }
      }
      const page = this.cache.page(at, { entriesMax: 10 });
      if (page === undefined || page.next !== undefined) continue;
      const listed = page.entries.map((entry) => entry.name).join();
      const real = NAMES.filter((name) => this.#truth.has(key(at, name))).join();
      if (listed !== real) throw new Error(`${listed} is listed, ${real} is there`);
    }
  }

  get kept(): number {
    return this.cache.stat().names;
  }

  /** Without making an absence explicit, as a lookup does. */
  #peek(at: InodeNumber, name: string): { readonly inode: InodeNumber | undefined } | undefined {
    const fact = this.cache.name(at, name);
    if (fact === undefined) return undefined;
    return { inode: fact.state === 'known' ? fact.attributes.inode : undefined };
  }

  #look(directory: number, name: string): void {
    const at = inodeNumber(directory);
    const fact = this.#peek(at, name);
    if (fact !== undefined) this.#kernel.set(key(at, name), fact.inode ?? 'absent');
  }

  #beginChange(directory: number, name: string): void {
    const leased = leasedName(directory, name);
    if (
      this.#changes.some(
        (change) => key(change.name.directory, change.name.name) === key(leased.directory, name),
      )
    )
      return;
    const change: Change = {
      name: leased,
      sequence: this.#sequence,
      isApplied: !this.#leased.has(directory),
    };
    this.#changes.push(change);
    if (change.isApplied) return;
    this.#send((sequence) => {
      const done = this.cache.withdraw({ names: [leased], moved: [], sequence });
      this.#told(done);
      for (const released of done.released) this.#recall(Number(released));
      change.isApplied = true;
    });
  }

  #perform(pick: number): void {
    const change = this.#changes[pick % Math.max(1, this.#changes.length)];
    if (change?.isApplied !== true) return;
    this.#changes = this.#changes.filter((other) => other !== change);
    const { directory, name } = change.name;
    if (pick % 3 === 0) this.#truth.delete(key(directory, name));
    else this.#truth.set(key(directory, name), attributesOf(++this.#lastInode, { size: this.#lastInode }));
    if (!this.#leased.has(Number(directory))) return;
    const update: NameUpdate<InodeAttributes> = {
      name: change.name,
      inode: this.#truth.get(key(directory, name)),
    };
    this.#send((sequence) => this.#told(this.cache.update({ names: [update], sequence })));
  }

  #lookup(directory: number, name: string): void {
    if (this.#isChanging(directory, name)) return;
    const question = this.cache.ask({ kind: 'name', directory: inodeNumber(directory), name });
    // The question travels, is granted and answered, and the answer travels.
    this.#wire.push(() => {
      if (this.#isChanging(directory, name)) return this.cache.questions.end(question);
      const grant = this.#grant(directory);
      const attributes = this.#truth.get(key(inodeNumber(directory), name));
      this.#wire.push(() => this.cache.keepName(question, { attributes, grant }));
    });
  }

  #attributes(directory: number, name: string): void {
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
    this.#wire.push(() => {
      const grant = this.#grant(directory);
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

  #recall(directory: number): void {
    if (!this.#leased.has(directory)) return;
    this.#send((sequence) => {
      this.#told(this.cache.recall([leaseOn(directory)], sequence));
      // Acknowledged: unless it was granted anew since, as the origin knows by the sequence.
      if (
        this.#grantedAt.get(directory) === undefined ||
        (this.#grantedAt.get(directory) as number) < sequence
      )
        this.#leased.delete(directory);
    });
  }

  #lose(): void {
    this.#stream = [];
    this.#told(this.cache.dropAll([]));
    this.#leased.clear();
    for (const change of this.#changes) change.isApplied = true;
  }

  #shrink(): void {
    const given = this.cache.shrink();
    if (given.length > 0) this.#kernel.clear();
    for (const directory of given) this.#recall(Number(directory));
  }

  readonly #grantedAt = new Map<number, number>();

  #grant(directory: number): Grant {
    this.#leased.add(directory);
    this.#grantedAt.set(directory, this.#sequence);
    return grantOf(directory, this.#sequence);
  }

  #isChanging(directory: number, name: string): boolean {
    return this.#changes.some(
      (change) => key(change.name.directory, change.name.name) === key(inodeNumber(directory), name),
    );
  }

  #send(apply: (sequence: number) => void): void {
    const sequence = ++this.#sequence;
    this.#stream.push(() => apply(sequence));
  }

  #told({ names, everything }: Dropped): void {
    if (everything) this.#kernel.clear();
    for (const { directory, name } of names) this.#kernel.delete(key(directory, name));
  }

  #deliver(queue: (() => void)[], pick: number): void {
    const [one] = queue.splice(pick % Math.max(1, queue.length), 1);
    one?.();
  }
}

function key(directory: InodeNumber, name: string): string {
  return `${directory}/${name}`;
}

t.test(
  'a name that is known is what it is at the origin, in every order of answers and messages',
  async (t) => {
    let kept = 0;
    const step = fc.tuple(fc.nat(13), fc.nat(1000));
    fc.assert(
      fc.property(fc.array(step, { minLength: 100, maxLength: 300, size: 'max' }), (script) => {
        const world = new World();
        for (const [kind, pick] of script) {
          world.step(kind, pick);
          world.check();
          kept += world.kept;
        }
      }),
      { numRuns: Number(process.env['PERIGEE_TEST_RUNS'] ?? 1_000) },
    );
    t.ok(kept > 100_000, `names were kept: ${kept}`);
  },
);
