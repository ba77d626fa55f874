import { Counter, Histogram, Registry } from 'prom-client';
import t from 'tap';
import { HotCounter, HotHistogram } from '../../lib/telemetry/hot-metrics.ts';

const BUCKETS = [0.001, 0.01, 1];

t.test('hot metrics are shown as those of prom-client are', async (t) => {
  const [ours, theirs] = [new Registry(), new Registry()];
  const labelNames = ['op', 'errno'] as const;
  const counters = [
    new HotCounter({ name: 'requests_total', help: 'Requests', labelNames, registry: ours }),
    new Counter({ name: 'requests_total', help: 'Requests', labelNames, registers: [theirs] }),
  ];
  const seconds = { name: 'seconds', help: 'Time', labelNames: ['op'] as const, buckets: BUCKETS };
  const histograms = [
    new HotHistogram({ ...seconds, registry: ours }),
    new Histogram({ ...seconds, registers: [theirs] }),
  ];
  for (const counter of counters) {
    for (const op of ['open', 'lookup', 'open']) counter.labels({ op, errno: 'OK' }).inc();
    counter.labels({ op: 'open', errno: 'a "b"\\c' }).inc();
  }
  for (const histogram of histograms) {
    for (const value of [0.0005, 0.001, 0.002, 0.5, 7]) histogram.labels({ op: 'open' }).observe(value);
    histogram.labels({ op: 'read' }).observe(0.02);
  }
  t.equal(await ours.metrics(), await theirs.metrics());
  t.match(await ours.metrics(), /seconds_bucket\{le="0.01",op="open"\} 3/);
});

t.test('hot metrics begin anew with their registry', async (t) => {
  const registry = new Registry();
  const counter = new HotCounter({ name: 'requests_total', help: 'Requests', labelNames: ['op'], registry });
  counter.labels({ op: 'open' }).inc();
  registry.resetMetrics();
  t.notMatch(await registry.metrics(), /open/);
});
