// Lint rules. The doors to the world (clock, disk, kernel, randomness, network) are each one file or folder;
// everywhere else their globals and modules are banned, and the message names what to use instead.
import tseslint from 'typescript-eslint';

const timers = ['setTimeout', 'setInterval', 'setImmediate'].map((name) => ({
  name,
  message: 'Take a Clock (lib/base/clock.ts).',
}));
const clocks = [
  { name: 'performance', message: 'Take a Clock (lib/base/clock.ts).' },
  { name: 'Date', message: 'Take a Clock (lib/base/clock.ts).' },
];
const bannedProperties = [
  { object: 'Math', property: 'random', message: 'Use lib/base/prng.ts.' },
  { object: 'process', property: 'hrtime', message: 'Take a Clock (lib/base/clock.ts).' },
];
const ban = (names, message) => names.map((name) => ({ name, message }));
const disk = ban(
  ['fs', 'fs/promises', 'node:fs', 'node:fs/promises'],
  'The disk has doors: cache/disk.ts and cache/file-calls.ts, lib/fuse/device.ts, lib/store.',
);
const network = ban(
  ['node:http', 'node:http2', 'node:https', 'node:net', 'node:tls', 'node:dgram'],
  'The network has doors: lib/rpc, lib/store and lib/control.',
);
const ffi = ban(
  ['koffi'],
  'System calls by FFI live in lib/fuse/device.ts, cache/disk.ts and cache/file-calls.ts.',
);

export default tseslint.config(
  { ignores: ['dist/', '.tap/', 'lib/rpc/gen/', '.dependency-cruiser.cjs'] },
  ...tseslint.configs.recommendedTypeChecked,
  {
    languageOptions: {
      parserOptions: {
        projectService: { allowDefaultProject: ['*.js'] },
        tsconfigRootDir: import.meta.dirname,
      },
    },
    rules: {
      eqeqeq: 'error',
      'no-console': 'error',
      'prefer-const': 'error',
      'max-lines': ['error', { max: 500 }],
      'no-restricted-syntax': [
        'error',
        { selector: 'ExportDefaultDeclaration', message: 'Named exports only.' },
        { selector: 'ForInStatement', message: 'Use Object.entries.' },
      ],
      '@typescript-eslint/switch-exhaustiveness-check': [
        'error',
        { considerDefaultExhaustiveForUnions: true },
      ],
      '@typescript-eslint/consistent-type-imports': ['error', { fixStyle: 'inline-type-imports' }],
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_', caughtErrors: 'none' }],
      '@typescript-eslint/require-await': 'off',
      '@typescript-eslint/no-invalid-void-type': 'off',
      '@typescript-eslint/prefer-promise-reject-errors': 'off',
    },
  },
  {
    files: ['lib/**/*.ts', 'cache/**/*.ts', 'bin/**/*.ts'],
    rules: {
      'no-restricted-globals': [
        'error',
        ...timers,
        ...clocks,
        { name: 'fetch', message: 'The network has doors: lib/rpc, lib/store.' },
      ],
      'no-restricted-properties': ['error', ...bannedProperties],
      'no-restricted-imports': ['error', { paths: [...disk, ...network, ...ffi] }],
    },
  },
  {
    // The doors themselves.
    files: ['lib/base/clock.ts'],
    rules: { 'no-restricted-globals': 'off', 'no-restricted-properties': 'off' },
  },
  { files: ['lib/base/boot-clock.ts'], rules: { 'no-restricted-imports': ['error', { paths: disk }] } },
  {
    // By FFI: the calls that Node lacks.
    files: ['cache/disk.ts', 'cache/file-calls.ts'],
    rules: { 'no-restricted-imports': ['error', { paths: network }] },
  },
  { files: ['lib/fuse/device.ts'], rules: { 'no-restricted-imports': ['error', { paths: network }] } },
  {
    files: ['lib/store/**/*.ts'],
    rules: { 'no-restricted-imports': ['error', { paths: ffi }] },
  },
  {
    files: ['lib/rpc/**/*.ts', 'lib/control/**/*.ts'],
    rules: { 'no-restricted-imports': ['error', { paths: [...disk, ...ffi] }] },
  },
  {
    // Files of people: configuration, data directories, process files.
    files: ['lib/config/**/*.ts', 'lib/daemon/**/*.ts', 'lib/cli/**/*.ts'],
    rules: { 'no-restricted-imports': ['error', { paths: [...network, ...ffi] }] },
  },
  {
    // tap's `t.test` returns a promise that tap itself awaits.
    files: ['test/**/*.ts'],
    rules: {
      '@typescript-eslint/no-floating-promises': 'off',
      '@typescript-eslint/no-misused-promises': 'off',
      '@typescript-eslint/no-unsafe-assignment': 'off',
      '@typescript-eslint/no-unsafe-member-access': 'off',
      '@typescript-eslint/no-unsafe-argument': 'off',
      '@typescript-eslint/no-unsafe-call': 'off',
      '@typescript-eslint/no-unsafe-return': 'off',
    },
  },
  { files: ['test/bench/**/*.ts', 'lib/cli/output.ts'], rules: { 'no-console': 'off' } },
  {
    files: ['*.js'],
    extends: [tseslint.configs.disableTypeChecked],
    rules: { 'no-restricted-syntax': 'off' },
  },
);
