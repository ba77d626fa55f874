/**
 * The files by which a host's running mounts are found: for each mount point one socket and, beside it, one
 * record with the mount point in full, both named after the mount point.
 *
 * Guarantees: names are safe and short whatever the mount point is called; the directory admits its owner only;
 * a record is written whole or not at all, and an unreadable one is skipped, never trusted.
 */
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { z } from 'zod';
import { UsageError } from '../base/errors.ts';

/** sun_path of unix(7) has 108 bytes on Linux and 104 on macOS, with the NUL. */
const SOCKET_PATH_BYTES_MAX = 103;
/** Readable part of a name: the end of the mount point. */
const SLUG_CHARACTERS_MAX = 24;
const HASH_CHARACTERS = 12;
const RECORD_VERSION = 1;

const recordSchema = z.object({
  version: z.literal(RECORD_VERSION),
  mountpoint: z.string().startsWith('/'),
  pid: z.int().positive(),
});

export interface RunRecord {
  readonly mountpoint: string;
  readonly pid: number;
  readonly socketPath: string;
}

type Environment = Readonly<Record<string, string | undefined>>;

export class RunFiles {
  readonly directory: string;

  constructor(directory: string) {
    this.directory = directory;
  }

  /** `$PERIGEE_RUN_DIR`, else /run/perigee for root, else a folder of the user's own. */
  static ofEnvironment(env: Environment, uid: number): RunFiles {
    const own = env.XDG_RUNTIME_DIR ? path.join(env.XDG_RUNTIME_DIR, 'perigee') : `/tmp/perigee-${uid}`;
    return new RunFiles(path.resolve(env.PERIGEE_RUN_DIR || (uid === 0 ? '/run/perigee' : own)));
  }

  socketPath(mountpoint: string): string {
    const socketPath = path.join(this.directory, `${nameOf(mountpoint)}.sock`);
    if (Buffer.byteLength(socketPath) > SOCKET_PATH_BYTES_MAX) {
      throw new UsageError(`the run directory ${this.directory} is too long for a socket's path`, {
        hint: `set PERIGEE_RUN_DIR to a directory of fewer than ${SOCKET_PATH_BYTES_MAX - SLUG_CHARACTERS_MAX - HASH_CHARACTERS - 8} bytes`,
      });
    }
    return socketPath;
  }

  /** Makes the directory; throws the system's error if that is refused, and if it is another user's. */
  prepare(): void {
    fs.mkdirSync(this.directory, { recursive: true, mode: 0o700 });
    const owner = fs.lstatSync(this.directory).uid;
    if (process.getuid !== undefined && owner !== process.getuid()) {
      throw new UsageError(`the run directory ${this.directory} belongs to user ${owner}`, {
        hint: 'set PERIGEE_RUN_DIR to a directory of your own',
      });
    }
  }

  /** Only the owner may connect. */
  protectSocket(mountpoint: string): void {
    fs.chmodSync(this.socketPath(mountpoint), 0o600);
  }

  writeRecord(mountpoint: string, pid: number): void {
    const target = this.#recordPath(mountpoint);
    const draft = `${target}.${pid}.tmp`;
    fs.writeFileSync(draft, `${JSON.stringify({ version: RECORD_VERSION, mountpoint, pid })}\n`, {
      mode: 0o600,
    });
    fs.renameSync(draft, target);
  }

  /** The record first, so that nobody finds a mount whose socket is already gone. */
  remove(mountpoint: string): void {
    fs.rmSync(this.#recordPath(mountpoint), { force: true });
    fs.rmSync(this.socketPath(mountpoint), { force: true });
  }

  /** Every record that can be read, by mount point. */
  records(): RunRecord[] {
    let names: string[];
    try {
      names = fs.readdirSync(this.directory).filter((name) => name.endsWith('.json'));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
      throw error;
    }
    return names
      .flatMap((name) => this.#readRecord(path.join(this.directory, name)))
      .sort((a, b) => (a.mountpoint < b.mountpoint ? -1 : 1));
  }

  #readRecord(file: string): RunRecord[] {
    try {
      const { mountpoint, pid } = recordSchema.parse(JSON.parse(fs.readFileSync(file, 'utf8')));
      return [{ mountpoint, pid, socketPath: this.socketPath(mountpoint) }];
    } catch {
      return [];
    }
  }

  #recordPath(mountpoint: string): string {
    return path.join(this.directory, `${nameOf(mountpoint)}.json`);
  }
}

/** `/mnt/my data` is `mnt-my-data-` and a hash of the whole. */
function nameOf(mountpoint: string): string {
  const slug = mountpoint
    .replaceAll(/[^A-Za-z0-9._-]+/g, '-')
    .slice(-SLUG_CHARACTERS_MAX)
    .replace(/^[-.]+/, '');
  const hash = createHash('sha256').update(mountpoint).digest('hex').slice(0, HASH_CHARACTERS);
  return slug === '' ? hash : `${slug}-${hash}`;
}
