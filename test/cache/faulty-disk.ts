/** The system's disk with faults in front of it. */
import { type Disk, systemDisk } from '../../cache/disk.ts';

type Operation = keyof Disk;

export interface FaultyDisk {
  readonly disk: Disk;
  /** What an operation fails with, such as `{ read: 'EIO' }`. */
  readonly faults: Partial<Record<Operation, string>>;
}

const ASYNCHRONOUS: ReadonlySet<string> = new Set<Operation>([
  ...(['read', 'datasync', 'discard', 'probe', 'write', 'truncate', 'allocate', 'seek'] as const),
  ...(['copyRange', 'clone', 'datasyncOpen', 'syncDirectory', 'remove', 'copyFile'] as const),
]);

export function faultyDisk(overrides: Partial<Disk> = {}): FaultyDisk {
  const faults: Partial<Record<Operation, string>> = {};
  const check = (operation: Operation): void => {
    const code = faults[operation];
    if (code !== undefined) throw Object.assign(new Error(`${code}: ${operation}`), { code });
  };
  const disk = Object.fromEntries(
    Object.entries({ ...systemDisk, ...overrides }).map(([name, run]) => {
      const operation = name as Operation;
      const asynchronous = ASYNCHRONOUS.has(name);
      const wrapped = (...args: unknown[]): unknown => {
        // What is wrong with reads is to be seen by each of them.
        if (name === 'readNow' && (faults.read ?? overrides.read) !== undefined) return false;
        // Nor does a sync of everything hide what is wrong with that of a file.
        if (name === 'whole' && overrides.whole === undefined) return undefined;
        if (!asynchronous) {
          check(operation);
          return (run as (...args: unknown[]) => unknown)(...args);
        }
        return new Promise((resolve) => {
          check(operation);
          resolve((run as (...args: unknown[]) => unknown)(...args));
        });
      };
      return [name, wrapped];
    }),
  ) as unknown as Disk;
  return { disk, faults };
}
