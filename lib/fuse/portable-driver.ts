/**
 * The portable driver: mounts a file system through libfuse 2, for hosts where the kernel driver cannot run.
 *
 * It promises close-to-open consistency only: an open sees the newest version, but what a program has looked up
 * and not opened may be older. No passthrough, no invalidation, no INTERRUPT; times are exact to the millisecond
 * and inode numbers are libfuse's own. Requests name paths, so every request walks its path.
 */
import { FUSE_READ_BYTES_MAX } from '../base/limits.ts';
import { describeError } from '../base/errors.ts';
import type { DriverOptions } from './driver-options.ts';
import { loadNativeLibrary, type NativeLibrary, type NativeMount } from './fuse-native.ts';
import { prepareMountpoint } from './mountpoint.ts';
import { FuseError, type Driver, type WhenBusy } from './operations.ts';
import { PortableHandlers } from './portable-handlers.ts';
import { Unmounter, within } from './unmounter.ts';
import { unmountAsUser } from './user-unmount.ts';

const MOUNT_DEADLINE_MS = 10_000;
/** libfuse tells nobody that a mount was taken away from outside, so the mount table is looked at. */
const WATCH_PERIOD_MS = 500;
/** Largest read of libfuse 2. */
const READ_BYTES_MAX = 128 * 1024;

export interface PortableLoader {
  /** Imports `fuse-native`. */
  readonly load?: () => Promise<unknown>;
}

/** @throws FuseError */
export async function mountPortable(options: DriverOptions, loader: PortableLoader = {}): Promise<Driver> {
  const library = await loadNativeLibrary(loader.load);
  const { mountpoint } = await prepareMountpoint(options.mountpoint, options.clock);
  const driver = new PortableDriver({ ...options, mountpoint }, library);
  await driver.start();
  return driver;
}

/** Comma and backslash mean something in libfuse's list of options. */
function escapeOption(text: string): string {
  return text.replace(/[\\,]/g, '\\$&');
}

class PortableDriver implements Driver {
  readonly mountpoint: string;
  readonly ended: Promise<{ readonly reason: 'unmounted' | 'aborted' }>;
  readonly #options: DriverOptions;
  readonly #native: NativeMount;
  readonly #handlers: PortableHandlers;
  readonly #settleEnded: (end: { readonly reason: 'unmounted' }) => void;
  #unmounter: Unmounter | undefined;
  #stopWatching: () => void = () => undefined;

  constructor(options: DriverOptions, library: NativeLibrary) {
    const ended = Promise.withResolvers<{ readonly reason: 'unmounted' }>();
    this.mountpoint = options.mountpoint;
    this.ended = ended.promise;
    this.#settleEnded = ended.resolve;
    this.#options = options;
    this.#handlers = new PortableHandlers(options);
    this.#native = new library(options.mountpoint, this.#handlers.handlers(), {
      fsname: escapeOption(options.source),
      // The library has no option of its own for a read-only mount.
      subtype: options.readOnly ? 'perigee,ro' : 'perigee',
      allowOther: options.allowOther,
      defaultPermissions: true,
      // Nothing is cached by name: the kernel has no way to hear from us that it has changed.
      entryTimeout: '0',
      attrTimeout: '0',
      timeout: false,
    });
  }

  async start(): Promise<void> {
    const { clock, operations, logger } = this.#options;
    operations.connected({
      abilities: {
        passthrough: false,
        readBytesMax: Math.min(READ_BYTES_MAX, FUSE_READ_BYTES_MAX),
        notifications: 'none',
      },
      invalidateAttributes: () => false,
      invalidateListing: () => false,
      invalidateEntry: () => Promise.resolve(),
      // Nothing is cached, so nothing is left of it.
      invalidateAllEntries: () => false,
    });
    const failure = await within(this.#mount(), MOUNT_DEADLINE_MS, clock);
    this.#unmounter = new Unmounter({
      mountpoint: this.mountpoint,
      unmount: async (target, flags) => {
        await unmountAsUser(target, flags);
        this.#finish();
      },
      ended: this.ended,
      clock,
      logger,
    });
    if (failure !== null) {
      await this.#unmounter.detach();
      this.#finish();
      throw new FuseError('mount-failed', `cannot mount at ${this.mountpoint} by libfuse`, {
        ...(failure === undefined ? {} : { cause: failure }),
        hint: 'run as root, or check that /dev/fuse and fusermount are there',
      });
    }
    const unmounter = this.#unmounter;
    this.#stopWatching = clock.every(WATCH_PERIOD_MS, () => {
      if (!unmounter.isMounted()) this.#finish();
    });
    logger.warn(
      { mountpoint: this.mountpoint },
      'mounted by the portable driver: close-to-open consistency only, every read is served',
    );
  }

  async unmount(options: { readonly deadlineMs: number; readonly whenBusy?: WhenBusy }): Promise<void> {
    await this.#unmounter?.unmount(options);
    this.#finish();
  }

  /** Null, or why not. */
  #mount(): Promise<Error | null> {
    return new Promise((resolve) => this.#native.mount(resolve));
  }

  /** Once. Lets go of the library's thread, which would keep the process alive. */
  #finish(): void {
    if (this.#handlers.ended) return;
    this.#stopWatching();
    this.#handlers.end();
    this.#native.unmount((error) => {
      if (error !== null) this.#options.logger.warn({ error: describeError(error) }, 'libfuse did not end');
      this.#settleEnded({ reason: 'unmounted' });
    });
    this.#options.operations.disconnected();
  }
}
