#!/usr/bin/env node
/** The helper that mount(8) calls for `mount -t perigee` and for lines of fstab. */
import { processEnvironment } from '../lib/cli/environment.ts';
import { runMountHelper } from '../lib/cli/mount-helper.ts';
import { createRuntime } from '../lib/daemon/runtime.ts';

process.exit(await runMountHelper(process.argv.slice(2), processEnvironment(createRuntime())));
