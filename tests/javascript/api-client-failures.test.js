// What may go wrong with a reply: refusals, networks, silence, aborts, hostile answers.
import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import test from "node:test";
import fc from "fast-check";
import { ChatError, failureOf } from "../../chatcore/browser/api-client.js";
import { C, EVENTS, ID, KEY, OUTGOING, REPLY, all, failing, kept, scene } from "./api-client-scene.js";
import { json, liveStream, problem, settled, sse, stream } from "./scripted-server.js";

test("a failure before the status is an error with what was said", async () => {
  const { client } = scene(() => problem(502, "upstream_error", { content: "Once upon" }));
  const { error, seen } = await failing(client.send(C, OUTGOING));
  assert.ok(error instanceof ChatError);
  assert.deepEqual(seen, []);
  const { code, detail, message, status, content, retryAfter, errors } = error;
  assert.deepEqual(
    { code, detail, message, status, content, retryAfter, errors },
    {
      code: "upstream_error",
      detail: "It is upstream_error.",
      message: "It is upstream_error.",
      status: 502,
      content: "Once upon",
      retryAfter: undefined,
      errors: undefined,
    },
  );
});

test("a sentence is shown in reasonable length", async () => {
  const { client } = scene(() => problem(502, "upstream_error", { detail: "x".repeat(1e6) }));
  assert.equal((await failing(client.send(C, OUTGOING))).error.detail.length, 999);
});

test("the faults of a body are told", async () => {
  const errors = [{ field: "metadata.plan", message: "must not contain NUL" }];
  const { client } = scene(() => problem(400, "invalid_request", { errors }));
  assert.deepEqual((await failing(client.send(C, OUTGOING))).error.errors, errors);
});

test("when to try again is told by our clock, out of the document or the header", async () => {
  for (const [more, headers, seconds] of /** @type {[object, Record<string, string>, number | undefined][]} */ ([
    [{ retry_after: 12 }, {}, 12],
    [{}, { "Retry-After": "7" }, 7],
    [{ retry_after: 12 }, { "Retry-After": "7" }, 12],
    [{}, { "Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT" }, undefined],
    [{ retry_after: 1e300 }, {}, undefined],
    [{ retry_after: -5 }, {}, undefined],
    [{ retry_after: { a: 1 } }, {}, undefined],
  ])) {
    const { client, clock } = scene(() => problem(429, "rate_limited", more, headers));
    const { error } = await failing(client.send(C, OUTGOING));
    assert.equal(error.retryAfter, seconds);
    const retry_at = seconds && new Date(clock.now() + seconds * 1000).toISOString();
    assert.deepEqual(failureOf(error, clock.now()), {
      code: "rate_limited",
      detail: "It is rate_limited.",
      ...(retry_at && { retry_at }),
    });
  }
});

test("whatever is thrown becomes a failure", () => {
  for (const error of [new TypeError("x"), undefined, null, "x", { code: 5 }, new DOMException("x", "AbortError")]) {
    assert.deepEqual(Object.keys(failureOf(error, 0)), ["code", "detail"]);
  }
});

test("a status without a problem document is named by its number", async () => {
  for (const answer of [
    () => new Response("<h1>Bad Gateway</h1>", { status: 502, headers: { "Content-Type": "text/html" } }),
    () => json({ error: "bad gateway" }, 502),
    () => json({ code: 502, detail: "x" }, 502),
    () => json({ code: "UGLY CODE", detail: "x" }, 502),
    () => json(null, 502),
    () => new Response(null, { status: 502 }),
  ]) {
    const { client } = scene(answer);
    const { error } = await failing(client.send(C, OUTGOING));
    assert.ok(error instanceof ChatError);
    assert.deepEqual([error.code, error.detail], ["http_502", "The server answered with status 502."]);
  }
});

