/** What the converger asks of the namespace: a part of the contract of its changes, so that one may stand for the other. */
import type { Namespace } from '../../lib/namespace/namespace.ts';
import type { NamespaceChanges } from '../../lib/namespace/changes.ts';

export type Publisher = Pick<
  NamespaceChanges,
  'beginUpload' | 'commit' | 'endWrite' | 'createFile' | 'reclaim'
>;

/** Where a file is to be made that keeps what another host has taken over. */
export type DirectoryFinder = Pick<Namespace, 'lookup'>;
