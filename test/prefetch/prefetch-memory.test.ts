import { pino } from 'pino';
import t from 'tap';
import { PrefetchMemory } from '../../lib/prefetch/prefetch-memory.ts';

const logger = pino({ level: 'silent' });

function storeOf(text?: string) {
  const store = {
    text,
    fails: false,
    load: () => store.text,
    save: (saved: string) => {
      if (store.fails) throw new Error('no space');
      store.text = saved;
    },
  };
  return store;
}

t.test('jobs and policies are known after a restart, until they have ended', async (t) => {
  const store = storeOf();
  const memory = new PrefetchMemory({ store, logger });
  const id = memory.nextId();
  memory.rememberJob(id, { paths: ['train'], bytesPerSecond: 5 });
  memory.rememberPolicies({ a: '1' });
  memory.rememberPolicyJob('a', 'apply');
  const next = new PrefetchMemory({ store, logger });
  t.same(next.jobs(), [{ id, request: { paths: ['train'], bytesPerSecond: 5 } }]);
  t.same(next.policies(), { a: '1' });
  t.same(next.policyJobs(), { a: 'apply' });
  t.not(next.nextId(), id, 'no id is given twice');
  next.forgetJob(id);
  next.rememberPolicyJob('a', undefined);
  const last = new PrefetchMemory({ store, logger });
  t.same(last.jobs(), []);
  t.same(last.policyJobs(), {});
});

t.test('a text that makes no sense, of another release or of a broken disk, is begun anew', async (t) => {
  for (const text of ['', '{', '{"format":2,"lastId":1,"jobs":[],"policies":{},"policyJobs":{}}']) {
    const memory = new PrefetchMemory({ store: storeOf(text), logger });
    t.same(memory.jobs(), []);
    t.equal(memory.nextId(), '1');
  }
  const store = storeOf();
  store.fails = true;
  const memory = new PrefetchMemory({ store, logger });
  memory.rememberJob('1', { paths: [] });
  t.equal(memory.jobs().length, 1, 'a disk that refuses costs the memory alone');
});
