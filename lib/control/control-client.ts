/**
 * The commands' end of the admin socket: finds the live mounts of this host and talks to one of them.
 *
 * Guarantees: what a dead process left behind is removed and never reported as a mount; every call ends within
 * its deadline; an answer is validated before anybody sees it.
 */
import http from 'node:http';
import { type Clock, systemClock } from '../base/clock.ts';
import { describeError } from '../base/errors.ts';
import { RunFiles, type RunRecord } from '../config/run-files.ts';
import type { JobRequest } from '../prefetch/prefetch.ts';
import { ControlError, type MountControl } from './control.ts';
import {
  type Answer,
  answerSchema,
  CALL_PATH_PREFIX,
  type ControlCall,
  controlCalls,
  type RequestOf,
  RESPONSE_BYTES_MAX,
  type ResponseOf,
} from './control-protocol.ts';
import { probeSocket } from './socket-probe.ts';

export interface ControlClientOptions {
  readonly clock?: Clock;
  /** Default: of this process's environment. */
  readonly runFiles?: RunFiles;
}

const NEWER_HINT = 'use the perigee command of the release that made the mount, or mount again';

/** The live mounts of this host, by mount point. */
export async function listControls(options: ControlClientOptions = {}): Promise<readonly RunRecord[]> {
  const { clock, runFiles } = withDefaults(options);
  const live: RunRecord[] = [];
  for (const record of readRecords(runFiles)) {
    const state = await probeSocket(record.socketPath, { clock });
    if (state === 'stale' || state === 'absent') runFiles.remove(record.mountpoint);
    else live.push(record);
  }
  return live;
}

/** @throws ControlError if nothing of ours answers for the mount point. */
export async function connectControl(
  mountpoint: string,
  options: ControlClientOptions = {},
): Promise<MountControl> {
  const { clock, runFiles } = withDefaults(options);
  const socketPath = runFiles.socketPath(mountpoint);
  const state = await probeSocket(socketPath, { clock });
  switch (state) {
    case 'live':
      return new ControlClient({ socketPath, mountpoint, clock, runFiles });
    case 'denied':
      throw new ControlError('access-denied', `the mount ${mountpoint} belongs to another user`, {
        hint: 'run the command as that user or as root',
      });
    case 'stale':
      runFiles.remove(mountpoint);
      throw notRunning(mountpoint);
    case 'absent':
      throw notRunning(mountpoint);
  }
}

class ControlClient implements MountControl {
  readonly #socketPath: string;
  readonly #mountpoint: string;
  readonly #clock: Clock;
  readonly #runFiles: RunFiles;

  constructor(options: {
    readonly socketPath: string;
    readonly mountpoint: string;
    readonly clock: Clock;
    readonly runFiles: RunFiles;
  }) {
    this.#socketPath = options.socketPath;
    this.#mountpoint = options.mountpoint;
    this.#clock = options.clock;
    this.#runFiles = options.runFiles;
  }

  status() {
    return this.#call('status', {});
  }

  cacheList(path: string | undefined) {
    return this.#call('cacheList', { path });
  }

  cachePin(path: string, pinned: boolean) {
    return this.#call('cachePin', { path, pinned });
  }

  cacheEvict(path: string | undefined) {
    return this.#call('cacheEvict', { path });
  }

  policyExplain(path: string | undefined) {
    return this.#call('policyExplain', { path });
  }

  unconverged(path: string | undefined) {
    return this.#call('unconverged', { path });
  }

  async flush(path: string | undefined, options: { readonly signal?: AbortSignal } = {}): Promise<void> {
    await this.#call('flush', { path }, options.signal);
  }

  cacheVerify(path: string | undefined, options: { readonly signal?: AbortSignal } = {}) {
    return this.#call('cacheVerify', { path }, options.signal);
  }

  prefetchStart(request: JobRequest) {
    return this.#call('prefetchStart', { ...request, paths: [...request.paths] });
  }

  prefetchList() {
    return this.#call('prefetchList', {});
  }

  prefetchCancel(id: string) {
    return this.#call('prefetchCancel', { id });
  }

  recordStart(path: string) {
    return this.#call('recordStart', { path });
  }

