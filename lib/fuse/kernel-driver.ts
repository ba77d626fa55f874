/**
 * The kernel driver: mounts a file system by speaking the FUSE protocol to `/dev/fuse`.
 *
 * A mount that is returned has answered INIT. Its descriptors are closed when it ends; a mount that fails on the
 * way leaves nothing behind. Unmounting waits for users until its deadline, then refuses, if it was asked so, or takes
 * the mount off the path and cuts the connection, so that this process can always exit; files that the kernel reads by itself go on being read.
 */
import { nextTurn } from '../base/clock.ts';
import { describeError } from '../base/errors.ts';
import type { Logger } from '../telemetry/log.ts';
import type { BackingRegistrar } from './backing.ts';
import {
  FuseDevice,
  MountFlag,
  SystemCalls,
  systemErrorCode,
  withProbeFile,
  writeReadAhead,
} from './device.ts';
import { FILE_SYSTEM_TYPE, type DriverOptions } from './driver-options.ts';
import { KernelNotify } from './kernel-notify.ts';
import { KernelSession, type SessionEnd } from './kernel-session.ts';
import { prepareMountpoint } from './mountpoint.ts';
import type { Agreement } from './negotiation.ts';
import { FuseError, type Driver, type DriverConnection, type WhenBusy } from './operations.ts';
import { Unmounter, within } from './unmounter.ts';

/** Reads of the device that wait at a time, each on a thread of the pool. */
export const READERS = 2;
/** The kernel asks for INIT as soon as the mount is made. */
const INIT_DEADLINE_MS = 10_000;
/** Less turns every buffered read into many requests, more turns every page fault into a large one. */
const READ_AHEAD_KIB = 1024;

/** @throws FuseError */
export async function mountKernel(options: DriverOptions): Promise<Driver> {
  if (process.platform !== 'linux')
    throw new FuseError('device-missing', 'the kernel driver is for Linux', {
      hint: 'mount with --driver portable',
    });
  const { mountpoint } = await prepareMountpoint(options.mountpoint, options.clock);
  const calls = new SystemCalls();
  const device = openDevice();
  try {
    mountDevice(calls, device, { ...options, mountpoint });
  } catch (error) {
    device.close();
    throw error;
  }
  const driver = new KernelDriver({ ...options, mountpoint, calls, device });
  try {
    await driver.start();
  } catch (error) {
    await driver.unmount({ deadlineMs: 0 });
    throw error;
  }
  return driver;
}

function openDevice(): FuseDevice {
  try {
    return new FuseDevice();
  } catch (error) {
    const code = systemErrorCode(error);
    if (code === 'EACCES' || code === 'EPERM')
      throw new FuseError('permission', '/dev/fuse may not be opened', { cause: error, hint: 'run as root' });
    throw new FuseError('device-missing', '/dev/fuse cannot be opened', {
      cause: error,
      hint: 'load the kernel module: modprobe fuse; in a container pass --device /dev/fuse',
    });
  }
}

function mountDevice(calls: SystemCalls, device: FuseDevice, options: DriverOptions): void {
  const data = [
    `fd=${device.fd}`,
    'rootmode=40000',
    `user_id=${process.getuid?.() ?? 0}`,
    `group_id=${process.getgid?.() ?? 0}`,
    'default_permissions',
    ...(options.allowOther ? ['allow_other'] : []),
  ].join(',');
  const flags = MountFlag.NOSUID | MountFlag.NODEV | (options.readOnly ? MountFlag.RDONLY : 0);
  try {
    calls.mount({
      source: options.source,
      target: options.mountpoint,
      type: FILE_SYSTEM_TYPE,
      flags,
      data,
    });
  } catch (error) {
    const code = systemErrorCode(error);
    if (code === 'EPERM' || code === 'EACCES')
      throw new FuseError('permission', `may not mount at ${options.mountpoint}`, {
        cause: error,
        hint: 'run as root or with CAP_SYS_ADMIN, or mount with --driver portable',
      });
    if (code === 'EBUSY')
      throw new FuseError('mountpoint-busy', `${options.mountpoint} is busy`, { cause: error });
    throw new FuseError('mount-failed', `cannot mount at ${options.mountpoint}`, {
      cause: error,
      ...(code === 'ENODEV' ? { hint: 'load the kernel module: modprobe fuse' } : {}),
    });
  }
}

interface KernelDriverOptions extends DriverOptions {
  readonly calls: SystemCalls;
  /** Mounted already. */
  readonly device: FuseDevice;
}

