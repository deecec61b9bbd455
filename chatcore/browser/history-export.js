// Writes conversations as a document to be imported again, or as a text to be read.
import { batchesOf } from "./history-batches.js";
import { MAX_FILES } from "./chat-persistence.js";

/** @import * as H from "./history.js" */

/** As it is exported: nothing waits in a document. @type {(message: H.Message) => H.Exported} */
const settled = ({ message_id, role, content, created_at, status, failure, rating, files }) => {
  if (status === "pending") {
    status = role === "user" ? "failed" : "error";
    failure = role === "user" ? undefined : { code: "reply_gone", detail: "The reply had not ended." };
  }
  const { code = "", detail = "" } = failure ?? {};
  const told = failure && /failed|error/.test(status) && { code: code.slice(0, 64), detail: detail.slice(0, 2000) };
  const named = role === "user" && files ? files.slice(0, MAX_FILES).map(noted) : undefined;
  return { message_id, role, content, created_at, status, failure: told || undefined, rating, files: named };
};
/** As an import takes it. @type {(file: H.FileNote) => H.FileNote} */
const noted = ({ name, size, type }) => ({ name: name.slice(0, 255), size, type: type.slice(0, 255) });

/** @type {(value: object, depth: number) => string} */
const json = (value, depth) => JSON.stringify(value, null, 1).replaceAll("\n", `\n${" ".repeat(depth)}`);
/** An object that goes on. @type {(value: object, depth: number) => string} */
const opened = (value, depth) => json(value, depth).slice(0, -2 - depth);

/** @type {(moment: string) => string} */
const clock = (moment) => `${moment.slice(0, 19).replace("T", " ")} UTC`;
/** @type {(content: string) => string} */
const clean = (content) => content.replace(/\r\n?/g, "\n").replace(/[\0-\x08\x0b-\x1f\x7f-\x9f]/g, "\ufffd");
/** Nothing in it can pass for one of our own lines. @type {(content: string) => string} */
const inset = (content) => clean(content).replace(/^/gm, "    ");
/** @type {(session: H.Session) => string} */
const heading = ({ title, session_id }) => clean(title).replace(/\s+/g, " ").trim() || session_id;
/** @type {(text: string) => string} */
const escaped = (text) => text.replace(/[\\`*_~[\]<>&#|!]/g, "\\$&");
/** @type {(message: H.Exported) => string} */
const state = ({ status }) => (status === "complete" ? "" : status === "failed" ? " (not sent)" : ` (${status})`);
/** The line that names the files of a message. @type {(message: H.Exported, wrap: (text: string) => string) => string} */
const attached = ({ files }, wrap) =>
  files?.length
    ? `\nFiles: ${files.map(({ name, size }) => `${wrap(clean(name).replace(/\s+/g, " "))} (${size} bytes)`).join(", ")}\n`
    : "";
const WHO = { user: "You", assistant: "Assistant" };

/** @type {Record<H.ExportFormat, H.Writer>} */
const WRITERS = {
  json: {
    begin: (exported_at) => `${opened({ format: "chatcore-history", version: 1, exported_at }, 0)},\n "sessions": [`,
    session: ({ session_id, bot, title, created_at, updated_at }, index) => {
      const session = { session_id, bot: bot.slice(0, 64), title: title.slice(0, 500), created_at, updated_at };
      return `${index ? "," : ""}\n  ${opened(session, 2)},\n   "messages": [`;
    },
    message: (message, index) => `${index ? "," : ""}\n    ${json(message, 4)}`,
    close: (count) => `${count ? "\n   " : ""}]\n  }`,
    end: (count) => `${count ? "\n " : ""}]\n}`,
  },
  markdown: {
    begin: (exported_at) => `# Conversations\n\nExported ${clock(exported_at)}\n`,
    session: (session) => `\n## ${escaped(heading(session))}\n`,
    message: (message) =>
      `\n**${WHO[message.role]}**, ${clock(message.created_at)}${state(message)}\n\n${inset(message.content)}\n` +
      attached(message, escaped),
    close: () => "",
    end: () => "",
  },
  text: {
    begin: (exported_at) => `Conversations, exported ${clock(exported_at)}\n`,
    session: (session) => `\n\n${heading(session)}\n${"=".repeat(Math.min(heading(session).length, 80))}\n`,
    message: (message) =>
      `\n[${clock(message.created_at)}] ${WHO[message.role]}${state(message)}:\n${inset(message.content)}\n` +
      attached(message, String),
    close: () => "",
    end: () => "",
  },
};

/** @type {H.Export} */
export const exportHistory = async (persistence, now, format = "json", { sessionId } = {}) => {
  if (!Object.hasOwn(WRITERS, format)) throw new TypeError(`no such format: ${format}`);
  const write = WRITERS[format];
  const order = (/** @type {H.Session} */ one) => `${one.created_at} ${one.session_id}`;
  const sessions = (await persistence.listSessions())
    .filter((session) => sessionId === undefined || session.session_id === sessionId)
    .sort((a, b) => (order(a) < order(b) ? -1 : 1));
  const parts = [write.begin(new Date(now()).toISOString())];
  for (const [index, session] of sessions.entries()) {
    parts.push(write.session(session, index));
    let count = 0;
    for await (const messages of batchesOf(persistence, session.session_id, true)) {
      for (const message of messages) parts.push(write.message(settled(message), count++));
    }
    parts.push(write.close(count));
  }
  parts.push(write.end(sessions.length));
  return parts.join("");
};
