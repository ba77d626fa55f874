/** An origin and its store in memory, as the converger sees them: they fail, answer late, and lose answers, as told. */
import { crc32 } from 'node:zlib';
import type { InodeNumber, VersionId } from '../../lib/base/brand.ts';
import { ROOT_INODE } from '../../lib/base/brand.ts';
import type {
  BegunUpload,
  CommittedContent,
  CreatedFile,
  NamePlace,
  NewFile,
  WriteGrant,
} from '../../lib/namespace/changes.ts';
import { type InodeAttributes, NamespaceError } from '../../lib/namespace/namespace.ts';
import type { PartSender, PartToSend, SentPart } from '../../lib/tiers/part-sender.ts';
import { TierError } from '../../lib/tiers/tier.ts';
import type { DirectoryFinder, Publisher } from '../../cache/converger/publisher.ts';
import type { FakeFile } from './fake-staging.ts';

export interface FakeVersion {
  readonly id: string;
  readonly bytes: string;
  /** Undefined: another host's. */
  readonly write: string | undefined;
  readonly attributes: CommittedContent['attributes'] | undefined;
}

export interface FakeInode {
  readonly inode: InodeNumber;
  name: string;
  isRemoved: boolean;
  readonly versions: FakeVersion[];
}

interface Write {
  readonly grant: WriteGrant;
  state: 'good' | 'stale' | 'ended';
}

interface Upload {
  readonly write: string;
  readonly parts: Map<number, { readonly tag: string; readonly bytes: Buffer }>;
  isGone: boolean;
}

export interface FakeOriginOptions {
  /** Before each answer; throws what the call fails with. `lost`: after it took effect. */
  readonly weather: (call: string, when: 'before' | 'lost') => Promise<void>;
  readonly fileOf: (fd: number) => FakeFile | undefined;
}

export class FakeOrigin {
  readonly inodes = new Map<InodeNumber, FakeInode>();
  readonly writes = new Map<string, Write>();
  readonly uploads = new Map<string, Upload>();
  readonly #options: FakeOriginOptions;
  #count = 0;
  /** Calls by name. */
  readonly calls = new Map<string, number>();
  onSent: (part: SentPart) => void = () => undefined;
  sentBytes = 0;
  /** Readings by a descriptor that was given back before. */
  strayReads = 0;
  /** Of the satellite: a dead one reads no more. */
  life = 0;

  constructor(options: FakeOriginOptions) {
    this.#options = options;
  }

  // --- What the test does by itself ---

