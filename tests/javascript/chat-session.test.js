// The chat without its view: what is sent, stored and told when all goes well, and when it does not.
import assert from "node:assert/strict";
import { test } from "node:test";
import { ChatError } from "../../chatcore/browser/api-client.js";
import { createChatPersistence } from "../../chatcore/browser/chat-persistence.js";
import { createChatSession } from "../../chatcore/browser/chat-session.js";

/**
 * @import { ChatEvent, ChatPersistence, Message, Outgoing, ReplyEvent } from "../../chatcore/browser/types.js"
 */

/** @typedef {(signal: AbortSignal, after: number) => AsyncGenerator<ReplyEvent, void, void>} Script */

const start = /** @type {ReplyEvent} */ ({ type: "start", id: 1, session_id: "s_1" });
const delta = (/** @type {number} */ id, /** @type {string} */ content) => /** @type {ReplyEvent} */ ({ type: "delta", id, content });
const done = (/** @type {number} */ id, finish_reason = "complete") =>
  /** @type {ReplyEvent} */ ({ type: "done", id, finish_reason });

/** @param {...(ReplyEvent | Error | Promise<unknown>)} steps @returns {Script} */
const says = (...steps) =>
  async function* (signal) {
    for (const step of steps) {
      if (step instanceof Error) throw step;
      if (!(step instanceof Promise)) yield step;
      else if ((await Promise.race([step, aborted(signal)])) === "aborted") throw new DOMException("", "AbortError");
    }
  };
const hello = () => says(start, delta(2, "Hel"), delta(3, "lo"), done(4));
const network = () => new ChatError("network");
const refusal = (/** @type {string} */ code, more = {}) => new ChatError(code, { code, detail: `because ${code}`, ...more });

/** @param {AbortSignal} signal */
const aborted = (signal) =>
  new Promise((resolve) => signal.addEventListener("abort", () => resolve("aborted"), { once: true }));

function gate() {
  let open = () => {};
  const opened = new Promise((resolve) => (open = () => resolve(undefined)));
  return { opened, open };
}

/** A server that answers by scripts: one for each call, the last one again and again. */
class ScriptedClient {
  /** @type {{ call: string, conversation: string, id: string, outgoing?: Outgoing, after?: number }[]} */
  calls = [];
  /** @type {Script[]} */
  sends = [hello()];
  /** @type {Script[]} */
  resumes = [says(refusal("reply_gone"))];
  /** @type {(() => void) | null} */
  onStop = null;

  /** @param {Script[]} scripts */
  next(scripts) {
    return scripts.length > 1 ? /** @type {Script} */ (scripts.shift()) : scripts[0];
  }

  /** @param {string} conversation @param {Outgoing} outgoing @param {AbortSignal} signal */
  send(conversation, outgoing, signal) {
    this.calls.push({ call: "send", conversation, id: outgoing.message_id, outgoing });
    return this.next(this.sends)(signal, 0);
  }

  /** @param {string} conversation @param {string} id @param {number} after @param {AbortSignal} signal */
  resume(conversation, id, after, signal) {
    this.calls.push({ call: "resume", conversation, id, after });
    return this.next(this.resumes)(signal, after);
  }

  /** @param {string} conversation @param {string} id */
  async stop(conversation, id) {
    this.calls.push({ call: "stop", conversation, id });
    if (!this.onStop) throw refusal("reply_gone");
    this.onStop();
  }

  /** @param {string} conversation @param {string} id */
  async rate(conversation, id) {
    this.calls.push({ call: "rate", conversation, id });
  }

  /** What it says of a session. @type {any} */
  said = undefined;
  async features() {
    return this.said;
  }

  /** @param {string} conversation */
  async erase(conversation) {
    this.calls.push({ call: "erase", conversation, id: "" });
  }

  /** @param {string} call */
  of(call) {
    return this.calls.filter((one) => one.call === call);
  }
}

/** Locks of one origin, as the Web Locks API gives them to all its tabs. */
class Locks {
  /** @type {Map<string, Promise<unknown>>} */
  #last = new Map();

