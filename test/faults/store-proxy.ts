/**
 * An HTTP proxy between a store's client and its server that misbehaves by plan.
 *
 * Requests pass with their headers as they came (signatures cover Host, and servers accept that of the proxy), over
 * connections that are kept alive. For every request the rules are looked at in order: all delays and bandwidths
 * that apply add up, and the first other fault that applies happens. Chance comes from one seed, so that a run can
 * be repeated. Without a rule that touches the answer, bytes are piped and not looked at.
 */
import {
  Agent,
  createServer,
  request as httpRequest,
  type IncomingMessage,
  type OutgoingHttpHeaders,
  type ServerResponse,
} from 'node:http';
import { type AddressInfo } from 'node:net';
import { pipeline, Transform } from 'node:stream';
import { seededPrng } from '../../lib/base/prng.ts';

export type Fault =
  /** Waits before the request is passed on. */
  | { readonly kind: 'delay'; readonly ms: number; readonly jitterMs?: number }
  /** Slows the answers down to this, all requests together. */
  | { readonly kind: 'bandwidth'; readonly bytesPerSecond: number }
  /** Answers by itself, with an error document of S3 if a code is given. */
  | {
      readonly kind: 'status';
      readonly status: number;
      readonly code?: string;
      readonly headers?: OutgoingHttpHeaders;
    }
  /** Resets the connection: at once, or after so many bytes of the answer's body. */
  | { readonly kind: 'reset'; readonly afterBytes?: number }
  /** The server does what was asked, but its answer never arrives. */
  | { readonly kind: 'lose-answer' }
  /** Announces the whole body, ends the connection after so many bytes of it. */
  | { readonly kind: 'truncate'; readonly afterBytes: number }
  /** Flips the bits of one byte of the body. */
  | { readonly kind: 'corrupt'; readonly atByte: number }
  /** Replaces headers of the answer, such as etag, content-range, content-length. */
  | { readonly kind: 'headers'; readonly set: Readonly<Record<string, string>> }
  /** Never answers. */
  | { readonly kind: 'hang' }
  /** Stops for good after so many bytes of the body. */
  | { readonly kind: 'stall'; readonly afterBytes: number };

export interface FaultRule {
  readonly fault: Fault;
  /** Of the requests that match; 1 if absent. */
  readonly probability?: number;
  /** Happens so many times at most. */
  readonly timesMax?: number;
  /** Lets so many matching requests pass first. */
  readonly skip?: number;
  readonly methods?: readonly string[];
  /** Of path and query. */
  readonly path?: RegExp;
}

export interface ProxyCounters {
  requests: number;
  bodyBytes: number;
  /** Kind of fault to how often it happened. */
  readonly faults: Record<string, number>;
  /** `GET`, `PUT`, … to how often they came. */
  readonly methods: Record<string, number>;
}

export interface StoreProxy {
  readonly endpoint: string;
  readonly counters: ProxyCounters;
  /** Replaces all rules; their counts begin again. */
  setFaults(rules: readonly FaultRule[]): void;
  close(): Promise<void>;
}

interface RuleState {
  readonly rule: FaultRule;
  seen: number;
  happened: number;
}

type Terminal = Exclude<Fault, { kind: 'delay' | 'bandwidth' }>;

interface Plan {
  delayMs: number;
  bytesPerSecond: number | undefined;
  terminal: Terminal | undefined;
}

