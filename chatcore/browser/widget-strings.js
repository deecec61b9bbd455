// The widget's texts: English here, others where the language asks for them.
/** @import * as W from "./widget.js" */

/** @type {W.Strings} */
const ENGLISH = {
  direction: "",
  heading: "Chat",
  greeting: "Hello! How can I help you?",
  close: "Close chat",
  conversations: "Conversations",
  newChat: "New chat",
  back: "Back to the chat",
  messages: "Messages",
  suggestions: "Suggestions",
  youSaid: "You said:",
  assistantSaid: "The assistant said:",
  typing: "The assistant is typing",
  newReply: "New reply",
  latest: "Jump to latest",
  copy: "Copy",
  copied: "Copied",
  good: "Good answer",
  bad: "Bad answer",
  askAgain: "Ask again",
  sendAgain: "Send again",
  stopped: "Stopped",
  input: "Your message",
  attach: "Attach files",
  attachAgain: "Attach again",
  filesLost: "The files were not received.",
  send: "Send",
  stop: "Stop",
  tooLong: "Over the limit by {n}",
  offline: "You are offline",
  reconnecting: "Reconnecting…",
  notSaved: "This chat is not saved: the browser gives no storage.",
  notLoaded: "This could not be loaded. Please try again.",
  error_network: "The connection was lost.",
  error_offline: "You are offline. This was not sent.",
  error_reply_gone: "This reply is no longer available.",
  error_internal_error: "Something went wrong on our side.",
  error_invalid_answer: "The server gave no valid answer.",
  error_upload_stopped: "This was not sent.",
  error_uploads_off: "Files can't be sent here.",
  error_: "Something went wrong.",
};

// Put values in the places of their names in braces.
/** @type {(text: string, values: Record<string, unknown>) => string} */
export const filled = (text, values) => text.replace(/\{(\w+)}/g, (place, name) => String(values[name] ?? place));

/** What to say of a failure. @type {(strings: W.Strings, failure: import("./types.js").Failure) => string} */
export const sentence = (strings, { code, detail }) => strings[`error_${code}`] || detail || strings.error_ || "";

/**
 * The texts for a language tag, and the language that they are in.
 * @type {(language: string, own: Partial<W.Translation>) => Promise<{locale: string, strings: W.Chat["strings"]}>}
 */
export const stringsFor = async (language, own) => {
  let locale = "en";
  let strings = ENGLISH;
  try {
    [locale] = Intl.getCanonicalLocales(language);
    const known = /^(?:de|es|fr|ar)\b/.exec(locale)?.[0];
    if (known) strings = { ...ENGLISH, ...(await import(`./strings-${known}.js`)).default };
    else if (!Object.keys(own).length && !/^en\b/.test(locale)) locale = "en";
  } catch {
    locale = "en"; // no language at all, or its texts are out of reach: better in English than nothing
  }
  return { locale, strings: { ...strings, ...own } };
};
