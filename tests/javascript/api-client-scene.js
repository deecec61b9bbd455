// A client of a scripted server, on a clock that is moved by hand, as the tests of the API client use it.
import { createApiClient } from "../../chatcore/browser/api-client.js";
import { createClock, createServer, createStorage, json, problem, sse, stream } from "./scripted-server.js";

/** @import { Call, Answer } from "./scripted-server.js" */
/** @import { ReplyEvent } from "../../chatcore/browser/types.js" */

export const SERVER = "https://chat.example.com";
export const C = "c_1234567890123456789012";
export const ID = "0b7f9c3e-9d2a-4c1e-8f0b-3a5d7e9c1b2f";
export const KEY = `chatcore/token/${SERVER}/${C}`;
export const DAY = 86_400_000;
export const OUTGOING = { message: "Hello", message_id: ID };

export const SAID = [
  { role: /** @type {const} */ ("user"), content: "Hi" },
  { role: /** @type {const} */ ("assistant"), content: "Hello\0!" },
];

/** What a server says of a session. @param {number} number @param {object} [more] */
export const session = (number, more = {}) => ({
  session_id: `s_${number}`,
  token: `token${number}`,
  issued_at: "2001-01-01T00:00:00Z", // its clock is wrong, and nobody minds
  expires_at: "2001-01-02T00:00:00Z",
  expires_in_seconds: 86400,
  features: { history: true, resume: true, uploads: false },
  ...more,
});

/** What the client keeps of it. @param {object} [more] */
export const kept = (more = {}) =>
  JSON.stringify({
    session_id: "s_1",
    token: "token1",
    expires_at: Date.parse("2026-02-01T09:30:00Z"),
    features: { history: true },
    used: true,
    ...more,
  });

export const REPLY = [
  sse(1, "start", { message_id: ID, session_id: "s_1" }),
  sse(2, "delta", { content: "Hel" }),
  ": ping\n\n",
  sse(3, "delta", { content: "lo" }),
  sse(4, "done", { message_id: ID, finish_reason: "complete", duration_ms: 5 }),
];

export const EVENTS = [
  { type: "start", id: 1, session_id: "s_1" },
  { type: "delta", id: 2, content: "Hel" },
  { type: "delta", id: 3, content: "lo" },
  { type: "done", id: 4, finish_reason: "complete" },
];

/**
 * A server that knows sessions and answers the rest by `script`; a client of it.
 * @param {(call: Call) => Answer} [script]
 * @param {Record<string, string> | null} [items] what localStorage has; null: there is none
 * @param {Partial<Parameters<typeof createApiClient>[0]>} [options]
 */
export const scene = (script = () => stream(...REPLY), items = { [KEY]: kept() }, options = {}) => {
  const clock = createClock();
  let made = 0;
  const server = createServer((call) => {
    if (call.method === "POST" && call.url.endsWith("/api/v1/session")) {
      made++;
      return json(session(made === 1 && !items?.[KEY] ? 1 : made + 1), 201);
    }
    return script(call);
  });
  const localStorage = createStorage(items ?? {});
  const { now, setTimeout, clearTimeout } = clock;
  const given = { server: SERVER, fetch: server.fetch, localStorage, locks: null, now, setTimeout, clearTimeout };
  return { clock, server, localStorage, client: createApiClient({ ...given, ...options }), given };
};

/** A server's answers, each once, then the whole reply. @param {(() => Answer)[]} answers */
export const inTurn =
  (...answers) =>
  () =>
    (answers.shift() ?? (() => stream(...REPLY)))();

export const expired = () => problem(401, "token_expired");
export const invalid = () => problem(401, "token_invalid");

/** @param {AsyncIterable<ReplyEvent>} events */
export const all = async (events) => {
  const seen = [];
  for await (const event of events) seen.push(event);
  return seen;
};

/** What goes wrong, with what was seen before. @param {AsyncIterable<ReplyEvent>} events */
export const failing = async (events) => {
  /** @type {ReplyEvent[]} */
  const seen = [];
  try {
    for await (const event of events) seen.push(event);
  } catch (error) {
    return { seen, error: /** @type {any} */ (error) };
  }
  throw new Error("nothing went wrong");
};

/** @param {Promise<unknown>} work */
export const errorOf = (work) =>
  work.then(
    () => assertFails(),
    (error) => error,
  );

const assertFails = () => {
  throw new Error("nothing went wrong");
};
