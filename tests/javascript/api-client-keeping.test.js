// What is carried along and kept: history for new sessions, tokens in localStorage, and erasing.
import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import {
  C,
  DAY,
  EVENTS,
  ID,
  KEY,
  OUTGOING,
  REPLY,
  SAID,
  SERVER,
  all,
  expired,
  failing,
  invalid,
  kept,
  scene,
  session,
  inTurn,
} from "./api-client-scene.js";
import { createStorage, json, problem, settled, stream } from "./scripted-server.js";

test("a new session gets what was said before, once it is used no more", async () => {
  const { client, server } = scene(undefined, {});
  const outgoing = { ...OUTGOING, history: async () => SAID };
  await all(client.send(C, outgoing));
  await all(client.send(C, outgoing));
  assert.deepEqual(server.calls[1].data, {
    ...OUTGOING,
    history: [SAID[0], { role: "assistant", content: "Hello\ufffd!" }],
  });
  assert.deepEqual(server.calls[2].data, OUTGOING);
});

test("a session that took the place of a dead one gets what was said before", async () => {
  const { client, server } = scene(inTurn(invalid));
  await all(client.send(C, { ...OUTGOING, history: async () => SAID }));
  assert.ok(!("history" in server.calls[0].data));
  assert.equal(server.calls[2].data.history.length, 2);
});

test("a message that was refused leaves its session unused", async () => {
  const { client, server } = scene(
    inTurn(() => problem(429, "rate_limited")),
    {},
  );
  const outgoing = { ...OUTGOING, history: async () => SAID };
  await failing(client.send(C, outgoing));
  await all(client.send(C, outgoing));
  assert.equal(server.calls[2].data.history.length, 2);
});

test("a server that takes no history gets none; one that is empty or cannot be had holds up nothing", async () => {
  for (const features of [{ history: false }, { history: "yes" }, {}, null, 5]) {
    const refuses = scene(undefined, { [KEY]: kept({ used: false, features }) });
    await all(refuses.client.send(C, { ...OUTGOING, history: async () => SAID }));
    assert.deepEqual(refuses.server.calls[0].data, OUTGOING);
  }
  for (const history of [async () => [], () => Promise.reject(new Error("storage is broken"))]) {
    const { client, server } = scene(undefined, { [KEY]: kept({ used: false }) });
    assert.deepEqual(await all(client.send(C, { ...OUTGOING, history })), EVENTS);
    assert.deepEqual(server.calls[0].data, OUTGOING);
  }
});

test("history keeps within the server's bounds, the newest of it", async () => {
  const entry = fc.record({
    role: fc.constantFrom(/** @type {const} */ ("user"), /** @type {const} */ ("assistant")),
    content: fc.oneof(
      fc.string(),
      fc.tuple(fc.constantFrom("x", "é", "😀", "\u0001", '"', "\ud800"), fc.nat(7e4)).map(([c, n]) => c.repeat(n)),
    ),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(entry, { maxLength: 25 }), fc.nat(200_000), async (entries, length) => {
      const { client, server } = scene(undefined, { [KEY]: kept({ used: false }) });
      await all(client.send(C, { ...OUTGOING, message: "x".repeat(length), history: async () => entries }));
      const [{ data, init }] = server.calls;
      const sent = data.history ?? [];
      assert.ok(sent.length <= 20 && Buffer.byteLength(JSON.stringify(sent)) <= 60_000);
      if (sent.length) assert.ok(Buffer.byteLength(String(init.body)) <= 200_000);
      const clean = entries.map(({ role, content }) => ({
        role,
        content: content.replace(/[\0\ud800-\udfff]/gu, "\ufffd"),
      }));
      assert.deepEqual(sent, clean.slice(clean.length - sent.length));
    }),
    { numRuns: 100 },
  );
});

test("erasing forgets the token whatever the server says, and tells what went wrong", async () => {
  for (const [answer, code] of /** @type {[() => any, string | undefined][]} */ ([
    [() => new Response(null, { status: 204 }), undefined],
    [invalid, undefined],
    [() => problem(404, "not_found"), undefined],
    [() => new TypeError("x"), "network"],
    [() => problem(503, "store_unavailable"), "store_unavailable"],
  ])) {
    const { client, localStorage } = scene(answer);
    const error = await client.erase(C).catch((thrown) => thrown);
    assert.equal(error?.code, code);
    assert.equal(localStorage.getItem(KEY), null);
  }
  const { client, server } = scene(undefined, {});
  await client.erase(C);
  assert.deepEqual(server.calls, []);
});

