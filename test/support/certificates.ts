/** Certificates of an authority of the test's own, as files. */
import fs from 'node:fs';
import path from 'node:path';
import { type Clock, systemClock } from '../../lib/base/clock.ts';
import { Authority, type Issued } from '../../lib/rpc/authority.ts';
import { type Principal } from '../../lib/rpc/principal.ts';

const HOUR_MS = 3_600_000;

/** A day ago, for certificates that have expired since. */
const yesterday: Clock = { ...systemClock, wallMs: () => systemClock.wallMs() - 24 * HOUR_MS };

export interface CertificateFlags {
  readonly tlsCert: string;
  readonly tlsKey: string;
  readonly tlsCa: string;
}

export class TestAuthority {
  readonly #directory: string;
  readonly #pem: Issued;
  readonly caFile: string;

  private constructor(directory: string, pem: Issued) {
    this.#directory = directory;
    this.#pem = pem;
    this.caFile = path.join(directory, 'ca.pem');
    fs.mkdirSync(directory, { recursive: true });
    fs.writeFileSync(this.caFile, pem.cert);
  }

  /** The one that `perigee origin init` has made in a directory. */
  static of(directory: string): TestAuthority {
    const read = (name: string): string => fs.readFileSync(path.join(directory, name), 'utf8');
    return new TestAuthority(directory, { cert: read('ca.pem'), key: read('ca-key.pem') });
  }

  static async make(directory: string): Promise<TestAuthority> {
    return new TestAuthority(directory, (await Authority.create(yesterday)).issued);
  }

  async server(
    name: string,
    options: { readonly hosts?: readonly string[]; readonly expired?: boolean } = {},
  ) {
    const { hosts = ['localhost', '127.0.0.1'], expired = false } = options;
    const authority = await Authority.open(this.#pem, expired ? yesterday : systemClock);
    return this.#write(name, await authority.issueServer({ hosts, validMs: HOUR_MS }));
  }

  async client(
    name: string,
    options: Partial<Omit<Principal, 'provenBy'>> & { readonly expired?: boolean } = {},
  ): Promise<CertificateFlags> {
    const { tenant = 't1', host = name, role = 'read', expired = false } = options;
    const authority = await Authority.open(this.#pem, expired ? yesterday : systemClock);
    return this.#write(name, await authority.issueClient({ tenant, host, role }, { validMs: HOUR_MS }));
  }

  /** The key first, as people should. */
  #write(name: string, { cert, key }: Issued): CertificateFlags {
    const [tlsCert, tlsKey] = [`${name}.pem`, `${name}-key.pem`].map((file) =>
      path.join(this.#directory, file),
    );
    if (tlsCert === undefined || tlsKey === undefined) throw new Error('two names were made');
    fs.writeFileSync(tlsKey, key, { mode: 0o600 });
    fs.writeFileSync(tlsCert, cert);
    return { tlsCert, tlsKey, tlsCa: this.caFile };
  }
}