test("what is no chatcore is an invalid answer", async () => {
  const portal = "<html>Please sign in</html>";
  for (const answer of [
    () => new Response(portal, { headers: { "Content-Type": "text/html" } }),
    () => new Response(portal),
    () => new Response(null, { status: 204 }),
    () => json({ hello: "world" }),
    () => json([]),
    () => json({ session_id: "s", content: 5, finish_reason: "complete" }),
    () => json({ session_id: "s", content: "x", finish_reason: "eaten" }),
    () => stream("id: 1\nevent: start\ndata: nothing\n\n"),
    () => stream("id: 1\nevent: start\ndata: null\n\n"),
    () => stream(sse(1, "start", {})),
    () => stream(sse(1, "delta", { content: ["x"] })),
    () => stream(sse(1, "done", { finish_reason: "eaten" })),
    () => stream(`data: ${"x".repeat(2 ** 23)}`),
  ]) {
    const { client } = scene(answer);
    const { error } = await failing(client.send(C, OUTGOING));
    assert.ok(error instanceof ChatError);
    assert.equal(error.code, "invalid_answer");
  }
});

test("a network that fails, a stream that ends or breaks early is called network", async () => {
  const broken = () => {
    const live = liveStream();
    live.say(REPLY[0]);
    void settled().then(live.breakOff);
    return live.response;
  };
  for (const answer of [() => new TypeError("Failed to fetch"), () => stream(REPLY[0]), () => stream(), broken]) {
    const { client } = scene(answer);
    const { error } = await failing(client.send(C, OUTGOING));
    assert.ok(error instanceof ChatError);
    assert.equal(error.code, "network");
  }
});

test("an abort is an AbortError wherever it happens, and ends what was asked", async () => {
  const live = liveStream();
  for (const answer of [() => new Promise(() => {}), () => live.response]) {
    const abort = new AbortController();
    const { client, server, clock } = scene(/** @type {any} */ (answer));
    const failed = failing(client.send(C, OUTGOING, abort.signal));
    await settled();
    abort.abort("a reason of somebody's");
    assert.equal((await failed).error.name, "AbortError");
    assert.ok(server.calls[0].aborted || live.cancelled);
    assert.equal(clock.timers.size, 0);
  }
  const { client, server } = scene();
  assert.equal((await failing(client.send(C, OUTGOING, AbortSignal.abort()))).error.name, "AbortError");
  assert.deepEqual(server.calls, []);
});

test("whoever stops reading lets go of the stream", async () => {
  const live = liveStream();
  const { client, clock } = scene(() => live.response);
  live.say(REPLY[0] + REPLY[1]);
  for await (const event of client.send(C, OUTGOING)) {
    assert.equal(event.type, "start");
    break;
  }
  assert.equal(live.cancelled, true);
  assert.equal(clock.timers.size, 0);
});

test("a signal that serves for long collects no listeners", async () => {
  const { signal } = new AbortController();
  const { client } = scene();
  await all(client.send(C, OUTGOING, signal));
  assert.deepEqual(getEventListeners(signal, "abort"), []);
});

test("an answer without an end is given up, however fast it comes", async () => {
  const piece = new Uint8Array(2 ** 23).fill(32);
  let pulled = 0;
  const { client } = scene(
    () => new Response(new ReadableStream({ pull: (controller) => (pulled++, controller.enqueue(piece)) })),
  );
  assert.equal((await failing(client.send(C, OUTGOING))).error.code, "invalid_answer");
  assert.ok(pulled < 40, `${pulled} pieces`);
});

test("45 s without a byte are a network that failed; a ping in time is not", async () => {
  const live = liveStream();
  const { client, clock } = scene(() => live.response);
  const failed = failing(client.send(C, OUTGOING));
  await clock.pass(40_000);
  live.say(REPLY[0]);
  for (let i = 0; i < 10; i++) {
    await clock.pass(40_000);
    live.say(": ping\n\n");
  }
  await clock.pass(44_000);
  assert.equal(live.cancelled, false);
  await clock.pass(1_000);
  const { error, seen } = await failed;
  assert.deepEqual(seen, [EVENTS[0]]);
  assert.equal(error.code, "network");
  assert.equal(live.cancelled, true);
});

