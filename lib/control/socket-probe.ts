/** Tells a socket with a live listener from the file that a dead process left behind, without sending a byte. */
import net from 'node:net';
import { type Clock } from '../base/clock.ts';

/** A live listener accepts at once; a stopped process still has its backlog. */
const PROBE_DEADLINE_MS = 2_000;

/**
 * - `live`: somebody listens, or may well do: the backlog is full, or the probe took too long
 * - `stale`: the file is there and nobody listens
 * - `absent`: there is no such file
 * - `denied`: it belongs to another user
 */
export type SocketState = 'live' | 'stale' | 'absent' | 'denied';

export function probeSocket(socketPath: string, { clock }: { readonly clock: Clock }): Promise<SocketState> {
  return new Promise((resolve) => {
    const socket = net.connect(socketPath);
    const end = (state: SocketState): void => {
      cancel();
      socket.destroy();
      resolve(state);
    };
    const cancel = clock.after(PROBE_DEADLINE_MS, () => end('live'));
    socket.once('connect', () => end('live'));
    socket.on('error', (error: NodeJS.ErrnoException) => end(stateOf(error.code)));
  });
}

function stateOf(errorCode: string | undefined): SocketState {
  switch (errorCode) {
    case 'ENOENT':
    case 'ENOTDIR':
      return 'absent';
    case 'EACCES':
    case 'EPERM':
      return 'denied';
    case 'EAGAIN':
      return 'live';
    default:
      // ECONNREFUSED of a socket without listener; ENOTSOCK and others of a file that is none.
      return 'stale';
  }
}
