/**
 * One file against a plain buffer: thousands of random operations through a mount, in any order, by several handles and
 * mappings, after each of which the file must be what the buffer is. As fsx does; `PERIGEE_SEED` repeats a run.
 */
import assert from 'node:assert/strict';
import { constants } from 'node:fs';
import { open, readFile, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { type Prng, seededPrng } from '../../lib/base/prng.ts';
import { pattern } from '../conformance/check.ts';
import { Allocate, copyRange, fallocate, lseek, Mapping, SEEK } from '../conformance/posix.ts';
import { type MountProcess, noMounts, startMount } from './mounting.ts';

const OPERATIONS = 3_000;
const SIZE_MAX = 200_000;
/** Every so many operations all bytes are compared, not only those that were read. */
const WHOLE_EVERY = 50;
const PUNCH = Allocate.PUNCH_HOLE | Allocate.KEEP_SIZE;

class OneFile {
  readonly #path: string;
  readonly #prng: Prng;
  #model = Buffer.alloc(SIZE_MAX);
  #size = 0;
  #handles: FileHandle[] = [];
  #mapping: { readonly mapping: Mapping; readonly length: number } | undefined;
  #step = 0;
  readonly log: string[] = [];

  constructor(path: string, prng: Prng) {
    this.#path = path;
    this.#prng = prng;
  }

  async run(options: { readonly mapped: boolean; readonly reopened: () => Promise<unknown> }): Promise<void> {
    const operations: readonly (() => Promise<unknown>)[] = [
      () => this.#write(),
      () => this.#write(),
      () => this.#write(),
      () => this.#read(),
      () => this.#read(),
      () => this.#append(),
      () => this.#truncate(),
      () => this.#punch(),
      () => this.#zero(),
      () => this.#extend(),
      () => this.#copy(),
      () => this.#seek(),
      () => this.#pick().sync(),
      () => this.#reopen(),
      ...(options.mapped ? [() => this.#map(), () => this.#writeMapped(), () => this.#writeMapped()] : []),
    ];
    await this.#reopen();
    for (this.#step = 1; this.#step <= OPERATIONS; this.#step++) {
      if (this.#prng.below(200) === 0) {
        await this.close();
        await options.reopened();
        await this.#reopen();
      }
      await operations[this.#prng.below(operations.length)]?.();
      if (this.#step % WHOLE_EVERY === 0) await this.#compare();
    }
    await this.#compare();
    await this.close();
    assert((await readFile(this.#path)).equals(this.#content()), 'after the last close');
  }

  async close(): Promise<void> {
    await this.#unmap();
    for (const handle of this.#handles.splice(0)) await handle.close();
  }

  #content(): Buffer {
    return this.#model.subarray(0, this.#size);
  }

  #did(what: string): void {
    this.log.push(`${this.#step}: ${what}`);
  }

  #pick(): FileHandle {
    const handle = this.#handles[this.#prng.below(this.#handles.length)];
    assert(handle);
    return handle;
  }

  /** Small ones and large ones, at and across the edges of pages. */
  #range(): { offset: number; length: number } {
    const offset = this.#prng.below(SIZE_MAX - 1);
    const edge = this.#prng.below(3) === 0 ? offset - (offset % 4_096) : offset;
    const length = 1 + this.#prng.below(this.#prng.below(2) === 0 ? 300 : 50_000);
    return { offset: edge, length: Math.min(length, SIZE_MAX - edge) };
  }

  #grow(end: number): void {
    this.#size = Math.max(this.#size, end);
  }

  #cut(size: number): void {
    if (size < this.#size) this.#model.fill(0, size);
    this.#size = size;
  }

  async #write(): Promise<void> {
    const { offset, length } = this.#range();
    const bytes = pattern(length, this.#step);
    this.#did(`write ${offset}+${length}`);
    assert.equal((await this.#pick().write(bytes, 0, length, offset)).bytesWritten, length);
    bytes.copy(this.#model, offset);
    this.#grow(offset + length);
  }

  async #append(): Promise<void> {
    const length = Math.min(1 + this.#prng.below(5_000), SIZE_MAX - this.#size);
    const bytes = pattern(length, this.#step);
    this.#did(`append ${length}`);
    const handle = await open(this.#path, 'a');
    await handle.write(bytes);
    await handle.close();
    bytes.copy(this.#model, this.#size);
    this.#grow(this.#size + length);
  }

  async #read(): Promise<void> {
    const { offset, length } = this.#range();
    this.#did(`read ${offset}+${length}`);
    const into = Buffer.alloc(length);
    const { bytesRead } = await this.#pick().read(into, 0, length, offset);
    const expected = this.#content().subarray(offset, offset + length);
    assert.equal(bytesRead, expected.length, 'length of a read');
    assert(into.subarray(0, bytesRead).equals(expected), `bytes at ${offset}`);
  }

  /** Never below a mapping: what a program reads there would be SIGBUS. */
  async #truncate(): Promise<void> {
    const size = Math.max(this.#prng.below(SIZE_MAX), this.#mapping?.length ?? 0);
    this.#did(`truncate ${size}`);
    await this.#pick().truncate(size);
    this.#cut(size);
  }

  async #punch(): Promise<void> {
    const { offset, length } = this.#range();
    this.#did(`punch ${offset}+${length}`);
    await fallocate(this.#pick().fd, PUNCH, offset, length);
    this.#model.fill(0, offset, offset + length);
  }

  async #zero(): Promise<void> {
    const { offset, length } = this.#range();
    this.#did(`zero ${offset}+${length}`);
    await fallocate(this.#pick().fd, Allocate.ZERO_RANGE, offset, length);
    this.#model.fill(0, offset, offset + length);
    this.#grow(offset + length);
  }

  async #extend(): Promise<void> {
    const { offset, length } = this.#range();
    this.#did(`allocate ${offset}+${length}`);
    await fallocate(this.#pick().fd, 0, offset, length);
    this.#grow(offset + length);
  }

  async #copy(): Promise<void> {
    const { offset, length } = this.#range();
    const target = this.#prng.below(SIZE_MAX - length + 1);
    if (target < offset + length && offset < target + length) return;
    this.#did(`copy ${offset}+${length} to ${target}`);
    const [from, to] = [this.#pick(), this.#pick()];
    const copied = await copyRange({ fd: from.fd, offset }, { fd: to.fd, offset: target, length });
    const bytes = Buffer.from(this.#content().subarray(offset, offset + length));
    assert.equal(copied, bytes.length, 'length of a copy');
    bytes.copy(this.#model, target);
    if (copied > 0) this.#grow(target + copied);
  }

  /** What is called a hole must be zeros; where data ends is up to the file system. */
  async #seek(): Promise<void> {
    if (this.#size === 0) return;
    const from = this.#prng.below(this.#size);
    const hole = await lseek(this.#pick().fd, from, SEEK.HOLE);
    this.#did(`hole from ${from} at ${hole}`);
    assert(hole >= from && hole <= this.#size);
    const data = await lseek(this.#pick().fd, hole, SEEK.DATA).catch(() => this.#size);
    assert(
      this.#content()
        .subarray(hole, data)
        .every((byte) => byte === 0),
      `a hole at ${hole}`,
    );
  }

  async #reopen(): Promise<void> {
    this.#did('reopen');
    if (this.#handles.length > 2) await this.#handles.shift()?.close();
    const { O_RDWR, O_CREAT, O_TRUNC } = constants;
    const truncates = this.#mapping === undefined && this.#prng.below(20) === 0;
    this.#handles.push(await open(this.#path, O_RDWR | O_CREAT | (truncates ? O_TRUNC : 0), 0o644));
    if (truncates) this.#cut(0);
  }

  async #map(): Promise<void> {
    await this.#unmap();
    if (this.#size === 0) return;
    this.#did(`map ${this.#size}`);
    this.#mapping = { mapping: await Mapping.open(this.#pick().fd, this.#size), length: this.#size };
  }

  async #unmap(): Promise<void> {
    if (this.#mapping === undefined) return;
    this.#did('unmap');
    await this.#mapping.mapping.close();
    this.#mapping = undefined;
  }

  async #writeMapped(): Promise<void> {
    if (this.#mapping === undefined) return this.#map();
    const { mapping, length: mapped } = this.#mapping;
    const offset = this.#prng.below(mapped);
    const length = Math.min(1 + this.#prng.below(10_000), mapped - offset);
    const bytes = pattern(length, this.#step);
    this.#did(`write mapped ${offset}+${length}`);
    await mapping.write(offset, bytes);
    bytes.copy(this.#model, offset);
    if (this.#prng.below(3) === 0) await mapping.sync();
  }

  async #compare(): Promise<void> {
    const handle = this.#pick();
    assert.equal((await handle.stat()).size, this.#size, 'size');
    const bytes = Buffer.alloc(this.#size);
    assert.equal((await handle.read(bytes, 0, this.#size, 0)).bytesRead, this.#size);
    assert.equal(firstDifference(bytes, this.#content()), undefined, 'first byte that differs');
    if (this.#mapping === undefined) return;
    const mapped = await this.#mapping.mapping.read();
    const expected = this.#model.subarray(0, this.#mapping.length);
    assert.equal(firstDifference(mapped, expected), undefined, 'first mapped byte that differs');
  }
}

function firstDifference(one: Buffer, other: Buffer): number | undefined {
  if (one.equals(other)) return undefined;
  const at = one.findIndex((byte, index) => byte !== other[index]);
  return at === -1 ? one.length : at;
}

const turnsMode = (mount: MountProcess, prng: Prng) => (): Promise<unknown> =>
  mount.tell({ do: 'passthrough', on: prng.below(2) === 0 });
const stays = (): Promise<void> => Promise.resolve();

for (const [what, settings, turns] of [
  ['served', {}, false],
  ['in passthrough', { passthrough: true }, false],
  ['in either mode by turns', { passthrough: true, validForMs: 60_000 }, true],
] as const)
  for (const mapped of [false, true])
    t.test(
      `one file ${what}${mapped ? ', mapped too' : ''}, is what was written`,
      { skip: noMounts() },
      async (t) => {
        const seed = Number(process.env['PERIGEE_SEED'] ?? Date.now() % 1_000_000);
        t.comment(`PERIGEE_SEED=${seed}`);
        const prng = seededPrng(seed);
        const mount = await startMount(t, { driver: 'kernel', writable: true, ...settings });
        const file = new OneFile(join(mount.mountpoint, 'file'), prng);
        try {
          await file.run({ mapped, reopened: turns ? turnsMode(mount, prng) : stays });
        } catch (error) {
          t.comment(file.log.slice(-30).join('\n'));
          throw error;
        } finally {
          await file.close();
        }
        t.match(await mount.idleState(), { openFiles: 0 }, `${file.log.length} steps`);
      },
    );
