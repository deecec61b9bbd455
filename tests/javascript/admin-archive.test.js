// Views of kept messages without a page: addresses there and back, what is asked for, what is read and what is refused.
import assert from "node:assert/strict";
import { setMaxListeners } from "node:events";
import { afterEach, test } from "node:test";
import fc from "fast-check";
import { NO_FILTER, readAddress, writeAddress } from "../../chatcore/browser/admin-addresses.js";
import { ask } from "../../chatcore/browser/admin-api.js";
import { audit, conversations, erasing, transcript } from "../../chatcore/browser/admin-archive-api.js";
import { createServer } from "./scripted-server.js";

const SESSION = {
  session_id: "s-1", bot: "default", origin: "https://example.com", page: "", client: "x", created_at: "2026-03-18T13:00:00.250Z",
  seen_at: "2026-03-18T13:24:00Z", messages: 4, replies: 3, errors: 1, feedback_up: 1, feedback_down: 0, user: null, excerpt: "a <b>",
};
const MESSAGE = {
  message_id: "m", role: "assistant", content: "Hi", created_at: "2026-03-18T13:24:00Z", finish_reason: "complete", error_code: null,
  duration_ms: 40, rating: "up", comment: null,
};
const ENTRY = {
  number: 7, at: "2026-03-18T13:24:00Z", actor: "admin:anna", action: "sessions_searched", session_id: null, address: "ab",
  detail: { q: "refund", bot: null, limit: 20, nested: { a: [1] } },
};

const { fetch } = globalThis;
afterEach(() => {
  globalThis.fetch = fetch;
});
/** @param {Parameters<typeof createServer>[0]} script */
const serve = (script) => {
  const server = createServer(script);
  globalThis.fetch = /** @type {any} */ (server.fetch);
  return server;
};
const { signal } = new AbortController();
setMaxListeners(0, signal); // of all calls of this file

test("an address is what it was made of", () => {
  const any = fc.string({ unit: "binary" }).map((one) => one.trim());
  fc.assert(fc.property(fc.record({ q: any, origin: any, bot: any, from: any, to: any }, { noNullPrototype: true }), (filter) => {
    assert.deepEqual(readAddress(writeAddress({ view: "conversations", filter })), { view: "conversations", filter });
  }));
  fc.assert(fc.property(fc.string({ unit: "binary", minLength: 1 }), (id) => {
    assert.deepEqual(readAddress(writeAddress({ view: "session", id })), { view: "session", id });
  }));
  assert.equal(writeAddress({ view: "conversations", filter: { ...NO_FILTER, q: " two words " } }), "#conversations?q=two+words");
  assert.equal(writeAddress({ view: "conversations", filter: NO_FILTER }), "#conversations");
  assert.deepEqual(readAddress(writeAddress({ view: "audit" })), { view: "audit" });
});

test("whatever else is an address leads to the figures", () => {
  for (const one of ["", "#", "#figures", "#session/", "#session/%ff", "#session/a/b", "#audits", "#Conversations", "#__proto__"]) {
    assert.deepEqual(readAddress(one), { view: "figures" }, one);
  }
  fc.assert(fc.property(fc.string({ unit: "binary" }), (hash) => void readAddress(hash)));
});

test("a search is asked for by whole UTC days, without what is empty", async () => {
  const server = serve(() => Response.json({ sessions: [SESSION], next_before: "mark", truncated: true }));
  const answer = await ask("secret", conversations({ q: "a&b", origin: "", bot: "", from: "2026-03-01", to: "2026-03-31" }, ""), signal);
  const [{ method, url, headers }] = server.calls;
  assert.equal(`${method} ${url}`, "GET api/v1/admin/sessions?q=a%26b&from=2026-03-01T00%3A00%3A00Z&to=2026-04-01T00%3A00%3A00Z");
  assert.equal(headers.Authorization, "Bearer secret");
  assert.ok("found" in answer);
  const { all: [one], before, truncated } = answer.found;
  assert.deepEqual([one.id, one.began, one.seen, one.messages, one.user, one.excerpt], [
    "s-1", Date.UTC(2026, 2, 18, 13, 0, 0, 250), Date.UTC(2026, 2, 18, 13, 24), 4, null, "a <b>",
  ]);
  assert.deepEqual([before, truncated], ["mark", true]);
});

