// The view of conversations: words and filters to search by, and the list of what is found, the latest first.
import { NO_FILTER, writeAddress } from "./admin-addresses.js";
import { conversations } from "./admin-archive-api.js";
import { visible } from "./admin-figures.js";
import { named } from "./admin-nodes.js";
import { createPages, some, timeNode } from "./admin-pages.js";
import { make } from "./widget-nodes.js";
/** @import * as A from "./admin-types.js" */

const TRUNCATED = "These words are in more messages than a search looks at, so conversations may be missing: add words, a website or days.";

/** @param {A.Conversation} one */
const counts = ({ messages, errors, up, down }) => [
  some(messages, "message", "messages"),
  ...(errors ? [some(errors, "error", "errors")] : []),
  ...(up ? [`${up} rated good`] : []),
  ...(down ? [`${down} rated bad`] : []),
].join(", ");

/** What is known of a conversation, as pairs. @param {A.Conversation} one @param {boolean} hasBots @returns {[string, string | Node][]} */
export const facts = ({ origin, page, bot, user, began }, hasBots) => [
  ["Website", named(origin)],
  ["Page", named(page)],
  ...(hasBots ? /** @type {[string, string | Node][]} */ ([["Bot", named(bot)]]) : []),
  ...(user ? /** @type {[string, string | Node][]} */ ([["User", make("bdi", {}, visible(user))]]) : []),
  ["Began", timeNode(began)],
];

/** @param {[string, string | Node][]} pairs */
export const factList = (pairs) => make("dl", { class: "facts" },
  ...pairs.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))));

/** @param {A.Host} host @returns {A.Conversations} */
export const createConversations = ({ ask, hasBots }) => {
  /** @type {Map<string, A.Conversation>} */
  const known = new Map();
  /** Which address the list shows, and which one the fields were filled from. */
  let listed = "";
  let filled = "";
  /** Whether the list is no longer true, and what is to be said when it is shown next. */
  let isStale = false;
  let news = "";
  let visited = "";

  const field = (/** @type {string} */ name, /** @type {string} */ label, /** @type {Record<string, string | number | boolean>} */ attributes) => {
    const input = make("input", { id: `filter-${name}`, autocapitalize: "off", spellcheck: "false", autocomplete: "off", ...attributes });
    return { input, row: make("div", { class: name }, make("label", { for: input.id }, label), input) };
  };
  const fields = {
    q: field("q", "Words in messages", { type: "search", dir: "auto", maxlength: 200 }),
    origin: field("origin", "Website", { type: "text", inputmode: "url", placeholder: "https://…", maxlength: 512 }),
    bot: field("bot", "Bot", { type: "text", placeholder: "all", maxlength: 64 }),
    from: field("from", "First day (UTC)", { type: "date" }),
    to: field("to", "Last day (UTC)", { type: "date" }),
  };
  fields.bot.row.hidden = !hasBots;
  const names = /** @type {(keyof A.Filter)[]} */ (Object.keys(fields));
  const typed = () => {
    const filter = { ...NO_FILTER };
    for (const name of names) filter[name] = fields[name].input.value.trim();
    return filter;
  };

  const pages = createPages({
    ask,
    label: "Conversations",
    more: "Show older",
    /** @param {A.Conversation} one */
    item(one) {
      known.set(one.id, one);
      const link = make("a", { href: writeAddress({ view: "session", id: one.id }), onclick: () => (visited = one.id) },
        timeNode(one.seen));
      link.dataset.id = one.id;
      return make("li", { class: "card" },
        make("h3", {}, link), make("p", { class: "soft" }, counts(one)),
        ...(one.excerpt ? [make("blockquote", { dir: "auto" }, one.excerpt)] : []),
        factList(facts(one, hasBots)));
    },
    tell: (shown, hasMore, truncated) => [
      shown ? `${some(shown, "conversation", "conversations")}, the latest first${hasMore ? "; there are more." : "."}` : "No conversation was found.",
      ...(truncated ? [TRUNCATED] : []),
    ].join(" "),
  });
  /** @param {A.Filter} filter */
  const search = async (filter) => {
    const said = news;
    news = "";
    isStale = false;
    known.clear();
    listed = writeAddress({ view: "conversations", filter });
    await pages.load((before) => conversations(filter, before), said);
  };

  const form = make("form", { class: "filters", "aria-label": "Which conversations", autocomplete: "off", novalidate: true,
    onsubmit: (/** @type {Event} */ event) => {
      event.preventDefault();
      const filter = typed();
      const address = writeAddress({ view: "conversations", filter });
      // The page shows what its address says; where it says so already, this asks once more.
      if (location.hash === address) void search(filter);
      else location.hash = address;
    } },
  ...names.map((name) => fields[name].row), make("button", { class: "main" }, "Search"),
  make("a", { class: "all", href: "#conversations" }, "Show all"));
  const heading = make("h2", { tabindex: "-1" }, "Conversations");
  return {
    element: make("section", { class: "archive", hidden: true, "aria-label": "Conversations" }, heading, form, pages.status, pages.list, pages.more),
    title: "conversations",
    heading,
    entry: fields.q.input,
    async open(address, from) {
      if (address.view !== "conversations") return;
      const now = writeAddress(address);
      // Under the same address, what is typed and not yet searched for stays.
      if (filled !== now) for (const name of names) fields[name].input.value = address.filter[name];
      filled = now;
      // Who comes back from a conversation finds the list as it was left.
      if (from === "session" && listed === now && !isStale && pages.count()) {
        const links = /** @type {NodeListOf<HTMLElement>} */ (pages.list.querySelectorAll("a[data-id]"));
        [...links].find((link) => link.dataset.id === visited)?.focus();
        return;
      }
      await search({ ...address.filter });
    },
    leave: pages.leave,
    forget(isLeaving) {
      pages.clear();
      known.clear();
      listed = news = visited = "";
      if (!isLeaving) return;
      form.reset();
      filled = "";
    },
    find: (id) => known.get(id),
    address: () => listed || writeAddress({ view: "conversations", filter: NO_FILTER }),
    refresh(said) {
      isStale = true;
      news = said;
    },
  };
};
