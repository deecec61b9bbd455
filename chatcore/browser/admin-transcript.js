// The view of one conversation: its messages in order, what is known of it, and how it is erased.
import { erasing, transcript } from "./admin-archive-api.js";
import { facts, factList } from "./admin-conversations.js";
import { duration, visible } from "./admin-figures.js";
import { createPages, some, timeNode } from "./admin-pages.js";
import { make } from "./widget-nodes.js";
/** @import * as A from "./admin-types.js" */

/** @type {Record<string, string>} */
const ENDS = { stopped: "stopped by the visitor", error: "failed", open: "not ended yet" };

/** What there is to tell of a message beside its text. @param {A.Said} one */
const notes = ({ finish, fault, took, rating }) => [
  ...(finish && finish !== "complete" ? [(ENDS[finish] ?? visible(finish)) + (fault ? `: ${visible(fault)}` : "")] : []),
  ...(took === null ? [] : [`took ${duration(took)}`]),
  ...(rating ? [rating === "up" ? "rated good" : "rated bad"] : []),
];

/** @param {A.Said} one */
const messageItem = (one) => make("li", { class: `card said ${one.isVisitor ? "visitor" : "reply"}`, tabindex: "-1" },
  make("p", { class: "soft" }, make("strong", {}, one.isVisitor ? "Visitor" : "Assistant"), " · ", timeNode(one.at),
    ...notes(one).map((note) => make("span", { class: note.startsWith(ENDS.error) ? "fault" : "" }, ` · ${note}`))),
  one.text ? make("p", { class: "text", dir: "auto" }, one.text) : make("p", { class: "text" }, make("em", {}, "(no text)")),
  ...(one.comment ? [make("div", { class: "comment" }, make("p", { class: "soft" }, "The visitor's comment:"),
    make("blockquote", { dir: "auto" }, one.comment))] : []));

/** @param {A.Host} host @param {A.Conversations} conversations @returns {A.View} */
export const createTranscript = ({ ask, hasBots }, conversations) => {
  let id = "";
  let call = new AbortController();

  const pages = createPages({
    ask,
    label: "Messages",
    more: "Load earlier messages",
    isUpward: true,
    item: messageItem,
    tell: (shown, hasMore) => (shown ? `${some(shown, "message", "messages")}, in the order of the conversation${hasMore ? "; there are earlier ones." : "."}`
      : "This conversation has no messages."),
  });
  const heading = make("h2", { tabindex: "-1" }, "Conversation");
  const about = make("div");
  const back = make("a", {}, "Back to the list");
  const fault = make("p", { class: "fault", role: "alert" });
  const cancel = make("button", { type: "button" }, "Cancel");
  const confirm = make("button", { type: "button", class: "danger" }, "Erase for good");
  const dialog = make("dialog", { class: "card", "aria-labelledby": "erase-title", "aria-describedby": "erase-text" },
    make("h2", { id: "erase-title" }, "Erase this conversation?"),
    make("div", { id: "erase-text" },
      make("p", {}, "All its messages, replies, ratings and comments are deleted from the server's database. A reply that is running is stopped, and the visitor cannot go on with this conversation. Nobody can undo it."),
      make("p", {}, "The figures keep their counts. The audit log keeps that you erased it, and when, without any text. Backups and what n8n keeps are not touched.")),
    fault, make("div", { class: "row" }, cancel, confirm));
  // While it is being erased, there is no way back from it.
  dialog.addEventListener("cancel", (event) => confirm.disabled && event.preventDefault());
  cancel.addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => (fault.textContent = ""));
  const eraseButton = make("button", { type: "button", class: "danger", onclick: () => {
    dialog.showModal();
    cancel.focus();
  } }, "Erase…");

  const erase = async () => {
    call.abort();
    call = new AbortController();
    const { signal } = call;
    fault.textContent = "";
    confirm.disabled = cancel.disabled = true;
    conversations.refresh(""); // whatever comes of it: an answer that is lost tells nothing
    try {
      const answer = await ask(erasing(id), signal);
      if ("said" in answer) {
        fault.textContent = answer.said;
        return;
      }
      conversations.refresh("The conversation was erased.");
      dialog.close();
      // In place of the address of what is gone.
      location.replace(conversations.address());
    } catch {
      // The view was left.
    } finally {
      confirm.disabled = cancel.disabled = false;
      if (dialog.open) confirm.focus();
    }
  };
  confirm.addEventListener("click", erase);
  const leave = () => {
    call.abort();
    pages.leave();
    if (dialog.open) dialog.close();
  };
  return {
    element: make("section", { class: "archive", hidden: true, "aria-label": "Conversation" },
      make("p", {}, back), make("div", { class: "head" }, heading, eraseButton), about, pages.status, pages.more, pages.list, dialog),
    title: "conversation",
    heading,
    entry: heading,
    async open(address) {
      if (address.view !== "session") return;
      ({ id } = address);
      const known = conversations.find(id);
      about.replaceChildren(factList([...(known ? facts(known, hasBots) : []), ["Id", make("code", {}, visible(id))]]));
      back.href = conversations.address();
      const shown = id;
      await pages.load((before) => transcript(shown, before));
    },
    leave,
    forget() {
      leave();
      pages.clear();
      about.replaceChildren();
    },
  };
};
