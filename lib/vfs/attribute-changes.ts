/**
 * Changes of attributes that programs make.
 *
 * Of a file that was never committed they are the working copy's, and its first version carries them. Of everything else
 * they are changed at the origin, before the call returns, and a working copy that is open learns of it. A file that is
 * cut or grown by its path is written: it gets a working copy for that, and a version before the call returns (in
 * write-back, behind). Time stamps of access are kept while a file is being written, and by nobody else.
 */
import type { WorkingAttributes, WorkingCopy } from '../../cache/working-copy.ts';
import type { NodeId } from '../base/brand.ts';
import type { Clock } from '../base/clock.ts';
import { Errno } from '../fuse/errno.ts';
import { ErrnoError, type AttributesReply, type RequestContext } from '../fuse/operations.ts';
import type { AttributeChanges } from '../fuse/write-operations.ts';
import type { ChangedAttributes, NamespaceChanges } from '../namespace/changes.ts';
import type { InodeAttributes } from '../namespace/namespace.ts';
import { isOurs } from './extended-attributes.ts';
import type { NameCalls } from './name-calls.ts';
import type { Node } from './node-table.ts';
import type { NodeView } from './node-view.ts';
import type { WorkingFiles } from './working-files.ts';
import type { Writer } from './writer.ts';

const SET_USER_ID = 0o4000;
const SET_GROUP_ID = 0o2000;
const GROUP_MAY_EXECUTE = 0o010;
const NS_PER_MS = 1_000_000n;
const USER_PREFIX = 'user.';

type Changes = AttributeChanges & { readonly handle?: bigint };

/** What becomes of a mode and an owner. */
type Owned = Pick<WorkingAttributes, 'mode' | 'uid' | 'gid'>;

export interface AttributeChangerOptions {
  readonly changes: NamespaceChanges;
  readonly calls: NameCalls;
  readonly view: NodeView;
  readonly working: WorkingFiles;
  readonly writer: Writer;
  readonly clock: Clock;
}

export class AttributeChanger {
  readonly #options: AttributeChangerOptions;

  constructor(options: AttributeChangerOptions) {
    this.#options = options;
  }

  async setAttributes(id: NodeId, changes: Changes, context: RequestContext): Promise<AttributesReply> {
    const { view } = this.#options;
    const node = view.node(id);
    const { handle, ...wanted } = changes;
    if (Object.keys(wanted).length === 0) return view.attributes(node, handle, context);
    if (wanted.sizeBytes !== undefined) {
      await this.#resize(node, { ...changes, sizeBytes: wanted.sizeBytes }, context);
    } else if (!(await this.#changePending(node, (copy) => this.#apply(copy, wanted), context))) {
      await this.#changeInode(node, wanted, context);
    }
    return view.attributes(node, handle, context);
  }

  async setExtendedAttribute(
    id: NodeId,
    attribute: {
      readonly name: string;
      readonly value: Uint8Array;
      readonly mode: 'either' | 'create' | 'replace';
    },
    context: RequestContext,
  ): Promise<void> {
    const { name, mode } = attribute;
    if (isOurs(name)) throw new ErrnoError(Errno.EPERM, `${name} is only to be read`);
    if (!name.startsWith(USER_PREFIX))
      throw new ErrnoError(Errno.EOPNOTSUPP, 'only user attributes are kept');
    const node = this.#options.view.node(id);
    const isThere = await this.#hasExtended(node, name, context);
    if (isThere && mode === 'create') throw new ErrnoError(Errno.EEXIST, `${name} is there`);
    if (!isThere && mode === 'replace') throw new ErrnoError(Errno.ENODATA, `no attribute ${name}`);
    await this.#changeExtended(node, { name, value: Buffer.from(attribute.value) }, context);
  }

  async removeExtendedAttribute(id: NodeId, name: string, context: RequestContext): Promise<void> {
    if (isOurs(name)) throw new ErrnoError(Errno.EPERM, `${name} is only to be read`);
    const node = this.#options.view.node(id);
    if (!(await this.#hasExtended(node, name, context))) {
      throw new ErrnoError(Errno.ENODATA, `no attribute ${name}`);
    }
    await this.#changeExtended(node, { name, value: undefined }, context);
  }

  /** A write that is not the kernel's own took place. */
  dropSetIds(copy: WorkingCopy): void {
    const mode = withoutSetIds(copy.attributes.mode);
    if (mode !== copy.attributes.mode) copy.setAttributes({ mode });
  }

  async #resize(
    node: Node,
    changes: Changes & { readonly sizeBytes: number },
    context: RequestContext,
  ): Promise<void> {
    if (node.kind === 'directory') throw new ErrnoError(Errno.EISDIR, 'a directory');
    if (node.kind === 'symlink') throw new ErrnoError(Errno.EINVAL, 'a symbolic link');
    const { writer, working } = this.#options;
    const { sizeBytes, handle, ...others } = changes;
    const copy = await writer.use(node, { isEmptied: sizeBytes === 0 }, context);
    try {
      await copy.truncate(sizeBytes);
      this.#apply(copy, others);
      if (handle === undefined && !node.isGone) await writer.publish(copy);
    } finally {
      working.leave(copy);
    }
  }

  /** False: the file, if it is one, has been committed. */
  async #changePending(
    node: Node,
    change: (copy: WorkingCopy) => void,
    context: RequestContext,
  ): Promise<boolean> {
    const { working, writer } = this.#options;
    if (node.kind !== 'file') return false;
    await working.settled(node.inode, context);
    const copy = working.of(node.inode);
    if (copy === undefined || node.attributes?.source !== undefined) return false;
    const wasUsed = working.isUsed(copy);
    if (!(await working.enter(copy, context))) return false;
    try {
      change(copy);
      if (!wasUsed) await writer.publish(copy);
    } finally {
      working.leave(copy);
    }
    return true;
  }

