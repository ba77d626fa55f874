/** Jobs of policies by themselves: over fake names, with a clock moved by hand. */
import { pino } from 'pino';
import t from 'tap';
import type { InodeNumber, VersionId } from '../../lib/base/brand.ts';
import type { InodeAttributes } from '../../lib/namespace/namespace.ts';
import { parsePolicyDocument } from '../../lib/policy/policy-document.ts';
import { PolicyHolder } from '../../lib/policy/policy-holder.ts';
import type { Jobs, PolicyJob } from '../../lib/prefetch/jobs.ts';
import { PolicyJobs } from '../../lib/prefetch/policy-jobs.ts';
import { PolicyPrefetch } from '../../lib/prefetch/policy-prefetch.ts';
import { PrefetchMemory } from '../../lib/prefetch/prefetch-memory.ts';
import type { Prefetcher } from '../../lib/prefetch/prefetcher.ts';
import type { Names } from '../../lib/prefetch/walk.ts';
import { ManualClock } from '../cache/manual-clock.ts';

/** Time that is waited for is moved by hand; the time of the day is set. */
class WallClock extends ManualClock {
  wall = 0;
  override wallMs(): number {
    return this.wall;
  }
}

const logger = pino({ level: 'silent' });

function attributesOf(inode: number, kind: 'file' | 'directory'): InodeAttributes {
  const version = inode.toString(16).padStart(32, '0') as VersionId;
  const source = {
    version,
    exportName: 'data',
    objectKey: '',
    objectVersion: undefined,
    entityTag: '',
    sizeBytes: 9,
  };
  return {
    ...{ inode: BigInt(inode) as InodeNumber, kind, mode: 0, uid: 0, gid: 0, links: 1, sizeBytes: 9 },
    ...{ modifiedNs: 0n, changedNs: 0n, target: undefined },
    source: kind === 'file' ? source : undefined,
  };
}

/** `a/x`, `a/y.tar` and `b`. */
const tree: Readonly<Record<string, readonly (readonly [string, InodeAttributes])[]>> = {
  '1': [
    ['a', attributesOf(10, 'directory')],
    ['b', attributesOf(11, 'file')],
  ],
  '10': [
    ['x', attributesOf(12, 'file')],
    ['y.tar', attributesOf(13, 'file')],
  ],
};
const names: Names = {
  knownName: () => undefined,
  lookup: async (parent, name) => tree[String(parent)]?.find(([other]) => other === name)?.[1],
  attributes: async () => attributesOf(1, 'directory'),
  list: async (directory) => ({
    entries: (tree[String(directory)] ?? []).map(([name, attributes]) => ({ name, attributes })),
    next: undefined,
    isHeld: true,
  }),
  isListingHeld: () => true,
};

function setUp(memory: { text: string | undefined }) {
  const clock = new WallClock();
  const holder = new PolicyHolder({ exportName: 'data', host: { name: 'gpu-1', labels: {} } });
  const policies = new PolicyPrefetch(holder);
  const events: string[] = [];
  const started: PolicyJob[] = [];
  const jobs = {
    startForPolicy: (job: PolicyJob) => {
      events.push(`${job.trigger} of ${job.policy}`);
      started.push(job);
    },
    cancelOfPolicy: (policy: string) => events.push(`cancel ${policy}`),
  } as unknown as Jobs;
  const prefetcher = {
    cancel: (claim: string) => events.push(`no orders of ${claim}`),
  } as unknown as Prefetcher;
  const store = { load: () => memory.text, save: (text: string) => void (memory.text = text) };
  const policyJobs = new PolicyJobs({
    ...{ policies, jobs, prefetcher, names, clock, logger },
    memory: new PrefetchMemory({ store, logger }),
  });
  let version = 0;
  const put = (...texts: string[]): void => {
    const lines = texts.map((text) => `  - { ${text} }\n`).join('') || '  []';
    holder.replace(++version, parsePolicyDocument(`apiVersion: perigee/v1\npolicies:\n${lines}`).policies);
    policies.refresh();
  };
  return { clock, policyJobs, events, started, put, taken: () => events.splice(0) };
}

const APPLY = 'name: now, match: { prefix: a/ }, prefetch: { on: [apply] }';

t.test('a policy is applied when it is new or another, also while the satellite was away', async (t) => {
  const memory = { text: undefined };
  const first = setUp(memory);
  first.put(APPLY);
  first.policyJobs.mounted();
  t.same(first.taken(), ['apply of now']);
  first.policyJobs.changed();
  t.same(first.taken(), [], 'it is the same');
  first.put(APPLY.replace('a/', 'b'));
  first.policyJobs.changed();
  t.same(first.taken(), ['cancel now', 'no orders of now', 'apply of now']);
  first.put('name: other, match: {}, cache: { pin: true }');
  first.policyJobs.changed();
  t.same(first.taken(), ['cancel now', 'no orders of now'], 'gone');

  const next = setUp(memory);
  next.put(APPLY);
  next.policyJobs.mounted();
  t.same(next.taken(), ['apply of now'], 'came while it was away');
  const last = setUp(memory);
  last.put(APPLY);
  last.policyJobs.mounted();
  t.same(last.taken(), []);
});

t.test('a job has the files for which its policy decides', async (t) => {
  const { policyJobs, started, put } = setUp({ text: undefined });
  put(
    'name: all, match: { prefix: a/ }, prefetch: { on: [mount] }',
    'name: tar, match: { prefix: a/, glob: "*.tar" }, prefetch: { on: [open] }',
  );
  policyJobs.mounted();
  const paths: string[] = [];
  for await (const file of started[0]!.files(new AbortController().signal)) {
    paths.push('missing' in file ? file.missing : file.path);
  }
  t.same(paths, ['a/x'], 'of y.tar a more specific one says otherwise');
});

t.test('a schedule starts its job when it is due, and again', async (t) => {
  const { policyJobs, clock, put, taken } = setUp({ text: undefined });
  // croner knows the time of the system alone.
  clock.wall = Date.now();
  put('name: nightly, match: { prefix: a/ }, prefetch: { schedule: "* * * * *" }');
  policyJobs.mounted();
  t.same(taken(), []);
  clock.wall += 61_000;
  clock.advance(62_000);
  t.same(taken().slice(0, 1), ['schedule of nightly']);
  put();
  policyJobs.changed();
  taken();
  clock.wall += 3_600_000;
  clock.advance(3_600_000);
  t.same(taken(), [], 'a policy that is gone has no schedule');
  policyJobs.close();
});
