// The panel: header, notices, messages and composer, the inner view of all conversations, and how it opens.
import { createComposer } from "./widget-composer.js";
import { createMessageList } from "./widget-messages.js";
import { adopt, icon, iconButton, make } from "./widget-nodes.js";
import { PANEL_STYLES } from "./widget-panel-styles.js";
import { sentence } from "./widget-strings.js";
/** @import { Again, ChatEvent } from "./types.js" */
/** @import * as W from "./widget.js" */

const SMALL = "(max-width: 480px), (max-height: 460px)";

/** @type {W.CreatePanel} */
export const createPanel = (setup) => {
  const { session, strings: t, heading, close, shadow, emit } = setup;
  adopt(shadow, PANEL_STYLES);
  const life = new AbortController();
  const { signal } = life;
  /** @type {W.ConversationsView | null} */
  let inner = null;
  /** Whether a question of this tab is about to come, and the last that came. */
  let asking = false;
  let asked = "";
  let saying = 0;

  /** @param {string} text */
  const say = (text) => {
    clearTimeout(saying);
    spoken.textContent = "";
    saying = window.setTimeout(() => (spoken.textContent = text), 100); // the same again is said again
  };
  /** @param {Promise<Again | null>} call */
  const again = async (call) => {
    asking = true;
    list.toEnd();
    chat.focus();
    const question = await call;
    if (!question) return;
    asking = false;
    await composer.again(question);
  };
  /** @type {W.Chat} */
  const chat = {
    ...setup,
    say,
    async send(...message) {
      asking = true;
      list.toEnd();
      const taken = await session.send(...message).catch(() => {
        chat.missing(); // what sends files
        return false;
      });
      if (!taken) asking = false;
      return taken;
    },
    missing: () => say((status.textContent = t.notLoaded)),
    sendAgain: (id) => again(session.sendAgain(id)),
    askAgain: (id) => again(session.askAgain(id)),
    focus: () => (matchMedia("(hover: none)").matches ? element.focus({ preventScroll: true }) : composer.focus()),
  };

  const list = createMessageList(chat);
  const composer = createComposer(chat);
  const spoken = make("p", { class: "unseen", role: "status" });
  const status = make("p", { class: "status", part: "status" });
  const title = make("h2", { part: "heading", dir: "auto" });
  const mark = make("span", { class: "mark", part: "icon" }, make("slot", { name: "icon" }, icon("chat")));
  const leave = iconButton("back", t.back, () => back(), { class: "icon back" });
  const all = iconButton("list", t.conversations, () => showAll());
  const fresh = iconButton("fresh", t.newChat, async () => {
    back();
    await session.open(null);
    chat.focus();
  });
  const header = make("header", { part: "header" }, leave, mark, make("div", {}, title, status), all, fresh);
  if (close) header.append(iconButton("close", t.close, close));
  const notice = make("p", { class: "notice", part: "notice" }, t.notSaved);
  const element = /** @type {HTMLDialogElement} */ (make(close ? "dialog" : "section", {
    class: "panel", part: "panel", id: "panel", tabindex: "-1", "aria-label": heading,
  }, header, notice, list.element, composer.element, spoken));

  const arrange = () => {
    title.textContent = inner ? t.conversations : heading;
    leave.hidden = !inner;
    mark.hidden = all.hidden = list.element.hidden = composer.element.hidden = Boolean(inner);
  };
  const showAll = async () => {
    try {
      const { createConversations } = await import("./widget-conversations.js");
      if (inner || signal.aborted) return;
      inner = createConversations(chat, async (id, message) => {
        back();
        if (session.state.session?.session_id !== id) await session.open(id);
        if (message) await list.load(message);
      });
      header.after(inner.element);
      arrange();
      leave.focus();
    } catch {
      chat.missing();
    }
  };
  const back = () => {
    if (!inner) return false;
    inner.destroy();
    inner = null;
    arrange();
    list.shown();
    all.focus();
    return true;
  };

  const state = () => {
    const { connection, storage } = session.state;
    const text = connection === "ok" ? "" : t[connection];
    if (text !== status.textContent) say((status.textContent = text));
    notice.hidden = storage !== "memory";
    composer.state();
    list.state();
  };
  /** @param {ChatEvent} event */
  const told = (event) => {
    if (event.kind === "state") return state();
    if (event.kind === "opened") return void list.load();
    if (event.kind === "removed") return list.removed(event.message_id);
    if (event.kind === "progress") return list.progress(event.message_id, event.share);
    if (!("message" in event)) return;
    const { message_id, session_id, content, role, status: how, files } = event.message;
    if (event.kind === "message") {
      list.apply(event.message);
      if (!asking || role !== "user" || how !== "pending" || message_id === asked) return;
      asking = false;
      asked = message_id;
      return emit("chat-message", { message_id, session_id, content, ...(files && { files }) });
    }
    asking = false;
    if (event.kind === "failed") {
      say(sentence(t, event.failure));
      return emit("chat-error", { message_id, session_id, ...event.failure });
    }
    say(how === "stopped" ? t.stopped : list.spoken(event.message));
    emit("chat-reply", { message_id, session_id, content, finish_reason: how });
  };
  const end = session.onChange(told);
  element.addEventListener("dragenter", () => void session.prepare());

  /** Above the keyboard, where the panel fills the screen. */
  const fit = () => {
    const { height, offsetTop, scale } = window.visualViewport ?? { scale: 0 };
    if (scale !== 1) return;
    element.style.setProperty("--seen-height", `${height}px`);
    element.style.setProperty("--seen-top", `${offsetTop}px`);
  };
  /** Beside the page; on small screens in place of it. */
  const show = (open = element.open) => {
    if (!close) return false;
    const focused = element.contains(shadow.activeElement);
    const small = matchMedia(SMALL).matches;
    if (element.open && !(open && element.matches(":modal") === small)) element.close();
    if (open && !element.open) {
      fit();
      if (small) element.showModal();
      else element.show();
      list.shown();
      chat.focus();
    }
    return focused && !open;
  };
  element.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || event.isComposing || !(inner || close)) return;
    event.preventDefault();
    if (!back()) close?.();
  });
  // Android's "back" closes a modal dialog by these two.
  element.addEventListener("cancel", (event) => event.target === element && back() && event.preventDefault());
  element.addEventListener("close", () => element.open || close?.());
  matchMedia(SMALL).addEventListener("change", () => show(), { signal });
  for (const name of ["resize", "scroll"]) window.visualViewport?.addEventListener(name, fit, { signal });

  arrange();
  state();
  void list.load();
  return {
    element,
    show,
    send: chat.send,
    destroy() {
      life.abort();
      clearTimeout(saying);
      end();
      list.destroy();
      inner?.destroy();
      element.remove();
    },
  };
};
