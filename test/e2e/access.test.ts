/** Who may connect, on the real thing: certificates as `perigee origin init` makes them, tokens, and their exchange while a mount goes on. */
import fs from 'node:fs';
import path from 'node:path';
import tls from 'node:tls';
import t, { type Test } from 'tap';
import { TestAuthority, type CertificateFlags } from '../support/certificates.ts';
import { needs, unmet } from '../support/requirements.ts';
import { System } from '../support/system.ts';

const skip = unmet(needs.fuse);
const TOKEN = 'a-token-of-24-characters';
const PATIENCE_MS = 20_000;

function flagsOf({ tlsCert, tlsKey, tlsCa }: CertificateFlags): string[] {
  return ['--tls-cert', tlsCert, '--tls-key', tlsKey, '--tls-ca', tlsCa];
}

function filesOf(directory: string, name: string): CertificateFlags {
  const file = (end: string): string => path.join(directory, end);
  return { tlsCert: file(`${name}.pem`), tlsKey: file(`${name}-key.pem`), tlsCa: file('ca.pem') };
}

/** An origin with the certificates that `perigee origin init` made in its data directory. */
async function startWithCertificates(t: Test, more: readonly string[] = []) {
  let directory = '';
  const system = await System.start(t, {
    originFlags: async (system) => {
      const data = path.join(system.directory, 'origin');
      directory = path.join(data, 'tls');
      const made = await system.cli(
        `origin init --data ${data} --satellite gpu-1 --admin alice --tenant research --role read`.split(' '),
      );
      if (made.code !== 0) throw new Error(made.stderr);
      return [...flagsOf(filesOf(directory, 'origin')), ...more];
    },
  });
  return {
    system,
    directory,
    satellite: filesOf(directory, 'satellite-gpu-1'),
    admin: filesOf(directory, 'admin-alice'),
  };
}

/** Tries to mount; what it prints when it is refused. */
async function refusedMount(system: System, flags: readonly string[]) {
  const mountpoint = path.join(system.directory, 'refused');
  fs.mkdirSync(mountpoint, { recursive: true });
  const cache = ['--cache', path.join(system.directory, 'cache-refused'), '--cache-size', '1GiB'];
  const ran = await system.cli(['mount', `${system.address}/data`, mountpoint, ...cache, ...flags]);
  return { code: ran.code, text: ran.stderr };
}

t.test(
  'certificates of perigee origin init mount and read; others are refused in words',
  { skip },
  async (t) => {
    const { system, directory, satellite, admin } = await startWithCertificates(t);
    fs.writeFileSync(path.join(system.objects, 'file'), 'hello');
    const mount = await system.mount({ flags: flagsOf(satellite) });
    t.equal(fs.readFileSync(path.join(mount.mountpoint, 'file'), 'utf8'), 'hello');

    const foreign = await TestAuthority.make(path.join(system.directory, 'foreign'));
    const expired = await TestAuthority.of(directory).client('expired', { expired: true });
    const cases: [string, readonly string[], RegExp, RegExp][] = [
      [
        'of another authority',
        flagsOf({ ...(await foreign.client('gpu-1')), tlsCa: satellite.tlsCa }),
        /another authority has issued it/,
        /own authority/,
      ],
      ['expired', flagsOf(expired), /it has expired/, /certify/],
      ['no certificate', ['--tls-ca', satellite.tlsCa], /the client showed none/, /--tls-cert/],
      [
        'no encryption',
        [],
        /connection ended|Protocol error|ECONNRESET/,
        /if it is encrypted, give --tls-ca/,
      ],
      [
        'an origin of another authority',
        flagsOf({ ...satellite, tlsCa: foreign.caFile }),
        /that --tls-ca does not name/,
        /--tls-ca/,
      ],
    ];
    for (const [name, flags, message, hint] of cases) {
      const { code, text } = await refusedMount(system, flags);
      t.equal(code, 1, `${name}: exit code 1`);
      t.match(text, message, name);
      t.match(/^hint: .*$/m.exec(text)?.[0], hint, `${name}: its hint`);
    }

    const doctor = (files: CertificateFlags) =>
      system.cli(['doctor', '--origin', system.address, '--export', 'data', ...flagsOf(files)]);
    const asSatellite = await doctor(satellite);
    t.equal(asSatellite.code, 1);
    t.match(
      asSatellite.stdout,
      /InspectKeys needs the role admin on the export data; gpu-1 of the tenant research has read/,
    );
    t.match(asSatellite.stdout, /hint: use a certificate or token of the role admin/);
    const asAdmin = await doctor(admin);
    t.match(asAdmin.stdout, /ok +keys: 1 key seen/);
  },
);

