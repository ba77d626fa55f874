/** Unmounts with the means of the user: root by the system call, others through the helper that mounts for them. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { SystemCallError, SystemCalls, UnmountFlag } from './device.ts';
import { Errno } from './errno.ts';

/** A helper that hangs is as good as one that fails. */
const HELPER_DEADLINE_MS = 10_000;

/** @param flags of umount2(2). @throws with the name of an errno as its code */
export async function unmountAsUser(target: string, flags: number): Promise<void> {
  if (process.platform === 'linux' && process.getuid?.() === 0)
    return new SystemCalls().unmount(target, flags);
  const lazily = (flags & UnmountFlag.DETACH) !== 0;
  const [command, options]: [string, string[]] =
    process.platform === 'linux'
      ? ['fusermount', ['-u', ...(lazily ? ['-z'] : [])]]
      : ['/sbin/umount', lazily ? ['-f'] : []];
  try {
    await promisify(execFile)(command, [...options, '--', target], { timeout: HELPER_DEADLINE_MS });
  } catch (error) {
    const text = (error as { stderr?: string }).stderr ?? '';
    if (/busy/i.test(text)) throw new SystemCallError(command, Errno.EBUSY);
    if (/not found|not mounted|invalid argument/i.test(text))
      throw new SystemCallError(command, Errno.EINVAL);
    // Without a code: that of a missing helper must not pass for that of a missing mount.
    throw new Error(`${command} failed: ${text.trim()}`, { cause: error });
  }
}
