// Where the visitor types: grows with its text, sends with Enter, stops a running reply.
import { MAX_CHARS } from "./chat-session.js";
import { icon, iconButton, make } from "./widget-nodes.js";
import { filled } from "./widget-strings.js";
/** @import * as W from "./widget.js" */

const COUNTED_FROM = 9000;

/** @type {W.CreateComposer} */
export const createComposer = (chat) => {
  const { session, strings: t, locale } = chat;
  const input = make("textarea", {
    part: "input", rows: "1", "aria-label": t.input, placeholder: t.input, "aria-describedby": "count",
    enterkeyhint: "send", autocomplete: "off",
  });
  /** Where the server takes files. @type {W.Attachments | null} */
  let attachments = null;
  /** @type {Promise<void> | null} */
  let loading = null;
  /** The turn that is asked again. @type {string | undefined} */
  let instead;
  const grow = make("div", { class: "grow" }, input);
  const count = make("span", { id: "count", class: "count" });
  const button = iconButton("send", t.send, ({ detail }) => {
    if (!session.state.running) void submit();
    else if (detail < 2) void session.stop(); // a double click on "Send" does not mean "Stop"
  }, {
    class: "icon send", part: "send",
    onmousedown: (event) => event.preventDefault(), // the text keeps the focus, and a touch screen its keyboard
  });

  const beyond = () => (input.value.length > COUNTED_FROM ? [...input.value].length : 0) - MAX_CHARS;
  const show = () => {
    const over = beyond();
    const [n, length, most] = [over, MAX_CHARS + over, MAX_CHARS].map((number) => number.toLocaleString(locale));
    input.dir = input.value ? "auto" : ""; // a placeholder is of the page's direction
    grow.dataset.value = input.value;
    const counted = over > COUNTED_FROM - MAX_CHARS ? `${length} / ${most}` : "";
    count.textContent = over > 0 ? filled(t.tooLong, { n }) : counted;
    input.ariaInvalid = over > 0 ? "true" : null;
    composer.state();
  };
  const isEmpty = () => !input.value.trim() && !session.draftFiles.length;
  const submit = async () => {
    const { value } = input;
    if (session.state.running || isEmpty()) return;
    if (beyond() > 0) return chat.say(count.textContent ?? "");
    const [files, names] = (await attachments?.take()) ?? [[], value];
    if (!files) return;
    input.value = "";
    show();
    if (await chat.send(value.trim() ? value : names, files, instead)) instead = undefined;
    else {
      input.value ||= value;
      if (files.length) await attachments?.again(files);
    }
    session.draft = input.value;
    show();
  };

  input.addEventListener("input", () => {
    session.draft = input.value;
    show();
  });
  input.addEventListener("focus", () => void session.prepare());
  input.addEventListener("input", () => void import("./widget-message.js").catch(() => {}), { once: true }); // soon needed
  input.addEventListener("keydown", (event) => {
    // 229: an input method is at work (Safari ends its composition too early)
    if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
    event.preventDefault();
    void submit();
  });

  let shown = "";
  /** @type {W.Composer} */
  const composer = {
    element: make("div", { class: "composer", part: "composer" }, make("div", { class: "box" }, grow, count, button)),
    state() {
      const name = session.state.running ? "stop" : "send";
      button.ariaDisabled = name === "stop" || !isEmpty() ? null : "true";
      attachments?.state();
      if (session.state.uploads) {
        loading ??= import("./widget-attach.js").then(({ createAttachments }) => {
          attachments = createAttachments(chat, composer, input);
          grow.before(attachments.button);
        }, () => void (loading = null));
      }
      if (name === shown) return;
      shown = name;
      button.ariaLabel = button.title = t[name];
      button.classList.toggle("stop", name === "stop");
      button.replaceChildren(icon(name));
    },
    focus: () => input.focus({ preventScroll: true }),
    async again({ message: { content, files = [] }, files: held, instead: turn }) {
      const names = files.map(({ name }) => name);
      if (content !== names.join(", ")) input.value ||= content;
      session.draft = input.value;
      instead = turn;
      show();
      await loading;
      if (session.state.uploads) await attachments?.again(held, names);
      else chat.say(t.error_uploads_off ?? "");
    },
  };
  input.value = session.draft;
  show();
  return composer;
};