t.test('a tenant that is not on the list of an export cannot mount it', { skip }, async (t) => {
  const { system, directory, satellite } = await startWithCertificates(t, ['--allow', 'data=ops:read']);
  const { code, text } = await refusedMount(system, flagsOf(satellite));
  t.equal(code, 1);
  t.match(text, /gpu-1 of the tenant research has no access to the export data/);
  t.match(text, /hint: .*--allow data=research:read/);
  await system.mount({ flags: flagsOf(await TestAuthority.of(directory).client('h', { tenant: 'ops' })) });
});

t.test('tokens mount over TLS; a wrong one is refused', { skip }, async (t) => {
  let caFile = '';
  const system = await System.start(t, {
    originFlags: async ({ directory }) => {
      const authority = await TestAuthority.make(path.join(directory, 'tls'));
      caFile = authority.caFile;
      const { tlsCert, tlsKey } = await authority.server('origin');
      const tokens = path.join(directory, 'tokens');
      fs.writeFileSync(tokens, `- {token: ${TOKEN}, tenant: research, role: read}\n`, { mode: 0o600 });
      return ['--tls-cert', tlsCert, '--tls-key', tlsKey, '--tokens', tokens];
    },
  });
  fs.writeFileSync(path.join(system.objects, 'file'), 'hello');
  const flags = (name: string, token: string): string[] => {
    const file = path.join(system.directory, name);
    fs.writeFileSync(file, `${token}\n`, { mode: 0o600 });
    return ['--tls-ca', caFile, '--token-file', file];
  };
  const wrong = await refusedMount(system, flags('wrong', `${TOKEN}!`));
  t.equal(wrong.code, 1);
  t.match(wrong.text, /does not know the token/);
  t.match(wrong.text, /hint: .*--token-file/);
  const mount = await system.mount({ flags: flags('right', TOKEN) });
  t.equal(fs.readFileSync(path.join(mount.mountpoint, 'file'), 'utf8'), 'hello');
});

t.test('certificates are exchanged while a mount goes on', { skip }, async (t) => {
  const { system, directory, satellite } = await startWithCertificates(t);
  for (const name of ['first', 'second', 'third']) fs.writeFileSync(path.join(system.objects, name), name);
  const mount = await system.mount({ flags: flagsOf(satellite) });
  const read = (name: string) => fs.promises.readFile(path.join(mount.mountpoint, name), 'utf8');
  t.equal(await read('first'), 'first');

  const before = await serialOf(system.address, satellite);
  const data = path.dirname(directory);
  for (const words of [`--host localhost`, `--satellite gpu-1 --tenant ops`]) {
    const ran = await system.cli(`origin certify --data ${data} --replace ${words}`.split(' '));
    t.equal(ran.code, 0, ran.stderr);
  }
  const deadline = Date.now() + PATIENCE_MS;
  let after = before;
  while (after === before && Date.now() < deadline) after = await serialOf(system.address, satellite);
  t.not(after, before, 'the origin shows its new certificate without a restart');
  t.equal(await read('second'), 'second', 'and the mount goes on');

  // The new origin knows the tenant of the satellite's new certificate only.
  await system.stopOrigin();
  system.originFlags = [...system.originFlags, '--allow', 'data=ops:read'];
  await system.startOrigin(`file://${system.objects}`, Number(system.address.split(':')[1]));
  t.equal(await read('third'), 'third', 'the satellite shows its new certificate on its new connection');
});

/** Of the certificate that whoever listens there shows. */
function serialOf(address: string, { tlsCa, tlsCert, tlsKey }: CertificateFlags): Promise<string> {
  const [host, port] = address.split(':');
  return new Promise((resolve, reject) => {
    const socket = tls.connect({
      host,
      port: Number(port),
      ca: fs.readFileSync(tlsCa),
      cert: fs.readFileSync(tlsCert),
      key: fs.readFileSync(tlsKey),
      ALPNProtocols: ['h2'],
    });
    socket.once('error', reject);
    socket.once('secureConnect', () => {
      resolve(socket.getPeerCertificate().serialNumber);
      socket.destroy();
    });
  });
}