  async #changeInode(node: Node, wanted: AttributeChanges, context: RequestContext): Promise<void> {
    const before = await this.#options.view.inode(node, context);
    const { mode, uid, gid } = ownedAfter(before, wanted);
    const [accessedNs, modifiedNs] = [this.#timeOf(wanted.accessedNs), this.#timeOf(wanted.modifiedNs)];
    const owned: ChangedAttributes = {
      ...(mode !== before.mode && { mode }),
      ...(uid !== before.uid && { uid }),
      ...(gid !== before.gid && { gid }),
    };
    const changed = { ...owned, ...(modifiedNs !== undefined && { modifiedNs }) };
    if (Object.keys(changed).length > 0) await this.#tellOrigin(node, changed);
    const tell = (copy: WorkingCopy, isCommitted: { readonly isCommitted: true }): void => {
      if (Object.keys(owned).length > 0) copy.setAttributes({ mode, uid, gid }, isCommitted);
      setTimes(copy, { accessedNs, modifiedNs }, isCommitted);
    };
    await this.#tellCopy(node, tell, context);
  }

  async #tellOrigin(node: Node, changed: ChangedAttributes): Promise<void> {
    const { changes, calls, view } = this.#options;
    const now = await calls.run([], (signal) => changes.setAttributes(node.inode, changed, { signal }));
    view.changed(node, now);
  }

  /** The inode has them: so has a copy from which another version will come, and it is not written for it. */
  async #tellCopy(
    node: Node,
    change: (copy: WorkingCopy, isCommitted: { readonly isCommitted: true }) => void,
    context: RequestContext,
  ): Promise<void> {
    const { working } = this.#options;
    const copy = node.kind === 'file' ? working.of(node.inode) : undefined;
    if (copy === undefined || !(working.isUsed(copy) || copy.isDirty)) return;
    if (!(await working.enter(copy, context))) return;
    try {
      change(copy, { isCommitted: true });
    } finally {
      working.leave(copy);
    }
  }

  async #hasExtended(node: Node, name: string, context: RequestContext): Promise<boolean> {
    const { extended = {} } = await this.#options.view.inode(node, context);
    return Object.hasOwn(extended, name);
  }

  async #changeExtended(
    node: Node,
    { name, value }: { readonly name: string; readonly value: Uint8Array | undefined },
    context: RequestContext,
  ): Promise<void> {
    const changeCopy = (copy: WorkingCopy, isCommitted?: { readonly isCommitted: true }): void => {
      const { extended } = copy.attributes;
      const others = Object.fromEntries(Object.entries(extended).filter(([each]) => each !== name));
      const changed = value === undefined ? others : { ...others, [name]: value };
      copy.setAttributes({ extended: changed }, isCommitted);
    };
    if (await this.#changePending(node, (copy) => changeCopy(copy), context)) return;
    await this.#tellOrigin(node, { extended: { [name]: value } });
    await this.#tellCopy(node, changeCopy, context);
  }

  #apply(copy: WorkingCopy, wanted: AttributeChanges): void {
    const { mode, uid, gid } = copy.attributes;
    const after = ownedAfter({ kind: 'file', mode, uid, gid }, wanted);
    if (after.mode !== mode || after.uid !== uid || after.gid !== gid) copy.setAttributes(after);
    setTimes(copy, {
      accessedNs: this.#timeOf(wanted.accessedNs),
      modifiedNs: this.#timeOf(wanted.modifiedNs),
    });
  }

  #timeOf(time: bigint | 'now' | undefined): bigint | undefined {
    return time === 'now' ? BigInt(this.#options.clock.wallMs()) * NS_PER_MS : time;
  }
}

function setTimes(
  copy: WorkingCopy,
  times: { readonly accessedNs: bigint | undefined; readonly modifiedNs: bigint | undefined },
  isCommitted?: { readonly isCommitted: true },
): void {
  const { accessedNs, modifiedNs } = times;
  if (accessedNs === undefined && modifiedNs === undefined) return;
  const given = {
    ...(accessedNs !== undefined && { accessedNs }),
    ...(modifiedNs !== undefined && { modifiedNs }),
  };
  copy.setTimes(given, isCommitted);
}

/** A new owner or group, and whoever says so, takes set-ID bits off a file. */
function ownedAfter(before: Owned & Pick<InodeAttributes, 'kind'>, wanted: AttributeChanges): Owned {
  const { mode = before.mode, uid = before.uid, gid = before.gid } = wanted;
  const isDropped = wanted.dropSetIds === true || wanted.uid !== undefined || wanted.gid !== undefined;
  return { mode: isDropped && before.kind === 'file' ? withoutSetIds(mode) : mode, uid, gid };
}

function withoutSetIds(mode: number): number {
  const left = mode & ~SET_USER_ID;
  return (left & GROUP_MAY_EXECUTE) === 0 ? left : left & ~SET_GROUP_ID;
}
