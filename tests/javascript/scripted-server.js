// A server that answers by a script, and a clock that is moved by hand; for tests of what speaks HTTP.

/** Time stands still until `pass` moves it; timers run when their time has come. */
export const createClock = () => {
  let time = Date.parse("2026-01-31T09:30:00Z");
  let last = 0;
  /** @type {Map<number, {at: number, work: () => void}>} */
  const timers = new Map();
  const clock = {
    timers,
    now: () => time,
    /** @param {() => void} work @param {number} milliseconds */
    setTimeout(work, milliseconds) {
      timers.set(++last, { at: time + milliseconds, work });
      return last;
    },
    /** @param {number} timer */
    clearTimeout: (timer) => void timers.delete(timer),
    /** @param {number} milliseconds */
    async pass(milliseconds) {
      await settled();
      const end = time + milliseconds;
      for (;;) {
        const [next] = [...timers].sort(([, a], [, b]) => a.at - b.at);
        if (!next || next[1].at > end) break;
        timers.delete(next[0]);
        time = Math.max(time, next[1].at);
        next[1].work();
        await settled();
      }
      time = end;
    },
  };
  return clock;
};

/** Whatever can go on without time passing has gone on. */
export const settled = async () => {
  for (let i = 0; i < 5; i++) await new Promise((resolve) => setImmediate(resolve));
};

/**
 * @typedef {object} Call
 * @property {string} method
 * @property {string} url
 * @property {Record<string, string>} headers
 * @property {any} data the body's JSON
 * @property {RequestInit} init
 * @property {boolean} aborted whether its fetch or its body was given up
 */

/** @typedef {Response | Error | Promise<Response | Error>} Answer */

/** @param {(call: Call) => Answer} script what is answered to a call; an error is a network that failed */
export const createServer = (script) => {
  /** @type {Call[]} */
  const calls = [];
  return {
    calls,
    /** Method and path of all calls. */
    asked: () => calls.map(({ method, url }) => `${method} ${url.replace(/^.*\/api\/v1\//, "")}`),
    /** @param {string} url @param {RequestInit} init @returns {Promise<Response>} */
    fetch: (url, init) =>
      new Promise((resolve, reject) => {
        const headers = /** @type {Record<string, string>} */ (init.headers);
        const data = init.body ? JSON.parse(String(init.body)) : undefined;
        const call = { method: init.method ?? "GET", url, headers, data, init, aborted: false };
        new Headers(headers); // refuses what a browser would refuse
        calls.push(call);
        init.signal?.addEventListener("abort", () => {
          call.aborted = true;
          reject(init.signal?.reason);
        });
        Promise.resolve(script(call)).then((answer) => (answer instanceof Error ? reject(answer) : resolve(answer)));
      }),
  };
};

const encoder = new TextEncoder();

/** @param {unknown} document @param {number} [status] @param {Record<string, string>} [headers] */
export const json = (document, status = 200, headers = {}) =>
  new Response(JSON.stringify(document), { status, headers: { "Content-Type": "application/json", ...headers } });

/** @param {number} status @param {string} code @param {object} [more] @param {Record<string, string>} [headers] */
export const problem = (status, code, more = {}, headers = {}) =>
  json({ type: "about:blank", status, code, detail: `It is ${code}.`, ...more }, status, headers);

/** One event as the server writes it. @param {number | string} id @param {string} event @param {unknown} data */
export const sse = (id, event, data) => `id: ${id}\nevent: ${event}\ndata: ${JSON.stringify(data)}\n\n`;

/** A stream that says all this and ends. @param {(string | Uint8Array)[]} pieces */
export const stream = (...pieces) => {
  const { response, say, end } = liveStream();
  pieces.forEach(say);
  end();
  return response;
};

/** A stream that goes on by hand. `cancelled` tells whether its reader has left. */
export const liveStream = () => {
  /** @type {ReadableStreamDefaultController<Uint8Array>} */
  let controller;
  const live = {
    cancelled: false,
    response: new Response(
      new ReadableStream({
        start: (given) => void (controller = given),
        cancel: () => void (live.cancelled = true),
      }),
      { headers: { "Content-Type": "text/event-stream; charset=utf-8" } },
    ),
    /** @param {string | Uint8Array} piece */
    say: (piece) => controller.enqueue(typeof piece === "string" ? encoder.encode(piece) : piece),
    end: () => controller.close(),
    breakOff: () => controller.error(new TypeError("network error")),
  };
  return live;
};

/**
 * A Storage in memory, with room for so many characters.
 * @param {Record<string, string>} [items] @param {number} [room]
 */
export const createStorage = (items = {}, room = Infinity) => {
  const kept = new Map(Object.entries(items));
  const size = () => [...kept].reduce((sum, [key, value]) => sum + key.length + value.length, 0);
  const storage = {
    get length() {
      return kept.size;
    },
    /** @param {number} index */
    key: (index) => [...kept.keys()][index] ?? null,
    /** @param {string} key */
    getItem: (key) => kept.get(key) ?? null,
    /** @param {string} key @param {string} value */
    setItem(key, value) {
      const before = kept.get(key);
      kept.set(key, String(value));
      if (size() <= room) return;
      if (before === undefined) kept.delete(key);
      else kept.set(key, before);
      throw new DOMException("full", "QuotaExceededError");
    },
    /** @param {string} key */
    removeItem: (key) => void kept.delete(key),
    clear: () => kept.clear(),
  };
  // As browsers have it: the keys are members too.
  return /** @type {Storage} */ (
    new Proxy(/** @type {any} */ (storage), {
      ownKeys: () => [...kept.keys()],
      getOwnPropertyDescriptor: (_, key) =>
        kept.has(String(key)) ? { enumerable: true, configurable: true, value: kept.get(String(key)) } : undefined,
    })
  );
};

/** Locks as the browser has them, of one name at a time. */
export const createLocks = () => {
  /** @type {Map<string, Promise<unknown>>} */
  const held = new Map();
  return /** @type {any} */ ({
    /** @param {string} name @param {() => Promise<unknown>} work */
    request(name, work) {
      const turn = Promise.resolve(held.get(name)).then(work);
      held.set(
        name,
        turn.catch(() => {}),
      );
      return turn;
    },
  });
};
