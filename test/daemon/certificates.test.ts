/** The files of `perigee origin init` and `certify`. */
import { X509Certificate } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import t, { type Test } from 'tap';
import { type IssueOptions } from '../../lib/cli/runtime.ts';
import { issueCertificates } from '../../lib/daemon/certificates.ts';
import { prepareDataDirectory } from '../../lib/origin/data-directory.ts';

const HOUR_MS = 3_600_000;
const satellite = { host: 'gpu-1', role: 'read', file: 'satellite-gpu-1' } as const;

function optionsFor(t: Test): IssueOptions {
  return {
    directory: path.join(t.testdir({}), 'data', 'tls'),
    isFirst: true,
    hosts: ['o.example', '10.0.0.1', 'fd00::1'],
    clients: [satellite],
    tenant: 'research',
    validMs: HOUR_MS,
    replace: false,
  };
}

function read({ directory }: IssueOptions, name: string): X509Certificate {
  return new X509Certificate(fs.readFileSync(path.join(directory, `${name}.pem`)));
}

t.test('an authority issues certificates that say who is who', async (t) => {
  const options = optionsFor(t);
  const made = await issueCertificates(options);
  t.same(
    made.map((file) => path.relative(options.directory, file)),
    [
      'ca-key.pem',
      'ca.pem',
      'origin-key.pem',
      'origin.pem',
      'satellite-gpu-1-key.pem',
      'satellite-gpu-1.pem',
    ],
  );
  t.same(fs.readdirSync(options.directory).length, made.length, 'and nothing else is left');
  for (const file of made) {
    t.equal(fs.statSync(file).mode & 0o777, file.endsWith('-key.pem') ? 0o600 : 0o644, file);
  }
  t.equal(fs.statSync(options.directory).mode & 0o777, 0o700);

  const [ca, origin, client] = ['ca', 'origin', 'satellite-gpu-1'].map((name) => read(options, name));
  if (ca === undefined || origin === undefined || client === undefined)
    throw new Error('three were asked for');
  t.ok(ca.ca && !origin.ca && !client.ca);
  for (const issued of [origin, client]) t.ok(issued.checkIssued(ca) && issued.verify(ca.publicKey));
  t.equal(client.subject, 'O=research\nOU=read\nCN=gpu-1');
  for (const host of ['o.example', 'localhost']) t.ok(origin.checkHost(host), host);
  for (const address of ['10.0.0.1', '127.0.0.1', '::1', 'fd00::1']) t.ok(origin.checkIP(address), address);
  t.notOk(origin.checkHost('other.example'));
  const validMs = Date.parse(client.validTo) - Date.now();
  t.ok(validMs > 0 && validMs <= HOUR_MS, 'for as long as was asked for');

  const data = path.dirname(options.directory);
  t.equal(await prepareDataDirectory(data), path.join(data, 'index.sqlite'), 'an origin takes the directory');
});

t.test('nothing is overwritten unless it is asked for', async (t) => {
  const first = optionsFor(t);
  await issueCertificates(first);
  const serials = () => ['ca', 'origin', 'satellite-gpu-1'].map((name) => read(first, name).serialNumber);
  const before = serials();
  const refused = { code: 'usage', message: /is there already/, hint: /--replace/ };
  await t.rejects(issueCertificates(first), refused);
  await t.rejects(issueCertificates({ ...first, isFirst: false, clients: [] }), refused);
  await t.rejects(issueCertificates({ ...first, isFirst: false, hosts: [] }), refused);
  t.same(serials(), before);

  const [ca, origin, client] = before;
  await issueCertificates({ ...first, isFirst: false, hosts: [], replace: true });
  t.equal(serials()[0], ca);
  t.equal(serials()[1], origin);
  t.not(serials()[2], client);
  t.ok(read(first, 'satellite-gpu-1').verify(read(first, 'ca').publicKey));
  await issueCertificates({
    ...first,
    isFirst: false,
    hosts: [],
    clients: [{ ...satellite, file: 'satellite-gpu-2' }],
  });
  t.ok(read(first, 'satellite-gpu-2'));
});

t.test(
  'what root makes belongs to the owner of the directory',
  { skip: process.getuid?.() === 0 ? false : 'runs as root only' },
  async (t) => {
    const options = optionsFor(t);
    await issueCertificates(options);
    fs.chownSync(options.directory, 12_345, 23_456);
    await issueCertificates({ ...options, isFirst: false, replace: true });
    for (const name of ['origin.pem', 'origin-key.pem', 'satellite-gpu-1-key.pem']) {
      t.match(fs.statSync(path.join(options.directory, name)), { uid: 12_345, gid: 23_456 }, name);
    }
  },
);

t.test('without an authority there is nothing to issue by', async (t) => {
  const options = { ...optionsFor(t), isFirst: false };
  await t.rejects(issueCertificates(options), {
    code: 'usage',
    message: /no authority/,
    hint: /origin init/,
  });
  t.notOk(fs.existsSync(options.directory));
});
