// Exported conversations: all that may be written is read back as it was, and all else is refused with a reason.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { createChatPersistence } from "../../chatcore/browser/chat-persistence.js";
import { HistoryFormatError, readHistory } from "../../chatcore/browser/history-document.js";

/** @import { ExportFormat } from "../../chatcore/browser/types.js" */

const LONG = process.env.CHATCORE_TESTS === "long";
const RUNS = { numRuns: LONG ? 5000 : 300 };
const NOW = Date.UTC(2026, 0, 31);

/** There is no database here, so it keeps all in memory. */
const memory = () => createChatPersistence({ now: () => NOW });
/** @param {any} value @returns {any} as JSON holds it */
const plain = (value) => JSON.parse(JSON.stringify(value));
/** @param {number} moment */
const time = (moment) => new Date(moment).toISOString();

const moment = fc.integer({ min: 0, max: Date.UTC(9998) });
const anyText = fc.oneof(fc.string({ unit: "binary" }), fc.string({ unit: "grapheme" }), fc.constant("\ud800\0\udfff"));
const id = fc.stringMatching(/^[A-Za-z0-9_-]{1,64}$/);
const failure = fc.record({ code: fc.string({ maxLength: 64 }), detail: fc.string({ maxLength: 2000 }) });
const rating = fc.constantFrom("up", "down");
const notes = fc.array(fc.record({ name: fc.string({ maxLength: 255 }), size: fc.maxSafeNat(), type: fc.string({ maxLength: 99 }) }), {
  maxLength: 3,
});
const turn = { message_id: fc.uuid(), content: anyText };
const message = fc.oneof(
  fc.record(
    { ...turn, role: fc.constant("user"), status: fc.constant("complete"), files: notes },
    { requiredKeys: ["message_id", "content", "role", "status"] },
  ),
  fc.record(
    { ...turn, role: fc.constant("user"), status: fc.constant("failed"), failure },
    { requiredKeys: ["message_id", "content", "role", "status"] },
  ),
  fc.record(
    { ...turn, role: fc.constant("assistant"), status: fc.constantFrom("complete", "stopped"), rating },
    { requiredKeys: ["message_id", "content", "role", "status"] },
  ),
  fc.record(
    { ...turn, role: fc.constant("assistant"), status: fc.constant("error"), failure, rating },
    { requiredKeys: ["message_id", "content", "role", "status"] },
  ),
);
const session = fc
  .record({
    session_id: id,
    bot: fc.string({ maxLength: 64 }),
    title: fc.string({ maxLength: 500 }),
    created_at: moment.map(time),
    began: fc.nat({ max: Date.UTC(9700) }),
    messages: fc.uniqueArray(fc.tuple(message, fc.integer({ min: 1, max: 2 ** 40 })), {
      selector: ([{ role, message_id }]) => role + message_id,
      maxLength: 6,
    }),
  })
  .map(({ session_id, bot, title, created_at, began, messages: given }) => {
    const messages = given.map(([one, gap]) => ({ ...one, created_at: time((began += gap)) }));
    return { session_id, bot, title, created_at, updated_at: messages.at(-1)?.created_at ?? created_at, messages };
  });
const document = fc
  .uniqueArray(session, { selector: (one) => one.session_id, maxLength: 5 })
  .map((sessions) => ({ format: "chatcore-history", version: 1, exported_at: time(NOW), sessions }));


test("what a document holds is stored as it is, and exported again byte by byte", async () => {
  await fc.assert(
    fc.asyncProperty(document.map(plain), async (given) => {
      const first = memory();
      const report = await first.importData(given);
      assert.deepEqual(report, {
        sessions: given.sessions.length,
        messages: given.sessions.flatMap((/** @type {any} */ one) => one.messages).length,
        skipped: 0,
      });
      for (const { messages, ...kept } of given.sessions) {
        assert.deepEqual(await first.getSession(kept.session_id), kept);
        const { session_id } = kept;
        const stored = plain(await first.getMessages(session_id));
        assert.deepEqual(stored, messages.map((/** @type {object} */ one) => ({ ...one, session_id })));
      }
      const exported = await first.exportChatHistory("json");
      assert.equal(exported, JSON.stringify(JSON.parse(exported), null, 1));
      const second = memory();
      await second.importData(exported);
      assert.equal(await second.exportChatHistory("json"), exported);
      const again = await second.importData(exported);
      assert.deepEqual(again, { sessions: 0, messages: 0, skipped: report.messages });
    }),
    RUNS,
  );
});

