// Replies over HTTP: sending, streaming, resuming, stopping, rating.
import assert from "node:assert/strict";
import test from "node:test";
import {
  C,
  EVENTS,
  ID,
  KEY,
  OUTGOING,
  REPLY,
  SERVER,
  all,
  errorOf,
  failing,
  inTurn,
  scene,
} from "./api-client-scene.js";
import { json, liveStream, problem, sse, stream } from "./scripted-server.js";

const FAILED = { code: "upstream_timeout", detail: "The assistant took too long to answer.", status: 504 };

test("a reply comes as the events of its stream", async () => {
  const { client, server } = scene();
  assert.deepEqual(await all(client.send(C, OUTGOING)), EVENTS);
  const [{ url, init, ...call }] = server.calls;
  assert.equal(url, `${SERVER}/api/v1/chat`);
  assert.deepEqual(call.data, OUTGOING);
  assert.deepEqual(call.headers, {
    Accept: "text/event-stream",
    "Content-Type": "application/json",
    Authorization: "Bearer token1",
    "X-Chat-Session": "s_1",
  });
  const { cache, credentials, redirect } = init;
  assert.deepEqual({ cache, credentials, redirect }, { cache: "no-store", credentials: "omit", redirect: "error" });
});

test("a server below a path is asked below it, with a slash at its end or without", async () => {
  for (const server of ["https://example.com/chat", "https://example.com/chat/"]) {
    const here = scene(undefined, {}, { server });
    await all(here.client.send(C, OUTGOING));
    assert.deepEqual(
      here.server.calls.map(({ url }) => url),
      ["https://example.com/chat/api/v1/session", "https://example.com/chat/api/v1/chat"],
    );
  }
});

test("a reply is read however its bytes are cut", async () => {
  const bytes = new TextEncoder().encode(REPLY.join(""));
  const { client } = scene(() => stream(...Array.from(bytes, (byte) => Uint8Array.of(byte))));
  assert.deepEqual(await all(client.send(C, OUTGOING)), EVENTS);
});

test("pieces are given as they come, and nothing is read behind the end", async () => {
  const live = liveStream();
  const { client } = scene(() => live.response);
  const events = client.send(C, OUTGOING);
  live.say(REPLY[0]);
  assert.deepEqual((await events.next()).value, EVENTS[0]);
  live.say(REPLY[1]);
  assert.deepEqual((await events.next()).value, EVENTS[1]);
  live.say(REPLY[3] + REPLY[4] + sse(5, "delta", { content: "more" }));
  assert.deepEqual((await events.next()).value, EVENTS[2]);
  assert.deepEqual((await events.next()).value, EVENTS[3]);
  assert.equal((await events.next()).done, true);
  assert.equal(live.cancelled, true);
});

test("an event that was seen is not given twice, and unknown ones are skipped", async () => {
  const { client } = scene(() =>
    stream(
      REPLY[0],
      REPLY[0],
      sse(2, "mood", { content: "?" }),
      REPLY[1],
      sse("x", "delta", { content: "y" }),
      sse(1.5, "delta", { content: "z" }),
      sse("1e999", "delta", { content: "z" }),
      ...REPLY,
    ),
  );
  assert.deepEqual(await all(client.send(C, OUTGOING)), EVENTS);
});

test("an error after the status is an event, and done follows", async () => {
  const { client } = scene(() =>
    stream(REPLY[0], sse(2, "error", { ...FAILED, retry_after: 30 }), sse(3, "done", { finish_reason: "error" })),
  );
  const { code, detail } = FAILED;
  assert.deepEqual(await all(client.send(C, OUTGOING)), [
    EVENTS[0],
    { type: "error", id: 2, failure: { code, detail, retry_at: "2026-01-31T09:30:30.000Z" } },
    { type: "done", id: 3, finish_reason: "error" },
  ]);
});

test("a server that ignores what we accept is read as one document", async () => {
  const whole = { message_id: ID, session_id: "s_1", content: "Hello", finish_reason: "complete", duration_ms: 5 };
  const { client } = scene(
    inTurn(
      () => json(whole),
      () => json({ ...whole, finish_reason: "error", error: FAILED }),
    ),
  );
  assert.deepEqual(await all(client.send(C, OUTGOING)), [
    EVENTS[0],
    { type: "content", id: 2, content: "Hello" },
    { type: "done", id: 3, finish_reason: "complete" },
  ]);
  const { code, detail } = FAILED;
  assert.deepEqual(await all(client.send(C, OUTGOING)), [
    EVENTS[0],
    { type: "content", id: 2, content: "Hello" },
    { type: "error", id: 3, failure: { code, detail } },
    { type: "done", id: 4, finish_reason: "error" },
  ]);
});

