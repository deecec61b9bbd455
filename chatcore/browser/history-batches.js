// A long history, piece by piece: nobody waits while it is read.
/** @import { ChatPersistence } from "./types.js" */

/**
 * All messages of a conversation, batch by batch from its end, or from its beginning.
 * @param {ChatPersistence} persistence
 * @param {string} sessionId
 * @param {boolean} [forward]
 */
export async function* batchesOf(persistence, sessionId, forward) {
  const limit = 500;
  let edge = forward ? "0" : undefined; // before all times
  for (;;) {
    // Memory alone lets nobody else in.
    if (persistence.storage === "memory") await new Promise((resolve) => setTimeout(resolve));
    const page = forward ? { limit, after: edge } : { limit, before: edge };
    const messages = await persistence.getMessages(sessionId, page);
    yield messages;
    if (messages.length < limit) return;
    edge = messages[forward ? limit - 1 : 0].created_at;
  }
}
