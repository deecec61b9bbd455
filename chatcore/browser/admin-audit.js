// The view of the audit log: who did what and when, the latest first.
import { writeAddress } from "./admin-addresses.js";
import { audit } from "./admin-archive-api.js";
import { visible } from "./admin-figures.js";
import { createPages, some, timeNode } from "./admin-pages.js";
import { make } from "./widget-nodes.js";
/** @import * as A from "./admin-types.js" */

/** @type {Record<string, string>} */
const DEEDS = {
  analytics_read: "read figures",
  sessions_searched: "searched conversations",
  transcript_read: "read a conversation",
  session_erased: "erased a conversation",
  audit_read: "read the audit log",
  exported: "exported conversations",
  imported: "imported conversations",
};

/** @param {A.Entry} one */
const entryItem = ({ number, at, actor, action, session, address, detail }) => make("li", { class: "card entry", tabindex: "-1" },
  make("p", {}, make("strong", {}, make("bdi", {}, visible(actor))), ` ${DEEDS[action] ?? visible(action)}`),
  make("p", { class: "soft" }, timeNode(at), ` · entry ${number}`, ...(address ? [" · from ", make("code", {}, visible(address))] : [])),
  ...(session === null ? [] : [make("p", { class: "soft" }, "Conversation ",
    make("a", { href: writeAddress({ view: "session", id: session }) }, make("code", {}, visible(session))))]),
  ...(detail.length ? [make("p", { class: "soft detail" },
    ...detail.map(([name, value]) => make("span", {}, `${visible(name)}: `, make("bdi", {}, visible(value)))))] : []));

/** @param {A.Host} host @returns {A.View} */
export const createAudit = ({ ask }) => {
  const pages = createPages({
    ask,
    label: "Entries",
    more: "Show older",
    item: entryItem,
    tell: (shown, hasMore) => (shown ? `${some(shown, "entry", "entries")}, the latest first${hasMore ? "; there are more." : "."}`
      : "Nothing was done yet."),
  });
  const load = () => pages.load(audit);
  const heading = make("h2", { tabindex: "-1" }, "Audit");
  return {
    element: make("section", { class: "archive", hidden: true, "aria-label": "Audit" },
      make("div", { class: "head" }, heading, make("button", { type: "button", onclick: () => void load() }, "Refresh")),
      make("p", { class: "soft" }, "What operators and people at a terminal did. Addresses are keyed hashes: the same one is the same address."),
      pages.status, pages.list, pages.more),
    title: "audit",
    heading,
    entry: heading,
    open: load,
    leave: pages.leave,
    forget: pages.clear,
  };
};
