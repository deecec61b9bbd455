// Stores what a document holds, all of it or nothing; what is here and has ended stays as it is.
import { next, readHistory } from "./history-document.js";

/** @import * as H from "./history.js" */

const BATCH = 200;

/** @type {(message: H.Message) => string} */
const keyOf = ({ message_id, role }) => role + message_id;
/** A reply that runs here was an error to whoever exported it: it runs on. @type {(message: H.Message) => boolean} */
const hasEnded = ({ status }) => status === "complete" || status === "stopped";

/** @type {H.Import} */
export const importHistory = async (write, data, { mode = "merge" } = {}) => {
  const history = await readHistory(data);
  const replaces = mode === "replace";
  return write(async (tables) => {
    const report = { sessions: 0, messages: 0, skipped: 0 };
    if (replaces) tables.remove();
    for (const { session, messages } of history) {
      const here = replaces ? undefined : await tables.get(session.session_id);
      const stored = here ? await tables.messages(session.session_id) : [];
      const byKey = new Map(stored.map((message) => [keyOf(message), message]));
      const times = new Set(stored.map((message) => message.created_at));
      let { updated_at } = here ?? session;
      const taken = [];
      for (const message of messages) {
        const old = byKey.get(keyOf(message));
        if (old && (hasEnded(old) || !hasEnded(message))) continue;
        let { created_at } = old ?? message;
        if (!old) while (times.has(created_at)) created_at = next(created_at);
        times.add(created_at);
        if (created_at > updated_at) updated_at = created_at;
        taken.push({ ...message, created_at, rating: message.rating ?? old?.rating });
      }
      report.messages += taken.length;
      report.skipped += messages.length - taken.length;
      if (!here) report.sessions++;
      if (!here || taken.length) tables.put({ ...(here ?? session), updated_at });
      for (const [index, message] of taken.entries()) {
        tables.put(message);
        if (index % BATCH === BATCH - 1) await tables.get(session.session_id); // lets others in
      }
    }
    return replaces || report.sessions + report.messages ? [report, { kind: "imported" }] : [report];
  }, true);
};
