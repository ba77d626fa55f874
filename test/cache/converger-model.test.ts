/**
 * Random histories of writers on one host, against an origin that fails, loses answers and gives files to others, with
 * deaths of the process at any instant. Whatever was acknowledged must be found in the end, in the file or in a
 * conflict beside it, and every version must be something that the file held at one instant.
 *
 * PERIGEE_TEST_SEEDS and PERIGEE_TEST_SEED choose other runs.
 */
import t from 'tap';
import type { WorkingCopy, WriteMode } from '../../cache/working-copy.ts';
import type { InodeNumber } from '../../lib/base/brand.ts';
import { BLOCK_BYTES, ConvergerWorld, PART_BYTES } from './converger-world.ts';
import type { FakeFile } from './fake-staging.ts';

const SEEDS = Number(process.env.PERIGEE_TEST_SEEDS ?? 60);
const FIRST_SEED = Number(process.env.PERIGEE_TEST_SEED ?? 1);
const STEPS = 120;
const FILES = 4;

/** A file as its writers know it, through all its lives and names. */
interface Known {
  copy: WorkingCopy;
  file: FakeFile;
  /** The inode that it was made as; conflicts have others. */
  readonly inode: InodeNumber;
  isOpen: boolean;
  isUnlinked: boolean;
  isTaken: boolean;
  /** The place in `file.history` of the latest content that somebody was told is safe; -1: nobody was. */
  acknowledged: number;
}

class Run {
  readonly world: ConvergerWorld;
  readonly known: Known[] = [];
  readonly #calls = new Set<Promise<unknown>>();
  readonly log: string[] = [];
  #names = 0;
  #letters = 0;

  constructor(seed: number) {
    this.world = new ConvergerWorld({ seed, sendsAhead: () => seed % 3 === 0 });
  }