test("a later page is asked for by its mark, a conversation by its id whatever is in it", async () => {
  const server = serve(() => Response.json({ messages: [MESSAGE], next_before: null }));
  await ask("secret", transcript("a/b?c", ""), signal);
  await ask("secret", transcript("s-1", "m=="), signal);
  await ask("secret", conversations({ ...NO_FILTER, from: "soon" }, "x"), signal);
  assert.deepEqual(server.calls.map(({ url }) => url), [
    "api/v1/admin/sessions/a%2Fb%3Fc/messages", "api/v1/admin/sessions/s-1/messages?before=m%3D%3D", "api/v1/admin/sessions?before=x",
  ]);
});

test("messages and audit entries are read", () => {
  assert.deepEqual(transcript("s", "").read({ messages: [MESSAGE, { role: "user", content: "Hello", created_at: MESSAGE.created_at }], next_before: null }).all, [
    { isVisitor: false, text: "Hi", at: Date.UTC(2026, 2, 18, 13, 24), finish: "complete", fault: null, took: 40, rating: "up", comment: null },
    { isVisitor: true, text: "Hello", at: Date.UTC(2026, 2, 18, 13, 24), finish: null, fault: null, took: null, rating: null, comment: null },
  ]);
  const { all: [entry], before } = audit("").read({ entries: [ENTRY], next_before: 7 });
  assert.deepEqual(entry.detail, [["q", "refund"], ["limit", "20"], ["nested", '{"a":[1]}']]);
  assert.equal(before, "7", "a mark may be a number");
});

test("whatever else is refused as a whole", () => {
  for (const { read } of [conversations(NO_FILTER, ""), transcript("s", ""), audit("")]) {
    fc.assert(fc.property(fc.jsonValue(), (value) => {
      assert.throws(() => read(value), TypeError);
    }));
  }
  const wrong = [{ messages: -1 }, { seen_at: "soon" }, { session_id: 4 }, { excerpt: {} }, { origin: null }];
  for (const one of wrong) assert.throws(() => conversations(NO_FILTER, "").read({ sessions: [{ ...SESSION, ...one }] }), TypeError);
});

test("only 204 says that a conversation was erased", async () => {
  /** @type {() => Response} */
  let answer = () => new Response(null, { status: 204 });
  const server = serve(() => answer());
  assert.deepEqual(await ask("secret", erasing("s-1"), signal), { found: true });
  assert.equal(`${server.calls[0].method} ${server.calls[0].url}`, "DELETE api/v1/admin/sessions/s-1");
  for (answer of [() => new Response("<html>Welcome to the wifi"), () => Response.json(null), () => Response.json({})]) {
    assert.match(Reflect.get(await ask("secret", erasing("s-1"), signal), "said"), /could not be read/);
  }
  answer = () => Response.json({ code: "store_unavailable" }, { status: 503 });
  assert.match(Reflect.get(await ask("secret", erasing("s-1"), signal), "said"), /^Nothing was erased/);
});

test("what is unknown and what is never stored are told apart", async () => {
  /** @param {string} code */
  const told = async (code) => {
    serve(() => Response.json({ code }, { status: 404 }));
    return ask("secret", transcript("s-1", ""), signal);
  };
  const unknown = await told("not_found");
  assert.ok("said" in unknown);
  assert.equal(unknown.why, "question");
  assert.match(unknown.said, /no conversation with this id/);
  assert.equal(Reflect.get(await told("not_stored"), "why"), "not stored");
});
