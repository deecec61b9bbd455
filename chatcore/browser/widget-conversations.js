// All conversations of the browser: opened, searched, deleted, exported and imported. Loaded when first asked for.
import { adopt, iconButton, make } from "./widget-nodes.js";
import { dayOf } from "./widget-message.js";
import { filled } from "./widget-strings.js";
/** @import { Message, Session } from "./types.js" */
/** @import * as W from "./widget.js" */

const SHOWN = 50;
const TRASH = "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13M10.5 11v5.5M13.5 11v5.5";

/** @type {W.ConversationStrings} */
const ENGLISH = {
  search: "Search messages",
  none: "No conversations yet",
  noneFound: "Nothing found",
  more: "Show more",
  untitled: "Conversation",
  delete: "Delete",
  deleteOne: "Delete this conversation?",
  deleteAll: "Delete all",
  deleteEvery: "Delete all conversations?",
  cancel: "Cancel",
  exportJson: "Export as JSON",
  exportMarkdown: "Export as Markdown",
  import: "Import",
  imported: "Imported: {sessions} conversations, {messages} messages. Skipped: {skipped}.",
  importFailed: "Nothing was imported: {why}",
  failed: "That did not work. Please try again.",
};

/** @type {W.CreateConversations} */
export const createConversations = (chat, open) => {
  const { session, persistence, locale, say } = chat;
  const t = { ...ENGLISH, ...chat.strings };
  adopt(chat.shadow, STYLES);
  let turn = 0;
  let limit = SHOWN;
  let timer = 0;

  const search = make("input", {
    type: "search", part: "search", placeholder: t.search, "aria-label": t.search, autocomplete: "off",
    oninput: () => {
      clearTimeout(timer);
      timer = window.setTimeout(show, 200);
    },
  });
  const items = make("ul", { role: "list", "aria-label": chat.strings.conversations });
  const result = make("p", { class: "result" });
  const more = make("button", {
    type: "button", class: "pill", onclick: () => {
      limit += SHOWN;
      void show();
    },
  }, t.more);
  const file = make("input", { type: "file", accept: ".json,application/json", hidden: true });
  file.addEventListener("change", () => attempt(async () => {
    const [chosen] = file.files ?? [];
    if (!chosen) return "";
    try {
      return filled(t.imported, { ...(await persistence.importData(chosen)) });
    } catch (error) {
      return filled(t.importFailed, { why: error instanceof Error ? error.message : error });
    } finally {
      file.value = "";
    }
  }));
  /** @type {(label: string, onclick: () => unknown) => HTMLElement} */
  const pill = (label, onclick) => make("button", { type: "button", class: "pill", onclick }, label);
  const everything = pill(t.deleteAll, () => confirm(tools, t.deleteEvery, everything, async () => {
    for (const { session_id } of await session.sessions()) await session.remove(session_id);
  }));
  const tools = make("div", { class: "tools" },
    pill(t.exportJson, () => save("json", "json", "application/json")),
    pill(t.exportMarkdown, () => save("markdown", "md", "text/markdown")),
    pill(t.import, () => file.click()), everything, file);
  const element = make("div", { class: "all", part: "conversations" },
    make("div", { class: "find" }, search), make("div", { class: "rows" }, items, more), result, tools);

  /** Do something and tell how it went. @param {() => Promise<string>} work */
  const attempt = async (work) => {
    const text = await work().catch(() => t.failed);
    result.textContent = text;
    if (text) say(text);
  };

  /** @type {(format: import("./types.js").ExportFormat, ending: string, type: string) => Promise<void>} */
  const save = (format, ending, type) => attempt(async () => {
    const url = URL.createObjectURL(new Blob([await persistence.exportChatHistory(format)], { type }));
    make("a", { href: url, download: `chat-${new Date().toISOString().slice(0, 10)}.${ending}` }).click();
    setTimeout(() => URL.revokeObjectURL(url), 6e4);
    return "";
  });

  /**
   * Ask in the place of what is to be deleted.
   * @type {(place: HTMLElement, question: string, from: HTMLElement, work: () => Promise<unknown>) => void}
   */
  const confirm = (place, question, from, work) => {
    const before = [...place.childNodes];
    const leave = () => {
      place.replaceChildren(...before);
      place.classList.remove("asking");
      from.focus();
    };
    const cancel = pill(t.cancel, leave);
    const sure = pill(t.delete, () => attempt(async () => {
      leave();
      search.focus();
      await work();
      return "";
    }));
    sure.classList.add("sure");
    place.replaceChildren(make("span", {}, question), sure, cancel);
    place.classList.add("asking");
    cancel.focus();
  };

  /** @type {(one: Session, message?: Message, words?: string) => HTMLElement} */
  const row = ({ session_id, title, updated_at }, message, words = "") => {
    const item = make("li", { class: "row" });
    const name = title || t.untitled;
    const main = make("button", {
      type: "button", class: "conversation", "aria-current": session_id === session.state.session?.session_id && "true",
      onclick: () => open(session_id, message),
    }, make("span", { class: "name" }, make("bdi", {}, name)),
    make("span", { class: "when" }, when(message?.created_at ?? updated_at, locale)));
    if (message) main.append(make("span", { class: "excerpt", dir: "auto" }, ...excerpt(message.content, words)));
    item.append(main);
    if (message) return item;
    const trash = iconButton(TRASH, `${t.delete}: ${name}`, () =>
      confirm(item, t.deleteOne, trash, () => session.remove(session_id)), { title: t.delete });
    item.append(trash);
    return item;
  };

  const show = async () => {
    const mine = ++turn;
    const words = search.value.trim();
    const sessions = await session.sessions();
    const ids = new Set(sessions.map((one) => one.session_id));
    const found = words ? await persistence.search(words, { limit: limit + 1 }) : [];
    if (mine !== turn) return;
    const rows = words
      ? found.filter((one) => ids.has(one.session.session_id)).map((one) => () => row(one.session, one.message, words))
      : sessions.map((one) => () => row(one));
    items.replaceChildren(...rows.slice(0, limit).map((draw) => draw()));
    more.hidden = rows.length <= limit;
    everything.hidden = !sessions.length;
    result.textContent = rows.length ? "" : words ? t.noneFound : t.none;
    if (words && !rows.length) say(t.noneFound);
  };

  const end = session.onChange(({ kind }) => void (kind === "sessions" && show()));
  void show();
  return {
    element,
    destroy() {
      turn++;
      clearTimeout(timer);
      end();
      element.remove();
    },
  };
};

