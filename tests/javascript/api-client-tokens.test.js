// Sessions and their tokens: made when needed, refreshed silently, once in all tabs.
import assert from "node:assert/strict";
import test from "node:test";
import { createApiClient } from "../../chatcore/browser/api-client.js";
import {
  C,
  DAY,
  EVENTS,
  ID,
  KEY,
  OUTGOING,
  REPLY,
  SAID,
  all,
  expired,
  failing,
  invalid,
  kept,
  scene,
  session,
  errorOf,
  inTurn,
} from "./api-client-scene.js";
import { createLocks, createServer, createStorage, json, problem, settled, stream } from "./scripted-server.js";

test("the first message makes a session, the second uses it", async () => {
  const { client, server, localStorage, clock } = scene(
    undefined,
    {},
    {
      bot: "sales",
      sessionOptions: async () => ({ identity_token: "abc" }),
    },
  );
  const outgoing = { ...OUTGOING, page_url: "https://a.example/b" };
  assert.deepEqual(await all(client.send(C, outgoing)), EVENTS);
  await all(client.send(C, outgoing));
  assert.deepEqual(server.asked(), ["POST session", "POST chat", "POST chat"]);
  assert.deepEqual(server.calls[0].data, { bot: "sales", page_url: "https://a.example/b", identity_token: "abc" });
  assert.ok(!("Authorization" in server.calls[0].headers));
  assert.equal(server.calls[2].headers.Authorization, "Bearer token1");
  assert.deepEqual(JSON.parse(localStorage.getItem(KEY) ?? ""), {
    session_id: "s_1",
    token: "token1",
    expires_at: clock.now() + DAY,
    features: { history: true, resume: true, uploads: false },
    used: true,
  });
});

test("the default bot is not named", async () => {
  const { client, server } = scene(undefined, {}, { bot: "" });
  await all(client.send(C, OUTGOING));
  assert.deepEqual(server.calls[0].data, {});
});

test("each conversation has a session of its own, also on another server", async () => {
  const { client, server, localStorage, given } = scene(undefined, {});
  await all(client.send(C, OUTGOING));
  await all(client.send("c_other", OUTGOING));
  const elsewhere = createApiClient({ ...given, server: "https://elsewhere.example" });
  await all(elsewhere.send(C, OUTGOING));
  assert.equal(server.asked().filter((call) => call === "POST session").length, 3);
  assert.equal(localStorage.length, 3);
});

for (const [when, expires_at] of /** @type {const} */ ([
  ["has expired", -5000],
  ["expires within a minute", 59_000],
])) {
  test(`a token that ${when} is refreshed first`, async () => {
    const { client, server, localStorage, clock, given } = scene(
      inTurn(() => json(session(9, { session_id: "s_1" }))),
      {},
    );
    given.localStorage.setItem(KEY, kept({ expires_at: clock.now() + expires_at }));
    assert.deepEqual(await all(client.send(C, { ...OUTGOING, history: async () => SAID })), EVENTS);
    assert.deepEqual(server.calls[1].data, OUTGOING, "it is the same session, which knows what was said");
    assert.deepEqual(server.asked(), ["POST session/refresh", "POST chat"]);
    assert.equal(server.calls[0].headers.Authorization, "Bearer token1");
    assert.equal(server.calls[1].headers.Authorization, "Bearer token9");
    const { token, used, expires_at: until } = JSON.parse(localStorage.getItem(KEY) ?? "");
    assert.deepEqual([token, used, until], ["token9", true, clock.now() + DAY]);
  });
}

test("token_expired refreshes once and asks once more, for every call", async () => {
  /** @type {[(client: ReturnType<typeof createApiClient>) => Promise<unknown>, string][]} */
  const works = [
    [(client) => all(client.send(C, OUTGOING)), "POST chat"],
    [(client) => all(client.resume(C, ID, 2)), `GET chat/${ID}`],
    [(client) => client.stop(C, ID), `DELETE chat/${ID}`],
    [(client) => client.rate(C, ID, "up"), `POST chat/${ID}/feedback`],
    [(client) => client.erase(C), "DELETE session"],
  ];
  for (const [work, asked] of works) {
    const answer = () => (/^(POST chat|GET .*)$/.test(asked) ? stream(...REPLY) : new Response(null, { status: 204 }));
    const { client, server } = scene(inTurn(expired, () => json(session(9, { session_id: "s_1" })), answer));
    await work(client);
    assert.deepEqual(server.asked(), [asked, "POST session/refresh", asked]);
    assert.equal(server.calls[2].headers.Authorization, "Bearer token9");
  }
});