  get #prng() {
    return this.world.prng;
  }

  #pick<T>(list: readonly T[]): T | undefined {
    return list[this.#prng.below(Math.max(1, list.length))];
  }

  #call(what: string, run: () => Promise<unknown>): void {
    const call: Promise<unknown> = run()
      .catch((error: unknown) => this.log.push(`${what}: ${(error as Error).message}`))
      .finally(() => this.#calls.delete(call));
    this.#calls.add(call);
  }

  async step(): Promise<void> {
    const { world } = this;
    const open = this.known.filter(({ isOpen }) => isOpen);
    const one = this.#pick(open);
    const dice = this.#prng.below(100);
    if (dice < 8 && this.known.filter(({ isUnlinked }) => !isUnlinked).length < FILES) return this.#create();
    if (dice < 12) return this.#openAgain();
    if (dice < 45 && one) return this.#write(one);
    if (dice < 55 && one) return this.#publish(one);
    if (dice < 60 && one) return this.#sync(one);
    if (dice < 66 && one) return this.#release(one);
    if (dice < 68) return this.#unlink();
    if (dice < 70 && one) return one.copy.setAttributes({ mode: this.#prng.below(512) });
    if (dice < 72) return this.#takeOver();
    if (dice < 75)
      world.weather = { fails: this.#rate(), loses: this.#rate(), delayMs: this.#prng.below(40) };
    if (dice === 75) world.origin.forgetUploads();
    if (dice === 76 || dice === 77) return this.#die();
    await world.advance(1 + this.#prng.below(60), 3);
  }

  #rate(): number {
    return this.#prng.below(3) === 0 ? this.#prng.next() * 0.7 : 0;
  }

  #know(copy: WorkingCopy, begunWith: string): void {
    const file = this.world.fileOf(copy);
    file.history[0] = begunWith;
    this.known.push({
      ...{ copy, file, inode: copy.grant.inode },
      ...{ isOpen: true, isUnlinked: false, isTaken: false, acknowledged: -1 },
    });
    this.log.push(`open ${copy.path} ${copy.grant.inode}`);
  }

  async #create(): Promise<void> {
    this.#know(await this.world.create(this.#pick(['', 'd/']) + `f${this.#names++}`), '');
  }

  /** By its working copy if there is one, else by its version. */
  async #openAgain(): Promise<void> {
    const { world } = this;
    const one = this.#pick(this.known.filter(({ isOpen, isUnlinked }) => !isOpen && !isUnlinked));
    if (one === undefined) return;
    const { weather } = world;
    world.weather = { fails: 0, loses: 0, delayMs: 0 };
    // As long as it has one it is the only way; the model does not open what is being given back.
    const reopened = one.copy.reopen().then(
      (isSo) => isSo,
      () => undefined,
    );
    const isSo = await world.during(reopened, 5_000).catch(() => undefined);
    this.log.push(`reopen ${one.copy.path}: ${isSo}`);
    if (isSo) one.isOpen = true;
    const inode = world.origin.inodes.get(one.copy.grant.inode)!;
    if (isSo === false && inode.versions.length > 0 && world.writeBack.of(inode.inode) === undefined) {
      const version = inode.versions.at(-1)!.bytes;
      this.#ended.push(one);
      this.known.splice(this.known.indexOf(one), 1);
      this.#know(await world.open(inode.inode), version);
    }
    world.weather = weather;
  }

  #write({ file, copy }: Known): void {
    const size = this.#pick([0, 5, 20, 47, 70, PART_BYTES * 2, PART_BYTES * 4 + 3, BLOCK_BYTES * 3])!;
    const bytes = Buffer.alloc(size);
    file.bytes.copy(bytes);
    if (size > 0) {
      const at = this.#prng.below(size);
      bytes.write(`<${this.#letters++}>`.padEnd(this.#prng.below(size - at) + 1, 'x'), at);
    }
    this.log.push(`write ${copy.path} ${size}`);
    file.poke(bytes);
  }

  #publish(one: Known): void {
    const mode: WriteMode = this.#pick(['through', 'back'] as const)!;
    const place = one.file.history.length - 1;
    this.log.push(`publish ${one.copy.path} ${mode} ${place}`);
    this.#call(`publish ${one.copy.path}`, async () => {
      await one.copy.publish(mode);
      const isLeft = mode === 'through' && one.copy.isDirty && one.file.history.length - 1 > place;
      if (!isLeft) this.#acknowledge(one, place);
    });
  }

  #sync(one: Known): void {
    const place = one.file.history.length - 1;
    this.#call(`sync ${one.copy.path}`, async () => {
      await one.copy.sync({ dataOnly: false });
      this.#acknowledge(one, place);
    });
  }

  #acknowledge(one: Known, place: number): void {
    this.log.push(`acknowledged ${one.copy.path} ${place}`);
    one.acknowledged = Math.max(one.acknowledged, place);
  }

  #release(one: Known): void {
    one.isOpen = false;
    this.log.push(`release ${one.copy.path}`);
    one.copy.release(this.#pick(['through', 'back'] as const)!);
  }

  /** The origin first, as the file system does it. */
  #unlink(): void {
    const one = this.#pick(this.known.filter(({ isUnlinked }) => !isUnlinked));
    if (one === undefined || this.#prng.below(2) === 0) return;
    this.log.push(`unlink ${one.copy.path}`);
    this.world.origin.remove(one.copy.grant.inode);
    one.isUnlinked = true;
    if (this.world.writeBack.of(one.copy.grant.inode) === one.copy) one.copy.unlinked();
  }

  #takeOver(): void {
    const one = this.#pick(this.known.filter(({ isUnlinked }) => !isUnlinked));
    if (one === undefined) return;
    this.log.push(`take over ${one.copy.path}`);
    one.isTaken = true;
    this.world.origin.takeOver(one.copy.grant.inode);
  }

  /** The writers die as well. */
  #die(): void {
    this.log.push('die');
    this.#calls.clear();
    this.world.die();
    for (const one of [...this.known]) {
      one.isOpen = false;
      const copy = this.world.writeBack.of(one.copy.grant.inode);
      if (copy !== undefined) {
        one.copy = copy;
        one.file = this.world.staging.byFd((copy as unknown as { file: FakeFile }).file.readFd)!;
      }
      this.#ended.push(one);
      this.known.splice(this.known.indexOf(one), 1);
    }
  }

  readonly #ended: Known[] = [];

  /** All is well again: what is left converges. */
  async finish(): Promise<void> {
    const { world } = this;
    world.weather = { fails: 0, loses: 0, delayMs: 0 };
    for (const one of this.known) if (one.isOpen) this.#release(one);
    await world.during(world.writeBack.flush(''), 300_000);
    await world.advance(130_000, 500);
    for (const one of [...this.known, ...this.#ended]) this.#check(one);
    this.#checkOrigin();
  }

  /** What was acknowledged is a version, or a later content of the file is. */
  #check(one: Known): void {
    if (one.isUnlinked || one.acknowledged < 0) return;
    const { history } = one.file;
    const newest = (bytes: string): number => history.lastIndexOf(bytes);
    const places = Array.from(this.world.origin.inodes.values()).flatMap(({ versions }) =>
      versions.map(({ bytes, write }) => (write === undefined ? -1 : newest(bytes))),
    );
    if (Math.max(-1, ...places) >= one.acknowledged) return;
    throw new Error(
      `${one.copy.path}: what was acknowledged is lost (${one.acknowledged} of ${history.length})`,
    );
  }

  #checkOrigin(): void {
    const { origin, staging, writeBack } = this.world;
    const contents = new Set([...this.known, ...this.#ended].flatMap(({ file }) => file.history));
    for (const { name, versions } of origin.inodes.values()) {
      for (const { bytes, write } of versions) {
        if (write !== undefined && !contents.has(bytes))
          throw new Error(`${name}: a version is of no instant`);
      }
      const theirs = versions.findLastIndex(({ write }) => write === undefined);
      const over = versions
        .slice(theirs + 1)
        .find(({ write }) => origin.writes.get(write!)?.state === 'stale');
      if (theirs >= 0 && over !== undefined) throw new Error(`${name}: a stale writer was let in`);
    }
    if (origin.openWrites.some(({ write }) => !this.#isAbandoned(write)))
      throw new Error(`writes are not given back: ${origin.openWrites.map(({ write }) => write).join()}`);
    if (origin.strayReads > 0) throw new Error('a descriptor is read that was closed');
    if (staging.files.size > 0) throw new Error(`${staging.files.size} files stay`);
    if (writeBack.stat().dirtyFiles > 0) throw new Error('something stays dirty');
  }

  /** Made for a conflict by a life that ended before it could keep it. */
  #isAbandoned(write: string): boolean {
    const { grant } = this.world.origin.writes.get(write)!;
    const { name, versions } = this.world.origin.inodes.get(grant.inode)!;
    return name.includes('.conflict-') && versions.length === 0;
  }
}

t.test('whatever fails, what was acknowledged becomes a version, whole', async (t) => {
  for (let seed = FIRST_SEED; seed < FIRST_SEED + SEEDS; seed++) {
    const run = new Run(seed);
    try {
      for (let step = 0; step < STEPS; step++) await run.step();
      await run.finish();
    } catch (error) {
      t.comment(run.log.slice(-60).join('\n'));
      t.error(error, `seed ${seed}`);
      return;
    }
  }
  t.pass(`${SEEDS} histories from seed ${FIRST_SEED}`);
});
