/** Joins the server and what is stored: what is shown is what is stored. No DOM. */
import { conversationId, createRecall, createUploadLimits, freshId, isSameBot } from "./chat-memory.js";
import { createReplies, isOpen } from "./replies.js";

/** @import { Again, Change, ChatEvent, ChatSession, ChatState, Message, NewMessage } from "./types.js" */

export const MAX_CHARS = 10_000;
const CARRIED = 20; // messages that a new server session is told of
const STOP_MS = 3000; // for so long a server may take to stop a reply
const NEEDS_ANOTHER_ID = /^(message_id_reused|upload_stopped)$/; // the server knows it otherwise, or as stopped
const SAME_ID_MS = 3_600_000; // for so long a server knows a message's id

/** @param {import("./types.js").ChatParts} parts @returns {ChatSession} */
export function createChatSession({ client, persistence, server, bot, localStorage, window, now, metadata }) {
  const { navigator } = window;
  /** @type {Set<(event: ChatEvent) => void>} */
  const listeners = new Set();
  /** Readings that are under way, by message id. @type {Map<string, { more?: boolean, end?: Promise<void> }>} */
  const reading = new Map();
  /** @type {(() => void)[]} */
  const ends = [];
  const recall = createRecall(localStorage, server, bot);
  const limits = createUploadLimits(client, recall);
  /** @type {ReturnType<typeof import("./attached-files.js").createAttachedFiles> | undefined} */
  let attached;
  const attach = async () => {
    const { createAttachedFiles } = await import("./attached-files.js");
    attached ??= createAttachedFiles((message_id, share) => {
      if (message_id === state.running) tell({ kind: "progress", message_id, share });
    });
  };

  const connection = () =>
    navigator.onLine === false ? "offline" : replies.waits() && state.running ? "reconnecting" : "ok";
  /** @param {ChatEvent} event */
  const tell = (event) => listeners.forEach((listener) => listener(event));
  /** @param {Partial<ChatState>} [change] */
  const set = (change) => {
    const before = state;
    state = { ...state, ...change };
    state = { ...state, connection: connection(), storage: persistence.storage };
    const names = /** @type {(keyof ChatState)[]} */ (Object.keys(state));
    if (names.some((name) => state[name] !== before[name])) tell({ kind: "state" });
  };

  /** See what the server takes. @param {boolean} [asks] whether a session is made to know */
  const learn = async (asks) => {
    const outgoing = { message: "", message_id: "", page_url: window.location?.href };
    const uploads = await limits(state.session?.session_id ?? next, asks ? outgoing : undefined);
    if (uploads !== undefined) set({ uploads });
  };

  /** @param {string} session_id */
  const isShown = (session_id) => session_id === state.session?.session_id;

  /** @param {string} session_id @param {string} message_id @param {{ more?: boolean }} turn */
  const read = async (session_id, message_id, turn) => {
    do {
      turn.more = false;
      const question = await persistence.getMessage(session_id, message_id, "user");
      const stored = await persistence.getMessage(session_id, message_id, "assistant");
      const reply = replies.live.get(message_id) ?? stored;
      const open = question && isOpen(question, reply);
      if (isShown(session_id)) {
        for (const message of [question, reply]) if (message) tell({ kind: "message", message });
        if (open) set({ running: message_id });
        else if (state.running === message_id) set({ running: null });
      }
      const ours = open && isSameBot((await persistence.getSession(session_id))?.bot, bot);
      if (ours && !turn.more) void replies.follow(question);
    } while (turn.more);
    reading.delete(message_id);
  };
  /**
   * Read a turn again and tell how it stands; one reading at a time, so that the last to be told is the newest.
   * @param {string} session_id @param {string} message_id
   */
  const refresh = (session_id, message_id) => {
    const turn = reading.get(message_id) ?? {};
    turn.more = true;
    reading.set(message_id, turn);
    return (turn.end ??= read(session_id, message_id, turn));
  };

  const replies = createReplies({
    client, persistence, window, now,
    stored: refresh,
    text: (message) => isShown(message.session_id) && tell({ kind: "message", message }),
    ended(message, failure) {
      void learn();
      if (!failure) attached?.drop(message.message_id);
      if (!failure && !recall("kept")) {
        recall("kept", "asked"); // once: there is something that the browser should not throw away
        void navigator.storage?.persist?.().catch(() => false);
      }
      if (!isShown(message.session_id)) return;
      tell(failure ? { kind: "failed", message, failure } : { kind: "reply", message });
    },
    waiting: () => set(),
  });
  /** @type {ChatState} */
  let state = { session: null, running: null, connection: "ok", storage: persistence.storage, uploads: null };
  let next = conversationId(); // of the conversation that is begun next: its session may be made before

  /** @param {string | null} session_id */
  const open = async (session_id) => {
    const session = session_id ? await persistence.getSession(session_id) : null;
    const [last] = session ? await persistence.getMessages(session.session_id, { limit: 1 }) : [];
    if (last?.role === "user" && last.content === recall("draft")) recall("draft", ""); // the page was left in between
    recall("current", session?.session_id ?? "");
    state = { ...state, session };
    tell({ kind: "opened" });
    set({ running: last?.status === "pending" ? last.message_id : null });
    await learn();
  };

  /** @param {NewMessage} question @param {Parameters<typeof replies.follow>[2]} [kept] what to do once it is stored */
  const send = ({ failure: _, ...question }, kept) => {
    const { session_id, message_id, content } = question;
    return replies.follow({ ...question, status: "pending" }, {
      message: content,
      message_id,
      page_url: window.location?.href,
      metadata: metadata?.(),
      ...attached?.outgoing(message_id),
      history: async () => {
        const earlier = await persistence.getMessages(session_id, { limit: 2 * CARRIED });
        return earlier
          .filter((one) => one.message_id !== message_id && one.content.trim() && !/pending|failed/.test(one.status))
          .map((one) => ({ role: one.role, content: one.content }))
          .slice(-CARRIED);
      },
    }, kept);
  };

  /**
   * Store a text as a question and send it, in place of a turn that has no reply.
   * @param {string} content @param {File[]} [files] @param {string} [instead]
   */
  const ask = async (content, files = [], instead) => {
    if (files.length) await attach();
    if (state.running || !content.trim() || [...content].length > MAX_CHARS) return false;
    const message_id = freshId();
    set({ running: message_id }); // at once: a second Enter sends nothing
    let { session } = state;
    if (!session) {
      session = await persistence.saveSession({ session_id: next, bot });
      next = conversationId();
      recall("current", session.session_id);
      set({ session });
    }
    const { session_id } = session;
    /** @type {NewMessage} */
    const question = { session_id, message_id, role: "user", content, status: "pending" };
    if (files.length) question.files = attached?.hold(message_id, files);
    return new Promise((/** @type {(taken: boolean) => void} */ resolve) =>
      send(question, async (stored) => {
        resolve(Boolean(stored)); // not before: until then the draft holds the text
        if (!instead) return;
        attached?.drop(instead);
        await persistence.deleteMessage(session_id, instead);
      }));
  };

  /** @param {string} message_id @param {Message["role"]} role */
  const shown = async (message_id, role) =>
    state.session && persistence.getMessage(state.session.session_id, message_id, role);

  // Nothing is asked again without its files: where they are not here, or were refused, somebody must see to it.
  /** @param {Message} message @param {string} [instead] @returns {Promise<Again | null>} */
  const askWith = async (message, instead) => {
    const files = attached?.of(message.message_id);
    if (message.files && !attached?.canSend(message)) return { message, files: files ?? [], instead };
    await ask(message.content, files, instead);
    return null;
  };

  /** Send no more of a question's files. @param {string} session_id @param {string} message_id */
  const giveUp = async (session_id, message_id) => {
    replies.giveUp(message_id);
    const question = await persistence.getMessage(session_id, message_id, "user");
    const failure = { code: "upload_stopped", detail: "" };
    if (question) await persistence.saveMessage({ ...question, status: "failed", failure });
    await client.stop(session_id, message_id).catch(() => {}); // it may have begun there
  };

  /** @param {Change} change */
  const changed = async ({ kind, session_id, message_id }) => {
    if (kind === "storage") set();
    else if (kind === "message") {
      if (session_id && message_id && !replies.live.has(message_id)) await refresh(session_id, message_id);
    } else if (kind === "message-deleted") {
      replies.giveUp(String(message_id));
      tell({ kind: "removed", message_id: String(message_id) });
    } else {
      tell({ kind: "sessions" });
      const here = state.session;
      if (!here || (session_id && !isShown(session_id))) return;
      const session = await persistence.getSession(here.session_id);
      if (!session || kind === "imported") await open(session && session.session_id);
      else set({ session });
    }
  };

  const back = () => {
    set();
    if (navigator.onLine !== false) replies.hurry();
  };
  const seen = () => (window.document?.visibilityState === "hidden" ? replies.store() : back());

  return {
    get state() {
      return state;
    },
    get draft() {
      return recall("draft");
    },
    set draft(text) {
      recall("draft", text);
    },
    async start() {
      for (const [name, call] of /** @type {const} */ ([["online", back], ["offline", back], ["pagehide", replies.store]])) {
        window.addEventListener(name, call);
        ends.push(() => window.removeEventListener(name, call));
      }
      window.document?.addEventListener("visibilitychange", seen);
      ends.push(() => window.document?.removeEventListener("visibilitychange", seen));
      ends.push(persistence.onChange((change) => void changed(change)));
      await persistence.init();
      await open(recall("current"));
      const mine = new Set((await this.sessions()).map((session) => session.session_id));
      for (const { session_id, message_id } of await persistence.pendingMessages()) {
        if (mine.has(session_id)) await refresh(session_id, message_id);
      }
    },
    open,
    async sessions() {
      return (await persistence.listSessions()).filter((session) => isSameBot(session.bot, bot));
    },
    async messages(options) {
      if (!state.session) return [];
      const stored = await persistence.getMessages(state.session.session_id, options);
      return stored.map((message) => (message.role === "assistant" && replies.live.get(message.message_id)) || message);
    },
    draftFiles: [],
    prepare: () => learn(!recall("uploads")),
    holds: (message_id) => Boolean(attached?.of(message_id)),
    send: ask,
    async sendAgain(message_id) {
      const question = await shown(message_id, "user");
      if (question?.status !== "failed" || state.running) return null;
      const { created_at, failure, files } = question;
      const known = now() - Date.parse(created_at) < SAME_ID_MS && !NEEDS_ANOTHER_ID.test(failure?.code ?? "");
      if (!known || (files && !attached?.canSend(question))) return askWith(question, message_id);
      await send(question);
      return null;
    },
    async askAgain(message_id) {
      const question = await shown(message_id, "user");
      const reply = await shown(message_id, "assistant");
      return question && !state.running ? askWith(question, reply?.content ? undefined : message_id) : null;
    },
    async stop() {
      const { running, session } = state;
      if (!running || !session) return;
      const { session_id } = session;
      if (attached?.isLeaving(running)) return giveUp(session_id, running);
      const here = async () => {
        const question = await persistence.getMessage(session_id, running, "user");
        const reply = replies.live.get(running) ?? (await persistence.getMessage(session_id, running, "assistant"));
        if (!question || !isOpen(question, reply)) return;
        replies.giveUp(running);
        const said = reply ?? /** @type {const} */ ({ session_id, message_id: running, role: "assistant", content: "" });
        await persistence.saveMessage({ ...said, status: "stopped" });
        await persistence.saveMessage({ ...question, status: "complete" });
      };
      window.setTimeout(here, STOP_MS);
      // It never arrived, or the server is out of reach: nobody here waits for this reply any more.
      await client.stop(session_id, running).catch(here);
    },
    async rate(message_id, rating) {
      const reply = await shown(message_id, "assistant");
      if (!reply) return;
      await persistence.saveMessage({ ...reply, rating });
      await client.rate(reply.session_id, message_id, rating).catch(() => {}); // it stays here all the same
    },
    async remove(session_id) {
      await persistence.deleteSession(session_id);
      await client.erase(session_id).catch(() => {}); // out of reach, or gone before: here it is forgotten
    },
    onChange(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    close() {
      for (const end of ends.splice(0)) end();
      replies.close();
    },
  };
}
