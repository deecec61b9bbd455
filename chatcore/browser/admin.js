// The operators' page: asks for the token, keeps it in this tab, and shows the view that the address names.
import { readAddress, writeAddress } from "./admin-addresses.js";
import { ask as askServer } from "./admin-api.js";
import { createBoard } from "./admin-board.js";
import { find } from "./admin-nodes.js";
/** @import * as A from "./admin-types.js" */

const KEY = "chatcore-admin-token";

/** The token: in `sessionStorage`, or in memory alone where a browser has none. */
const createKeeper = () => {
  let token = "";
  try {
    token = sessionStorage.getItem(KEY) ?? "";
  } catch {
    // Kept in memory then.
  }
  return {
    get: () => token,
    /** @param {string} fresh empty: forget it */
    set(fresh) {
      token = fresh;
      try {
        if (fresh) sessionStorage.setItem(KEY, fresh);
        else sessionStorage.removeItem(KEY);
      } catch {
        // Kept in memory alone.
      }
    },
  };
};

/** Bring the page to life. */
export const startAdminPage = () => {
  const keeper = createKeeper();
  const signIn = find("sign-in", HTMLFormElement);
  const field = find("token", HTMLInputElement);
  const enter = find("enter", HTMLButtonElement);
  const fault = find("token-fault", HTMLElement);
  const leave = find("sign-out", HTMLButtonElement);
  const inside = find("inside", HTMLElement);
  const tabs = find("views", HTMLElement);
  const broken = find("broken", HTMLElement);

  let token = keeper.get();
  /** Whether this server keeps messages. Asking for them to find out would leave a trace in its audit log. */
  let hasArchive = tabs.dataset.mode === "postgres";
  let isIn = false;
  /** @type {{view?: A.View, name: string}} */
  let current = { name: "" };

  /** @param {string} said */
  const refuse = (said) => {
    fault.textContent = said;
    field.setAttribute("aria-invalid", String(Boolean(said)));
  };
  const comeIn = () => {
    keeper.set(token);
    field.value = "";
    isIn = true;
    signIn.hidden = true;
    inside.hidden = leave.hidden = false;
    tabs.hidden = !hasArchive;
  };
  /** Ask for a token. @param {string} said */
  const askToken = (said, isLeaving = false) => {
    keeper.set("");
    token = "";
    isIn = false;
    for (const view of Object.values(views)) {
      view.leave();
      view.forget(isLeaving);
    }
    inside.hidden = leave.hidden = tabs.hidden = true;
    signIn.hidden = false;
    field.value = "";
    refuse(said);
    field.focus();
  };
  /** A mode that keeps no messages has no views of them. */
  const giveUpArchive = () => {
    hasArchive = false;
    tabs.hidden = true;
    history.replaceState(null, "", writeAddress({ view: "figures" }));
    void show();
  };
  /** @type {A.Ask} */
  const ask = async (request, signal) => {
    const answer = await askServer(token, request, signal);
    if (signal.aborted) return answer;
    // Who is told that a question is wrong has been let in.
    if ("found" in answer || answer.why === "question") comeIn();
    else if (answer.why === "token") askToken(answer.said);
    else if (answer.why === "not stored" && current.name !== "figures") giveUpArchive();
    else if (!isIn) refuse(answer.said);
    return answer;
  };

  /** @type {A.Host} */
  const host = { ask, hasBots: !find("bots", HTMLElement).hidden };
  /** @type {Record<string, A.View>} */
  const views = { figures: createBoard(host) };

  /** The view of a name; those of the archive come with the first that is asked for. @param {string} name */
  const viewOf = async (name) => {
    if (!(name in views)) {
      const { createArchive } = await import("./admin-archive.js");
      const archive = await createArchive(host);
      if (!(name in views)) {
        Object.assign(views, archive);
        for (const one of ["conversations", "session", "audit"]) inside.append(views[one].element);
      }
    }
    return views[name];
  };
  /** Show what the address says. */
  const show = async () => {
    /** @type {A.Address} */
    const address = hasArchive ? readAddress(location.hash) : { view: "figures" };
    const { view: before, name: from } = current;
    current = { name: address.view };
    const mine = current;
    before?.leave();
    try {
      mine.view = await viewOf(address.view);
      broken.hidden = true;
    } catch {
      broken.hidden = false;
    }
    if (current !== mine || !mine.view) return;
    const { view } = mine;
    for (const one of Object.values(views)) one.element.hidden = one !== view;
    document.title = `chatcore: ${view.title}`;
    const tab = address.view === "session" ? "conversations" : address.view;
    for (const link of tabs.querySelectorAll("a")) {
      if (link.hash === `#${tab}`) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    if (isIn && from && from !== address.view) view.heading.focus();
    await view.open(address, from);
  };

  signIn.addEventListener("submit", async (event) => {
    event.preventDefault();
    token = field.value.trim();
    if (!token) return refuse("Enter a token.");
    enter.disabled = true;
    refuse("");
    current = { ...current, name: "" };
    await show();
    enter.disabled = false;
    return (isIn ? current.view?.entry : field)?.focus();
  });
  leave.addEventListener("click", () => {
    history.replaceState(null, "", location.pathname + location.search);
    askToken("", true);
  });
  window.addEventListener("hashchange", () => {
    if (token) void show();
  });

  if (!token) return askToken("");
  comeIn();
  return void show();
};