test("a dead token costs a new session, and the message goes out once", async () => {
  for (const script of [inTurn(invalid), inTurn(() => problem(401, "token_missing")), inTurn(expired, invalid)]) {
    const { client, server, localStorage } = scene(script);
    assert.deepEqual(await all(client.send(C, OUTGOING)), EVENTS);
    assert.deepEqual(server.asked().slice(-2), ["POST session", "POST chat"]);
    assert.equal(JSON.parse(localStorage.getItem(KEY) ?? "").session_id, "s_2");
  }
});

test("a refreshed token that is dead costs a new session too", async () => {
  const { client, server } = scene(inTurn(expired, () => json(session(9)), invalid));
  assert.deepEqual(await all(client.send(C, OUTGOING)), EVENTS);
  assert.deepEqual(server.asked(), ["POST chat", "POST session/refresh", "POST chat", "POST session", "POST chat"]);
});

test("a server that takes no token at all is asked a few times, not for ever", async () => {
  for (const refusal of [invalid, expired]) {
    const { client, server } = scene(({ url }) => (url.endsWith("refresh") ? json(session(9)) : refusal()));
    const { error } = await failing(client.send(C, OUTGOING));
    assert.match(error.code, /^token_/);
    assert.ok(server.calls.length <= 5);
  }
});

test("a 401 of somebody else's is passed on and costs no session", async () => {
  const { client, server, localStorage } = scene(() => new Response("Basic!", { status: 401 }));
  assert.equal((await failing(client.send(C, OUTGOING))).error.code, "http_401");
  assert.equal(server.calls.length, 1);
  assert.ok(localStorage.getItem(KEY));
});

test("without its session a reply is gone, and the dead token is forgotten", async () => {
  /** @type {((client: ReturnType<typeof createApiClient>) => Promise<any>)[]} */
  const works = [
    (client) => failing(client.resume(C, ID, 1)).then(({ error }) => error),
    (client) => errorOf(client.stop(C, ID)),
    (client) => errorOf(client.rate(C, ID, "up")),
  ];
  for (const work of works) {
    for (const script of [
      inTurn(invalid),
      inTurn(expired, expired),
      inTurn(expired, () => json(session(9)), invalid),
    ]) {
      const { client, localStorage, server } = scene(script);
      assert.equal((await work(client)).code, "reply_gone");
      assert.equal(localStorage.getItem(KEY), null);
      assert.ok(!server.asked().includes("POST session"));
    }
  }
});

test("a refusal to make a session is the failure of the message", async () => {
  for (const locks of [null, createLocks()]) {
    const { given } = scene();
    const server = createServer(() => problem(403, "challenge_failed", { retry_after: 5 }));
    const client = createApiClient({ ...given, locks, localStorage: createStorage(), fetch: server.fetch });
    const { error } = await failing(client.send(C, OUTGOING));
    assert.deepEqual([error.code, error.status, error.retryAfter], ["challenge_failed", 403, 5]);
    assert.deepEqual(server.asked(), ["POST session"]);
  }
});

test("a refresh that fails otherwise keeps the token", async () => {
  for (const answer of [() => problem(429, "rate_limited"), () => new TypeError("x"), () => new Response("<html>")]) {
    const { client, localStorage } = scene(inTurn(expired, answer));
    assert.match((await failing(client.send(C, OUTGOING))).error.code, /^(rate_limited|network|invalid_answer)$/);
    assert.equal(JSON.parse(localStorage.getItem(KEY) ?? "").token, "token1");
  }
});