test("erasing waits for a session that is being made or refreshed, so that none is left", async () => {
  for (const items of /** @type {Record<string, string>[]} */ ([{}, { [KEY]: kept() }])) {
    /** @type {(options?: object) => void} */
    let go = () => {};
    const held = new Promise((resolve) => (go = resolve));
    let told = false;
    const { client, server, localStorage } = scene(
      async ({ method, url, headers }) => {
        if (method === "DELETE") return new Response(null, { status: 204 });
        if (url.endsWith("refresh")) return held.then(() => json(session(9)));
        if (headers.Authorization !== "Bearer token1" || !items[KEY] || told) return stream(...REPLY);
        told = true;
        return expired();
      },
      items,
      { sessionOptions: async () => Object(await held) },
    );
    const sent = all(client.send(C, OUTGOING));
    await settled();
    const erased = client.erase(C);
    await settled();
    go({});
    await Promise.all([sent, erased]);
    assert.equal(localStorage.getItem(KEY), null);
    assert.ok(server.asked().includes("DELETE session"));
  }
});

test("an erased conversation stays so when its reply arrives", async () => {
  const { client, localStorage } = scene(() => (localStorage.removeItem(KEY), stream(...REPLY)));
  await all(client.send(C, OUTGOING));
  assert.equal(localStorage.getItem(KEY), null);
});

const denied = () =>
  /** @type {Storage} */ (new Proxy({}, { get: () => assert.fail("denied"), ownKeys: () => assert.fail("denied") }));

test("denied storage is replaced by memory", async () => {
  const { client, server } = scene(undefined, {}, { localStorage: denied() });
  await all(client.send(C, OUTGOING));
  await all(client.send(C, OUTGOING));
  await client.erase(C).catch(() => {});
  assert.deepEqual(server.asked(), ["POST session", "POST chat", "POST chat", "DELETE session"]);
  assert.equal((await failing(client.resume(C, ID, 1))).error.code, "reply_gone");
});

test("a full storage loses our expired tokens and nothing else", async () => {
  const items = {
    "chatcore/token/x/old": kept({ expires_at: 5 }),
    "chatcore/token/x/broken": "{".repeat(100),
    "chatcore/token/x/good": kept(),
    "chatcore/draft": kept({ expires_at: 5 }),
  };
  const size = Object.entries(items).flat().join("").length;
  const localStorage = createStorage(items, size + 50);
  const { client } = scene(undefined, {}, { localStorage });
  assert.deepEqual(await all(client.send(C, OUTGOING)), EVENTS);
  assert.deepEqual(Object.keys(localStorage).sort(), ["chatcore/draft", "chatcore/token/x/good", KEY].sort());
});

test("where nothing can be dropped memory takes over, until there is room again", async () => {
  const localStorage = createStorage({ page: "x".repeat(300) }, 310);
  const { client, server, clock } = scene(
    ({ url }) => (url.endsWith("refresh") ? json(session(9)) : stream(...REPLY)),
    {},
    { localStorage },
  );
  await all(client.send(C, OUTGOING));
  await all(client.send(C, OUTGOING));
  assert.deepEqual(server.asked(), ["POST session", "POST chat", "POST chat"]);
  assert.deepEqual(Object.keys(localStorage), ["page"]);
  localStorage.clear();
  await clock.pass(DAY);
  await all(client.send(C, OUTGOING));
  assert.equal(JSON.parse(localStorage.getItem(KEY) ?? "").token, "token9");
  localStorage.clear();
  assert.equal((await failing(client.resume(C, ID, 1))).error.code, "reply_gone", "storage has the say again");
});

test("whatever stands in localStorage, nothing is thrown but what the server causes", async () => {
  const strange = fc.oneof(
    fc.string({ unit: "binary" }),
    fc.json(),
    fc
      .record(
        {
          session_id: fc.oneof(fc.constant("s_1"), fc.jsonValue()),
          token: fc.oneof(fc.constant("token1"), fc.jsonValue()),
          expires_at: fc.oneof(fc.constant(9e15), fc.jsonValue()),
          features: fc.jsonValue(),
          used: fc.jsonValue(),
        },
        { requiredKeys: [] },
      )
      .map((value) => JSON.stringify(value)),
  );
  await fc.assert(
    fc.asyncProperty(strange, async (value) => {
      const { client } = scene(({ url }) => (url.endsWith("refresh") ? json(session(9)) : stream(...REPLY)), {
        [KEY]: value,
      });
      assert.deepEqual(await all(client.send(C, OUTGOING)), EVENTS);
    }),
    { numRuns: 500 },
  );
});

test("the server's path is part of the key", async () => {
  const { client, localStorage } = scene(undefined, {}, { server: `${SERVER}/below/` });
  await all(client.send(C, OUTGOING));
  assert.deepEqual(Object.keys(localStorage), [`chatcore/token/${SERVER}/below/${C}`]);
});
