/**
 * What a satellite leaves for its next life on the same cache: which session it had, so that the origin need not wait for
 * the end of a term that nobody uses any more.
 *
 * A session is only named again if nothing can serve what it knew: its process is gone, and so is its mount, which no
 * program used. A record that cannot be read or written costs that wait, nothing else.
 */
import fs from 'node:fs';
import path from 'node:path';
import type { SessionId } from '../base/brand.ts';
import type { PreparedMountpoint } from '../fuse/mountpoint.ts';

const RECORD_NAME = 'session.json';

interface Record {
  readonly session: string;
  readonly mountpoint: string;
}

export class LastLife {
  readonly #file: string;
  readonly #mountpoint: string;
  #session: SessionId | undefined;
  #isOwner = false;

  constructor(cacheDirectory: string, mountpoint: string) {
    this.#file = path.join(cacheDirectory, RECORD_NAME);
    this.#mountpoint = mountpoint;
  }

  /** The session of the life whose dead mount was just taken away. */
  session({ hadForsakenMount, mountpoint }: PreparedMountpoint): SessionId | undefined {
    if (!hadForsakenMount) return undefined;
    try {
      const record = JSON.parse(fs.readFileSync(this.#file, 'utf8')) as Partial<Record>;
      return record.mountpoint === mountpoint ? (record.session as SessionId | undefined) : undefined;
    } catch {
      return undefined;
    }
  }

  /** The cache directory is this life's from now on. */
  own(): void {
    this.#isOwner = true;
    this.#write();
  }

  remember(session: SessionId): void {
    this.#session = session;
    this.#write();
  }

  #write(): void {
    if (!this.#isOwner || this.#session === undefined) return;
    const record: Record = { session: this.#session, mountpoint: this.#mountpoint };
    try {
      fs.writeFileSync(this.#file, `${JSON.stringify(record)}\n`, { mode: 0o600 });
    } catch {
      return;
    }
  }
}
