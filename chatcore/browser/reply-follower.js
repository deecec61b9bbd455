/** Carries one question to the end of its reply: sends or resumes, stores what comes, outlives lost connections. */
import { failureOf } from "./api-client.js";

/** @import { ApiClient, ChatPersistence, Failure, Message, NewMessage, Outgoing } from "./types.js" */

const STORE_MS = 250;
const CHARS_PER_MS = 500; // a long text is stored less often: it is written whole each time
const SECONDS_BETWEEN = [1, 2, 4, 8, 15, 30];
const KEPT_MS = 3_600_000; // REPLY_KEEP_SECONDS of most servers

/** Refusals after which n8n may have run: the question has arrived, its reply has failed. */
const RAN = /^(upstream_(?!unavailable)|reply_|internal_error)/;
/** Failures of reading that pass. */
const PASSES = /^(network|invalid_answer|http_(404|5)|overloaded|store_|shutting_|upstream_unavailable|rate_limited|internal_error)/;

/**
 * @typedef {object} Following
 * @property {ApiClient} client
 * @property {ChatPersistence} persistence
 * @property {Outgoing} [outgoing] what to send; else it was sent before, and its reply is resumed
 * @property {AbortSignal} signal
 * @property {Window} window its timers, and whether the network is there
 * @property {() => number} now
 * @property {boolean} sole nobody else follows this reply: "unknown" at the server is the truth
 * @property {(milliseconds: number) => Promise<boolean>} pause waits; true where the network came back meanwhile
 * @property {(reply: Message) => void} onText more text than is stored so far
 * @property {(write: () => void) => () => void} beforeHiding calls back when the page may end; gives its end
 */

/**
 * Follow until the reply has ended or can't be had. Gives how it ended, null where following was given up: the
 * conversation is gone, `signal`, or somebody else was quicker.
 * @param {Message} question
 * @param {Following} following
 * @returns {Promise<{ message: Message, failure?: Failure } | null>}
 */
export async function followReply(question, following) {
  const { client, persistence, window, now, pause, onText } = following;
  const { session_id, message_id } = question;
  const ended = new AbortController();
  const end = () => ended.abort();
  following.signal.addEventListener("abort", end);
  if (following.signal.aborted) end();
  const signal = ended.signal;
  const writer = laterWriter(following, end);
  const free = following.beforeHiding(writer.write);

  let { outgoing } = following;
  let reply = await persistence.getMessage(session_id, message_id, "assistant");
  /** @type {Failure | undefined} */
  let failure;
  let attempt = 0;
  let since = 0;

  /** @param {Message["status"]} status @param {Failure} [reason] */
  const settle = async (status, reason) => {
    await writer.finish(true);
    if (status === "failed") {
      const message = await persistence.saveMessage({ ...question, status, failure: reason });
      return message && { message, failure: reason };
    }
    const message = await persistence.saveMessage(ending(status, reason));
    await arrived(); // after its reply: a question that has arrived is never without one
    return message && { message, failure: reason };
  };
  /** @param {Message["status"]} status @param {Failure} [reason] @returns {NewMessage} */
  const ending = (status, reason) => {
    const { last_event: _, ...said } = { ...draft(), status };
    return reason ? { ...said, failure: reason } : said;
  };
  /** @returns {NewMessage} */
  const draft = () => reply ?? { session_id, message_id, role: "assistant", content: "", status: "pending" };
  const arrived = async () => {
    if (question.status === "complete") return;
    const { failure: _, ...sent } = question;
    question = (await persistence.saveMessage({ ...sent, status: "complete" })) ?? { ...sent, status: "complete" };
  };

  try {
    for (;;) {
      try {
        const after = reply?.last_event ?? 0;
        const events = outgoing
          ? client.send(session_id, outgoing, signal)
          : client.resume(session_id, message_id, after, signal);
        for await (const event of events) {
          attempt = since = 0;
          if (event.type === "error") failure = event.failure;
          else if (event.type === "done") return await settle(event.finish_reason, failure);
          else {
            if (!reply) {
              reply = await persistence.saveMessage(draft());
              if (reply?.status !== "pending") return null;
            }
            await arrived();
            const { content, last_event = 0 } = reply;
            if (event.id <= last_event) continue;
            const text = event.type === "start" ? content : event.type === "delta" ? content + event.content : event.content;
            reply = { ...reply, content: text, last_event: event.id };
            onText(reply);
            writer.later(reply);
          }
        }
        throw new TypeError("a reply without an end");
      } catch (error) {
        if (signal.aborted) {
          await writer.finish(false);
          return null;
        }
        const reason = failureOf(error, now());
        const accepted = question.status === "complete" || reply !== null;
        if (outgoing && !accepted) {
          if (reason.code !== "network") {
            if (!RAN.test(reason.code)) return await settle("failed", reason);
            const said = /** @type {{content?: string}} */ (error).content;
            if (said) reply = /** @type {Message} */ ({ ...draft(), content: said });
            return await settle("error", reason);
          }
          // It may have arrived: the same id joins its reply. After that only a person sends it again.
          const offline = window.navigator.onLine === false;
          if (outgoing.sent?.()) outgoing = undefined; // with all its files
          else if (offline || attempt > 0) {
            return await settle("failed", offline ? { ...reason, code: "offline" } : reason);
          }
        } else if (!accepted && /^(reply_gone|request_timeout)$/.test(reason.code)) {
          if (following.sole || attempt > 2) return await settle("failed", { code: "network", detail: "" });
        } else if (!PASSES.test(reason.code) || (since && now() - since > KEPT_MS)) {
          return await settle("error", reason);
        } else outgoing = undefined;
        since ||= now();
        const seconds = SECONDS_BETWEEN[Math.min(attempt++, SECONDS_BETWEEN.length - 1)];
        if ((await pause(seconds * 1000)) && accepted) attempt = 0;
      }
    }
  } finally {
    free();
    following.signal.removeEventListener("abort", end);
    ended.abort();
  }
}

/**
 * Stores the newest state of a growing reply, a few times a second. `lost` is called where it is not wanted any more.
 * @param {Following} following
 * @param {() => void} lost
 */
function laterWriter({ persistence, window, now }, lost) {
  /** @type {Message | null} */
  let next = null;
  /** @type {Promise<void> | null} */
  let writing = null;
  let written = 0;
  let timer = 0;

  const write = () => {
    window.clearTimeout(timer);
    timer = 0;
    if (writing || !next) return;
    const message = next;
    next = null;
    const done = () => {
      writing = null;
      written = now();
      if (next) later(next);
    };
    writing = persistence.saveMessage(message).then((stored) => {
      if (stored?.status !== "pending") lost();
      done();
    }, done);
  };
  /** @param {Message} message */
  const later = (message) => {
    next = message;
    const due = written + Math.max(STORE_MS, message.content.length / CHARS_PER_MS) - now();
    if (!writing) timer ||= window.setTimeout(write, Math.max(due, 0));
  };
  return {
    write,
    later,
    /** Let go of what is not written yet, or write it; resolves when nothing is under way. @param {boolean} drop */
    async finish(drop) {
      if (drop) next = null;
      write();
      while (writing) await writing;
      window.clearTimeout(timer);
    },
  };
}
