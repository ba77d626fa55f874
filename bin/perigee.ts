#!/usr/bin/env node
/** The command line. Ends the process itself, so that nothing half-stopped can keep a forced end waiting. */
import { processEnvironment } from '../lib/cli/environment.ts';
import { runCli } from '../lib/cli/program.ts';
import { THREAD_POOL_SIZE } from '../lib/daemon/background.ts';
import { createRuntime } from '../lib/daemon/runtime.ts';

// libuv reads it when its pool is first used: none of the modules above does that while loading.
process.env.UV_THREADPOOL_SIZE ??= String(THREAD_POOL_SIZE);

process.exit(await runCli(process.argv.slice(2), processEnvironment(createRuntime())));