  recordStop(id: string) {
    return this.#call('recordStop', { id });
  }

  async unmount(
    request: { readonly force: boolean },
    { signal }: { readonly signal?: AbortSignal } = {},
  ): Promise<void> {
    try {
      await this.#call('unmount', request, signal);
    } catch (error) {
      // An orderly end removes the socket before the process goes; its answer may be lost on the way.
      const ended = error instanceof ControlError && error.code === 'closed';
      const state = ended ? await probeSocket(this.#socketPath, { clock: this.#clock }) : 'live';
      if (state !== 'absent') throw error;
    }
  }

  async #call<Call extends ControlCall>(
    call: Call,
    request: RequestOf<Call>,
    signal?: AbortSignal,
  ): Promise<ResponseOf<Call>> {
    const { deadlineMs, response } = controlCalls[call];
    const deadline = new AbortController();
    const cancel = this.#clock.after(deadlineMs, () =>
      deadline.abort(
        new ControlError('timeout', `the mount ${this.#mountpoint} did not answer within ${deadlineMs} ms`, {
          hint: 'its log tells what it waits for; perigee unmount --force detaches it',
        }),
      ),
    );
    const signals = signal === undefined ? [deadline.signal] : [deadline.signal, signal];
    try {
      const answer = await this.#post(`${CALL_PATH_PREFIX}${call}`, request, AbortSignal.any(signals));
      if ('error' in answer) {
        const { code, message, hint } = answer.error;
        throw new ControlError(
          code === 'protocol' ? 'protocol' : 'remote',
          message,
          hint === undefined ? {} : { hint },
        );
      }
      const result = response.safeParse(answer.result);
      if (!result.success) throw unreadable(this.#mountpoint, result.error);
      return result.data as ResponseOf<Call>;
    } finally {
      cancel();
    }
  }

  #post(path: string, body: unknown, signal: AbortSignal): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const fail = (error: unknown): void => {
        if (signal.aborted) return reject(signal.reason);
        reject(error instanceof ControlError ? error : this.#lost(error));
      };
      const request = http.request(
        { socketPath: this.#socketPath, path, method: 'POST', agent: false, signal },
        (response) => {
          readAnswer(response, this.#mountpoint).then(resolve, fail);
        },
      );
      request.once('error', fail);
      request.end(JSON.stringify(body));
    });
  }

  #lost(error: unknown): ControlError {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ECONNREFUSED') {
      if (code === 'ECONNREFUSED') this.#runFiles.remove(this.#mountpoint);
      return notRunning(this.#mountpoint);
    }
    return new ControlError('closed', `the mount ${this.#mountpoint} ended before it answered`, {
      cause: error,
      hint: 'its log tells why',
    });
  }
}

async function readAnswer(response: http.IncomingMessage, mountpoint: string): Promise<Answer> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > RESPONSE_BYTES_MAX) throw unreadable(mountpoint, 'the answer is too long');
    chunks.push(chunk);
  }
  try {
    return answerSchema.parse(JSON.parse(Buffer.concat(chunks).toString('utf8')));
  } catch (error) {
    throw unreadable(mountpoint, error);
  }
}

function withDefaults(options: ControlClientOptions) {
  return {
    clock: options.clock ?? systemClock,
    runFiles: options.runFiles ?? RunFiles.ofEnvironment(process.env, process.getuid?.() ?? 0),
  };
}

function readRecords(runFiles: RunFiles): RunRecord[] {
  try {
    return runFiles.records();
  } catch (error) {
    throw new ControlError('disk', `cannot read the run directory ${runFiles.directory}`, {
      cause: error,
      hint: 'run the command as the user of the mounts or as root',
    });
  }
}

function notRunning(mountpoint: string): ControlError {
  return new ControlError('not-running', `no perigee mount answers at ${mountpoint}`, {
    hint: 'perigee status shows the mounts of this host; perigee unmount --force detaches a dead one',
  });
}

function unreadable(mountpoint: string, why: unknown): ControlError {
  return new ControlError(
    'protocol',
    `the answer of the mount ${mountpoint} cannot be read: ${describeError(why).slice(0, 300)}`,
    { hint: NEWER_HINT },
  );
}
