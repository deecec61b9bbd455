// Where conversations are kept: in IndexedDB, and in memory what it refuses.
/** @import * as H from "./history.js" */

/** @type {H.Upgrade[]} */
const UPGRADES = [
  (database) => {
    database.createObjectStore("sessions", { keyPath: "session_id" });
    const messages = database.createObjectStore("messages", { keyPath: ["session_id", "message_id", "role"] });
    messages.createIndex("time", ["session_id", "created_at"]);
    messages.createIndex("status", "status");
  },
];

/** @type {H.Ask} */
const ask = (request) =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

/** @type {(transaction: IDBTransaction) => H.Tables} */
const tablesOf = (transaction) => {
  const sessions = transaction.objectStore("sessions");
  const messages = transaction.objectStore("messages");
  const { bound } = IDBKeyRange;
  return {
    /** @param {any} key */
    get: (...key) => ask(key[1] ? messages.get(key) : sessions.get(key[0])),
    sessions: () => ask(sessions.getAll()),
    pending: () => ask(messages.index("status").getAll("pending")),
    async messages(id, { limit, before, after = "" } = {}) {
      const index = messages.index("time");
      let range = bound([id, after], [id, before ?? []], true, true); // arrays come behind strings
      if (limit && !after) {
        const request = index.openKeyCursor(range, "prev");
        const newest = await ask(request);
        newest?.advance(limit);
        const outside = newest && (await ask(request));
        if (outside) range = bound(outside.key, range.upper, true, true);
      }
      return ask(index.getAll(range, limit));
    },
    put(...values) {
      for (const value of values) ("role" in value ? messages : sessions).put(value);
    },
    remove(...key) {
      messages.delete(bound(key, [...key, []]));
      if (!key[1]) sessions.delete(bound(key[0] ?? "", key[0] ?? []));
    },
  };
};

/** @type {H.CreateDatabase} */
export const createDatabase = (factory) => {
  /** @type {Promise<IDBDatabase> | null} */
  let opening = null;

  const open = () =>
    (opening ??= new Promise((resolve, reject) => {
      const request = factory().open("chatcore", UPGRADES.length);
      // A tab that blocks us may let go later: then it is open after all.
      setTimeout(reject, 5000, new DOMException("", "TimeoutError"));
      request.onupgradeneeded = ({ oldVersion }) =>
        UPGRADES.slice(oldVersion).forEach((upgrade) => upgrade(request.result));
      request.onerror = () => {
        opening = null;
        reject(request.error);
      };
      request.onsuccess = () => {
        const database = request.result;
        database.onclose = database.onversionchange = () => {
          database.close();
          opening = null;
        };
        resolve(database);
        opening = Promise.resolve(database);
      };
    }));

  /** @type {H.Transact} */
  const transact = async (mode, work, again = true) => {
    const database = await open();
    try {
      return await new Promise((resolve, reject) => {
        const transaction = database.transaction(["sessions", "messages"], mode);
        /** @type {any} */
        let result;
        transaction.oncomplete = () => resolve(result);
        // It knows of a full disk; requests may be merely aborted.
        transaction.onabort = () => reject(transaction.error ?? result ?? Error("aborted"));
        work(tablesOf(transaction))
          .then(
            (value) => (result = value),
            (error) => {
              result = error;
              transaction.abort();
            },
          )
          .catch(() => {}); // it is aborted
      });
    } catch (/** @type {any} */ error) {
      if (!again || error.name === "QuotaExceededError") throw error;
      database.close();
      opening = null;
      return transact(mode, work, false);
    }
  };
  return transact;
};

/** @param {any[]} key */
const nameOf = (...key) => [...key.filter(Boolean), ""].join();
/** @param {any} value */
const nameOfValue = (value) => nameOf(value.session_id, value.message_id, value.role);

/** @type {() => H.Memory} */
export const createMemory = () => {
  /** @type {Map<string, any>[]} */
  const [seen, waiting] = [new Map(), new Map()];

  /** @type {H.Tables["remove"]} */
  const remove = (...key) => {
    for (const map of [seen, waiting]) {
      for (const name of map.keys()) if (name.startsWith(nameOf(...key))) map.delete(name);
    }
  };
  /** @type {H.Lay} */
  const lay = (below = [], start, member) => {
    const all = new Map(below.map((value) => [nameOfValue(value), value]));
    for (const [name, value] of waiting) if (name.startsWith(start) && member in value) all.set(name, value);
    return [...all.values()];
  };

  return {
    waiting,
    remove,
    over: (below, staged) => ({
      /** @param {[any]} key */
      async get(...key) {
        const name = nameOf(...key);
        const stored = below ? await below.get(...key) : seen.get(name);
        if (stored) seen.set(name, stored);
        else if (seen.has(name)) remove(...key); // by another tab
        return waiting.get(name) ?? stored;
      },
      sessions: async () => lay(await below?.sessions(), "", "bot"),
      pending: async () => lay(await below?.pending(), "", "role").filter(({ status }) => status === "pending"),
      async messages(id, page = {}) {
        const { limit = 1 / 0, before, after } = page;
        const all = lay(await below?.messages(id, page), nameOf(id), "role")
          .filter(({ created_at }) => (!before || created_at < before) && (!after || created_at > after))
          .sort((a, b) => (a.created_at < b.created_at ? -1 : 1));
        return after ? all.slice(0, limit) : all.slice(-limit);
      },
      put: (...values) => void staged.push(() => values.forEach((value) => waiting.set(nameOfValue(value), value))),
      remove(...key) {
        below?.remove(...key);
        staged.push(() => remove(...key));
      },
    }),
  };
};