test("texts are sent as the server takes them: no NUL, no half characters", async () => {
  const { client, server } = scene();
  await all(
    client.send(C, {
      message: "a\0b\ud800c😀\udc00",
      message_id: ID,
      metadata: { plan: ["\0"] },
      page_url: "https://a.example/",
    }),
  );
  assert.deepEqual(server.calls[0].data, {
    message: "a\ufffdb\ufffdc😀\ufffd",
    message_id: ID,
    metadata: { plan: ["\ufffd"] },
    page_url: "https://a.example/",
  });
});

test("of the page's address the server gets origin and path, if it is one that it takes", async () => {
  for (const [page_url, sent] of /** @type {[string, string | undefined][]} */ ([
    ["https://a.example/b?token=secret#c", "https://a.example/b"],
    [`http://a.example/?${"x".repeat(9000)}`, "http://a.example/"],
    [`http://a.example/${"x".repeat(9000)}`, `http://a.example/${"x".repeat(1988)}`],
    ["file:///somewhere/a.html", undefined],
    ["about:srcdoc", undefined],
    ["", undefined],
  ])) {
    const { client, server } = scene(undefined, {});
    await all(client.send(C, { ...OUTGOING, page_url }));
    assert.deepEqual(
      server.calls.map(({ data }) => data.page_url),
      [sent, sent],
    );
  }
});

test("a reply is resumed behind what was seen", async () => {
  const { client, server } = scene(() => stream(...REPLY));
  assert.deepEqual(await all(client.resume(C, ID, 2)), EVENTS.slice(2));
  assert.deepEqual(server.asked(), [`GET chat/${ID}`]);
  assert.equal(server.calls[0].headers["Last-Event-ID"], "2");
  assert.equal(server.calls[0].headers.Accept, "text/event-stream");
  assert.deepEqual(await all(client.resume(C, ID, 0)), EVENTS);
  assert.ok(!("Last-Event-ID" in server.calls[1].headers));
});

test("where all was read, the whole text shows how it ended", async () => {
  const whole = { message_id: ID, session_id: "s_1", content: "Hello", finish_reason: "error", error: FAILED };
  const { client, server } = scene(
    inTurn(
      () => new Response(null, { status: 204 }),
      () => json(whole),
    ),
  );
  const { code, detail } = FAILED;
  assert.deepEqual(await all(client.resume(C, ID, 9)), [
    { type: "content", id: 10, content: "Hello" },
    { type: "error", id: 11, failure: { code, detail } },
    { type: "done", id: 12, finish_reason: "error" },
  ]);
  assert.ok(!("Accept" in server.calls[1].headers));
  assert.ok(!("Last-Event-ID" in server.calls[1].headers));
});

test("a reply that the server lost is gone; one of no session is, without a call", async () => {
  const lost = scene(() => problem(404, "reply_gone"));
  assert.equal((await failing(lost.client.resume(C, ID, 2))).error.code, "reply_gone");
  const none = scene(undefined, {});
  assert.equal((await failing(none.client.resume(C, ID, 2))).error.code, "reply_gone");
  for (const work of [none.client.stop(C, ID), none.client.rate(C, ID, "up")]) {
    assert.equal((await errorOf(work)).code, "reply_gone");
  }
  assert.deepEqual(none.server.calls, []);
});

test("stopping, rating and erasing say what the contract says", async () => {
  const { client, server, localStorage } = scene(() => new Response(null, { status: 204 }));
  await client.stop(C, ID);
  await client.rate(C, ID, "down");
  await client.erase(C);
  assert.deepEqual(server.asked(), [`DELETE chat/${ID}`, `POST chat/${ID}/feedback`, "DELETE session"]);
  assert.deepEqual(server.calls[1].data, { rating: "down" });
  assert.equal(server.calls[2].init.keepalive, true);
  assert.equal(localStorage.getItem(KEY), null);
});

test("a page in between that says 200 has neither stopped, rated nor erased", async () => {
  const { client } = scene(() => new Response("<html>Please sign in</html>"));
  for (const work of [client.stop(C, ID), client.rate(C, ID, "up"), client.erase(C)]) {
    assert.equal((await errorOf(work)).code, "invalid_answer");
  }
});

test("an id of a message cannot lead elsewhere", async () => {
  const { client, server } = scene(() => new Response(null, { status: 204 }));
  await client.stop(C, "../session?x#y");
  assert.deepEqual(server.asked(), ["DELETE chat/..%2Fsession%3Fx%23y"]);
});
