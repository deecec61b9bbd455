// Sending files: what goes out, how far it is, and every way in which it ends.
import assert from "node:assert/strict";
import { test } from "node:test";
import { createApiClient } from "../../chatcore/browser/api-client.js";
import { createAttachedFiles } from "../../chatcore/browser/attached-files.js";
import { upload } from "../../chatcore/browser/file-upload.js";
import { all, C, EVENTS, failing, KEY, kept, OUTGOING, REPLY, scene, SERVER } from "./api-client-scene.js";
import { json, stream } from "./scripted-server.js";

const URL_OF = `${SERVER}/api/v1/chat`;
const HEADERS = { Authorization: "Bearer token1", "Content-Type": "application/json" };
const FILES = [new File(["abc"], "ä.txt", { type: "text/plain" }), new File([new Uint8Array([0, 255])], "b.bin")];

/** A request as browsers have it, moved by hand. */
class HandRequest {
  /** @type {HandRequest[]} */
  static made = [];
  upload = /** @type {any} */ ({});
  headers = /** @type {Record<string, string>} */ ({});
  readyState = 0;
  status = 0;
  responseText = "";
  responseURL = URL_OF;
  aborted = false;
  /** @type {any} */
  onreadystatechange = null;
  /** @type {any} */
  onprogress = null;
  /** @type {any} */
  onload = null;
  /** @type {any} */
  onerror = null;
  /** @type {FormData | null} */
  body = null;
  line = "";

  constructor() {
    HandRequest.made.push(this);
  }
  /** @param {string} method @param {string} url */
  open(method, url) {
    this.line = `${method} ${url}`;
  }
  /** @param {string} name @param {string} value */
  setRequestHeader(name, value) {
    this.headers[name] = value;
  }
  getAllResponseHeaders() {
    return "content-type: text/event-stream\r\nretry-after: 7\r\nbroken\r\n";
  }
  /** @param {FormData} body */
  send(body) {
    this.body = body;
  }
  abort() {
    this.aborted = true;
  }
  answer(status = 200) {
    this.status = status;
    this.readyState = 2;
    this.onreadystatechange?.();
  }
  /** @param {string} text */
  say(text) {
    this.responseText += text;
    this.onprogress?.();
  }
}

/** @param {RequestInit} [more] */
const begin = (more = {}) => {
  /** @type {number[]} */
  const shares = [];
  const init = { method: "POST", headers: HEADERS, body: '{"message":"x"}', ...more };
  const answer = upload(URL_OF, init, FILES, (share) => shares.push(share), /** @type {any} */ (HandRequest));
  const request = /** @type {HandRequest} */ (HandRequest.made.at(-1));
  return { answer, shares, request };
};
/** @param {Promise<unknown>} work */
const errorOf = (work) => work.then(() => assert.fail("it went well"), (error) => error);

test("the message comes first, then the files, and the form names its own type", async () => {
  const { request, shares, answer } = begin();
  assert.equal(request.line, `POST ${URL_OF}`);
  assert.deepEqual(request.headers, { Authorization: "Bearer token1" });
  const parts = [...(request.body ?? [])];
  assert.deepEqual(parts.map(([name]) => name), ["request", "files", "files"]);
  assert.equal(parts[0][1], '{"message":"x"}');
  const [, first, second] = parts.map(([, part]) => /** @type {File} */ (part));
  assert.deepEqual([first.name, await first.text(), second.name, second.size], ["ä.txt", "abc", "b.bin", 2]);
  request.upload.onprogress({ loaded: 1, total: 4 });
  request.upload.onprogress({ loaded: 4, total: 4 });
  assert.deepEqual(shares, [0, 0.25, 0.99]);
  request.upload.onload();
  request.answer();
  assert.deepEqual(shares, [0, 0.25, 0.99, 1]);
  const response = await answer;
  assert.equal(response.headers.get("Retry-After"), "7");
  request.say("hé");
  request.say("llo");
  request.onload();
  assert.equal(await response.text(), "héllo");
});

