/** An origin's policies as the commands see them; each call is noted as `name argument`. */
import type {
  FoundPath,
  ListedFile,
  PolicyCalls,
  PolicyChangeInfo,
  PolicyVersionInfo,
} from '../../lib/cli/policy-calls.ts';

export const FAKE_DOCUMENT = `apiVersion: perigee/v1
policies:
  - name: imagenet # the large one
    match: { export: datasets, prefix: train/, glob: "**/*.tar", size: { max: 8GiB }, hosts: { labels: { rack: a1 } } }
    cache: { wholeOnOpen: 64MiB }
  - { name: rest, match: {}, cache: { pin: true }, write: { mode: back } }
`;

export class FakePolicyCalls implements PolicyCalls {
  readonly calls: string[] = [];
  text = FAKE_DOCUMENT;
  failure: Error | undefined;
  unchanged = false;
  warnings: PolicyChangeInfo['warnings'] = [];
  more = false;
  listed: readonly ListedFile[] = [];
  found: FoundPath | undefined = { kind: 'file', sizeBytes: 1024 };
  closed = 0;

  async document(version?: number) {
    return this.#answer(`document ${version}`, {
      version: this.#version({ version: version ?? 4 }),
      text: this.text,
    });
  }

  async history(versionsMax: number) {
    const versions = [
      this.#version({ version: 4, action: 'rollback', subject: '2' }),
      this.#version({ version: 3, action: 'delete', subject: 'imagenet' }),
    ];
    return this.#answer(`history ${versionsMax}`, { versions, more: this.more });
  }

  async apply(text: string, { dryRun }: { readonly dryRun: boolean }) {
    return this.#change(`apply ${text.length} ${dryRun}`, { action: 'apply' });
  }

  async delete(name: string) {
    return this.#change(`delete ${name}`, { action: 'delete', subject: name });
  }

  async rollback(version: number) {
    return this.#change(`rollback ${version}`, { action: 'rollback', subject: String(version) });
  }

  async exportNames() {
    return this.#answer('exportNames', ['datasets']);
  }

  async *files(exportName: string, prefix: string) {
    this.#answer(`files ${exportName} ${prefix}`, undefined);
    yield this.listed;
  }

  async find(exportName: string, path: string) {
    return this.#answer(`find ${exportName} ${path}`, this.found);
  }

  async close() {
    this.closed++;
  }

  #change(call: string, changes: Partial<PolicyVersionInfo>): PolicyChangeInfo {
    const { unchanged, warnings } = this;
    return this.#answer(call, { version: this.#version({ version: 5, ...changes }), unchanged, warnings });
  }

  #version(changes: Partial<PolicyVersionInfo>): PolicyVersionInfo {
    return {
      ...{ version: 1, action: 'apply', subject: '', tenant: 'lab', host: 'admin-1' },
      ...{ madeMs: Date.UTC(2026, 0, 2, 3, 4, 5), policies: 2 },
      ...changes,
    };
  }

  #answer<T>(call: string, value: T): T {
    this.calls.push(call);
    if (this.failure !== undefined) throw this.failure;
    return value;
  }
}
