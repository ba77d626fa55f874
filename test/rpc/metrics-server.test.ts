/** The HTTP side door of both processes. */
import t from 'tap';
import { startMetricsServer } from '../../lib/rpc/metrics-server.ts';
import { createMetrics } from '../../lib/telemetry/metrics.ts';

t.test('metrics server answers metrics, health and readiness', async (t) => {
  const metrics = createMetrics();
  metrics.originRequests.inc({ method: 'Lookup', code: 'ok' });
  let state: boolean | string = true;
  const server = await startMetricsServer({
    listen: { host: '127.0.0.1', port: 0 },
    registry: metrics.registry,
    ready: () => state,
  });
  t.teardown(() => server.close());
  const get = async (path: string, method = 'GET') => {
    const response = await fetch(`http://${server.address}${path}`, { method });
    return { status: response.status, text: await response.text() };
  };
  t.match(await get('/metrics'), {
    status: 200,
    text: 'perigee_origin_requests_total{method="Lookup",code="ok"} 1',
  });
  t.match(await get('/healthz'), { status: 200 });
  t.match(await get('/readyz'), { status: 200, text: 'ready' });
  state = 'the origin is not reachable';
  t.match(await get('/readyz'), { status: 503, text: 'the origin is not reachable' });
  t.match(await get('/other'), { status: 404 });
  t.match(await get('/metrics', 'POST'), { status: 405 });
});