test("an answer without a body, and one that comes before all has left", async () => {
  const { request, answer } = begin();
  request.answer(204);
  assert.equal((await answer).body, null);
  const early = begin();
  early.request.answer(413);
  early.request.say("{}");
  early.request.onload();
  assert.deepEqual([(await early.answer).status, await (await early.answer).json()], [413, {}]);
});

test("whatever breaks is a network that failed, before the answer and in it", async () => {
  const { request, answer } = begin();
  request.onerror();
  assert.ok((await errorOf(answer)) instanceof TypeError);
  const later = begin();
  later.request.answer();
  const response = await later.answer;
  later.request.say("half");
  later.request.onerror();
  assert.ok((await errorOf(response.text())) instanceof TypeError);
});

test("who was sent elsewhere gets no answer from there", async () => {
  const { request, answer } = begin();
  request.responseURL = "https://elsewhere.example/api/v1/chat";
  request.answer();
  assert.match(String(await errorOf(answer)), /redirected/);
  assert.ok(request.aborted);
});

test("an abort ends it at any time, and so does who reads no further", async () => {
  const gone = AbortSignal.abort();
  assert.equal((await errorOf(begin({ signal: gone }).answer)).name, "AbortError");
  const controller = new AbortController();
  const { request, answer } = begin({ signal: controller.signal });
  controller.abort();
  assert.equal((await errorOf(answer)).name, "AbortError");
  assert.ok(request.aborted);
  const read = begin();
  read.request.answer();
  await (await read.answer).body?.cancel();
  assert.ok(read.request.aborted);
  read.request.say("nobody listens");
});

test("where nothing moves for long it is given up", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { request, answer } = begin();
  const failed = errorOf(answer);
  t.mock.timers.tick(179_000);
  request.upload.onprogress({ loaded: 1, total: 4 });
  t.mock.timers.tick(179_000);
  assert.ok(!request.aborted);
  t.mock.timers.tick(2000);
  assert.match(String(await failed), /nothing moves/);
  assert.ok(request.aborted);
});

test("the client sends through what carries files, without a limit of its own, and only where files are taken", async () => {
  const files = { uploads: { max_bytes: 1, max_files: 1, types: [] } };
  /** @type {any[]} */
  const sent = [];
  const through = async (/** @type {string} */ url, /** @type {RequestInit} */ init) => {
    sent.push([url, JSON.parse(String(init.body))]);
    return stream(...REPLY);
  };
  const outgoing = { ...OUTGOING, through, sent: () => false };
  const taking = scene(undefined, { [KEY]: kept({ features: files }) });
  assert.deepEqual(await all(taking.client.send(C, outgoing)), EVENTS);
  assert.deepEqual(sent, [[URL_OF, OUTGOING]]);
  assert.deepEqual(taking.server.calls, []);
  const other = scene();
  const { error } = await failing(other.client.send(C, outgoing));
  assert.equal(error.code, "uploads_off");
  assert.equal(sent.length, 1);
});

test("what a server takes is known from its session, or a new one", async () => {
  const { client, server } = scene(() => json({}), {});
  assert.equal(await client.features(C), undefined);
  assert.equal(server.calls.length, 0);
  const features = { history: true, resume: true, uploads: false };
  assert.deepEqual(await client.features(C, { message: "", message_id: "", page_url: "https://a.example/b?c" }), features);
  assert.deepEqual(await client.features(C), features);
  assert.equal(server.calls.length, 1);
  assert.deepEqual(server.calls[0].data, { page_url: "https://a.example/b" });
  const again = createApiClient({ ...scene().given, server: SERVER });
  assert.deepEqual(await again.features(C), { history: true });
});

test("files are held for the last messages only, and their names are kept within bounds", () => {
  const attached = createAttachedFiles(() => {});
  const long = new File(["x"], "n".repeat(300), { type: "text/plain" });
  for (let id = 0; id < 25; id++) {
    assert.deepEqual(attached.hold(`${id}`, [long]), [{ name: "n".repeat(255), size: 1, type: "text/plain" }]);
  }
  assert.deepEqual(["4", "5", "24"].map((id) => Boolean(attached.of(id))), [false, true, true]);
  attached.drop("24");
  assert.deepEqual(attached.outgoing("24"), {});
});
