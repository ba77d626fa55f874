/**
 * What a device holds of a cache directory, so that the death of the host can be played: of a file the bytes that it had
 * at its last sync, of the journal's log what was synced of it, of names either all that was done or what was done by
 * the last sync of the folder. (The catalog's log is lost as a whole: it is never synced but at a checkpoint.)
 */
import {
  copyFileSync,
  existsSync,
  fstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { type Disk, systemDisk } from '../../cache/disk.ts';

const JOURNAL_LOG = 'journal.db-wal';

export class CrashDevice {
  readonly #directory: string;
  /** Files by inode number, which may be used again: each has an identity of its own. */
  readonly #identities = new Map<bigint, number>();
  readonly #contents = new Map<number, Buffer>();
  #names: ReadonlyMap<string, number>;
  #journalLog: Buffer | undefined;
  #made = 0;
  /** Runs before each call of the disk. */
  onCall: (name: string) => void = () => undefined;

  /** What is there already counts as synced. */
  constructor(directory: string) {
    this.#directory = directory;
    for (const path of filesOf(directory)) this.#contents.set(this.#identityOf(path), readFileSync(path));
    this.#names = this.#namesNow();
    const log = join(directory, JOURNAL_LOG);
    if (existsSync(log)) this.#journalLog = readFileSync(log);
  }

  /** The system's disk, watched. */
  get disk(): Disk {
    const watched: Partial<Disk> = {
      create: (path) => this.#isMade(systemDisk.create(path)),
      open: (path, options) => {
        const fd = systemDisk.open(path, options);
        return options.create ? this.#isMade(fd) : fd;
      },
      datasyncOpen: (fd) =>
        this.#synced(systemDisk.datasyncOpen(fd), readFileSync(`/proc/self/fd/${fd}`), fd),
      datasync: (path) => this.#synced(systemDisk.datasync(path), readFileSync(path), path),
      syncDirectory: (path) =>
        path.endsWith('staging')
          ? this.#synced(systemDisk.syncDirectory(path))
          : systemDisk.syncDirectory(path),
      whole: () => undefined,
    };
    const disk = { ...systemDisk, ...watched };
    const calls = Object.entries(disk).map(([name, run]) => [
      name,
      (...values: unknown[]) => {
        this.onCall(name);
        return (run as (...values: unknown[]) => unknown)(...values);
      },
    ]);
    return Object.fromEntries(calls);
  }

  /** Makes the directory that the next life of the host finds. */
  after(death: 'names-lost' | 'names-kept', into: string): void {
    for (const name of ['format', 'owner', 'journal.db', 'catalog.db']) {
      copyFileSync(join(this.#directory, name), join(into, name));
    }
    if (this.#journalLog !== undefined) writeFileSync(join(into, JOURNAL_LOG), this.#journalLog);
    const names = death === 'names-lost' ? this.#names : this.#namesNow();
    for (const [path, identity] of names) {
      mkdirSync(dirname(join(into, path)), { recursive: true });
      writeFileSync(join(into, path), this.#contents.get(identity) ?? '');
    }
  }

  #isMade(fd: number): number {
    this.#identities.set(fstatSync(fd, { bigint: true }).ino, ++this.#made);
    return fd;
  }

  async #synced(sync: Promise<void>, bytes?: Buffer, file?: number | string): Promise<void> {
    const names = this.#namesNow();
    const identity = file === undefined ? undefined : this.#identityOf(file);
    await sync;
    if (file === undefined) this.#names = names;
    if (bytes === undefined || identity === undefined) return;
    if (typeof file === 'string' && file.endsWith(JOURNAL_LOG)) this.#journalLog = bytes;
    else this.#contents.set(identity, bytes);
  }

  #identityOf(file: number | string): number {
    const { ino } =
      typeof file === 'number' ? fstatSync(file, { bigint: true }) : statSync(file, { bigint: true });
    const known = this.#identities.get(ino);
    if (known !== undefined) return known;
    this.#identities.set(ino, ++this.#made);
    return this.#made;
  }

  #namesNow(): ReadonlyMap<string, number> {
    return new Map(
      filesOf(this.#directory).map((path) => [relative(this.#directory, path), this.#identityOf(path)]),
    );
  }
}

/** Files of blobs and of writers. */
export function filesOf(directory: string): string[] {
  const folders = ['blobs', 'staging'].filter((folder) => existsSync(join(directory, folder)));
  return folders.flatMap((folder) => {
    const entries = readdirSync(join(directory, folder), { recursive: true, withFileTypes: true });
    return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  });
}
