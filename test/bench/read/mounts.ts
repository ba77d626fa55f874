/** Mounts of the bucket, as a user would make them: Perigee by its commands, the peers by theirs. */
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { freePorts } from '../../servers/free-ports.ts';
import { hasCommand, isMounted, REPOSITORY, until, type Stage } from './stage.ts';

/** Where the objects are. */
export interface Bucket {
  readonly endpoint: string;
  readonly bucket: string;
  readonly env: Readonly<Record<string, string>>;
}

/** A mount made anew, with nothing cached. */
export interface Mounted {
  readonly mountpoint: string;
  unmount(): Promise<void>;
}

export interface Mounter {
  readonly name: string;
  /** Undefined if it can be used; else what is missing. */
  readonly missing: string | undefined;
  /** With an empty cache, of the server at `endpoint`. */
  mount(endpoint: string): Promise<Mounted>;
}

const PERIGEE = path.join(REPOSITORY, 'bin/perigee.ts');
const CACHE_SIZE = '8GiB';

export interface Satellite extends Mounted {
  readonly cacheDirectory: string;
  /** Bytes that came from the store since this mount began. */
  fetchedBytes(): Promise<number>;
  cachedBytes(): Promise<number>;
  /** Waits until all that was closed is committed. */
  flush(): Promise<void>;
  /** Drops whatever is not in use. */
  evict(): Promise<void>;
  /** Highest resident memory of the daemon so far. */
  peakMemoryBytes(): Promise<number>;
}

/** Perigee's side: one origin for all mounts of one endpoint. */
export class Perigee {
  readonly name = 'perigee';
  readonly #stage: Stage;
  readonly #bucket: Bucket;
  readonly #env: Readonly<Record<string, string>>;
  readonly #origins = new Map<string, Promise<string>>();
  #count = 0;

  constructor(stage: Stage, bucket: Bucket) {
    this.#stage = stage;
    this.#bucket = bucket;
    this.#env = { ...bucket.env, PERIGEE_RUN_DIR: stage.place('run') };
  }

  /** @param options.cacheDirectory an earlier mount's, to find its bytes again */
  async mount(
    options: {
      readonly endpoint?: string;
      readonly driver?: 'kernel' | 'portable';
      readonly cacheDirectory?: string;
      readonly flags?: readonly string[];
    } = {},
  ): Promise<Satellite> {
    const origin = await this.#origin(options.endpoint ?? this.#bucket.endpoint);
    const number = this.#count++;
    const mountpoint = this.#stage.place(`perigee-${number}`);
    const cacheDirectory = options.cacheDirectory ?? this.#stage.place(`perigee-cache-${number}`);
    const metricsPort = await freePorts(1);
    const args = [
      'mount',
      `${origin}/bench`,
      mountpoint,
      '--cache',
      cacheDirectory,
      '--cache-size',
      CACHE_SIZE,
    ];
    const flags = ['--driver', options.driver ?? 'kernel', ...(options.flags ?? ['--read-only'])];
    args.push(...flags, '--metrics', `127.0.0.1:${metricsPort}`);
    this.#stage.commands.add(
      `perigee mount ORIGIN/bench M --cache D --cache-size ${CACHE_SIZE} ${flags.join(' ')}`,
    );
    await this.#perigee(args);
    let mounted = true;
    const unmount = async (): Promise<void> => {
      if (!mounted) return;
      mounted = false;
      await this.#perigee(['unmount', mountpoint]).catch(() =>
        this.#perigee(['unmount', '--force', mountpoint]),
      );
    };
    this.#stage.atEnd(mountpoint, unmount);
    const status = async (): Promise<{ pid: number; cache: { usedBytes: number } }> =>
      JSON.parse(await this.#perigee(['status', mountpoint, '--json']));
    return {
      mountpoint,
      cacheDirectory,
      unmount: async () => {
        await unmount();
        if (options.cacheDirectory !== undefined) return;
        fs.rmSync(cacheDirectory, { recursive: true, force: true });
      },
      async fetchedBytes() {
        const text = await (await fetch(`http://127.0.0.1:${metricsPort}/metrics`)).text();
        const lines = text.split('\n').filter((line) => line.startsWith('perigee_tier_bytes_total{'));
        return lines.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' '))), 0);
      },
      evict: async () => {
        try {
          await this.#perigee(['cache', 'evict', mountpoint]);
        } catch (error) {
          // 3: what is still open was kept.
          const { code } = ((error as Error).cause ?? {}) as { readonly code?: unknown };
          if (code !== 3) throw error;
        }
      },
      flush: async () => void (await this.#perigee(['flush', mountpoint])),
      cachedBytes: async () => (await status()).cache.usedBytes,
      async peakMemoryBytes() {
        const text = fs.readFileSync(`/proc/${(await status()).pid}/status`, 'utf8');
        return Number(/VmHWM:\s+(\d+) kB/.exec(text)?.[1]) * 1024;
      },
    };
  }

  /** The bucket was changed behind their backs: the next mounts get new ones. */
  async forgetOrigins(): Promise<void> {
    this.#origins.clear();
  }

  #origin(endpoint: string): Promise<string> {
    let origin = this.#origins.get(endpoint);
    if (origin === undefined) this.#origins.set(endpoint, (origin = this.#startOrigin(endpoint)));
    return origin;
  }

  async #startOrigin(endpoint: string): Promise<string> {
    const address = `127.0.0.1:${await freePorts(1)}`;
    const data = this.#stage.place(`origin-${this.#count++}`);
    const url = storeUrl(this.#bucket, endpoint);
    const args = [PERIGEE, 'origin', '--data', data, '--listen', address, '--export', `bench=${url}`];
    this.#stage.commands.add(
      'perigee origin --data D --listen H:P --export bench=s3://BUCKET?endpoint=E&pathStyle=true',
    );
    const { child } = this.#stage.start(process.execPath, args, { env: this.#env });
    const lines = createInterface({ input: child.stdout! });
    const line = await Promise.race([once(lines, 'line'), once(child, 'exit')]);
    if (!String(line[0]).startsWith('ready')) throw new Error(`perigee origin: ${String(line[0])}`);
    return address;
  }

  #perigee(args: readonly string[]): Promise<string> {
    return this.#stage.run(process.execPath, [PERIGEE, ...args], { env: this.#env });
  }
}

