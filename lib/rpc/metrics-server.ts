/** Serves `/metrics` (Prometheus text), `/healthz` (the process answers) and `/readyz` (it can do its work) over HTTP/1.1. */
import http from 'node:http';
import type { Registry } from 'prom-client';
import { type ListenAddress, listenOn } from './rpc-server.ts';

export interface MetricsServer {
  readonly address: string;
  close(): Promise<void>;
}

/**
 * @param options.ready true, or why not: answered as 503
 * @throws RpcError `listen`
 */
export async function startMetricsServer(options: {
  readonly listen: ListenAddress;
  readonly registry: Registry;
  readonly ready: () => boolean | string | Promise<boolean | string>;
}): Promise<MetricsServer> {
  const { registry, ready } = options;
  const answers: Record<string, () => Promise<{ status: number; type: string; text: string }>> = {
    '/metrics': async () => ({ status: 200, type: registry.contentType, text: await registry.metrics() }),
    '/healthz': async () => ({ status: 200, type: 'text/plain', text: 'ok\n' }),
    '/readyz': async () => {
      const state = await ready();
      const text = state === true ? 'ready' : state === false ? 'not ready' : state;
      return { status: state === true ? 200 : 503, type: 'text/plain', text: `${text}\n` };
    },
  };
  const server = http.createServer((request, response) => {
    const answer = answers[(request.url ?? '').split('?')[0] ?? ''];
    if (answer === undefined || (request.method !== 'GET' && request.method !== 'HEAD')) {
      response.writeHead(answer === undefined ? 404 : 405, { 'content-type': 'text/plain' }).end('\n');
      return;
    }
    void answer().then(
      ({ status, type, text }) => response.writeHead(status, { 'content-type': type }).end(text),
      () => response.writeHead(500, { 'content-type': 'text/plain' }).end('\n'),
    );
  });
  const address = await listenOn(server, options.listen);
  return {
    address,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