class KernelDriver implements Driver {
  readonly mountpoint: string;
  readonly ended: Promise<SessionEnd>;
  readonly #options: KernelDriverOptions;
  readonly #logger: Logger;
  readonly #session: KernelSession;
  readonly #unmounter: Unmounter;
  #notify: KernelNotify | undefined;

  constructor(options: KernelDriverOptions) {
    this.#options = options;
    this.mountpoint = options.mountpoint;
    this.#logger = options.logger;
    this.#session = new KernelSession({
      operations: options.operations,
      writes: options.writes,
      locks: options.locks,
      logger: options.logger,
      metrics: options.metrics,
      clock: options.clock,
      nextTurn,
      connect: (agreement) => this.#connect(agreement),
    });
    this.#unmounter = new Unmounter({
      mountpoint: options.mountpoint,
      unmount: (target, flags) => options.calls.unmount(target, flags),
      ended: this.#session.ended,
      clock: options.clock,
      logger: options.logger,
    });
    this.ended = this.#session.ended.then((end) => this.#cleanUp(end));
    process.once('exit', this.#abandon);
  }

  async start(): Promise<void> {
    this.#session.read(this.#options.device);
    const agreement = await within(this.#session.negotiated, INIT_DEADLINE_MS, this.#options.clock);
    if (agreement === undefined)
      throw new FuseError('protocol', 'the kernel did not start the connection in time');
    for (let readers = 1; readers < READERS; readers++) {
      this.#addChannel(new FuseDevice(), (fresh) => this.#session.read(fresh));
    }
    this.#addChannel(new FuseDevice({ neverWaits: true }), (fresh) => this.#session.poll(fresh));
    this.#raiseReadAhead();
    this.#logger.info(
      {
        mountpoint: this.mountpoint,
        protocol: `7.${agreement.minor}`,
        passthrough: agreement.passthrough,
      },
      'mounted by the kernel driver',
    );
  }

  unmount(options: { readonly deadlineMs: number; readonly whenBusy?: WhenBusy }): Promise<void> {
    return this.#unmounter.unmount(options);
  }

  readonly #abandon = (): void => this.#unmounter.abandon();

  async #cleanUp(end: SessionEnd): Promise<SessionEnd> {
    process.removeListener('exit', this.#abandon);
    this.#notify?.end();
    await this.#unmounter.detach();
    return end;
  }

  /** Another end of the connection; it can be done without. */
  #addChannel(fresh: FuseDevice, use: (fresh: FuseDevice) => void): void {
    try {
      this.#options.calls.clone(fresh, this.#options.device);
      use(fresh);
    } catch (error) {
      fresh.close();
      this.#logger.warn({ error: describeError(error) }, 'fewer channels to the kernel than wanted');
    }
  }

  #raiseReadAhead(): void {
    const { device } = this.#unmounter;
    if (device === undefined) return;
    try {
      writeReadAhead(device, READ_AHEAD_KIB);
    } catch (error) {
      this.#logger.info({ error: describeError(error) }, 'the readahead stays as the kernel sets it');
    }
  }

  #connect(agreement: Agreement): {
    connection: DriverConnection;
    registrar: BackingRegistrar | undefined;
  } {
    const { calls, device, metrics } = this.#options;
    const notify = new KernelNotify({
      channel: device,
      limitReached: (limit) => metrics.limitReached.labels({ limit }).inc(),
    });
    this.#notify = notify;
    const registrar: BackingRegistrar = {
      register: (fd) => calls.backingOpen(device, fd),
      unregister: (id) => calls.backingClose(device, id),
    };
    const passthrough = agreement.passthrough && this.#mayRegister(registrar);
    return {
      connection: {
        abilities: {
          passthrough,
          readBytesMax: agreement.readBytesMax,
          notifications: agreement.epoch ? 'all' : 'entries',
        },
        invalidateAttributes: (node) => notify.invalidateAttributes(node),
        invalidateListing: (node) => notify.invalidateListing(node),
        invalidateEntry: (parent, name) => notify.invalidateEntry(parent, name),
        invalidateAllEntries: () => notify.invalidateAllEntries(),
      },
      registrar: passthrough ? registrar : undefined,
    };
  }

  /** The kernel may know passthrough and still refuse it to this process, as in a user namespace. */
  #mayRegister(registrar: BackingRegistrar): boolean {
    try {
      withProbeFile((fd) => registrar.unregister(registrar.register(fd)));
      return true;
    } catch (error) {
      if (systemErrorCode(error) !== 'EPERM') return true;
      this.#logger.warn({ error: describeError(error) }, 'no passthrough: every read is served');
      return false;
    }
  }
}
