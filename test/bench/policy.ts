/**
 * What one decision costs: a million paths of data sets, checkpoints and small files against 100 and 1,000 policies of
 * prefixes, globs, sizes and labels. Every decision is timed alone; the cost of the timer itself is measured and taken
 * off.
 */
import { parsePolicyDocument } from '../../lib/policy/policy-document.ts';
import { compilePolicies } from '../../lib/policy/engine.ts';
import type { Subject } from '../../lib/policy/policy.ts';
import { type Prng, seededPrng } from '../../lib/base/prng.ts';

const PATHS = 1_000_000;
const MEDIAN_NS_MAX = 5_000;
const DATASETS = 50;

interface PolicyRow {
  readonly policies: number;
  readonly compileMs: number;
  readonly medianNs: number;
  readonly p99Ns: number;
  readonly decisionsPerSecond: number;
}

export function runPolicyBench(): boolean {
  const prng = seededPrng(11);
  const subjects = Array.from({ length: PATHS }, () => subjectOf(prng));
  const rows = [100, 1_000].map((count) => measure(count, subjects));
  for (const { policies, compileMs, medianNs, p99Ns, decisionsPerSecond } of rows) {
    console.log(
      `${policies} policies, ${PATHS} paths: median ${medianNs} ns, p99 ${p99Ns} ns, ` +
        `${Math.round(decisionsPerSecond)} decisions/s; read and compiled in ${compileMs.toFixed(1)} ms`,
    );
  }
  const median = rows[0]?.medianNs ?? Infinity;
  const isMet = median <= MEDIAN_NS_MAX;
  console.log(`median with 100 policies at most ${MEDIAN_NS_MAX} ns: ${isMet ? 'met' : 'missed'}`);
  return isMet;
}

function measure(count: number, subjects: readonly Subject[]): PolicyRow {
  const text = documentOf(count);
  const began = performance.now();
  const engine = compilePolicies(parsePolicyDocument(text).policies);
  const compileMs = performance.now() - began;
  let matched = 0;
  const run = (subject: Subject): void => {
    matched += engine.decide(subject).deciding.length;
  };
  for (const subject of subjects.slice(0, 20_000)) run(subject);
  const timer = timerNs();
  const times = new Float64Array(subjects.length);
  for (let at = 0; at < subjects.length; at++) {
    const start = process.hrtime.bigint();
    run(subjects[at]!);
    times[at] = Math.max(0, Number(process.hrtime.bigint() - start) - timer);
  }
  const all = performance.now();
  for (const subject of subjects) run(subject);
  const decisionsPerSecond = subjects.length / ((performance.now() - all) / 1_000);
  times.sort();
  if (matched === 0) throw new Error('no policy matched any path');
  return {
    policies: count,
    compileMs,
    medianNs: Math.round(times[times.length >> 1]!),
    p99Ns: Math.round(times[Math.floor(times.length * 0.99)]!),
    decisionsPerSecond,
  };
}

function timerNs(): number {
  const times = new Float64Array(20_000);
  for (let at = 0; at < times.length; at++) {
    const start = process.hrtime.bigint();
    times[at] = Number(process.hrtime.bigint() - start);
  }
  times.sort();
  return times[times.length >> 1]!;
}

/** One policy for everything; for each data set some by prefix, by glob, by size and by label. */
function documentOf(count: number): string {
  const policies = [{ name: 'everything', match: {}, cache: { rank: 0 } } as object];
  const kinds = [
    (set: number, at: number) => ({ match: { prefix: `set-${set}/` }, cache: { rank: at % 9 } }),
    (set: number) => ({
      match: { prefix: `set-${set}/`, glob: '**/*.tar' },
      cache: { wholeOnOpen: '64MiB' },
    }),
    (set: number, at: number) => ({
      match: { prefix: `set-${set}/train/`, glob: `${at % 10}*/{a,b}*.bin` },
      cache: { pin: true },
    }),
    (set: number) => ({ match: { prefix: `set-${set}/`, size: { max: '1MiB' } }, cache: { ttl: '7d' } }),
    (set: number) => ({
      match: { glob: `set-${set}/**/*.json`, hosts: { labels: { pool: 'h200' } } },
      cache: { admit: 'second-miss' },
    }),
  ];
  for (let at = 0; policies.length < count; at++) {
    const set = Math.floor(at / kinds.length) % DATASETS;
    policies.push({ name: `p${at}`, ...kinds[at % kinds.length]!(set, at) });
  }
  return JSON.stringify({ apiVersion: 'perigee/v1', policies });
}

function subjectOf(prng: Prng): Subject {
  const set = prng.below(DATASETS * 2);
  const ending = ['.tar', '.bin', '.json', '.jpeg'][prng.below(4)]!;
  const path = `set-${set}/${prng.below(2) === 0 ? 'train' : 'val'}/${prng.below(1_000)}/${'abcd'[prng.below(4)]}-${prng.below(100_000)}${ending}`;
  return {
    exportName: 'research',
    path,
    sizeBytes: prng.below(8 * 1024 * 1024),
    host: { name: 'gpu-1', labels: { pool: prng.below(2) === 0 ? 'h200' : 'h100' } },
  };
}