function storeUrl(bucket: Bucket, endpoint: string): string {
  return `s3://${bucket.bucket}?endpoint=${encodeURIComponent(endpoint)}&pathStyle=true`;
}

interface Peer {
  readonly name: string;
  readonly command: string;
  args(place: {
    readonly mountpoint: string;
    readonly cache: string;
    readonly endpoint: string;
  }): readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
}

/** What Debian has for the same job, with the options that make it fastest. */
export function peers(
  stage: Stage,
  bucket: Bucket,
  { isWritable = false }: { readonly isWritable?: boolean } = {},
): readonly Mounter[] {
  const { AWS_ACCESS_KEY_ID: id = '', AWS_SECRET_ACCESS_KEY: secret = '' } = bucket.env;
  const passwordFile = path.join(stage.directory, 's3fs-password');
  fs.writeFileSync(passwordFile, `${id}:${secret}`, { mode: 0o600 });
  // Debian's rclone takes AWS_CA_BUNDLE for its only certificates, and its own options from the environment.
  const env = { ...bucket.env, AWS_CA_BUNDLE: undefined };
  const all: readonly Peer[] = [
    {
      name: 'rclone mount',
      command: 'rclone',
      args: ({ mountpoint, cache }) => [
        ...['mount', `bench:${bucket.bucket}`, mountpoint, '--cache-dir', cache, '--config', '/dev/null'],
        ...(isWritable
          ? ['--vfs-cache-mode', 'writes', '--vfs-write-back', '0s', '--transfers', '8']
          : ['--read-only', '--vfs-cache-mode', 'full', '--vfs-read-chunk-size', '32M']),
      ],
      env: {
        ...env,
        RCLONE_CONFIG_BENCH_TYPE: 's3',
        RCLONE_CONFIG_BENCH_PROVIDER: 'Ceph',
        RCLONE_CONFIG_BENCH_ACCESS_KEY_ID: id,
        RCLONE_CONFIG_BENCH_SECRET_ACCESS_KEY: secret,
      },
    },
    {
      name: 's3fs',
      command: 's3fs',
      args: ({ mountpoint, cache, endpoint }) => [
        ...[
          bucket.bucket,
          mountpoint,
          '-f',
          ...(isWritable ? [] : ['-o', 'ro']),
          '-o',
          `url=${endpoint}`,
          '-o',
          'use_path_request_style',
        ],
        ...['-o', `passwd_file=${passwordFile}`, '-o', `use_cache=${cache}`],
        ...['-o', 'parallel_count=8', '-o', 'multipart_size=32'],
      ],
      env,
    },
  ];
  return all.map((peer) => mounterOf(peer, stage));
}

function mounterOf(peer: Peer, stage: Stage): Mounter {
  return {
    name: peer.name,
    missing: hasCommand(peer.command) ? undefined : `apt-get install ${peer.command}`,
    async mount(endpoint) {
      const place = peer.name.replace(/\W+/g, '-');
      const mountpoint = stage.place(place);
      const cache = stage.place(`${place}-cache`);
      const args = peer.args({ mountpoint, cache, endpoint });
      const shown = args
        .join(' ')
        .replaceAll(cache, 'D')
        .replaceAll(`${mountpoint} `, 'M ')
        .replaceAll(endpoint, 'E')
        .replaceAll(`${stage.directory}/`, '');
      stage.commands.add(`${peer.command} ${shown}`);
      const { end } = stage.start(peer.command, args, {
        env: { ...peer.env, RCLONE_CONFIG_BENCH_ENDPOINT: endpoint },
      });
      const unmount = async (): Promise<void> => {
        if (isMounted(mountpoint)) {
          await stage.run('umount', [mountpoint]).catch(() => stage.run('umount', ['-l', mountpoint]));
        }
        await end();
        fs.rmSync(cache, { recursive: true, force: true });
      };
      stage.atEnd(mountpoint, unmount);
      await until(`${peer.name} mounted`, () => isMounted(mountpoint));
      return { mountpoint, unmount };
    },
  };
}
