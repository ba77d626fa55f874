/**
 * Directions between folders. A folder may import what stands before it in `order`, and of another folder only
 * its contract file; implementations meet in lib/daemon. `base`, `config`, `telemetry` and `rpc` are open to all above.
 */
const order = [
  ['lib/base'],
  ['lib/config', 'lib/telemetry'],
  ['lib/rpc', 'lib/fuse', 'lib/policy', 'lib/store'],
  ['lib/lease', 'lib/namespace', 'lib/tiers'],
  ['cache'],
  ['lib/prefetch'],
  ['lib/vfs'],
  ['lib/control'],
  ['lib/cli', 'lib/origin'],
  ['lib/daemon'],
  ['bin'],
];

const contracts = {
  'lib/fuse': ['operations', 'write-operations', 'file-locks', 'errno'],
  'lib/namespace': ['namespace', 'changes'],
  // Both machines are pure: the origin drives the one, the satellite's namespace the other.
  'lib/lease': ['lease', 'lease-table', 'lease-table-events', 'lease-client', 'lease-messages'],
  'lib/prefetch': ['access-observer', 'prefetch'],
  // Pure as well: the origin keeps documents, the command line looks at them, the satellite decides by them.
  'lib/policy': ['policy', 'policy-document', 'document-source', 'policy-holder', 'engine'],
  cache: ['block-cache', 'working-copy'],
  'lib/tiers': ['tier', 'part-sender', 'part-geometry'],
  'lib/store': ['object-store', 'posix-metadata'],
  'lib/origin': ['origin'],
  'lib/vfs': ['vfs-stat'],
  'lib/control': ['control'],
  'lib/cli': ['runtime'],
};

const anyOf = (folders) => `^(${folders.join('|')})/`;

const directions = order.flatMap((layer, index) =>
  layer.map((folder) => ({
    name: `direction-${folder.replace('lib/', '')}`,
    comment: `${folder} may import only what stands before it: see .dependency-cruiser.cjs`,
    severity: 'error',
    from: { path: `^${folder}/` },
    to: {
      path: anyOf([
        ...order.slice(index + 1).flat(),
        ...layer.filter(
          (other) =>
            other !== folder &&
            !(folder === 'lib/tiers' && other === 'lib/namespace') &&
            !(folder === 'lib/namespace' && ['lib/tiers', 'lib/lease'].includes(other)),
        ),
        'test',
      ]),
    },
  })),
);

const contractsOnly = Object.entries(contracts).map(([folder, files]) => ({
  name: `contract-${folder.replace('lib/', '')}`,
  comment: `of ${folder} other folders import only its contract: ${files.join(', ')}`,
  severity: 'error',
  from: { path: '^(lib|cache)/', pathNot: `^(${folder}|lib/daemon)/` },
  to: { path: `^${folder}/`, pathNot: `^${folder}/(${files.join('|')})\\.ts$` },
}));

module.exports = {
  forbidden: [
    ...directions,
    ...contractsOnly,
    { name: 'no-cycles', severity: 'error', from: {}, to: { circular: true } },
    {
      name: 'no-orphans',
      severity: 'error',
      from: { orphan: true, pathNot: ['\\.d\\.ts$', '^test/', '^lib/rpc/gen/', '\\.cjs$'] },
      to: {},
    },
    {
      name: 'tests-stay-out',
      severity: 'error',
      from: { path: '^(bin|lib|cache)/' },
      to: { path: '^test/' },
    },
    { name: 'resolvable', severity: 'error', from: {}, to: { couldNotResolve: true } },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    exclude: { path: ['^dist/', '^lib/rpc/gen/'] },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['import', 'node', 'default', 'types'],
    },
  },
};
