/**
 * The certificates that an origin's private authority issues, as files: `NAME.pem`, and its key in `NAME-key.pem`.
 *
 * Guarantees: nothing that is there is overwritten unless `replace` says so, and then each file is exchanged at once;
 * keys are readable by their owner alone, who is that of the directory.
 */
import fs from 'node:fs';
import path from 'node:path';
import { systemClock } from '../base/clock.ts';
import { UsageError } from '../base/errors.ts';
import type { IssueOptions } from '../cli/runtime.ts';
import type { Issued } from '../rpc/authority.ts';

const AUTHORITY = 'ca';
const ORIGIN = 'origin';
/** By which an origin is reached from its own host. */
const OWN_HOSTS = ['localhost', '127.0.0.1', '::1'];

/**
 * @returns the files that were made
 * @throws UsageError
 */
export async function issueCertificates(options: IssueOptions): Promise<readonly string[]> {
  const { directory, hosts, clients, tenant, validMs, isFirst, replace } = options;
  const files = new CertificateFiles(directory, replace);
  files.refuseExisting([
    ...(isFirst ? [AUTHORITY] : []),
    ...(hosts.length === 0 ? [] : [ORIGIN]),
    ...clients.map(({ file }) => file),
  ]);
  // The library behind it is large, and other commands need none of it.
  const { Authority } = await import('../rpc/authority.ts');
  const first = isFirst ? await Authority.create(systemClock) : undefined;
  if (first !== undefined) files.write(AUTHORITY, first.issued);
  const authority = first?.authority ?? (await Authority.open(files.read(AUTHORITY), systemClock));
  if (hosts.length > 0) {
    const all = [...new Set([...hosts, ...OWN_HOSTS])];
    files.write(ORIGIN, await authority.issueServer({ hosts: all, validMs }));
  }
  for (const { host, role, file } of clients) {
    files.write(file, await authority.issueClient({ tenant, host, role }, { validMs }));
  }
  return files.written;
}

class CertificateFiles {
  readonly written: string[] = [];
  readonly #directory: string;
  readonly #replaces: boolean;

  constructor(directory: string, replaces: boolean) {
    this.#directory = directory;
    this.#replaces = replaces;
  }

  refuseExisting(names: readonly string[]): void {
    if (this.#replaces) return;
    const paths = names.flatMap((name) => [this.#pathOf(name, 'cert'), this.#pathOf(name, 'key')]);
    const existing = paths.find((file) => fs.existsSync(file));
    if (existing === undefined) return;
    throw new UsageError(`${existing} is there already`, {
      hint: 'perigee origin certify issues further certificates, and with --replace exchanges one',
    });
  }

  read(name: string): Issued {
    try {
      return {
        cert: fs.readFileSync(this.#pathOf(name, 'cert'), 'utf8'),
        key: fs.readFileSync(this.#pathOf(name, 'key'), 'utf8'),
      };
    } catch (error) {
      throw new UsageError(`there is no authority in ${this.#directory}`, {
        cause: error,
        hint: 'perigee origin init makes one; --data names the directory of its origin',
      });
    }
  }

  /** The key first: who waits for the certificate finds both. */
  write(name: string, issued: Issued): void {
    fs.mkdirSync(this.#directory, { recursive: true, mode: 0o700 });
    this.#writeFile(this.#pathOf(name, 'key'), { text: issued.key, mode: 0o600 });
    this.#writeFile(this.#pathOf(name, 'cert'), { text: issued.cert, mode: 0o644 });
  }

  #pathOf(name: string, part: keyof Issued): string {
    return path.join(this.#directory, part === 'cert' ? `${name}.pem` : `${name}-key.pem`);
  }

  #writeFile(file: string, { text, mode }: { readonly text: string; readonly mode: number }): void {
    const draft = `${file}.${process.pid}.tmp`;
    try {
      fs.writeFileSync(draft, text, { mode, flag: 'wx' });
      this.#handOver(draft);
      if (this.#replaces) fs.renameSync(draft, file);
      else fs.linkSync(draft, file);
    } finally {
      fs.rmSync(draft, { force: true });
    }
    this.written.push(file);
  }

  /** What root makes belongs to the user of the origin, whose directory it is. */
  #handOver(file: string): void {
    if (process.getuid?.() !== 0) return;
    const { uid, gid } = fs.statSync(this.#directory);
    fs.chownSync(file, uid, gid);
  }
}
