/**
 * What a test needs of the machine. A test whose need is not met is skipped with the command that would install
 * it; with PERIGEE_TEST_REQUIRE_ALL set, as in CI, it fails instead, so that nothing is skipped unseen.
 */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';

export interface Requirement {
  readonly name: string;
  readonly met: () => boolean;
  readonly install: string;
}

const tool = (name: string, debianPackage: string): Requirement => ({
  name,
  met: () => spawnSync('sh', ['-c', `command -v ${name}`]).status === 0,
  install: `apt-get install ${debianPackage}`,
});

export const needs = {
  fuse: {
    name: '/dev/fuse and root',
    met: () => fs.existsSync('/dev/fuse') && process.getuid?.() === 0,
    install: 'run as root on Linux with the fuse module',
  },
  libfuse2: {
    name: 'fuse-native and its libfuse 2',
    met: () =>
      spawnSync(process.execPath, ['-e', "require('fuse-native')"], { cwd: import.meta.dirname }).status ===
      0,
    install: 'apt-get install libfuse2 && npm install',
  },
  loop: {
    name: 'a loop device',
    met: () => fs.existsSync('/dev/loop-control') && process.getuid?.() === 0,
    install: 'run as root with /dev/loop-control',
  },
  mkfs: tool('mkfs.ext4', 'e2fsprogs'),
  mkfsXfs: tool('mkfs.xfs', 'xfsprogs'),
  terminal: tool('script', 'bsdutils'),
  ceph: tool('radosgw', 'ceph-mon ceph-mgr ceph-osd radosgw bc uuid-runtime'),
  swift: tool('swift-proxy-server', 'swift-proxy swift-account swift-container swift-object memcached'),
  openssl: tool('openssl', 'openssl'),
  rsync: tool('rsync', 'rsync'),
  python: tool('python3', 'python3'),
  systemdAnalyze: tool('systemd-analyze', 'systemd'),
} satisfies Record<string, Requirement>;

/** For tap's `skip` option: false when all is there, else why not. */
export function unmet(...requirements: readonly Requirement[]): string | false {
  const missing = requirements.filter((requirement) => !requirement.met());
  if (missing.length === 0) return false;
  const reason = missing.map(({ name, install }) => `needs ${name}: ${install}`).join('; ');
  if (process.env['PERIGEE_TEST_REQUIRE_ALL'] !== undefined) throw new Error(reason);
  return reason;
}