/** "5 minutes ago", "Yesterday", a date. @type {(time: string, locale: string) => string} */
const when = (time, locale) => {
  const minutes = Math.round((Date.now() - Date.parse(time)) / 6e4);
  if (minutes < 0 || minutes >= 720) return dayOf(new Date(time), locale);
  const format = new Intl.RelativeTimeFormat(locale, { style: "short", numeric: "auto" });
  return minutes < 60 ? format.format(-minutes, "minute") : format.format(-Math.round(minutes / 60), "hour");
};

// What stands around the words, and they themselves marked.
/** @type {(text: string, words: string) => (Node | string)[]} */
const excerpt = (text, words) => {
  const at = text.toLowerCase().indexOf(words.toLowerCase());
  if (at < 0) return [text.slice(0, 120)];
  const from = Math.max(0, at - 30);
  const behind = at + words.length;
  return [
    (from ? "…" : "") + text.slice(from, at),
    make("mark", {}, text.slice(at, behind)),
    text.slice(behind, behind + 90),
  ];
};

const STYLES = `
.all{flex:1;min-height:0;display:flex;flex-direction:column}
.find{padding:12px 16px}
[type=search]{width:100%;min-width:0;margin:0;padding:8px 14px;font:inherit;font-size:max(16px,1em);color:inherit;
background:none;border:1px solid var(--edge);border-radius:20px;outline-offset:1px;appearance:none}
.rows{flex:1;min-height:0;overflow:hidden auto;overscroll-behavior:contain;padding:0 8px 8px;scrollbar-width:thin}
.row{display:flex;align-items:center;gap:4px;border-radius:10px}
.row:hover{background:var(--tint)}
.conversation{flex:1;min-width:0;display:grid;grid-template-columns:1fr auto;column-gap:12px;justify-content:stretch;
align-items:baseline;padding:10px 8px;text-align:start;border-radius:10px}
.name{overflow:hidden;text-overflow:ellipsis;white-space:nowrap}
[aria-current]{font-weight:600}
.when,.excerpt,.result{font-size:.8em;font-weight:400;color:var(--soft)}
.excerpt{grid-column:1/-1;overflow-wrap:anywhere}
mark{background:color-mix(in srgb,var(--accent) 22%,transparent);color:var(--ink);border-radius:3px}
.result{padding:8px 16px;overflow-wrap:anywhere}
.result:empty{display:none}
.tools{display:flex;flex-wrap:wrap;gap:8px;padding:12px 16px;border-top:1px solid var(--line)}
.tools .pill,.asking .pill{min-height:32px;padding:3px 12px;font-size:.8667em}
.asking{flex-wrap:wrap;gap:8px;align-items:center}
.row.asking{padding:8px}
.asking span{flex:1 1 160px}
.pill.sure{border-color:var(--bad);color:var(--bad)}
`;
