// What the views of kept messages ask the server for: conversations, a transcript, erasing, the audit log.
import { list, number, record, text, textOrNull, time } from "./admin-read.js";
import { DAY, timestamp } from "./admin-times.js";
/** @import * as A from "./admin-types.js" */

const NONE = "This server keeps no messages.";
const LATER = "Try again in a moment.";
const UNKNOWN = "There is no conversation with this id. It may have been erased, or be older than the server keeps.";

/** The mark of the page that follows, or "". @param {unknown} value */
const mark = (value) => (value === null || value === undefined ? "" : typeof value === "number" ? String(number(value)) : text(value));
/** @param {unknown} value */
const numberOrNull = (value) => (value === null || value === undefined ? null : number(value));

/** @template T @param {string} name @param {(value: Record<string, unknown>) => T} read @returns {(document: unknown) => A.Part<T>} */
const part = (name, read) => (document) => {
  const given = record(document);
  return {
    all: list(given[name]).map((one) => read(record(one))),
    before: mark(given.next_before),
    truncated: given.truncated === true,
  };
};

/** @param {Record<string, unknown>} given @returns {A.Conversation} */
const conversation = (given) => ({
  id: text(given.session_id),
  bot: text(given.bot),
  origin: text(given.origin),
  page: text(given.page),
  began: time(given.created_at),
  seen: time(given.seen_at),
  messages: number(given.messages),
  errors: number(given.errors),
  up: number(given.feedback_up),
  down: number(given.feedback_down),
  user: textOrNull(given.user),
  excerpt: textOrNull(given.excerpt),
});

/** @param {Record<string, unknown>} given @returns {A.Said} */
const said = (given) => ({
  isVisitor: text(given.role) === "user",
  text: text(given.content),
  at: time(given.created_at),
  finish: textOrNull(given.finish_reason),
  fault: textOrNull(given.error_code),
  took: numberOrNull(given.duration_ms),
  rating: textOrNull(given.rating),
  comment: textOrNull(given.comment),
});

/** A value of an entry's detail as one line of text. @param {unknown} value */
const line = (value) => (typeof value === "string" ? value : JSON.stringify(value) ?? "");

/** @param {Record<string, unknown>} given @returns {A.Entry} */
const entry = (given) => ({
  number: number(given.number),
  at: time(given.at),
  actor: text(given.actor),
  action: text(given.action),
  session: textOrNull(given.session_id),
  address: textOrNull(given.address) ?? "",
  detail: Object.entries(record(given.detail ?? {})).filter(([, value]) => value !== null && value !== "")
    .map(([name, value]) => [name, line(value)]),
});

/** A UTC day as the API wants it, moved by some days; what is no day is left out. @param {string} day @param {number} more */
const dayTime = (day, more = 0) => {
  const moment = Date.parse(day);
  return Number.isNaN(moment) ? "" : timestamp(moment + more * DAY);
};

/** Conversations, the latest first. @param {A.Filter} filter @param {string} before @returns {A.Request<A.Part<A.Conversation>>} */
export const conversations = ({ q, origin, bot, from, to }, before) => ({
  path: "sessions",
  parameters: { q, origin, bot, from: dayTime(from), to: dayTime(to, 1), before },
  read: part("sessions", conversation),
  texts: { none: NONE, unavailable: `The conversations cannot be read right now. ${LATER}` },
});

/** @param {string} id */
const path = (id) => `sessions/${encodeURIComponent(id)}`;

/** Part of a transcript, the latest first, each part in order. @param {string} id @param {string} before @returns {A.Request<A.Part<A.Said>>} */
export const transcript = (id, before) => ({
  path: `${path(id)}/messages`,
  parameters: { before },
  read: part("messages", said),
  texts: { none: NONE, unavailable: `The conversation cannot be read right now. ${LATER}`, unknown: UNKNOWN },
});

/** Erase a conversation. @param {string} id @returns {A.Request<true>} */
export const erasing = (id) => ({
  method: "DELETE",
  path: path(id),
  // Done is 204 without a document; another's page must not pass for it.
  read(document) {
    if (document !== undefined) throw new TypeError("no 204");
    return true;
  },
  texts: { none: NONE, unavailable: `Nothing was erased: the server cannot do it right now. ${LATER}`, unknown: UNKNOWN },
});

/** Entries of the audit log, the latest first. @param {string} before @returns {A.Request<A.Part<A.Entry>>} */
export const audit = (before) => ({
  path: "audit",
  parameters: { before },
  read: part("entries", entry),
  texts: { none: NONE, unavailable: `The audit log cannot be read right now. ${LATER}` },
});
