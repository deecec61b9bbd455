// What a browser remembers of a chat beside its messages: a few short texts for each server and bot.
/** @import { ApiClient, Outgoing, UploadLimits } from "./types.js" */

/**
 * Gives `recall(name)`, which is empty where nothing is remembered, and `recall(name, value)`, which remembers it, or
 * forgets it where it is empty.
 * @param {Storage | null} localStorage @param {string} server @param {string} bot
 */
export const createRecall = (localStorage, server, bot) =>
  /** @param {string} name @param {string} [value] */
  (name, value) => {
    const key = `chatcore/${name}/${server}/${bot}`;
    try {
      if (value) localStorage?.setItem(key, value);
      else if (value === "") localStorage?.removeItem(key);
      else return localStorage?.getItem(key) ?? "";
    } catch {
      // denied or full: then it is not remembered
    }
    return "";
  };

/** What a server said of uploads, where it makes sense. @param {any} said @returns {UploadLimits | null} */
export const limitsOf = (said) => {
  const { max_bytes, max_files, types } = said || {};
  const fit = max_bytes > 0 && max_files > 0 && Array.isArray(types);
  return fit ? { max_bytes, max_files, types: types.filter((type) => typeof type === "string") } : null;
};

/**
 * Gives what asks how files may be sent in a conversation: as its session was told, else as any was told last.
 * Undefined where that is what was given before.
 * @param {ApiClient} client
 * @param {(name: string, value?: string) => string} recall
 */
export const createUploadLimits = (client, recall) => {
  let given = "";
  /** @param {string} conversation @param {Outgoing} [outgoing] makes a session to know it */
  return async (conversation, outgoing) => {
    const said = await client.features(conversation, outgoing).catch(() => null);
    if (said) recall("uploads", JSON.stringify(said.uploads ?? false));
    const known = recall("uploads") || JSON.stringify(said?.uploads ?? null);
    if (known === given) return undefined;
    given = known;
    try {
      return limitsOf(JSON.parse(known));
    } catch {
      return null; // not written by us
    }
  };
};

/** Servers call the default bot by a name, widgets by none. @param {string | undefined} one @param {string} other */
export const isSameBot = (one, other) => one !== undefined && (one || "default") === (other || "default");

/** A version 4 UUID (RFC 9562); `crypto.randomUUID` is missing where a page came by plain http. */
export const freshId = () => {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const digits = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return digits.replace(/(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
};

/** Of a conversation. */
export const conversationId = () => `c_${freshId().replaceAll("-", "")}`;
