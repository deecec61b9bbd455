/** The replies that this tab follows, or will follow when the tab that does is gone. */
import { followReply } from "./reply-follower.js";

/** @import { ApiClient, ChatPersistence, Failure, Message, NewMessage, Outgoing } from "./types.js" */

/**
 * @typedef {object} Watching
 * @property {ApiClient} client
 * @property {ChatPersistence} persistence
 * @property {Window} window
 * @property {() => number} now
 * @property {(session_id: string, message_id: string) => Promise<void>} stored what is stored of a turn has changed
 * @property {(reply: Message) => void} text a reply has more text than is stored
 * @property {(message: Message, failure?: Failure) => void} ended here, with a reply or without
 * @property {() => void} waiting whether replies wait for the network has changed
 */

/** A question without a reply, or a reply without an end. @param {Message | null} question @param {Message | null} reply */
export const isOpen = (question, reply) => (reply ?? question)?.status === "pending";

/** @param {Watching} watching */
export function createReplies({ client, persistence, window, now, stored, text, ended, waiting }) {
  const { locks } = window.navigator;
  /** Texts ahead of what is stored, by message id. @type {Map<string, Message>} */
  const live = new Map();
  /** @type {Map<string, AbortController>} */
  const followed = new Map();
  /** Questions that may have arrived although no answer came, by message id. @type {Map<string, Message>} */
  const uncertain = new Map();
  /** @type {Set<() => void>} */
  const pauses = new Set();
  /** @type {Set<() => void>} */
  const writes = new Set();
  let closed = false;

  /** @param {number} milliseconds @returns {Promise<boolean>} whether it was cut short */
  const pause = (milliseconds) =>
    new Promise((resolve) => {
      const end = (/** @type {boolean} */ cut) => {
        window.clearTimeout(timer);
        pauses.delete(go);
        resolve(cut);
        waiting();
      };
      const go = () => end(true);
      const timer = window.setTimeout(() => end(false), closed ? 0 : milliseconds);
      pauses.add(go);
      waiting();
    });

  /**
   * Read a question's reply to its end, once in all tabs: a second one waits for the first to go, and looks again.
   * @param {NewMessage} question
   * @param {Outgoing} [outgoing] what to send first, once `question` is stored
   * @param {(stored: Message | null) => Promise<void> | void} [kept] what to do in between
   */
  const follow = async (question, outgoing, kept) => {
    const { session_id, message_id } = question;
    if (closed || followed.has(message_id)) return;
    const controller = new AbortController();
    const { signal } = controller;
    followed.set(message_id, controller);
    const run = async () => {
      const sent = outgoing
        ? await persistence.saveMessage(question)
        : await persistence.getMessage(session_id, message_id, "user");
      if (outgoing) {
        await stored(session_id, message_id);
        await kept?.(sent);
      } else if (question.status === "pending") {
        if (!isOpen(sent, await persistence.getMessage(session_id, message_id, "assistant"))) return null;
      }
      uncertain.delete(message_id);
      return sent && followReply(sent, {
        client, persistence, window, now, signal, pause, outgoing, sole: Boolean(locks),
        onText: (reply) => {
          live.set(message_id, reply);
          text(reply);
        },
        beforeHiding: (write) => {
          writes.add(write);
          return () => writes.delete(write);
        },
      });
    };
    let end = null;
    try {
      end = await (locks ? locks.request(`chatcore/reply/${message_id}`, { signal }, run) : run());
    } catch (/** @type {any} */ error) {
      if (error.name === "SecurityError") end = await run(); // a sandboxed frame has no locks
      else if (!signal.aborted) throw error;
    }
    live.delete(message_id);
    followed.delete(message_id);
    if (closed) return;
    await stored(session_id, message_id);
    if (!end) return;
    const { message, failure } = end;
    if (message.role === "user" && /^(network|offline)$/.test(failure?.code ?? "")) uncertain.set(message_id, message);
    if (!failure || question.status !== "failed") ended(message, failure); // that it failed is known
  };

  return {
    live,
    follow,
    /** Whether a reply waits for the network. */
    waits: () => pauses.size > 0,
    /** @param {string} message_id */
    giveUp: (message_id) => followed.get(message_id)?.abort(),
    /** The network or the visitor is back: no more pauses, and see which questions have arrived after all. */
    hurry() {
      for (const go of [...pauses]) go();
      for (const question of [...uncertain.values()]) void follow(question);
    },
    /** The page may end here: store what is read so far. */
    store() {
      for (const write of writes) write();
    },
    close() {
      closed = true;
      for (const controller of followed.values()) controller.abort();
      for (const go of [...pauses]) go();
    },
  };
}
