/**
 * Real S3 servers for a test file: Ceph's gateway and OpenStack Swift.
 *
 * Where PERIGEE_TEST_S3_CEPH or PERIGEE_TEST_S3_SWIFT names an endpoint (started by `ceph-rgw.sh up` or
 * `swift-s3.sh up`, so that many test files share it), that one is used. Otherwise each call starts a server of its
 * own, with its own directory and ports, and stops it when the test ends. Every call makes a bucket of its own.
 * The credentials are put into this process's environment, where the SDK's default chain finds them.
 */
import { execFile, execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { randomId } from '../../lib/base/prng.ts';
import { CreateBucketCommand, DeleteBucketCommand, S3Client } from '@aws-sdk/client-s3';
import { openStore } from '../../lib/store/open-store.ts';
import { freePorts } from './free-ports.ts';

const START_DEADLINE_MS = 120_000;
const STOP_DEADLINE_MS = 30_000;

export interface TestServer {
  readonly name: string;
  readonly endpoint: string;
  /** New and empty; removed at the end. */
  readonly bucket: string;
  /** For child processes. */
  readonly env: { readonly AWS_ACCESS_KEY_ID: string; readonly AWS_SECRET_ACCESS_KEY: string };
  /** For `openStore`; another endpoint is that of a proxy before this one. */
  url(prefix?: string, endpoint?: string): string;
}

/** What of tap's `t` is needed here. */
interface Test {
  teardown(run: () => Promise<void> | void): void;
}

interface Kind {
  readonly name: string;
  readonly script: string;
  readonly endpointVariable: string;
  readonly env: TestServer['env'];
  readonly ports: number;
  readonly settings: (directory: string, port: number) => Record<string, string>;
}

const CEPH: Kind = {
  name: 'ceph',
  script: 'ceph-rgw.sh',
  endpointVariable: 'PERIGEE_TEST_S3_CEPH',
  env: { AWS_ACCESS_KEY_ID: 'test', AWS_SECRET_ACCESS_KEY: 'testtest' },
  ports: 3,
  settings: (directory, port) => ({
    CEPH_DIR: directory,
    RGW_PORT: String(port),
    CEPH_MON_PORT: String(port + 1),
  }),
};

const SWIFT: Kind = {
  name: 'swift',
  script: 'swift-s3.sh',
  endpointVariable: 'PERIGEE_TEST_S3_SWIFT',
  env: { AWS_ACCESS_KEY_ID: 'test:tester', AWS_SECRET_ACCESS_KEY: 'testing' },
  ports: 5,
  settings: (directory, port) => ({ SWIFT_DIR: directory, SWIFT_PORT: String(port) }),
};

export const withCeph = (t: Test): Promise<TestServer> => withServer(t, CEPH);
export const withSwift = (t: Test): Promise<TestServer> => withServer(t, SWIFT);

async function withServer(t: Test, kind: Kind): Promise<TestServer> {
  const endpoint = process.env[kind.endpointVariable] ?? (await start(t, kind));
  Object.assign(process.env, kind.env);
  const bucket = `t-${randomId(8)}`;
  const url = (prefix = '', at = endpoint): string =>
    `s3://${bucket}/${prefix}?endpoint=${encodeURIComponent(at)}&pathStyle=true`;
  const client = new S3Client({ endpoint, region: 'us-east-1', forcePathStyle: true });
  await client.send(new CreateBucketCommand({ Bucket: bucket }));
  t.teardown(async () => {
    const store = openStore(url());
    for (let page = await store.list({ prefix: '' }); ; page = await store.list({ prefix: '' })) {
      await Promise.all(page.objects.map(({ key }) => store.delete(key)));
      if (page.nextToken === undefined) break;
    }
    await store.close();
    // A bucket that keeps versions or unfinished uploads cannot be deleted; its server ends soon.
    await client.send(new DeleteBucketCommand({ Bucket: bucket })).catch(() => {});
    client.destroy();
  });
  return { name: kind.name, endpoint, bucket, env: kind.env, url };
}

async function start(t: Test, kind: Kind): Promise<string> {
  const directory = mkdtempSync(join(tmpdir(), `perigee-${kind.name}-`));
  const port = await freePorts(kind.ports);
  const env = { ...process.env, ...kind.settings(directory, port) };
  const script = join(import.meta.dirname, kind.script);
  const stop = (): void => {
    execFileSync(script, ['down'], { env, stdio: 'ignore', timeout: STOP_DEADLINE_MS });
    rmSync(directory, { recursive: true, force: true });
    process.removeListener('exit', stop);
  };
  process.on('exit', stop);
  t.teardown(stop);
  await new Promise<void>((resolve, reject) => {
    const options = { env, timeout: START_DEADLINE_MS, maxBuffer: 16 * 1024 * 1024 };
    execFile(script, ['up'], options, (error, stdout, stderr) => {
      if (error) reject(new Error(`${kind.script} up: ${stdout}${stderr}`, { cause: error }));
      else resolve();
    });
  });
  return `http://127.0.0.1:${port}`;
}
