// Conversations as the browser keeps them: what is stored over what, and what is told.
import { createDatabase, createMemory } from "./history-tables.js";

/** @import * as H from "./history.js" */

/** Of one message, that are kept. */
export const MAX_FILES = 100;
const RANK = { failed: 0, pending: 0, error: 1, stopped: 2, complete: 3 };

/** @type {(content: string) => string} */
export const titleOf = (content) => /.{0,80}/u.exec(content.trim().replace(/\s+/g, " "))?.[0] ?? "";

/** @type {H.Further} */
const further = (old, message) => {
  const { status, rating = old.rating, last_event = 0 } = message;
  const gain = RANK[status] - RANK[old.status];
  if (gain < 0 || (!gain && RANK[old.status])) return rating === old.rating ? old : { ...old, rating };
  if (status === "pending" && last_event < (old.last_event ?? 0)) return old;
  const { content } = status !== "complete" && message.content.length < old.content.length ? old : message;
  return { ...message, rating, content, created_at: old.created_at };
};

/** @type {H.Create} */
export const createChatPersistence = (outside) => {
  const { now } = outside;
  const transact = createDatabase(() => outside.indexedDB);
  const { waiting, remove, over } = createMemory();
  /** @type {Set<H.Tell>} */
  const listeners = new Set();
  /** @type {Promise<any>} */
  let lastWrite = Promise.resolve();
  /** @type {Promise<H.Channel> | undefined} */
  let channel;

  /** @type {H.Tell} */
  const tell = (change) => {
    for (const listener of listeners) queueMicrotask(() => listener(change));
  };
  const join = async () => {
    /** @type {H.Channel} */
    const joined =
      outside.broadcast ??
      (globalThis.BroadcastChannel
        ? new BroadcastChannel("chatcore")
        : (await import("./storage-channel.js")).createStorageChannel(outside.localStorage));
    joined.onmessage = ({ data }) => {
      if (/deleted|cleared/.test(data.kind)) remove(data.session_id, data.message_id);
      tell({ ...data, remote: true });
    };
    return joined;
  };
  /** @type {H.Settle} */
  const settle = (kind, error) => {
    if (!error) channel ??= join();
    persistence.reason = error?.name ?? "";
    if (kind !== persistence.storage) tell({ kind: "storage", remote: false });
    persistence.storage = kind;
  };

  /** @type {H.Run} */
  const run = async (work, mode = "readonly", strict) => {
    /** @type {any[]} */
    let staged = [];
    /** @param {any} below */
    const aside = (below) => work(over(below, (staged = [])));
    let done;
    try {
      if (mode === "readwrite") {
        done = await transact(mode, async (below) => {
          for (const { session_id } of waiting.values()) await over(below, []).get(session_id);
          for (const one of waiting.values()) {
            await ("role" in one ? putMessage(below, one, true) : putSession(below, one));
          }
          return work(below);
        });
        waiting.clear();
        settle("indexeddb");
        return done;
      }
    } catch (error) {
      if (strict && channel) throw error;
      settle("memory", error);
    }
    try {
      done = await transact(mode, aside);
      if (!waiting.size && !staged.length) settle("indexeddb");
    } catch (error) {
      settle("memory", error);
      done = await aside(null);
    }
    for (const change of staged) change();
    return done;
  };
  /** @type {H.Write} */
  const write = (work, strict) =>
    (lastWrite = lastWrite
      .catch(() => {})
      .then(async () => {
        const [result, ...changes] = await run(work, "readwrite", strict);
        for (const change of changes) {
          tell({ ...change, remote: false });
          channel?.then((joined) => joined.postMessage(change)).catch(() => {});
        }
        return result;
      }));

  /** @type {H.PutSession} */
  const putSession = async (tables, given) => {
    const { session_id } = given;
    const old = await tables.get(session_id);
    const { bot = "", title = "", created_at = new Date(now()).toISOString() } = { ...old, ...given };
    const updated_at = [given.updated_at ?? created_at, old?.updated_at ?? ""].sort()[1];
    const session = { session_id, bot, title, created_at, updated_at };
    tables.put(session);
    return [session, { kind: "session", session_id }];
  };
  /** @type {H.PutMessage} */
  const putMessage = async (tables, message, kept) => {
    const { session_id, message_id, role } = message;
    const session = await tables.get(session_id);
    if (!session) return [null];
    const old = await tables.get(session_id, message_id, role);
    const begins = role === "user" ? message.status === "pending" : await tables.get(session_id, message_id, "user");
    if (!old && !kept && !begins) return [null];
    const [newest] = await tables.messages(session_id, { limit: 1 });
    const free = newest && !kept ? Date.parse(newest.created_at) + 1 : 0;
    const time = Math.max(Date.parse(message.created_at ?? "") || now(), free);
    const stored = old ? further(old, message) : { ...message, created_at: new Date(time).toISOString() };
    if (stored === old) return [old];
    if (stored.status !== "pending") delete stored.last_event;
    const title = session.title || (role === "user" ? titleOf(stored.content) : "");
    tables.put({ ...session, title, updated_at: [stored.created_at, session.updated_at].sort()[1] }, stored);
    const told = /** @type {const} */ ({ kind: "message", session_id, message_id });
    return old ? [stored, told] : [stored, told, { kind: "session", session_id }];
  };
  /** @type {H.Erase} */
  const erase = async (kind, ...key) => {
    await write(async (tables) => {
      tables.remove(...key);
      return [0, { kind, session_id: key[0], message_id: key[1] }];
    });
    remove(...key);
    if (waiting.size) await write(async () => [0]); // there may be room now
  };

  /** @type {(...key: [any]) => any} */
  const get = (...key) => run(async (tables) => (await tables.get(...key)) ?? null);
  /** @type {H.Persistence} */
  const persistence = {
    storage: "unknown",
    reason: "",
    init: () => run(async () => {}),
    listSessions: async () =>
      (await run((tables) => tables.sessions())).sort((a, b) => (a.updated_at < b.updated_at ? 1 : -1)),
    getSession: get,
    saveSession: (session) => write((tables) => putSession(tables, session)),
    getMessages: (id, page) => run((tables) => tables.messages(id, page)),
    getMessage: get,
    pendingMessages: () => run((tables) => tables.pending()),
    saveMessage: (message) => write((tables) => putMessage(tables, message)),
    deleteMessage: (...key) => erase("message-deleted", ...key),
    deleteSession: (id) => erase("session-deleted", id),
    clear: () => erase("cleared"),
    search: async (...args) => (await import("./history-search.js")).search(persistence, ...args),
    exportChatHistory: async (...args) =>
      (await import("./history-export.js")).exportHistory(persistence, now, ...args),
    importData: async (...args) => (await import("./history-import.js")).importHistory(write, ...args),
    onChange(listener) {
      listeners.add(listener);
      persistence.init(); // now it hears other tabs
      return () => listeners.delete(listener);
    },
  };
  return persistence;
};

/** What the widget keeps in this browser. */
export const chatPersistence = createChatPersistence({
  get indexedDB() {
    return globalThis.indexedDB;
  },
  now: Date.now,
});