  /** @param {string} name @param {{ signal?: AbortSignal }} options @param {() => Promise<unknown>} run */
  async request(name, { signal }, run) {
    const before = this.#last.get(name) ?? Promise.resolve();
    const { opened, open } = gate();
    this.#last.set(name, before.then(() => opened));
    const left = signal && aborted(signal);
    try {
      if ((await Promise.race(left ? [before, left] : [before])) === "aborted") throw new DOMException("", "AbortError");
      return await run();
    } finally {
      open();
    }
  }
}

/** A tab: its events, a clock and timers moved by hand, its navigator. */
class Tab extends EventTarget {
  time = Date.parse("2026-01-31T09:00:00.000Z");
  /** @type {{ at: number, call: () => void, id: number }[]} */
  timers = [];
  #ids = 0;
  location = { href: "https://www.example.com/prices" };
  document = Object.assign(new EventTarget(), { visibilityState: "visible" });

  /** @param {Locks} [locks] */
  constructor(locks) {
    super();
    this.navigator = { onLine: true, locks };
  }

  /** @param {() => void} call @param {number} milliseconds */
  setTimeout = (call, milliseconds) => {
    this.timers.push({ at: this.time + milliseconds, call, id: ++this.#ids });
    return this.#ids;
  };

  /** @param {number} id */
  clearTimeout = (id) => {
    this.timers = this.timers.filter((timer) => timer.id !== id);
  };

  /** @param {number} milliseconds */
  async pass(milliseconds) {
    const until = this.time + milliseconds;
    for (;;) {
      await settle();
      const [next] = this.timers.filter((timer) => timer.at <= until).sort((a, b) => a.at - b.at);
      if (!next) break;
      this.clearTimeout(next.id);
      this.time = Math.max(this.time, next.at);
      next.call();
    }
    this.time = until;
    await settle();
  }

  /** @param {boolean} online */
  async network(online) {
    this.navigator.onLine = online;
    this.dispatchEvent(new Event(online ? "online" : "offline"));
    await settle();
  }
}

/** Let everything happen that can happen now. */
async function settle() {
  for (let turn = 0; turn < 100; turn++) await new Promise((resolve) => setImmediate(resolve));
}

function keeper() {
  const kept = new Map();
  return /** @type {Storage} */ (/** @type {unknown} */ ({
    getItem: (/** @type {string} */ key) => kept.get(key) ?? null,
    setItem: (/** @type {string} */ key, /** @type {string} */ value) => void kept.set(key, value),
    removeItem: (/** @type {string} */ key) => void kept.delete(key),
    get length() { return kept.size; },
    key: (/** @type {number} */ index) => [...kept.keys()][index] ?? null,
  }));
}

/** @param {{ client?: ScriptedClient, persistence?: ChatPersistence, tab?: Tab, localStorage?: Storage, bot?: string }} [parts] */
async function chat(parts = {}) {
  const tab = parts.tab ?? new Tab(new Locks());
  const client = parts.client ?? new ScriptedClient();
  const localStorage = parts.localStorage ?? keeper();
  const now = () => tab.time;
  const persistence = parts.persistence ??
    createChatPersistence(/** @type {any} */ ({ indexedDB: undefined, localStorage, now, broadcast: null }));
  const session = createChatSession({
    client, persistence, server: "https://chat.example.com", bot: parts.bot ?? "", localStorage, now,
    window: /** @type {any} */ (tab),
  });
  /** @type {ChatEvent[]} */
  const events = [];
  session.onChange((event) => events.push(event));
  await session.start();
  await settle();
  const texts = async () => (await session.messages()).map((one) => `${one.role}: ${one.content} (${one.status})`);
  return { tab, client, persistence, localStorage, session, events, texts };
}

/** @param {ChatEvent[]} events @param {string} kind */
const kinds = (events, kind) => events.filter((event) => event.kind === kind);

test("a question is stored, sent and answered, and both are told", async () => {
  const { session, events, texts, client } = await chat();
  assert.equal(await session.send("Hi"), true);
  assert.notEqual(session.state.running, null);
  await settle();
  assert.deepEqual(await texts(), ["user: Hi (complete)", "assistant: Hello (complete)"]);
  assert.equal(session.state.running, null);
  const [reply, ...others] = kinds(events, "reply");
  assert.equal(reply.kind === "reply" && reply.message.content, "Hello");
  assert.equal(others.length, 0);
  const [{ outgoing }] = client.of("send");
  assert.equal(outgoing?.message, "Hi");
  assert.match(String(outgoing?.message_id), /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  assert.equal(outgoing?.page_url, "https://www.example.com/prices");
  assert.equal((await session.sessions())[0].title, "Hi");
});

test("nothing is sent that is empty, too long, or while a reply runs", async () => {
  const { session, client, tab } = await chat();
  const { opened, open } = gate();
  client.sends = [says(start, opened, done(2))];
  for (const text of ["", " \n\t", "x".repeat(10_001)]) assert.equal(await session.send(text), false);
  assert.equal(await session.send("😀".repeat(10_000)), true);
  assert.equal(await session.send("again"), false);
  await tab.pass(0);
  assert.equal(await session.send("again"), false);
  open();
  await settle();
  assert.equal(client.of("send").length, 1);
});

test("text is told as it comes and stored a few times a second", async () => {
  const { session, client, tab, events, persistence } = await chat();
  const { opened, open } = gate();
  client.sends = [says(start, delta(2, "one "), delta(3, "two "), opened, delta(4, "three"), done(5))];
  await session.send("Hi");
  await tab.pass(1);
  const told = kinds(events, "message").map((event) => event.kind === "message" && event.message);
  assert.equal(told.at(-1) && /** @type {Message} */ (told.at(-1)).content, "one two ");
  assert.equal((await session.messages())[1].content, "one two ");
  await tab.pass(300);
  const id = /** @type {string} */ (session.state.running);
  const { session_id } = /** @type {{session_id: string}} */ (session.state.session);
  const stored = await persistence.getMessage(session_id, id, "assistant");
  assert.deepEqual([stored?.content, stored?.last_event, stored?.status], ["one two ", 3, "pending"]);
  open();
  await settle();
  const ended = await persistence.getMessage(session_id, id, "assistant");
  assert.deepEqual([ended?.content, ended?.last_event, ended?.status], ["one two three", undefined, "complete"]);
});

test("a connection that breaks in a reply is taken up behind what was read", async () => {
  const { session, client, tab, texts } = await chat();
  client.sends = [says(start, delta(2, "Hel"), network())];
  client.resumes = [says(network()), says(refusal("http_502")), says(delta(3, "lo"), done(4))];
  await session.send("Hi");
  await settle();
  assert.equal(session.state.connection, "reconnecting");
  await tab.pass(1000);
  await tab.pass(2000);
  assert.deepEqual(await texts(), ["user: Hi (complete)", "assistant: Hel (pending)"]);
  await tab.pass(4000);
  assert.deepEqual(await texts(), ["user: Hi (complete)", "assistant: Hello (complete)"]);
  assert.deepEqual(client.of("resume").map((call) => call.after), [2, 2, 2]);
  assert.equal(client.of("send").length, 1);
  assert.equal(session.state.connection, "ok");
});

test("the network's return ends the wait at once", async () => {
  const { session, client, tab, texts } = await chat();
  client.sends = [says(start, delta(2, "Hel"), network())];
  client.resumes = [says(network()), says(network()), says(delta(3, "lo"), done(4))];
  await session.send("Hi");
  await tab.network(false);
  assert.equal(session.state.connection, "offline");
  await tab.pass(4000);
  await tab.network(true);
  assert.deepEqual(await texts(), ["user: Hi (complete)", "assistant: Hello (complete)"]);
});

test("a page that is loaded again goes on behind what was stored", async () => {
  const first = await chat();
  const never = gate();
  first.client.sends = [says(start, delta(2, "Hel"), never.opened)];
  await first.session.send("Hi");
  await first.tab.pass(300);
  first.session.close();
  await settle();
  const client = new ScriptedClient();
  client.resumes = [says(delta(3, "lo"), done(4))];
  const second = await chat({ ...first, client, tab: new Tab(first.tab.navigator.locks) });
  assert.deepEqual(await second.texts(), ["user: Hi (complete)", "assistant: Hello (complete)"]);
  assert.deepEqual(client.calls.map(({ call, after }) => [call, after]), [["resume", 2]]);
  assert.equal(kinds(second.events, "reply").length, 1);
});

test("what was read since the last writing is stored when the page is hidden", async () => {
  const { session, client, tab, persistence } = await chat();
  client.sends = [says(start, delta(2, "Hel"), gate().opened)];
  await session.send("Hi");
  await settle();
  const { session_id } = /** @type {{session_id: string}} */ (session.state.session);
  const id = /** @type {string} */ (session.state.running);
  assert.equal((await persistence.getMessage(session_id, id, "assistant"))?.content, "");
  tab.document.visibilityState = "hidden";
  tab.document.dispatchEvent(new Event("visibilitychange"));
  await settle();
  assert.equal((await persistence.getMessage(session_id, id, "assistant"))?.content, "Hel");
});

test("a question that never arrived is not sent by itself, and the person's try has its id", async () => {
  const first = await chat();
  first.client.sends = [says(gate().opened)];
  await first.session.send("Hi");
  await settle();
  first.session.close();
  const client = new ScriptedClient();
  const { session, texts } = await chat({ ...first, client, tab: new Tab(first.tab.navigator.locks) });
  assert.deepEqual(await texts(), ["user: Hi (failed)"]);
  assert.deepEqual(client.calls.map((one) => one.call), ["resume"]);
  const [{ message_id }] = await session.messages();
  await session.sendAgain(message_id);
  await settle();
  assert.deepEqual(await texts(), ["user: Hi (complete)", "assistant: Hello (complete)"]);
  assert.equal(client.of("send")[0].id, message_id);
});

test("after an hour the server no longer knows the id: the person's try has a new one", async () => {
  const { session, client, tab, texts } = await chat();
  client.sends = [says(refusal("rate_limited", { retry_after: 7 })), hello()];
  await session.send("Hi");
  await settle();
  const [{ message_id }] = await session.messages();
  await tab.pass(3_600_001);
  await session.sendAgain(message_id);
  await settle();
  assert.notEqual(client.of("send")[1].id, message_id);
  assert.deepEqual(await texts(), ["user: Hi (complete)", "assistant: Hello (complete)"]);
});

test("a network that fails once is tried once more with the same id, then the question has failed", async () => {
  const { session, client, tab, texts, events } = await chat();
  client.sends = [says(network())];
  await session.send("Hi");
  await tab.pass(1000);
  assert.equal(client.of("send").length, 2);
  assert.equal(client.of("send")[0].id, client.of("send")[1].id);
  assert.deepEqual(await texts(), ["user: Hi (failed)"]);
  await tab.pass(600_000);
  assert.equal(client.of("send").length, 2, "never by itself later");
  const [failed] = kinds(events, "failed");
  assert.equal(failed.kind === "failed" && failed.failure.code, "network");
});

test("offline says so at once, and the return finds out whether the question arrived after all", async () => {
  const { session, client, tab, texts, events } = await chat();
  client.sends = [says(network())];
  await tab.network(false);
  await session.send("Hi");
  await settle();
  assert.equal((await session.messages())[0].failure?.code, "offline");
  await tab.network(true);
  assert.deepEqual(await texts(), ["user: Hi (failed)"]);
  assert.equal(kinds(events, "failed").length, 1);
  const { message_id } = (await session.messages())[0];
  client.resumes = [hello()];
  client.sends = [says(network())];
  await tab.network(false);
  await session.sendAgain(message_id);
  await tab.network(true);
  assert.deepEqual(await texts(), ["user: Hi (complete)", "assistant: Hello (complete)"]);
});

test("a refusal leaves the question with its reason and the time to try again", async () => {
  const { session, client, texts, tab } = await chat();
  client.sends = [says(refusal("rate_limited", { retry_after: 7 })), hello()];
  await session.send("Hi");
  await settle();
  const [question] = await session.messages();
  assert.deepEqual(await texts(), ["user: Hi (failed)"]);
  assert.equal(question.failure?.code, "rate_limited");
  assert.equal(Date.parse(String(question.failure?.retry_at)), tab.time + 7000);
  await session.sendAgain(question.message_id);
  await settle();
  assert.equal(client.of("send")[1].id, question.message_id);
  assert.deepEqual(await texts(), ["user: Hi (complete)", "assistant: Hello (complete)"]);
  assert.equal((await session.messages())[0].failure, undefined);
});

test("a workflow that failed is asked again as a new turn in the place of the old", async () => {
  const { session, client, texts } = await chat();
  client.sends = [says(refusal("upstream_error")), hello()];
  await session.send("Hi");
  await settle();
  assert.deepEqual(await texts(), ["user: Hi (complete)", "assistant:  (error)"]);
  const [{ message_id }] = await session.messages();
  await session.askAgain(message_id);
  await settle();
  assert.notEqual(client.of("send")[1].id, message_id);
  assert.deepEqual(await texts(), ["user: Hi (complete)", "assistant: Hello (complete)"]);
});

test("what was said before a failure stays, and asking again adds to it", async () => {
  const { session, client, texts } = await chat();
  client.sends = [says(refusal("upstream_invalid", { content: "half" })), hello()];
  await session.send("Hi");
  await settle();
  await session.askAgain((await session.messages())[0].message_id);
  await settle();
  assert.deepEqual(await texts(), [
    "user: Hi (complete)", "assistant: half (error)", "user: Hi (complete)", "assistant: Hello (complete)",
  ]);
});

test("an error in the middle of a reply ends it with its reason", async () => {
  const { session, client, texts, events } = await chat();
  const failure = { code: "upstream_error", detail: "The assistant could not answer." };
  client.sends = [says(start, delta(2, "half"), { type: "error", id: 3, failure }, done(4, "error"))];
  await session.send("Hi");
  await settle();
  assert.deepEqual(await texts(), ["user: Hi (complete)", "assistant: half (error)"]);
  assert.deepEqual((await session.messages())[1].failure, failure);
  assert.equal(kinds(events, "failed").length, 1);
  assert.equal(kinds(events, "reply").length, 0);
});

test("a reply that is gone says so and can be asked for again", async () => {
  const { session, client, tab, texts } = await chat();
  client.sends = [says(start, delta(2, "half"), network()), hello()];
  await session.send("Hi");
  await tab.pass(1000);
  assert.deepEqual(await texts(), ["user: Hi (complete)", "assistant: half (error)"]);
  assert.equal((await session.messages())[1].failure?.code, "reply_gone");
  assert.equal(client.of("send").length, 1);
});

test("a stop ends the reply where it is", async () => {
  const { session, client, tab, texts, events } = await chat();
  const { opened, open } = gate();
  client.sends = [says(start, delta(2, "half"), opened, done(3, "stopped"))];
  client.onStop = open;
  await session.send("Hi");
  await tab.pass(0);
  await session.stop();
  await settle();
  assert.deepEqual(await texts(), ["user: Hi (complete)", "assistant: half (stopped)"]);
  assert.equal(session.state.running, null);
  assert.equal(kinds(events, "reply").length, 1);
});

test("a stop that reaches nobody stops here", async () => {
  const { session, client, tab, texts } = await chat();
  client.sends = [says(start, delta(2, "half"), gate().opened)];
  await session.send("Hi");
  await tab.pass(0);
  await session.stop();
  await settle();
  assert.deepEqual(await texts(), ["user: Hi (complete)", "assistant: half (stopped)"]);
  assert.equal(session.state.running, null);
  assert.equal(await session.send("next"), true);
});

test("a stop that the server takes and does not carry out stops here after a while", async () => {
  const { session, client, tab, texts } = await chat();
  client.sends = [says(start, delta(2, "half"), gate().opened), hello()];
  client.onStop = () => {};
  await session.send("Hi");
  await tab.pass(0);
  await session.stop();
  await tab.pass(2000);
  assert.ok(session.state.running);
  await tab.pass(1000);
  assert.equal(session.state.running, null);
  await session.send("next");
  await tab.pass(9000);
  assert.deepEqual(await texts(), [
    "user: Hi (complete)", "assistant: half (stopped)", "user: next (complete)", "assistant: Hello (complete)",
  ]);
});

test("a stop that comes too late changes nothing", async () => {
  const { session, client, tab, texts } = await chat();
  const { opened, open } = gate();
  client.sends = [says(start, delta(2, "half"), opened, done(3, "error"))];
  client.onStop = open;
  await session.send("Hi");
  await tab.pass(0);
  await session.stop();
  await tab.pass(9000);
  assert.deepEqual(await texts(), ["user: Hi (complete)", "assistant: half (error)"]);
});

test("a conversation that is deleted while its reply runs stays deleted", async () => {
  const { session, client, tab, persistence } = await chat();
  const { opened, open } = gate();
  client.sends = [says(start, delta(2, "half"), opened, delta(3, "more"), done(4))];
  await session.send("Hi");
  await tab.pass(300);
  const { session_id } = /** @type {{session_id: string}} */ (session.state.session);
  await session.remove(session_id);
  open();
  await tab.pass(300);
  assert.deepEqual(await persistence.listSessions(), []);
  assert.equal(session.state.session, null);
  assert.equal(session.state.running, null);
  assert.deepEqual(client.of("erase").map((call) => call.conversation), [session_id]);
});

test("earlier messages go along to a new server session, twenty at the most, none that failed", async () => {
  const { session, client } = await chat();
  for (let turn = 0; turn < 15; turn++) {
    await session.send(`question ${turn}`);
    await settle();
  }
  client.sends = [says(refusal("rate_limited")), hello()];
  await session.send("refused");
  await settle();
  await session.send("last");
  await settle();
  const history = (await client.of("send").at(-1)?.outgoing?.history?.()) ?? [];
  assert.equal(history.length, 20);
  assert.deepEqual(history[0], { role: "user", content: "question 5" });
  assert.deepEqual(history.at(-1), { role: "assistant", content: "Hello" });
  assert.ok(!history.some((entry) => /refused|last/.test(entry.content)));
});

test("a second tab sends nothing, sees the reply grow, and takes over when the first is gone", async () => {
  const locks = new Locks();
  const first = await chat({ tab: new Tab(locks) });
  const never = gate();
  first.client.sends = [says(start, delta(2, "Hel"), never.opened)];
  await first.session.send("Hi");
  await first.tab.pass(300);
  const client = new ScriptedClient();
  client.resumes = [says(delta(3, "lo"), done(4))];
  const second = await chat({ ...first, client, tab: new Tab(locks) });
  assert.deepEqual(await second.texts(), ["user: Hi (complete)", "assistant: Hel (pending)"]);
  assert.equal(second.session.state.running, first.session.state.running);
  assert.equal(await second.session.send("me too"), false);
  assert.deepEqual(client.calls, []);
  first.session.close();
  await settle();
  assert.deepEqual(await second.texts(), ["user: Hi (complete)", "assistant: Hello (complete)"]);
  assert.deepEqual(client.calls.map(({ call, after }) => [call, after]), [["resume", 2]]);
});

test("without locks (plain http) a message that has just been sent is not called lost", async () => {
  const shared = keeper();
  const first = await chat({ tab: new Tab(), localStorage: shared });
  const { opened, open } = gate();
  first.client.sends = [says(opened, start, delta(2, "Hello"), done(3))];
  await first.session.send("Hi");
  await settle();
  const client = new ScriptedClient();
  const second = await chat({ ...first, client, tab: new Tab() });
  assert.deepEqual(await second.texts(), ["user: Hi (pending)"]);
  open();
  await settle();
  await second.tab.pass(1000);
  assert.deepEqual(await second.texts(), ["user: Hi (complete)", "assistant: Hello (complete)"]);
});

test("where locks are denied (a sandboxed frame) the chat works without", async () => {
  const denied = { request: async () => Promise.reject(new DOMException("", "SecurityError")) };
  const { session, texts } = await chat({ tab: new Tab(/** @type {any} */ (denied)) });
  await session.send("Hi");
  await settle();
  assert.deepEqual(await texts(), ["user: Hi (complete)", "assistant: Hello (complete)"]);
});

test("the open conversation and the draft are remembered, another bot's are not shown", async () => {
  const first = await chat();
  await first.session.send("Hi");
  await settle();
  first.session.draft = "half a thou";
  first.session.close();
  const second = await chat({ ...first, tab: new Tab() });
  assert.deepEqual(await second.texts(), ["user: Hi (complete)", "assistant: Hello (complete)"]);
  assert.equal(second.session.draft, "half a thou");
  const other = await chat({ ...first, tab: new Tab(), bot: "sales" });
  assert.deepEqual(await other.texts(), []);
  assert.deepEqual(await other.session.sessions(), []);
  assert.equal(other.session.draft, "");
});

test("a text that is stored is not offered a second time as a draft", async () => {
  const first = await chat();
  first.client.sends = [says(gate().opened)];
  first.session.draft = "Hi";
  await first.session.send("Hi");
  first.session.close(); // before the view emptied the draft
  const second = await chat({ ...first, tab: new Tab() });
  assert.equal(second.session.draft, "");
  second.session.draft = "Something else";
  second.session.close();
  assert.equal((await chat({ ...first, tab: new Tab() })).session.draft, "Something else");
});

test("a reply goes on while another conversation is open", async () => {
  const { session, client, tab, texts } = await chat();
  const { opened, open } = gate();
  client.sends = [says(start, delta(2, "Hel"), opened, delta(3, "lo"), done(4))];
  await session.send("Hi");
  await tab.pass(300);
  const { session_id } = /** @type {{session_id: string}} */ (session.state.session);
  await session.open(null);
  assert.equal(session.state.running, null);
  assert.deepEqual(await texts(), []);
  open();
  await settle();
  assert.deepEqual(await texts(), []);
  await session.open(session_id);
  assert.deepEqual(await texts(), ["user: Hi (complete)", "assistant: Hello (complete)"]);
});

test("a rating is kept here and told to the server", async () => {
  const { session, client } = await chat();
  await session.send("Hi");
  await settle();
  const { message_id } = (await session.messages())[1];
  await session.rate(message_id, "up");
  await settle();
  assert.equal((await session.messages())[1].rating, "up");
  assert.equal(client.of("rate").length, 1);
});

test("what an import or another program changes is shown", async () => {
  const { session, persistence, events, texts } = await chat();
  await session.send("Hi");
  await settle();
  const data = await persistence.exportChatHistory("json");
  await persistence.clear();
  await settle();
  assert.equal(session.state.session, null);
  assert.deepEqual(await texts(), []);
  events.length = 0;
  await persistence.importData(data);
  await settle();
  assert.ok(kinds(events, "sessions").length > 0);
  await session.open((await session.sessions())[0].session_id);
  assert.deepEqual(await texts(), ["user: Hi (complete)", "assistant: Hello (complete)"]);
});

test("who hears of the end of a reply or of a failure can send at once", async () => {
  const kept = createChatPersistence(/** @type {any} */ ({ indexedDB: undefined, now: () => 0, broadcast: null }));
  const getMessage = async (/** @type {[string, string, "user" | "assistant"]} */ ...key) => {
    const message = await kept.getMessage(...key);
    for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve)); // as a disk takes
    return message;
  };
  const one = await chat({ persistence: { ...kept, getMessage } });
  one.client.sends = [hello(), says(start, done(2, "error")), says(refusal("rate_limited")), hello()];
  const taken = /** @type {Promise<boolean>[]} */ ([]);
  one.session.onChange(({ kind }) => {
    if (/reply|failed/.test(kind) && taken.length < 3) taken.push(one.session.send("next"));
  });
  await one.session.send("first");
  for (let turn = 0; turn < 9; turn++) await settle();
  assert.deepEqual(await Promise.all(taken), [true, true, true]);
});

const FILE = new File(["abc"], "a.txt", { type: "text/plain" });
const NOTE = { name: "a.txt", size: 3, type: "text/plain" };

test("files go along with their message, and once more with the same id while the page has them", async () => {
  const { session, client, tab, texts } = await chat();
  client.sends = [says(network()), says(network()), hello()];
  await session.send("a.txt", [FILE]);
  await tab.pass(1000);
  assert.deepEqual(await texts(), ["user: a.txt (failed)"]);
  const [{ message_id, files }] = await session.messages();
  assert.deepEqual(files, [NOTE]);
  assert.equal(session.holds(message_id), true);
  assert.equal(await session.sendAgain(message_id), null);
  await settle();
  assert.deepEqual(await texts(), ["user: a.txt (complete)", "assistant: Hello (complete)"]);
  assert.deepEqual(client.of("send").map(({ id, outgoing }) => [id, typeof outgoing?.through]), [
    [message_id, "function"], [message_id, "function"], [message_id, "function"],
  ]);
  assert.equal(session.holds(message_id), false);
  const again = await session.askAgain(message_id);
  assert.deepEqual([again?.message.content, again?.files, again?.instead], ["a.txt", [], undefined]);
  assert.equal(client.of("send").length, 3);
});

test("a question whose files are gone is never sent without them, and another takes its place", async () => {
  const first = await chat();
  first.client.sends = [says(gate().opened)];
  await first.session.send("See", [FILE]);
  await settle();
  first.session.close();
  const client = new ScriptedClient();
  const { session, texts } = await chat({ ...first, client, tab: new Tab(first.tab.navigator.locks) });
  assert.deepEqual(await texts(), ["user: See (failed)"]);
  const [{ message_id }] = await session.messages();
  assert.equal(session.holds(message_id), false);
  const again = await session.sendAgain(message_id);
  assert.deepEqual([again?.message.message_id, again?.files, again?.instead], [message_id, [], message_id]);
  assert.deepEqual(client.calls.map(({ call }) => call), ["resume"]);
  await session.send("See", [FILE], again?.instead);
  await settle();
  assert.deepEqual(await texts(), ["user: See (complete)", "assistant: Hello (complete)"]);
  assert.notEqual(client.of("send")[0].id, message_id);
});

test("files that a server refused are given back to be changed", async () => {
  const { session, client } = await chat();
  client.sends = [says(refusal("unsupported_media_type", { errors: [{ field: "files[0]", message: "is another" }] }))];
  await session.send("See", [FILE]);
  await settle();
  const [{ message_id, failure }] = await session.messages();
  assert.equal(failure?.file, 0);
  assert.deepEqual((await session.sendAgain(message_id))?.files, [FILE]);
  assert.equal(client.of("send").length, 1);
});

test("where all files have left, their reply is asked for and nothing is sent once more", async () => {
  const { session, client, tab, texts } = await chat();
  client.resumes = [says(start, delta(2, "Hel"), delta(3, "lo"), done(4))];
  const { send } = client;
  client.send = function (conversation, outgoing, signal) {
    outgoing.sent = () => true;
    return send.call(client, conversation, outgoing, signal);
  };
  client.sends = [says(network())];
  await session.send("See", [FILE]);
  await tab.pass(1000);
  assert.deepEqual(await texts(), ["user: See (complete)", "assistant: Hello (complete)"]);
  assert.deepEqual(client.calls.map(({ call }) => call), ["send", "resume"]);
});

test("what a server takes is asked for once, remembered, and follows what it says", async () => {
  const uploads = { max_bytes: 9, max_files: 2, types: ["image/*"] };
  const { session, client, localStorage, persistence, events } = await chat();
  assert.equal(session.state.uploads, null);
  client.said = { uploads };
  await session.prepare();
  assert.deepEqual(session.state.uploads, uploads);
  client.said = undefined;
  const second = await chat({ localStorage, persistence });
  assert.deepEqual(second.session.state.uploads, uploads);
  second.client.said = { uploads: false };
  await second.session.send("Hi");
  await settle();
  assert.equal(second.session.state.uploads, null);
  for (const broken of [{}, { max_bytes: 1, max_files: 0, types: [] }, { max_bytes: 1, max_files: 1, types: "x" }, 7]) {
    client.said = { uploads: broken };
    await session.prepare();
    assert.equal(session.state.uploads, null);
  }
  assert.ok(kinds(events, "state").length > 0);
});