  create(name: string): WriteGrant {
    const inode = BigInt(++this.#count + 100) as InodeNumber;
    this.inodes.set(inode, { inode, name, isRemoved: false, versions: [] });
    return this.#grant(inode);
  }

  openWrite(inode: InodeNumber): WriteGrant {
    for (const { grant, state } of this.writes.values()) {
      if (grant.inode === inode && state === 'good') return grant;
    }
    return this.#grant(inode);
  }

  takeOver(inode: InodeNumber): void {
    for (const write of this.writes.values()) {
      if (write.grant.inode === inode && write.state === 'good') write.state = 'stale';
    }
    this.#addVersion(inode, { bytes: `theirs-${this.#count}`, write: undefined, attributes: undefined });
  }

  remove(inode: InodeNumber): void {
    this.inodes.get(inode)!.isRemoved = true;
  }

  get openWrites(): readonly WriteGrant[] {
    return Array.from(this.writes.values()).flatMap(({ grant, state }) => (state === 'good' ? [grant] : []));
  }

  forgetUploads(): void {
    for (const upload of this.uploads.values()) upload.isGone = true;
  }

  // --- What the converger asks for ---

  readonly names: DirectoryFinder = {
    lookup: async (_parent, name) =>
      name === 'd' ? ({ inode: 2n as InodeNumber, kind: 'directory' } as InodeAttributes) : undefined,
  };

  readonly publisher: Publisher = {
    createFile: (place, file) => this.#call('createFile', () => this.#createFile(place, file)),
    beginUpload: (grant) => this.#call('beginUpload', () => this.#beginUpload(grant)),
    commit: (grant, content) => this.#call('commit', () => this.#commit(grant, content)),
    endWrite: (grant) =>
      this.#call('endWrite', () => {
        const write = this.writes.get(grant.write);
        if (write?.state === 'good') write.state = 'ended';
      }),
    reclaim: (grants) =>
      this.#call(
        'reclaim',
        () =>
          new Set(
            grants.map(({ write }) => write).filter((write) => this.writes.get(write)?.state === 'good'),
          ),
      ),
  };

  readonly sender: PartSender = {
    send: (part) => this.#send(part),
    yieldToWriters: () => undefined,
    close: async () => undefined,
  };

  async #call<T>(call: string, run: () => T): Promise<T> {
    this.calls.set(call, (this.calls.get(call) ?? 0) + 1);
    await this.#options.weather(call, 'before');
    const answer = run();
    await this.#options.weather(call, 'lost');
    return answer;
  }

  #grant(inode: InodeNumber): WriteGrant {
    const number = ++this.#count;
    const grant = { write: `w${number}`, token: BigInt(number), exportName: 'data', inode };
    this.writes.set(grant.write, { grant, state: 'good' });
    return grant;
  }

  #expect(grant: WriteGrant): FakeInode {
    const write = this.writes.get(grant.write);
    if (write?.state !== 'good') throw new NamespaceError('fenced', 'another host has taken the file over');
    const inode = this.inodes.get(grant.inode)!;
    if (inode.isRemoved) throw new NamespaceError('not-found', 'the file was removed');
    return inode;
  }

  #createFile({ parent, name }: NamePlace, _file: NewFile): CreatedFile {
    const path = parent === ROOT_INODE ? name : `d/${name}`;
    for (const inode of this.inodes.values()) {
      if (inode.name === path && !inode.isRemoved) throw new NamespaceError('exists', path);
    }
    const grant = this.create(path);
    return { grant, attributes: { inode: grant.inode } as InodeAttributes };
  }

  #beginUpload(grant: WriteGrant): BegunUpload {
    this.#expect(grant);
    const upload = `u${++this.#count}`;
    this.uploads.set(upload, { write: grant.write, parts: new Map(), isGone: false });
    return { upload, storeUrl: 's3://data', objectKey: `key-${grant.inode}`, storeUpload: upload };
  }

  #commit(grant: WriteGrant, content: CommittedContent): InodeAttributes {
    const inode = this.#expect(grant);
    const bytes = this.#bytesOf(grant, content);
    if (bytes.length !== content.sizeBytes) throw new Error('a commit tells its size');
    const { attributes } = content;
    const version = this.#addVersion(grant.inode, {
      bytes: bytes.toString('latin1'),
      write: grant.write,
      attributes,
    });
    if (content.isLast) this.writes.get(grant.write)!.state = 'ended';
    const source = {
      version: version.id as VersionId,
      exportName: 'data',
      objectKey: inode.name,
      objectVersion: undefined,
      entityTag: version.id,
      sizeBytes: bytes.length,
    };
    return { inode: grant.inode, kind: 'file', sizeBytes: bytes.length, source } as InodeAttributes;
  }

  #bytesOf({ write }: WriteGrant, { content, upload: id, parts, sizeBytes }: CommittedContent): Buffer {
    if (id === '') return Buffer.from(content ?? []);
    const upload = this.uploads.get(id);
    if (upload?.write !== write || upload.isGone) {
      throw new NamespaceError('not-found', 'there is no such upload any more');
    }
    let end = 0;
    const pieces = parts.map(({ number, entityTag, sizeBytes: length }, index) => {
      const part = upload.parts.get(number);
      if (part?.tag !== entityTag || part.bytes.length !== length || number !== index + 1) {
        throw new NamespaceError('invalid', `part ${number} is not the one that was sent`);
      }
      end += length;
      return part.bytes;
    });
    if (end !== sizeBytes) throw new Error('parts make the size');
    upload.isGone = true;
    return Buffer.concat(pieces);
  }

  #addVersion(inode: InodeNumber, version: Omit<FakeVersion, 'id'>): FakeVersion {
    const made = { ...version, id: `v${++this.#count}` };
    this.inodes.get(inode)!.versions.push(made);
    return made;
  }

  async #send({ upload, part, descriptor, blockBytes, known }: PartToSend): Promise<SentPart> {
    const { life } = this;
    await this.#options.weather('send', 'before');
    if (life !== this.life) return new Promise(() => undefined);
    const file = this.#options.fileOf(descriptor);
    if (file === undefined) {
      this.strayReads += 1;
      throw new Error('a descriptor is read that was closed');
    }
    const bytes = Buffer.from(file.bytes.subarray(part.offset, part.offset + part.length));
    if (bytes.length < part.length) throw new TierError('stale', 'the file is shorter');
    const blockChecksums = Array.from({ length: Math.ceil(part.length / blockBytes) }, (_, block) =>
      crc32(bytes.subarray(block * blockBytes, (block + 1) * blockBytes)),
    );
    const isKnown =
      known?.range.length === part.length &&
      blockChecksums.every((sum, index) => sum === known.blockChecksums[index]);
    if (isKnown) return known;
    const into = this.uploads.get(upload.storeUpload);
    if (into === undefined || into.isGone) throw new TierError('stale', 'no such upload');
    const tag = `t${++this.#count}`;
    into.parts.set(part.number, { tag, bytes });
    this.sentBytes += bytes.length;
    this.onSent({ range: part, blockChecksums, entityTag: tag });
    await this.#options.weather('send', 'lost');
    return { range: part, blockChecksums, entityTag: tag };
  }
}
