/** Who calls an origin, as the transport has found out, and how a call is refused. */
import { PerigeeError, type ErrorDetails } from '../base/errors.ts';
import { type Role, ROLES, TENANT_NAME } from '../config/access-lists.ts';

export interface Principal {
  readonly tenant: string;
  readonly host: string;
  readonly role: Role;
  readonly provenBy: 'certificate' | 'token' | 'nothing';
}

/**
 * - `unauthenticated`: nobody knows who calls
 * - `denied`: who calls is known, and may not
 */
export type AccessErrorCode = 'unauthenticated' | 'denied';

/** What was wrong, as it is counted. */
export type AccessErrorReason = 'credentials' | 'certificate' | 'token' | 'tenant' | 'role' | 'method';

export class AccessError extends PerigeeError<AccessErrorCode> {
  override readonly layer = 'access';
  readonly reason: AccessErrorReason;

  constructor(reason: AccessErrorReason, message: string, details: ErrorDetails) {
    const isKnown = reason === 'tenant' || reason === 'role' || reason === 'method';
    super(isKnown ? 'denied' : 'unauthenticated', message, details);
    this.reason = reason;
  }
}

export function includesRole(role: Role, needed: Role): boolean {
  return ROLES.indexOf(role) >= ROLES.indexOf(needed);
}

export function lesserRole(one: Role, other: Role): Role {
  return includesRole(one, other) ? other : one;
}

export const HOST_NAME = /^[A-Za-z0-9][A-Za-z0-9._:-]{0,252}$/;

const SUBJECT_HINT =
  'its subject needs one O (tenant), one CN (host) and one OU (read, write or admin); perigee origin certify makes such certificates';

/**
 * @param subject as `tls` shows it: a repeated attribute is an array
 * @throws AccessError
 */
export function principalOfSubject(subject: Readonly<Record<string, unknown>>): Principal {
  const attribute = (name: string, meaning: string): string => {
    const value = subject[name];
    if (typeof value === 'string') return value;
    throw new AccessError(
      'certificate',
      `the certificate names ${value === undefined ? 'no' : 'more than one'} ${name}, which is the ${meaning}`,
      { hint: SUBJECT_HINT },
    );
  };
  const tenant = attribute('O', 'tenant');
  const host = attribute('CN', 'host');
  const roleText = attribute('OU', 'role');
  const role = ROLES.find((known) => known === roleText);
  if (role !== undefined && TENANT_NAME.test(tenant) && HOST_NAME.test(host)) {
    return { tenant, host, role, provenBy: 'certificate' };
  }
  const [what, value] =
    role === undefined
      ? ['role', roleText]
      : TENANT_NAME.test(tenant)
        ? ['host', host]
        : ['name of a tenant', tenant];
  throw new AccessError('certificate', `the certificate's ${JSON.stringify(value)} is no ${what}`, {
    hint: SUBJECT_HINT,
  });
}
