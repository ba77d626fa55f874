/**
 * A private authority: makes the certificates by which an origin and those who connect to it know each other.
 *
 * Guarantees: keys are ECDSA on P-256, made here and nowhere kept; a certificate is for servers or for clients, never
 * for both, and carries the principal in its subject as principal.ts reads it.
 */
// The library below finds its parts by metadata that no JavaScript engine has yet.
import 'reflect-metadata';
import { type webcrypto } from 'node:crypto';
import net from 'node:net';
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  type Extension,
  KeyUsageFlags,
  KeyUsagesExtension,
  PemConverter,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509Certificate,
  X509CertificateGenerator,
} from '@peculiar/x509';
import { type Clock } from '../base/clock.ts';
import { UsageError } from '../base/errors.ts';
import { randomId } from '../base/prng.ts';
import { type Principal } from './principal.ts';

const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;
const DAY_MS = 24 * 60 * 60_000;
const AUTHORITY_VALID_MS = 3_650 * DAY_MS;
/** Clocks of hosts differ. */
const CLOCK_ERROR_MS = DAY_MS / 24;
const SERIAL_BYTES = 16;

/** PEM texts. */
export interface Issued {
  readonly cert: string;
  readonly key: string;
}

export class Authority {
  readonly #certificate: X509Certificate;
  readonly #key: webcrypto.CryptoKey;
  readonly #clock: Clock;

  private constructor(parts: {
    readonly certificate: X509Certificate;
    readonly key: webcrypto.CryptoKey;
    readonly clock: Clock;
  }) {
    this.#certificate = parts.certificate;
    this.#key = parts.key;
    this.#clock = parts.clock;
  }

  static async create(clock: Clock): Promise<{ readonly authority: Authority; readonly issued: Issued }> {
    const keys = await makeKeys();
    const certificate = await X509CertificateGenerator.createSelfSigned({
      serialNumber: randomId(SERIAL_BYTES),
      name: [{ CN: ['Perigee authority'] }],
      ...validity(clock, AUTHORITY_VALID_MS),
      signingAlgorithm: ALGORITHM,
      keys,
      extensions: [
        new BasicConstraintsExtension(true, 0, true),
        new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
        await SubjectKeyIdentifierExtension.create(keys.publicKey),
      ],
    });
    const authority = new Authority({ certificate, key: keys.privateKey, clock });
    return { authority, issued: await issuedOf(certificate, keys.privateKey) };
  }

  /** One that was made before. @throws UsageError */
  static async open({ cert, key }: Issued, clock: Clock): Promise<Authority> {
    try {
      const raw = PemConverter.decodeFirst(key);
      return new Authority({
        certificate: new X509Certificate(cert),
        key: await crypto.subtle.importKey('pkcs8', raw, ALGORITHM, false, ['sign']),
        clock,
      });
    } catch (error) {
      throw new UsageError('the authority cannot be read', {
        cause: error,
        hint: 'name the data directory in which perigee origin init made it',
      });
    }
  }

  /** For an origin. @param options.hosts names and addresses by which it is reached */
  issueServer(options: { readonly hosts: readonly string[]; readonly validMs: number }): Promise<Issued> {
    const names = options.hosts.map(
      (value) => ({ type: net.isIP(value) === 0 ? 'dns' : 'ip', value }) as const,
    );
    return this.#issue([{ CN: [options.hosts[0] ?? 'origin'] }], {
      validMs: options.validMs,
      usage: ExtendedKeyUsage.serverAuth,
      more: [new SubjectAlternativeNameExtension(names)],
    });
  }

  /** For a satellite or a person. */
  issueClient(
    { tenant, host, role }: Omit<Principal, 'provenBy'>,
    { validMs }: { readonly validMs: number },
  ): Promise<Issued> {
    return this.#issue([{ O: [tenant] }, { OU: [role] }, { CN: [host] }], {
      validMs,
      usage: ExtendedKeyUsage.clientAuth,
      more: [],
    });
  }

  async #issue(
    subject: Record<string, string[]>[],
    options: {
      readonly validMs: number;
      readonly usage: ExtendedKeyUsage;
      readonly more: readonly Extension[];
    },
  ): Promise<Issued> {
    const keys = await makeKeys();
    const certificate = await X509CertificateGenerator.create({
      serialNumber: randomId(SERIAL_BYTES),
      subject,
      issuer: this.#certificate.subjectName,
      ...validity(this.#clock, options.validMs),
      signingAlgorithm: ALGORITHM,
      publicKey: keys.publicKey,
      signingKey: this.#key,
      extensions: [
        new BasicConstraintsExtension(false, undefined, true),
        new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
        new ExtendedKeyUsageExtension([options.usage]),
        await SubjectKeyIdentifierExtension.create(keys.publicKey),
        await AuthorityKeyIdentifierExtension.create(this.#certificate),
        ...options.more,
      ],
    });
    return issuedOf(certificate, keys.privateKey);
  }
}

function makeKeys(): Promise<webcrypto.CryptoKeyPair> {
  return crypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify']);
}

async function issuedOf(certificate: X509Certificate, key: webcrypto.CryptoKey): Promise<Issued> {
  const raw = await crypto.subtle.exportKey('pkcs8', key);
  return { cert: `${certificate.toString('pem')}\n`, key: `${PemConverter.encode(raw, 'PRIVATE KEY')}\n` };
}

function validity(clock: Clock, validMs: number): { readonly notBefore: Date; readonly notAfter: Date } {
  const nowMs = clock.wallMs();
  // eslint-disable-next-line no-restricted-globals -- the library takes its times so; the time is the clock's
  const at = (ms: number): Date => new Date(ms);
  return { notBefore: at(nowMs - CLOCK_ERROR_MS), notAfter: at(nowMs + validMs) };
}
