// One message: its text, how it stands, and what can be done with it.
import { createRenderer } from "./markdown.js";
import { MESSAGE_STYLES } from "./widget-message-styles.js";
import { adopt, icon, iconButton, make } from "./widget-nodes.js";
import { sentence } from "./widget-strings.js";
/** @import * as W from "./widget.js" */

/** @type {W.CreateMessageView} */
export const createMessageView = (chat, message) => {
  const { strings: t, session, locale } = chat;
  adopt(chat.shadow, MESSAGE_STYLES);
  const { message_id, role, created_at } = message;
  const mine = role === "user";
  const at = new Date(created_at);
  const text = make("div", { class: "text", part: "text", dir: mine && "auto" });
  const time = make("time", { datetime: created_at, title: at.toLocaleString(locale) },
    at.toLocaleTimeString(locale, { timeStyle: "short" }));
  const foot = make("div", { class: "foot" }, time);
  const element = make("li", { class: role, part: `message message-${role}` },
    make("span", { class: "unseen" }, mine ? t.youSaid : t.assistantSaid), text, foot);
  const renderer = mine ? null : createRenderer(text, {
    document, allowImages: chat.allowImages, strings: { copyCode: t.copy },
    onCopy: (code) => copyText(chat, code, text),
  });
  /** @type {HTMLElement | undefined} */
  let day;
  /** @type {HTMLElement | undefined} */
  let note;
  let noted = "";
  let tick = () => false;
  /** @type {W.SentFiles | undefined} */
  let sent;
  /** @type {number | null} */
  let share = null;
  /** @type {Record<"up" | "down", HTMLElement> | undefined} */
  let rates;

  const actions = () => {
    const copy = iconButton("copy", t.copy, async () => {
      if (!(await copyText(chat, message.content, element))) return;
      copy.replaceChildren(icon("check"));
      setTimeout(() => copy.replaceChildren(icon("copy")), 2e3);
    });
    const rate = (/** @type {"up" | "down"} */ rating, /** @type {string} */ label) =>
      iconButton("thumb", label, () => message.rating === rating || session.rate(message_id, rating), {
        class: `icon ${rating}`,
      });
    rates = { up: rate("up", t.good), down: rate("down", t.bad) };
    foot.prepend(copy, rates.up, rates.down,
      iconButton("again", t.askAgain, () => chat.askAgain(message_id), { class: "icon again" }));
  };

  const showFiles = async () => {
    const { files } = message;
    if (!files?.length) return;
    try {
      const { createSentFiles } = await import("./widget-files.js");
      sent = createSentFiles(chat, files);
      text.after(sent.element);
      sent.progress(share);
    } catch {
      chat.missing();
    }
  };

  /** @param {import("./types.js").Failure} failure */
  const fail = (failure) => {
    const lost = mine && message.files && !session.holds(message_id);
    const name = message.files?.[failure.file ?? -1]?.name.replace(/[\u202a-\u202e\u2066-\u2069]/g, "\ufffd");
    const said = lost && /^(network|offline|request_timeout)$/.test(failure.code) ? t.filesLost : sentence(t, failure);
    const wait = make("span", { class: "wait" });
    const again = make("button", {
      type: "button", class: "pill", onclick: () => tick() || (mine ? chat.sendAgain : chat.askAgain)(message_id),
    }, lost ? t.attachAgain : mine ? t.sendAgain : t.askAgain);
    tick = () => {
      const seconds = Math.ceil((Date.parse(failure.retry_at ?? "") - Date.now()) / 1e3);
      const waits = seconds > 0;
      again.ariaDisabled = waits ? "true" : null;
      wait.textContent = waits ? until(seconds, locale) : "";
      return waits;
    };
    tick();
    return make("div", { class: "fail", part: "failure" }, make("p", {}, said, ...(name ? [" ", make("bdi", {}, name)] : [])), again, wait);
  };

  void showFiles();
  return {
    element,
    get message() {
      return message;
    },
    dated(first) {
      if (first) element.prepend((day ??= make("div", { class: "day" }, dayOf(at, locale))));
      else day?.remove();
    },
    update(next, running) {
      message = next;
      const { content, status, rating, failure = { code: "", detail: "" } } = next;
      const ended = status !== "pending";
      if (renderer) renderer.update(content);
      else text.textContent = content;
      text.hidden = !content || content === next.files?.map(({ name }) => name).join(", ");
      if (ended) sent?.progress((share = null));
      element.hidden = !mine && !ended && !content; // the dots stand in its place
      element.ariaBusy = running && !ended ? "true" : null;
      if (!mine && ended && content && status !== "error" && !rates) actions();
      if (rates) {
        rates.up.ariaPressed = String(rating === "up");
        rates.down.ariaPressed = String(rating === "down");
      }
      if (noted === (noted = status + failure.code + failure.retry_at)) return;
      note?.remove();
      note = undefined;
      tick = () => false;
      if (status === "stopped") note = make("p", { class: "note" }, t.stopped);
      if (status === "failed" || status === "error") note = fail(failure);
      if (note) (sent?.element ?? text).after(note);
    },
    tick: () => tick(),
    progress(next) {
      share = next;
      sent?.progress(next);
    },
  };
};

// Where the page came by plain http there is no clipboard.
/** @type {(chat: W.Chat, text: string, near: HTMLElement) => Promise<boolean>} */
const copyText = async ({ say, strings, shadow }, text, near) => {
  let copied = true;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const focused = /** @type {HTMLElement | null} */ (shadow.activeElement);
    const area = make("textarea", { class: "unseen" }, text);
    near.append(area);
    area.select();
    copied = document.execCommand("copy");
    area.remove();
    focused?.focus();
  }
  if (copied) say(strings.copied);
  return copied;
};

/** "in 12 sec." @type {(seconds: number, locale: string) => string} */
const until = (seconds, locale) => {
  const minutes = seconds / 60;
  /** @type {[number, Intl.RelativeTimeFormatUnit]} */
  const [count, unit] = minutes < 2 ? [seconds, "second"] : minutes < 99 ? [minutes, "minute"] : [minutes / 60, "hour"];
  return new Intl.RelativeTimeFormat(locale, { style: "short" }).format(Math.ceil(count), unit);
};

/** "Today", "Yesterday", else the date. @type {(date: Date, locale: string) => string} */
export const dayOf = (date, locale) => {
  const [then, today] = [date, new Date()].map((time) => new Date(time).setHours(0, 0, 0, 0));
  const days = Math.round((then - today) / 864e5);
  if (days > 0 || days < -1) return date.toLocaleDateString(locale, { dateStyle: "medium" });
  const word = new Intl.RelativeTimeFormat(locale, { numeric: "auto" }).format(days, "day");
  return word[0].toLocaleUpperCase(locale) + word.slice(1);
};
