// The views of what PostgreSQL mode keeps, put together: a conversation that is erased leaves the list.
import { createAudit } from "./admin-audit.js";
import { createConversations } from "./admin-conversations.js";
import { createTranscript } from "./admin-transcript.js";
import { make } from "./widget-nodes.js";
/** @import * as A from "./admin-types.js" */

/** Load the style sheet of these views; other modes never need it. */
const dress = () => new Promise((resolve, reject) => {
  const href = new URL("admin-archive.css", import.meta.url).href;
  document.head.append(make("link", { rel: "stylesheet", href, onload: resolve, onerror: reject }));
});

/**
 * The views, dressed. Rejects where their style sheet cannot be loaded.
 * @param {A.Host} host @returns {Promise<Record<"conversations" | "session" | "audit", A.View>>}
 */
export const createArchive = async (host) => {
  await dress();
  const conversations = createConversations(host);
  const session = createTranscript(host, conversations);
  return { conversations, session, audit: createAudit(host) };
};
