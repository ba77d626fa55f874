import fc from 'fast-check';
import t from 'tap';
import type { InodeNumber, NodeId, VersionId } from '../../lib/base/brand.ts';
import type { InodeAttributes } from '../../lib/namespace/namespace.ts';
import { NodeTable, pathOf, type Entry, type Node } from '../../lib/vfs/node-table.ts';

function attributes(inode: number, version: number | undefined): InodeAttributes {
  const id = String(version).padStart(32, '0') as VersionId;
  return {
    inode: BigInt(inode) as InodeNumber,
    kind: version === undefined ? 'directory' : 'file',
    mode: 0o644,
    uid: 0,
    gid: 0,
    links: 1,
    sizeBytes: 1,
    modifiedNs: 0n,
    changedNs: 0n,
    source:
      version === undefined
        ? undefined
        : {
            version: id,
            exportName: 'test',
            objectKey: 'key',
            objectVersion: undefined,
            entityTag: '',
            sizeBytes: 1,
          },
    target: undefined,
  };
}

const newTable = (isOutdated: (node: Node) => boolean = () => false): NodeTable =>
  new NodeTable({ rootInode: 1n as InodeNumber, isOutdated });

const entry = (parent: Node, name: string, asked = 1): Entry => ({ parent, name, asked, validForMs: 0 });

t.test('node table', async (t) => {
  t.test('nodes that live are those with lookups or holds, under any order of operations', async () => {
    const operation = fc.oneof(
      fc.record({
        kind: fc.constant('enter'),
        inode: fc.integer({ min: 2, max: 5 }),
        version: fc.integer({ min: 1, max: 3 }),
      }),
      fc.record({ kind: fc.constant('forget'), pick: fc.nat(), part: fc.nat() }),
      fc.record({ kind: fc.constant('hold'), pick: fc.nat() }),
      fc.record({ kind: fc.constant('unhold'), pick: fc.nat() }),
    );
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 200 }), (operations) => {
        const table = newTable();
        const model = new Map<NodeId, { node: Node; lookups: number; holds: number }>();
        const pick = (n: number) => [...model.values()][n % Math.max(1, model.size)];
        for (const op of operations) {
          if (op.kind === 'enter' && 'inode' in op) {
            const node = table.enter(attributes(op.inode, op.version), entry(table.root, 'n'));
            const known = model.get(node.id);
            if (known !== undefined && known.node !== node) return false;
            model.set(node.id, { node, lookups: (known?.lookups ?? 0) + 1, holds: known?.holds ?? 0 });
          } else if ('pick' in op) {
            const entry = pick(op.pick);
            if (entry === undefined) continue;
            if (op.kind === 'forget' && 'part' in op && entry.lookups > 0) {
              const count = 1 + (op.part % entry.lookups);
              if (!table.forget(entry.node.id, BigInt(count))) return false;
              entry.lookups -= count;
            } else if (op.kind === 'hold') {
              table.hold(entry.node);
              entry.holds += 1;
            } else if (op.kind === 'unhold' && entry.holds > 0) {
              table.unhold(entry.node);
              entry.holds -= 1;
            }
            if (entry.lookups === 0 && entry.holds === 0) model.delete(entry.node.id);
          }
          if (table.size !== model.size + 1) return false;
          for (const { node, lookups, holds } of model.values()) {
            if (table.get(node.id) !== node || node.lookups !== lookups || node.holds !== holds) return false;
          }
        }
        return true;
      }),
      { numRuns: 300 },
    );
  });

  t.test('one node stands for one version of one inode', async (t) => {
    const table = newTable();
    const at = entry(table.root, 'n');
    const one = table.enter(attributes(2, 1), at);
    t.equal(table.enter(attributes(2, 1), at), one);
    t.not(table.enter(attributes(2, 2), at), one);
    t.not(table.enter(attributes(3, 1), at), one);
    t.equal(one.lookups, 2);
  });

  t.test('node ids are never used twice', async (t) => {
    const table = newTable();
    const at = entry(table.root, 'n');
    const ids = new Set<NodeId>();
    for (let i = 0; i < 10; i++) {
      const node = table.enter(attributes(2, 1), at);
      ids.add(node.id);
      table.forget(node.id, 1n);
    }
    t.equal(ids.size, 10);
  });

  t.test('an outdated open node is left to its handles, and an answer does not alternate', async (t) => {
    const table = newTable((node) => node.mode === 'served');
    const at = entry(table.root, 'n');
    const served = table.enter(attributes(2, 1), at);
    served.mode = 'served';
    const fresh = table.enter(attributes(2, 1), at);
    t.not(fresh, served);
    t.equal(table.enter(attributes(2, 1), at), fresh);
    fresh.mode = 'passthrough';
    t.equal(table.enter(attributes(2, 1), at), fresh);
    served.mode = 'idle';
    t.equal(table.enter(attributes(2, 1), at), fresh, 'what is in passthrough comes first');
  });

  t.test('more lookups given back than taken are told', async (t) => {
    const table = newTable();
    const node = table.enter(attributes(2, 1), entry(table.root, 'n'));
    t.equal(table.forget(node.id, 2n), false);
    t.equal(table.get(node.id), undefined);
    t.equal(table.forget(node.id, 1n), false);
  });

  t.test('of answers that overtake each other the one that was asked for last stays', async (t) => {
    const table = newTable();
    const answer = (mode: number): InodeAttributes => ({ ...attributes(2, 1), mode });
    const node = table.enter(answer(0o400), entry(table.root, 'n', 5));
    table.enter(answer(0o777), entry(table.root, 'n', 4));
    t.equal(node.attributes?.mode, 0o400);
    table.enter(answer(0o777), entry(table.root, 'n', 0));
    t.equal(node.attributes?.mode, 0o400, 'a listing of unknown age is older than any');
    table.enter(answer(0o600), entry(table.root, 'n', 6));
    t.equal(node.attributes?.mode, 0o600);
  });

  t.test('a path is made of the last names, and a ring of moved directories has an end', async (t) => {
    const table = newTable();
    const a = table.enter(attributes(2, undefined), entry(table.root, 'a'));
    const b = table.enter(attributes(3, undefined), entry(a, 'b'));
    t.equal(pathOf(table.root), '');
    t.equal(pathOf(b), 'a/b');
    table.enter(attributes(2, undefined), entry(b, 'a'));
    t.ok(pathOf(a).startsWith('b/a') || pathOf(a).endsWith('b/a'));
  });
});
