// Reads a document of conversations and trusts nothing in it: everything is checked, and what is unknown is refused.
import { MAX_FILES, titleOf } from "./chat-persistence.js";

/** @import * as H from "./history.js" */

const MAX_TEXT = 2 ** 26;
const MAX_MESSAGES = 200_000;
const MAX_SESSIONS = 10_000;
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
const TIME = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(?:Z|([+-])([01]\d|2[0-3]):([0-5]\d))$/;
const END = Date.UTC(9999); // the last year is left free: messages get times behind those that are there

/** What is wrong with a document, and where. */
export class HistoryFormatError extends Error {
  /** @override */
  name = "HistoryFormatError";
}

/** @type {(where: string, why: string) => never} */
const refuse = (where, why) => {
  throw new HistoryFormatError(where ? `${where}: ${why}` : why);
};
/** @type {(where: string, name: string) => string} */
const at = (where, name) => (where ? `${where}.${name}` : name);

/** @type {(max: number, form?: RegExp) => H.Reader} */
const text = (max, form) => (value, where) => {
  if (typeof value !== "string") refuse(where, "not a text");
  if (value.length > max) refuse(where, `longer than ${max} characters`);
  return !form || form.test(value) ? value : refuse(where, "not an id");
};
/** @type {(...choices: unknown[]) => H.Reader} */
const choice = (...choices) => (value, where) =>
  choices.includes(value) ? value : refuse(where, `not ${choices.join(" or ")}`);
/** @type {(read: H.Reader, max: number) => H.Reader} */
const list = (read, max) => (value, where) => {
  if (!Array.isArray(value)) refuse(where, "not a list");
  if (value.length > max) refuse(where, `more than ${max}`);
  return Array.from(value, (one, index) => read(one, `${where}[${index}]`));
};
/** @type {(read: H.Reader) => H.Reader} */
const orNull = (read) => (value, where) => (value === null ? undefined : read(value, where));
/** With `open`, other members are passed over. @type {(members: H.Members, others?: H.Members, open?: boolean) => H.Reader} */
const object = (members, others = {}, open = false) => (value, where) => {
  if (!value || typeof value !== "object" || Array.isArray(value)) refuse(where, "not an object");
  const all = { ...members, ...others };
  const unknown = open ? undefined : Object.keys(value).find((name) => !Object.hasOwn(all, name));
  if (typeof unknown === "string") refuse(where, `unknown member ${JSON.stringify(unknown.slice(0, 64))}`);
  /** @type {any} */
  const made = {};
  for (const name of Object.keys(all)) {
    if (Object.hasOwn(value, name)) made[name] = all[name](value[name], at(where, name));
    else if (name in members) refuse(where, `${name} is missing`);
  }
  return made;
};
/** @type {H.Reader} */
const time = (value, where) => {
  const [, clock, fraction = "", sign, hours, minutes] = TIME.exec(text(64)(value, where).toUpperCase()) ?? [];
  const start = new Date(`${clock}Z`);
  if (!start.toJSON()?.startsWith(clock)) refuse(where, "not a date"); // Date takes the 30th of February
  const offset = sign ? Number(`${sign}1`) * (Number(hours) * 60 + Number(minutes)) * 60_000 : 0;
  const moment = Number(start) - offset + Number(fraction.padEnd(3, "0").slice(0, 3));
  return moment >= 0 && moment < END ? new Date(moment).toJSON() : refuse(where, "not from 1970 to 9998");
};

const TURN = {
  message_id: text(64, UUID),
  role: choice("user", "assistant"),
  content: text(2 ** 22),
  created_at: time,
};
/** @type {H.Reader} */
const bytes = (value, where) => (Number.isSafeInteger(value) && value >= 0 ? value : refuse(where, "not a count"));
const MESSAGE = object(
  { ...TURN, status: choice("complete", "failed", "stopped", "error") },
  {
    failure: object({ code: text(64), detail: text(2000) }),
    rating: choice("up", "down"),
    files: list(object({ name: text(255), size: bytes, type: text(255) }), MAX_FILES),
  },
);
const SESSION = { session_id: text(64, /^[\w-]+$/), bot: text(64), created_at: time };
const DOCUMENT = object({
  format: choice("chatcore-history"),
  version: choice(1),
  exported_at: time,
  sessions: list(
    object({ ...SESSION, title: text(500), updated_at: time, messages: list(MESSAGE, MAX_MESSAGES) }),
    MAX_SESSIONS,
  ),
});
const ENDING = object(
  { message_id: TURN.message_id, state: choice("complete", "stopped", "error", "open", "released", "cut") },
  { error_code: orNull(text(64)), rating: orNull(choice("up", "down")) },
  true,
);
const OF_SERVER = object({
  format: choice("chatcore-session"),
  version: choice(1),
  session: object(SESSION, { turns: list(ENDING, MAX_MESSAGES) }, true),
  messages: list(object(TURN), MAX_MESSAGES),
});

/** A millisecond later. @param {string} moment */
export const next = (moment) => new Date(Date.parse(moment) + 1).toJSON();