test("60 s without a status are a network that failed, and the call is given up", async () => {
  const { client, clock, server } = scene(() => new Promise(() => {}));
  const failed = failing(client.send(C, OUTGOING));
  await clock.pass(59_000);
  assert.equal(server.calls[0].aborted, false);
  await clock.pass(1_000);
  assert.equal((await failed).error.code, "network");
  assert.equal(server.calls[0].aborted, true);
});

test("what no JSON can be made of fails, and is never sent", async () => {
  /** @type {Record<string, unknown>} */
  const metadata = {};
  metadata.itself = metadata;
  const { client, server } = scene();
  assert.ok((await failing(client.send(C, { ...OUTGOING, metadata }))).error instanceof ChatError);
  assert.deepEqual(server.calls, []);
});

test("members made to break whoever reads them break nothing", async () => {
  const trap = { toString: 1, valueOf: 1, length: 1, match: 1, then: 1 };
  const members = { code: trap, detail: trap, retry_after: trap, content: trap, errors: trap, session_id: trap };
  for (const answer of [
    () => json({ ...members, finish_reason: trap, error: trap }),
    () => json(members, 500),
    () => json({ ...members, code: "upstream_error" }, 502),
    () => stream(...["start", "delta", "done", "constructor", "__proto__"].map((event) => sse(1, event, members))),
    () => stream(sse(1, "error", { ...members, code: "x" })),
  ]) {
    const { error } = await failing(scene(answer).client.send(C, OUTGOING));
    assert.ok(error instanceof ChatError);
    assert.ok(failureOf(error, 0).detail);
  }
});

const anything = fc.oneof(fc.json(), fc.string(), fc.string({ unit: "binary" }));
const pieces = fc.array(
  fc.oneof(
    fc.uint8Array({ maxLength: 50 }),
    anything,
    fc.constantFrom(...REPLY),
    fc
      .tuple(
        fc.oneof(fc.nat(6), fc.string()),
        fc.constantFrom("start", "delta", "error", "done", "content", "x"),
        fc.jsonValue(),
      )
      .map(([id, event, data]) => sse(id, event, data)),
    fc
      .constantFrom("start", "delta", "error", "done")
      .map((event) => sse(9, event, { session_id: null, content: 5, code: [] })),
  ),
  { maxLength: 8 },
);
const answers = fc.record({
  status: fc.oneof(fc.constant(200), fc.constantFrom(200, 201, 202, 206, 400, 401, 403, 404, 429, 500, 502, 503, 599)),
  type: fc.oneof(
    fc.constant("text/event-stream"),
    fc.constantFrom("application/json", "application/problem+json", "text/html", ""),
  ),
  pieces,
  after: fc.constantFrom(undefined, "5", "-1", "x", "1e999"),
  fails: fc.boolean(),
});

test("whatever is answered, a reply ends with done or a ChatError", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(answers, { minLength: 1, maxLength: 4 }), fc.boolean(), async (script, resumes) => {
      let turn = 0;
      const { client, given } = scene(
        undefined,
        { [KEY]: kept() },
        {
          fetch: async () => {
            const { status, type, pieces: said, after, fails } = script[turn++ % script.length];
            if (fails && turn % 2) throw new TypeError("Failed to fetch");
            const live = liveStream();
            said.forEach(live.say);
            if (fails) live.breakOff();
            else live.end();
            const headers = new Headers({ "Content-Type": type });
            if (after) headers.set("Retry-After", after);
            return new Response(live.response.body, { status, headers });
          },
        },
      );
      const seen = [];
      try {
        for await (const event of resumes ? client.resume(C, ID, 1) : client.send(C, OUTGOING)) seen.push(event);
        assert.equal(seen.at(-1)?.type, "done");
      } catch (error) {
        assert.ok(error instanceof ChatError, String(error));
        assert.equal(typeof error.code, "string");
        assert.ok(failureOf(error, given.now()).code);
      }
      const ids = seen.map(({ id }) => id);
      assert.deepEqual(
        ids,
        [...new Set(ids)].sort((a, b) => a - b),
        "ids rise",
      );
      assert.ok(
        seen.every(({ type }) => type !== "done") || seen.findIndex(({ type }) => type === "done") === seen.length - 1,
      );
    }),
    { numRuns: 600 },
  );
});