test("any value is read whole or refused with a reason", async () => {
  const value = fc.oneof(fc.jsonValue(), fc.anything({ withNullPrototype: true, withSparseArray: true }), fc.string());
  await fc.assert(
    fc.asyncProperty(value, async (given) => {
      await assert.rejects(readHistory(given), HistoryFormatError);
    }),
    RUNS,
  );
});

test("a document with something else in any place is read whole or refused, and then nothing is stored", async () => {
  const changed = fc.tuple(document, fc.nat(), fc.oneof(fc.jsonValue(), anyText, fc.constant(undefined)), fc.boolean());
  await fc.assert(
    fc.asyncProperty(changed, async ([given, place, value, renames]) => {
      const broken = plain(given);
      /** @type {[any, string][]} */
      const places = [];
      const walk = (/** @type {any} */ one) => {
        if (!one || typeof one !== "object") return;
        for (const name of Object.keys(one)) {
          places.push([one, name]);
          walk(one[name]);
        }
      };
      walk(broken);
      const [owner, name] = places[place % places.length];
      if (renames && typeof value === "string" && !Array.isArray(owner)) {
        const { ...member } = Object.getOwnPropertyDescriptor(owner, name);
        Object.defineProperty(owner, value, member);
      } else if (value === undefined) delete owner[name];
      else owner[name] = value;
      const persistence = memory();
      try {
        await persistence.importData(JSON.stringify(broken), { mode: "replace" });
      } catch (error) {
        assert.ok(error instanceof HistoryFormatError, String(error));
        assert.ok(error.message.length < 300);
        assert.deepEqual(await persistence.listSessions(), []);
        return;
      }
      // It was a document after all: then it comes back as another would.
      const exported = await persistence.exportChatHistory("json");
      const other = memory();
      await other.importData(exported);
      assert.equal(await other.exportChatHistory("json"), exported);
    }),
    RUNS,
  );
});

test("files of a message are names, sizes and types, and nothing else", async () => {
  const file = { name: "a.txt", size: 3, type: "text/plain" };
  const documentOf = (/** @type {any} */ files, role = "user") => {
    const created_at = time(NOW);
    const one = { message_id: "00000000-0000-4000-8000-000000000000", role, content: "x", created_at, status: "complete", files };
    const of = { session_id: "c", bot: "", title: "", created_at, updated_at: created_at, messages: [one] };
    return { format: "chatcore-history", version: 1, exported_at: created_at, sessions: [of] };
  };
  const place = "sessions[0].messages[0].files";
  for (const [files, fault] of /** @type {const} */ ([
    ["a.txt", `${place}: not a list`],
    [Array.from({ length: 101 }, () => file), `${place}: more than 100`],
    [[null], `${place}[0]: not an object`],
    [[{ ...file, name: "n".repeat(256) }], `${place}[0].name: longer than 255 characters`],
    [[{ ...file, size: -1 }], `${place}[0].size: not a count`],
    [[{ ...file, size: 1.5 }], `${place}[0].size: not a count`],
    [[{ ...file, size: "3" }], `${place}[0].size: not a count`],
    [[{ ...file, type: 7 }], `${place}[0].type: not a text`],
    [[{ ...file, url: "https://x" }], `${place}[0]: unknown member "url"`],
    [[{ name: "a", size: 1 }], `${place}[0]: type is missing`],
  ])) await assert.rejects(readHistory(documentOf(files)), { name: "HistoryFormatError", message: fault });
  await assert.rejects(readHistory(documentOf([file], "assistant")), /messages\[0]: a reply with files$/);
  const [{ messages }] = await readHistory(documentOf([file]));
  assert.deepEqual(messages[0].files, [file]);
});

test("a text that is cut off anywhere is refused", async () => {
  await fc.assert(
    fc.asyncProperty(document, fc.nat(), fc.constantFrom(0, 1), async (given, place, indent) => {
      const text = JSON.stringify(given, null, indent);
      const cut = text.slice(0, place % text.length);
      await assert.rejects(readHistory(cut), HistoryFormatError);
      await assert.rejects(readHistory(new TextEncoder().encode(cut)), HistoryFormatError);
    }),
    RUNS,
  );
});

