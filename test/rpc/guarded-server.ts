/** An origin behind the gate, and what its tests connect to it with. */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { create } from '@bufbuild/protobuf';
import { type Test } from 'tap';
import { type ClientCredentialFiles } from '../../lib/rpc/client-credentials.ts';
import { type Authorize, type Caller, callerOf, type Refusal } from '../../lib/rpc/gate.ts';
import {
  LeaseService,
  OriginAdminService,
  OriginMessageSchema,
  OriginService,
} from '../../lib/rpc/gen/origin_pb.js';
import { createOriginClient } from '../../lib/rpc/origin-client.ts';
import { startRpcServer } from '../../lib/rpc/rpc-server.ts';
import { type ServerCredentialFiles } from '../../lib/rpc/server-credentials.ts';
import { rpcService } from '../../lib/rpc/unary-handler.ts';
import { FakeClock } from '../cli/fakes.ts';
import { TestAuthority } from '../support/certificates.ts';

export const REQUEST = { exportName: 'data', parent: 1n, name: 'x' };
export const TOKEN = 'a-token-of-24-characters';

/** An origin whose handlers do nothing but note who called. */
export async function serve(
  t: Test,
  credentials: ServerCredentialFiles,
  options: { readonly authorize?: Authorize; readonly clock?: FakeClock; readonly host?: string } = {},
) {
  const { authorize = () => undefined, clock = new FakeClock(), host = '127.0.0.1' } = options;
  const callers: Caller['principal'][] = [];
  const refusals: Refusal[] = [];
  const empty = async () => ({});
  const server = await startRpcServer({
    listen: { host, port: 0 },
    insecure: false,
    credentials,
    authorize,
    onRefused: (refusal) => refusals.push(refusal),
    clock,
    services: [
      rpcService(OriginService, {
        openExport: empty,
        lookup: async (_, { principal }) => {
          callers.push(principal);
          return {};
        },
        getAttributes: empty,
        listDirectory: empty,
        getUsage: empty,
        reportStale: empty,
      }),
      rpcService(OriginAdminService, {
        getOriginStatus: empty,
        async *inspectKeys(_, context) {
          callers.push(callerOf(context).principal);
          yield { key: 'k' };
        },
      }),
      rpcService(LeaseService, {
        async *session(messages, context) {
          callers.push(callerOf(context).principal);
          for await (const { message } of messages) {
            yield create(OriginMessageSchema, {
              message: { case: 'welcome', value: { session: message.case ?? '' } },
            });
          }
        },
        listSessions: empty,
        listLeases: empty,
      }),
    ],
  });
  t.teardown(() => server.close());
  const port = Number(server.address.split(':').at(-1));
  return { address: server.address, port, callers, refusals, clock };
}

export function connect(
  t: Test,
  address: string,
  credentials: ClientCredentialFiles = {},
  clock: FakeClock = new FakeClock(),
) {
  const client = createOriginClient({ address, credentials, clock, deadlineMs: 10_000 });
  t.teardown(() => client.close());
  return client;
}

export async function drain(stream: AsyncIterable<unknown>): Promise<unknown[]> {
  const all = [];
  for await (const message of stream) all.push(message);
  return all;
}

function temporaryDirectory(t: Test): string {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'perigee-access-'));
  t.teardown(() => fs.rmSync(directory, { recursive: true, force: true }));
  return directory;
}

export async function makeCertificates(t: Test) {
  const directory = temporaryDirectory(t);
  const authority = await TestAuthority.make(path.join(directory, 'ours'));
  return { directory, authority, server: await authority.server('origin') };
}

export function writeTokens(t: Test, text: string) {
  const directory = temporaryDirectory(t);
  const tokens = path.join(directory, 'tokens');
  const write = (file: string, content: string) => {
    fs.rmSync(file, { force: true });
    fs.writeFileSync(file, content, { mode: 0o600 });
    return file;
  };
  write(tokens, text);
  return {
    tokens,
    rewrite: (content: string) => void write(tokens, content),
    tokenFile: (token: string, name = 'token') => write(path.join(directory, name), `${token}\n`),
  };
}