test("a session of the wrong shape is an invalid answer and is not kept", async () => {
  for (const answer of [
    {},
    null,
    [],
    "x",
    session(1, { token: "" }),
    session(1, { token: "a\nb" }),
    session(1, { token: ["a"] }),
    session(1, { session_id: 5 }),
    session(1, { session_id: "ü" }),
    session(1, { expires_in_seconds: "soon" }),
    session(1, { expires_in_seconds: undefined }),
    session(1, { token: "x".repeat(8193) }),
  ]) {
    const { given } = scene();
    const localStorage = createStorage();
    const client = createApiClient({ ...given, localStorage, fetch: createServer(() => json(answer, 201)).fetch });
    assert.equal((await failing(client.send(C, OUTGOING))).error.code, "invalid_answer");
    assert.equal(localStorage.length, 0);
  }
});

test("what a page adds may fail or never come: the message fails in the end, and the next one may go", async () => {
  for (const locks of [null, createLocks()]) {
    const answers = [() => Promise.reject(new Error("x")), () => new Promise(() => {}), async () => ({})];
    const sessionOptions = /** @type {any} */ (() => /** @type {any} */ (answers.shift())());
    const { client, clock } = scene(undefined, {}, { sessionOptions, locks });
    assert.equal((await failing(client.send(C, OUTGOING))).error.code, "network");
    const failed = failing(client.send(C, OUTGOING));
    await clock.pass(300_000);
    assert.equal((await failed).error.code, "network");
    assert.deepEqual(await all(client.send(C, OUTGOING)), EVENTS);
  }
});

test("an abort does not wait for a session that others may want", async () => {
  /** @type {(options: object) => void} */
  let go = () => {};
  const abort = new AbortController();
  const { client, server } = scene(undefined, {}, { sessionOptions: () => new Promise((resolve) => (go = resolve)) });
  const aborted = failing(client.send(C, OUTGOING, abort.signal));
  const other = all(client.send(C, OUTGOING));
  await settled();
  abort.abort();
  assert.equal((await aborted).error.name, "AbortError");
  go({});
  assert.deepEqual(await other, EVENTS);
  assert.deepEqual(server.asked(), ["POST session", "POST chat"]);
});

for (const [name, locks] of /** @type {[string, () => any][]} */ ([
  ["without locks", () => null],
  ["with locks", createLocks],
  [
    "with locks that are denied",
    () => ({ request: () => Promise.reject(new DOMException("denied", "SecurityError")) }),
  ],
])) {
  test(`two messages at once make one session, ${name}`, async () => {
    const { client, server } = scene(undefined, {}, { locks: locks() });
    await Promise.all([all(client.send(C, OUTGOING)), all(client.send(C, OUTGOING))]);
    assert.deepEqual(server.asked(), ["POST session", "POST chat", "POST chat"]);
  });

  test(`two calls at once refresh once, ${name}`, async () => {
    const { client, server } = scene(
      ({ url, headers }) =>
        url.endsWith("refresh")
          ? json(session(9))
          : headers.Authorization === "Bearer token9"
            ? stream(...REPLY)
            : expired(),
      undefined,
      { locks: locks() },
    );
    await Promise.all([all(client.send(C, OUTGOING)), all(client.resume(C, ID, 1))]);
    assert.equal(server.asked().filter((call) => call === "POST session/refresh").length, 1);
  });
}

test("two tabs make one session, and refresh it once", async () => {
  const locks = createLocks();
  const { client, given, server, clock } = scene(
    ({ url }) => (url.endsWith("refresh") ? json(session(9)) : stream(...REPLY)),
    {},
    { locks },
  );
  const other = createApiClient({ ...given, locks });
  await Promise.all([all(client.send(C, OUTGOING)), all(other.send(C, OUTGOING))]);
  assert.deepEqual(server.asked(), ["POST session", "POST chat", "POST chat"]);
  await clock.pass(DAY);
  await Promise.all([all(client.send(C, OUTGOING)), all(other.send(C, OUTGOING))]);
  assert.deepEqual(server.asked().slice(3), ["POST session/refresh", "POST chat", "POST chat"]);
});

test("a dead token does not push out the one that another tab has made", async () => {
  const { client, localStorage, server } = scene(
    inTurn(() => {
      localStorage.setItem(KEY, kept({ token: "token7", session_id: "s_7" }));
      return invalid();
    }),
  );
  await all(client.send(C, OUTGOING));
  assert.deepEqual(server.asked(), ["POST chat", "POST chat"]);
  assert.equal(server.calls[1].headers.Authorization, "Bearer token7");
});