export async function startStoreProxy(options: {
  readonly target: string;
  readonly seed: number;
  readonly faults?: readonly FaultRule[];
}): Promise<StoreProxy> {
  const target = new URL(options.target);
  const prng = seededPrng(options.seed);
  const agent = new Agent({ keepAlive: true, maxSockets: 1024 });
  const counters: ProxyCounters = { requests: 0, bodyBytes: 0, faults: {}, methods: {} };
  const timers = new Set<NodeJS.Timeout>();
  let rules: RuleState[] = [];
  const setFaults = (given: readonly FaultRule[]): void => {
    rules = given.map((rule) => ({ rule, seen: 0, happened: 0 }));
  };
  setFaults(options.faults ?? []);

  const applies = (state: RuleState, request: IncomingMessage): boolean => {
    const { methods, path, skip = 0, timesMax = Infinity, probability = 1 } = state.rule;
    if (methods && !methods.includes(request.method ?? '')) return false;
    if (path && !path.test(request.url ?? '')) return false;
    if (state.seen++ < skip || state.happened >= timesMax) return false;
    if (probability < 1 && prng.next() >= probability) return false;
    return true;
  };

  const planFor = (request: IncomingMessage): Plan => {
    const plan: Plan = { delayMs: 0, bytesPerSecond: undefined, terminal: undefined };
    for (const state of rules) {
      const { fault } = state.rule;
      const isTerminal = fault.kind !== 'delay' && fault.kind !== 'bandwidth';
      if ((isTerminal && plan.terminal) || !applies(state, request)) continue;
      state.happened++;
      counters.faults[fault.kind] = (counters.faults[fault.kind] ?? 0) + 1;
      if (fault.kind === 'delay') plan.delayMs += fault.ms + prng.next() * (fault.jitterMs ?? 0);
      else if (fault.kind === 'bandwidth') plan.bytesPerSecond = fault.bytesPerSecond;
      else plan.terminal = fault;
    }
    return plan;
  };

  const later = (ms: number, run: () => void): void => {
    const timer = setTimeout(() => {
      timers.delete(timer);
      run();
    }, ms);
    timers.add(timer);
  };

  /** When the line that all slowed answers share is free again. */
  let lineFreeMs = 0;
  const paced = (bytesPerSecond: number): Transform =>
    new Transform({
      transform(chunk: Buffer, _encoding, done) {
        const now = performance.now();
        lineFreeMs = Math.max(lineFreeMs, now) + (chunk.length / bytesPerSecond) * 1000;
        later(lineFreeMs - now, () => done(null, chunk));
      },
    });

  const answer = (upstream: IncomingMessage, response: ServerResponse, plan: Plan): void => {
    const { terminal } = plan;
    const headers = headersOf(upstream, terminal);
    response.writeHead(upstream.statusCode ?? 502, headers);
    upstream.on('data', (chunk: Buffer) => (counters.bodyBytes += chunk.length));
    const steps = [
      ...(plan.bytesPerSecond === undefined ? [] : [paced(plan.bytesPerSecond)]),
      ...(terminal ? faultyBody(terminal, response) : []),
    ];
    const done = (): void => {
      // Whoever waits for more than there was gets the end of the connection.
      if (terminal?.kind === 'headers') response.socket?.end();
    };
    if (steps.length === 0) pipeline(upstream, response, done);
    else pipeline([upstream, ...steps, response], done);
  };

  const forward = (request: IncomingMessage, response: ServerResponse, plan: Plan): void => {
    const onward = httpRequest(
      {
        agent,
        host: target.hostname,
        port: target.port,
        method: request.method,
        path: request.url,
        headers: pairsOf(request.rawHeaders),
        setHost: false,
      },
      (upstream) => {
        if (plan.terminal?.kind === 'lose-answer') {
          upstream.resume();
          upstream.once('end', () => request.socket.resetAndDestroy());
        } else {
          answer(upstream, response, plan);
        }
      },
    );
    onward.on('error', () => request.socket.resetAndDestroy());
    response.on('close', () => {
      if (!response.writableFinished) onward.destroy();
    });
    request.pipe(onward);
  };

  const server = createServer({ keepAliveTimeout: 60_000 }, (request, response) => {
    counters.requests++;
    const method = request.method ?? '';
    counters.methods[method] = (counters.methods[method] ?? 0) + 1;
    request.on('error', () => {});
    response.on('error', () => {});
    const plan = planFor(request);
    const act = (): void => {
      const { terminal } = plan;
      if (terminal?.kind === 'hang') request.resume();
      else if (terminal?.kind === 'reset' && terminal.afterBytes === undefined)
        request.socket.resetAndDestroy();
      else if (terminal?.kind === 'status') refuse(request, response, terminal);
      else forward(request, response, plan);
    };
    if (plan.delayMs > 0) later(plan.delayMs, act);
    else act();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return {
    endpoint: `http://127.0.0.1:${port}`,
    counters,
    setFaults,
    close: () =>
      new Promise((resolve) => {
        for (const timer of timers) clearTimeout(timer);
        server.close(() => resolve());
        server.closeAllConnections();
        agent.destroy();
      }),
  };
}

function refuse(
  request: IncomingMessage,
  response: ServerResponse,
  fault: Extract<Fault, { kind: 'status' }>,
): void {
  request.resume();
  const { status, code, headers } = fault;
  const hasBody = code !== undefined && request.method !== 'HEAD';
  const body = hasBody
    ? `<?xml version="1.0" encoding="UTF-8"?><Error><Code>${code}</Code><Message>by plan</Message></Error>`
    : '';
  response.writeHead(status, {
    'content-type': 'application/xml',
    'content-length': body.length,
    ...headers,
  });
  response.end(body);
}

/** Steps between the server's body and the client that do the damage. */
function faultyBody(fault: Terminal, response: ServerResponse): Transform[] {
  switch (fault.kind) {
    case 'reset':
      return [stoppingAfter(fault.afterBytes ?? 0, () => response.socket?.resetAndDestroy())];
    case 'truncate':
      return [stoppingAfter(fault.afterBytes, () => response.socket?.end())];
    case 'stall':
      return [stoppingAfter(fault.afterBytes, () => {})];
    case 'corrupt':
      return [flipping(fault.atByte)];
    case 'headers':
    case 'hang':
    case 'status':
    case 'lose-answer':
      return [];
  }
}

function stoppingAfter(bytes: number, stop: () => void): Transform {
  let left = bytes;
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      if (chunk.length < left) {
        left -= chunk.length;
        done(null, chunk);
        return;
      }
      this.push(chunk.subarray(0, left));
      // What was pushed goes out first; the rest never does.
      setImmediate(stop);
    },
  });
}

function flipping(atByte: number): Transform {
  let at = 0;
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      const index = atByte - at;
      at += chunk.length;
      const byte = chunk[index];
      if (byte !== undefined) chunk[index] = byte ^ 0xff;
      done(null, chunk);
    },
  });
}

function headersOf(upstream: IncomingMessage, fault: Terminal | undefined): OutgoingHttpHeaders {
  const headers = pairsOf(upstream.rawHeaders);
  if (fault?.kind !== 'headers') return headers;
  const replaced = new Set(Object.keys(fault.set).map((name) => name.toLowerCase()));
  const kept = Object.entries(headers).filter(([name]) => !replaced.has(name.toLowerCase()));
  return { ...Object.fromEntries(kept), ...fault.set };
}

function pairsOf(raw: readonly string[]): Record<string, string | string[]> {
  const pairs: Record<string, string | string[]> = {};
  for (let i = 0; i + 1 < raw.length; i += 2) {
    const [name, value] = [raw[i] ?? '', raw[i + 1] ?? ''];
    const before = pairs[name];
    pairs[name] = before === undefined ? value : [before, value].flat();
  }
  return pairs;
}