test("any form of a moment is read as that moment, in milliseconds of UTC", async () => {
  const offset = fc.integer({ min: -23 * 60 - 59, max: 23 * 60 + 59 });
  await fc.assert(
    fc.asyncProperty(moment, offset, fc.stringMatching(/^(\.\d{1,9})?$/), async (at, minutes, fraction) => {
      const seconds = Math.floor(at / 1000) * 1000;
      const local = new Date(seconds + minutes * 60_000);
      if (local.getUTCFullYear() < 0 || local.getUTCFullYear() > 9999) return;
      const two = (/** @type {number} */ number) => String(Math.trunc(Math.abs(number))).padStart(2, "0");
      const zone = `${minutes < 0 ? "-" : "+"}${two(minutes / 60)}:${two(minutes % 60)}`;
      const written = `${local.toISOString().slice(0, 19)}${fraction}${minutes ? zone : "Z"}`;
      const given = { session_id: "c", bot: "", title: "", created_at: written, updated_at: written, messages: [] };
      const [{ session: read }] = await readHistory({
        format: "chatcore-history", version: 1, exported_at: written.toLowerCase(), sessions: [given],
      });
      assert.equal(read.created_at, time(seconds + Math.trunc(Number(`0${fraction}`) * 1000 + 1e-6)));
    }),
    RUNS,
  );
});

test("no day is read that the calendar lacks", async () => {
  for (const [year, days] of /** @type {const} */ ([[2027, 28], [2028, 29], [2100, 28], [2000, 29]])) {
    for (let day = 28; day < 32; day++) {
      const created_at = `${year}-02-${day}T00:00:00Z`;
      const about = { session_id: "c", bot: "", created_at };
      const given = { format: "chatcore-session", version: 1, session: about, messages: [] };
      if (day > days) await assert.rejects(readHistory(given), /created_at: not a date$/, created_at);
      else await readHistory(given);
    }
  }
});

test("what a server kept is read with how each turn ended, and a reply that said nothing is there too", async () => {
  const created_at = time(NOW);
  const ids = Array.from({ length: 8 }, (_, number) => `00000000-0000-4000-8000-${String(number).padStart(12, "0")}`);
  const states = ["complete", "stopped", "error", "open", "cut", "released", "error"];
  const turns = states.map((state, number) => ({
    message_id: ids[number], state, error_code: state === "error" ? "upstream_error" : null,
    rating: number ? null : "up", comment: null, newer: {},
  }));
  const messages = ids.flatMap((message_id, number) => [
    { message_id, role: "user", content: "q", created_at },
    ...(number > 4 ? [] : [{ message_id, role: "assistant", content: "a", created_at }]),
  ]);
  const given = { format: "chatcore-session", version: 1, session: { session_id: "s", bot: "", created_at, turns }, messages };
  const [{ messages: read }] = await readHistory(plain(given));
  const told = read.map((/** @type {any} */ one) =>
    [one.role[0], one.content, one.status, one.failure?.code, one.rating].filter((part) => part !== undefined).join(" "));
  assert.deepEqual(told, [
    "u q complete", "a a complete up",
    "u q complete", "a a stopped",
    "u q complete", "a a error upstream_error",
    "u q complete", "a a error reply_gone",
    "u q complete", "a a error reply_gone",
    "u q failed network",
    "u q complete", "a  error upstream_error",
    "u q complete",
  ]);
  for (const broken of [{ state: "lost" }, { message_id: 1 }, { rating: "well" }, { error_code: 5 }]) {
    const about = { ...given.session, turns: [{ ...turns[0], ...broken }] };
    await assert.rejects(readHistory(plain({ ...given, session: about })), /^HistoryFormatError: session\.turns\[0]\./);
  }
});

test("nobody's text can pass for a line of ours in an export that is to be read", async () => {
  const formats = fc.constantFrom(/** @type {ExportFormat} */ ("markdown"), /** @type {ExportFormat} */ ("text"));
  const breaks = ["\n", "\r", "\u2028", "\u2029", "\x85", "\v"];
  const line = fc.constantFrom(...breaks, "# x", "**You**, ", "[2026] You:", "```", "==", "> ");
  const nasty = fc.array(fc.oneof(line, anyText), { maxLength: 12 }).map((parts) => parts.join(""));
  await fc.assert(
    fc.asyncProperty(formats, nasty, nasty, nasty, async (format, title, content, file) => {
      /** @param {string} name @param {string} said @param {string} called */
      const lines = async (name, said, called) => {
        const persistence = memory();
        await persistence.saveSession({ session_id: "c", title: name });
        const question = { session_id: "c", message_id: "00000000-0000-4000-8000-000000000000" };
        const sent = { content: said, files: [{ name: called, size: 1, type: "" }] };
        await persistence.saveMessage({ ...question, role: "user", status: "pending", ...sent });
        return (await persistence.exportChatHistory(format)).split(/[\n\r\u2028\u2029\x85\v\f]/);
      };
      const ours = (/** @type {string[]} */ all) => all.filter((one) => !one.startsWith("    ")).length;
      assert.equal(ours(await lines(title, content, file)), ours(await lines("x", "x", "x")));
    }),
    RUNS,
  );
});
