// Imports the texts that it reads (a JSON list) as a browser does, and prints the messages of each session.
import { createChatPersistence } from "../../chatcore/browser/chat-persistence.js";

let source = "";
for await (const piece of process.stdin) source += piece;

const persistence = createChatPersistence({ now: () => Date.now() });
for (const text of JSON.parse(source)) await persistence.importData(text);
/** @type {Record<string, unknown>} */
const read = {};
for (const { session_id } of await persistence.listSessions()) {
  read[session_id] = await persistence.getMessages(session_id);
}
process.stdout.write(JSON.stringify(read));
