// The list of messages: a window of pages is in the DOM, however long the conversation is.
import { iconButton, make } from "./widget-nodes.js";
/** @import { Message } from "./types.js" */
/** @import * as W from "./widget.js" */

const PAGE = 40;
const MOST = 160;
const NEAR_PX = 48;

/** @type {W.CreateMessageList} */
export const createMessageList = (chat) => {
  const { session, strings: t } = chat;
  // Loaded with the first message.
  /** @type {W.CreateMessageView} */
  let createMessageView;
  // In order.
  /** @type {W.MessageView[]} */
  let views = [];
  // Whether there is more before and behind what is shown.
  let [older, newer] = [false, false];
  let reads = 0;
  let reading = false;
  // While a page was on its way.
  /** @type {Message[]} */
  let told = [];
  // What the next frame shows.
  /** @type {Map<W.MessageView, Message>} */
  const changed = new Map();
  let [frame, late, ticker] = [0, 0, 0];
  let following = true;
  let [lastTop, lastHeight] = [0, 0];

  const greeting = make("li", { class: "assistant", part: "message message-assistant" },
    make("span", { class: "unseen" }, t.assistantSaid), make("div", { class: "text", dir: "auto" }, chat.greeting));
  const dots = make("li", { class: "dots", part: "typing" },
    make("span", { class: "unseen" }, t.typing), make("i"), make("i"), make("i"));
  const items = make("ol", { class: "items", role: "list" }, greeting, dots);
  const chips = make("ul", { class: "chips", role: "list", "aria-label": t.suggestions });
  for (const text of chat.suggestions) {
    chips.append(make("li", {}, make("button", {
      type: "button", class: "pill", part: "suggestion", dir: "auto", onclick: () => chat.send(text).then(chat.focus),
    }, text)));
  }
  const scroller = make("div", {
    class: "scroll", part: "messages", role: "group", tabindex: "0", "aria-label": t.messages,
  }, items, chips);
  const latest = iconButton("latest", t.latest, () => {
    list.toEnd();
    chat.focus();
  }, { class: "icon latest" });

  /** @type {(message_id: string | null, role: string) => W.MessageView | undefined} */
  const find = (message_id, role) =>
    views.find(({ message }) => message.message_id === message_id && message.role === role);
  /** @type {(view: W.MessageView, message: Message) => void} */
  const update = (view, message) => view.update(message, session.state.running === message.message_id);
  /** @type {(message: Message) => W.MessageView} */
  const viewOf = (message) => {
    const view = createMessageView(chat, message);
    update(view, message);
    return view;
  };
  /** @type {(gone: W.MessageView[]) => void} */
  const drop = (gone) => gone.forEach(({ element }) => element.remove());
  const stick = () => {
    if (following) lastTop = scroller.scrollTop = lastHeight = scroller.scrollHeight;
  };
  const count = () => {
    clearInterval(ticker);
    if (views.filter((view) => view.tick()).length) ticker = window.setInterval(count, 1e3);
  };
  // What depends on the reply that runs.
  const mark = () => {
    const { running } = session.state;
    chips.hidden = older || views.length > 0 || running !== null;
    dots.hidden = newer || !running || Boolean(find(running, "assistant")?.message.content);
    count();
  };
  // After messages came or went.
  const settle = () => {
    let day = "";
    edges.disconnect();
    views.forEach((view, at) => {
      const its = new Date(view.message.created_at).toDateString();
      view.dated(its !== day);
      day = its;
      if (at ? newer && at === views.length - 1 : older) edges.observe(view.element);
    });
    greeting.hidden = older || !chat.greeting;
    latest.hidden = following && !newer;
    mark();
  };

  // Ask for messages; null where something else was asked for meanwhile.
  /** @type {(ask: () => Promise<Message[]>) => Promise<Message[] | null>} */
  const read = async (ask) => {
    const mine = ++reads;
    reading = true;
    try {
      const page = await ask();
      if (page.length) ({ createMessageView } = await import("./widget-message.js"));
      return mine === reads ? page : null;
    } catch {
      reading = false;
      chat.missing();
      return null;
    }
  };
  const done = () => {
    reading = false;
    settle();
    for (const message of told.splice(0)) {
      // What was read may be newer than what was told.
      const shown = find(message.message_id, "assistant")?.message.status ?? "pending";
      if (message.role === "user" || message.status !== "pending" || shown === "pending") list.apply(message);
    }
  };
  /** Its top may get or lose a date. @param {HTMLElement} element */
  const endOf = ({ offsetTop, offsetHeight }) => offsetTop + offsetHeight;
  // Load the page at one end, and let go of what is too far at the other.
  /** @type {(where: "before" | "after") => Promise<void>} */
  const more = async (where) => {
    const before = where === "before";
    const anchor = views[before ? 0 : views.length - 1];
    const page = await read(() => session.messages({ limit: PAGE, [where]: anchor.message.created_at }));
    if (!page) return;
    const top = scroller.scrollTop - endOf(anchor.element);
    const fresh = page.map(viewOf);
    const nodes = fresh.map((view) => view.element);
    if (before) {
      anchor.element.before(...nodes);
      views.unshift(...fresh);
      older = page.length === PAGE;
      newer ||= views.length > MOST;
      drop(views.splice(MOST));
    } else {
      dots.before(...nodes);
      views.push(...fresh);
      newer = page.length === PAGE;
      trim();
    }
    done();
    lastTop = scroller.scrollTop = endOf(anchor.element) + top;
  };
  const trim = () => {
    const beyond = views.length - MOST;
    if (beyond <= 0) return;
    older = true;
    drop(views.splice(0, beyond));
  };

  const flush = () => {
    cancelAnimationFrame(frame);
    clearTimeout(late);
    frame = 0;
    changed.forEach((message, view) => update(view, message));
    changed.clear();
    mark();
  };

  const edges = new IntersectionObserver((entries) => {
    const seen = entries.find((entry) => entry.isIntersecting)?.target;
    if (seen && !reading) void more(older && seen === views[0].element ? "before" : "after");
  }, { root: scroller, rootMargin: "800px 0px" });
  const sizes = new ResizeObserver(stick);
  sizes.observe(scroller);
  sizes.observe(items);
  scroller.addEventListener("scroll", () => {
    const { scrollTop, scrollHeight, clientHeight } = scroller;
    if (following && scrollHeight !== lastHeight) return; // not the visitor moved, the content did: `stick` comes next
    // Whoever scrolls up even a little wants to stay there.
    following = !newer && scrollHeight - clientHeight - scrollTop < (scrollTop < lastTop ? 4 : NEAR_PX);
    lastTop = scrollTop;
    latest.hidden = following;
  }, { passive: true });

  /** @type {W.MessageList} */
  const list = {
    element: make("div", { class: "list" }, scroller, latest),
    async load(around) {
      told = [];
      const page = await read(async () => {
        if (!around) return session.messages({ limit: PAGE });
        const { created_at } = around;
        const before = await session.messages({ limit: PAGE, before: created_at });
        return [...before, around, ...(await session.messages({ limit: PAGE, after: created_at }))];
      });
      if (!page) return;
      drop(views);
      newer = Boolean(around);
      older = page.length >= PAGE;
      following = !newer;
      views = page.map(viewOf);
      greeting.after(...views.map((view) => view.element));
      done();
      stick();
      if (!around) return;
      const found = find(around.message_id, around.role)?.element;
      found?.classList.add("found");
      found?.scrollIntoView({ block: "center" });
    },
    apply(message) {
      const view = find(message.message_id, message.role);
      if (reading) told.push(message);
      else if (!createMessageView) void list.load();
      else if (view) {
        changed.set(view, message);
        if (frame) return;
        frame = requestAnimationFrame(flush);
        late = window.setTimeout(flush, 250); // a hidden tab has no frames
      } else if (!newer && !(older && message.created_at < views[0]?.message.created_at)) {
        const next = views.findIndex((one) => one.message.created_at > message.created_at);
        const fresh = viewOf(message);
        (views[next]?.element ?? dots).before(fresh.element);
        views.splice(next < 0 ? views.length : next, 0, fresh);
        if (following) trim();
        settle();
      }
    },
    removed(message_id) {
      drop(views.filter(({ message }) => message.message_id === message_id));
      views = views.filter(({ message }) => message.message_id !== message_id);
      settle();
    },
    progress: (message_id, share) => find(message_id, "user")?.progress(share),
    state() {
      for (const view of views) {
        if (view.message.status === "pending" && !changed.has(view)) list.apply(view.message);
      }
      mark();
    },
    toEnd() {
      following = true;
      if (newer) void list.load();
      stick();
      latest.hidden = true;
    },
    shown: stick,
    spoken({ message_id, content }) {
      flush();
      return find(message_id, "assistant")?.element.querySelector(".text")?.textContent ?? content;
    },
    destroy() {
      reads++;
      cancelAnimationFrame(frame);
      clearTimeout(late);
      clearInterval(ticker);
      edges.disconnect();
      sizes.disconnect();
    },
  };
  return list;
};
