// Finding messages by their text, newest first.
import { batchesOf } from "./history-batches.js";

/** @import { ChatPersistence, Found } from "./types.js" */

/**
 * @param {ChatPersistence} persistence
 * @param {string} text
 * @param {{ limit?: number }} [options]
 */
export async function search(persistence, text, { limit = 50 } = {}) {
  const wanted = text.toLowerCase();
  /** @type {Found[]} */
  const found = [];
  if (!wanted.trim() || limit < 1) return found;
  /** @param {string} time */
  const isEnough = (time) => found[limit - 1]?.message.created_at >= time;
  for (const session of await persistence.listSessions()) {
    if (isEnough(session.updated_at)) break; // all others are older
    for await (const messages of batchesOf(persistence, session.session_id)) {
      for (const message of messages) {
        if (message.content.toLowerCase().includes(wanted)) found.push({ session, message });
      }
      found.sort((a, b) => (a.message.created_at < b.message.created_at ? 1 : -1)).splice(limit);
      if (messages.length && isEnough(messages[0].created_at)) break;
    }
  }
  return found;
}