/** What members must be to each other. @type {(read: any, where: string, ofServer?: boolean) => H.Conversation} */
const conversation = ({ messages, ...session }, where, ofServer) => {
  const keys = new Set();
  let last = "";
  for (const [index, message] of messages.entries()) {
    const here = `${at(where, "messages")}[${index}]`;
    const { message_id, role, status, failure, rating, files } = message;
    if (keys.has(role + message_id)) refuse(here, "comes twice");
    keys.add(role + message_id);
    const isOf = status === "failed" ? "user" : "assistant";
    if (status !== "complete" && role !== isOf) refuse(here, `${status} and of this role`);
    if (failure && status !== "failed" && status !== "error") refuse(here, `${status} and with a failure`);
    if (rating && role === "user") refuse(here, "a question with a rating");
    if (files && role !== "user") refuse(here, "a reply with files");
    if (message.created_at <= last) {
      if (!ofServer) refuse(here, "not later than the message before");
      message.created_at = next(last);
    }
    last = message.created_at;
    message.session_id = session.session_id;
  }
  if (last > session.updated_at) session.updated_at = last;
  return { session, messages };
};

/**
 * A server's message as it ended, with its reply where that said nothing: the server keeps none then.
 * @type {(message: any, turn?: H.ServerTurn, answered?: boolean) => H.Message[]}
 */
const ended = (message, turn, answered) => {
  if (!turn) return [{ ...message, status: "complete" }];
  const { state, error_code, rating } = turn;
  const failed = (/** @type {string} */ code) => ({ failure: { code, detail: "" } });
  if (message.role === "assistant") {
    if (state === "complete" || state === "stopped") return [{ ...message, status: state, rating }];
    return [{ ...message, status: "error", rating, ...failed((state === "error" && error_code) || "reply_gone") }];
  }
  if (state === "released") return [{ ...message, status: "failed", ...failed("network") }];
  const question = { ...message, status: "complete" };
  return answered ? [question] : [question, ...ended({ ...message, role: "assistant", content: "" }, turn)];
};

/** @type {(message: H.Message) => boolean} */
const isReply = ({ role }) => role === "assistant";
/** @type {(message: H.Message) => string} */
const idOf = ({ message_id }) => message_id;

/** @type {H.Reader} */
const readDocument = (value, where) => {
  const { format, version } = value ?? {};
  if (version > 1) refuse(at(where, "version"), "newer than what is known here");
  if (format === "chatcore-session") {
    const { session: { turns = [], ...session }, messages: kept } = OF_SERVER(value, where);
    const title = titleOf(kept.find((/** @type {H.Message} */ { role }) => role === "user")?.content ?? "");
    const endings = new Map(turns.map((/** @type {H.ServerTurn} */ turn) => [turn.message_id, turn]));
    const replies = new Set(kept.filter(isReply).map(idOf));
    const messages = kept.flatMap((/** @type {H.Message} */ one) => ended(one, endings.get(idOf(one)), replies.has(idOf(one))));
    return [conversation({ ...session, title, updated_at: session.created_at, messages }, where, true)];
  }
  if (format !== "chatcore-history") refuse(at(where, "format"), "not a chat history");
  const read = list((one, here) => conversation(one, here), MAX_SESSIONS);
  return read(DOCUMENT(value, where).sessions, at(where, "sessions"));
};

/** Nothing where it is not JSON. @type {(source: string) => [any] | null} */
const parse = (source) => {
  try {
    return [JSON.parse(source)];
  } catch {
    return null;
  }
};
/** @type {(source: string) => H.Conversation[]} */
const readText = (source) => {
  const whole = parse(source);
  if (whole) return readDocument(whole[0], "");
  const lines = source.split("\n", MAX_SESSIONS + 1);
  if (lines.length < 2 || !parse(lines[0])) refuse("", "not JSON, or cut off");
  if (lines.length > MAX_SESSIONS) refuse("", `more than ${MAX_SESSIONS} lines`);
  return lines.flatMap((line, index) => {
    const where = `line ${index + 1}`;
    return line.trim() ? readDocument((parse(line) ?? refuse(where, "not JSON"))[0], where) : [];
  });
};

/**
 * Read a document: an object, its text, or a File or bytes of it. Raises `HistoryFormatError`.
 * @param {any} data
 */
export const readHistory = async (data) => {
  const isSmall = (/** @type {number} */ size) => size <= MAX_TEXT || refuse("", "larger than 64 MiB");
  let source = data;
  if (typeof data?.arrayBuffer === "function" && isSmall(data.size)) source = await data.arrayBuffer();
  if (source instanceof ArrayBuffer || ArrayBuffer.isView(source)) {
    isSmall(source.byteLength);
    try {
      source = new TextDecoder("utf-8", { fatal: true }).decode(source);
    } catch {
      refuse("", "not UTF-8");
    }
  }
  const isText = typeof source === "string" && isSmall(source.length);
  const history = isText ? readText(source.replace(/^\ufeff/, "")) : readDocument(source, "");
  const ids = new Set();
  let count = 0;
  for (const { session, messages } of history) {
    if (ids.has(session.session_id)) refuse(session.session_id, "comes twice");
    ids.add(session.session_id);
    count += messages.length;
  }
  if (count > MAX_MESSAGES) refuse("", `more than ${MAX_MESSAGES} messages`);
  return history;
};
