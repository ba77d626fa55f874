#!/usr/bin/env node
/** The command line. Ends the process itself, so that nothing half-stopped can keep a forced end waiting. */
import { processEnvironment } from '../lib/cli/environment.ts';
import { runCli } from '../lib/cli/program.ts';
import { settleProcess } from '../lib/daemon/process-settings.ts';
import { createRuntime } from '../lib/daemon/runtime.ts';

// None of the modules above uses the thread pool while loading.
settleProcess();

process.exit(await runCli(process.argv.slice(2), processEnvironment(createRuntime())));
