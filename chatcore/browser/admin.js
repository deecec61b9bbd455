// The operators' page: asks for the token, keeps it in this tab, and shows the figures of the time that was chosen.
import { askFigures } from "./admin-api.js";
import { createPlot, PLOTS } from "./admin-plots.js";
import { createPlaces, createTotals } from "./admin-report.js";
import { DAY, dayOf, intervals, MOST_HOURS_DAYS, queryOf, timeTexts, zone } from "./admin-times.js";
/** @import * as A from "./admin-types.js" */

const KEY = "chatcore-admin-token";
const TYPING = 500; // milliseconds without a key

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

/** @template {HTMLElement} T @param {string} id @param {new () => T} kind */
const find = (id, kind) => {
  const found = document.getElementById(id);
  if (!(found instanceof kind)) throw new TypeError(`the page has no ${id}`);
  return found;
};

/** Bring the page to life. */
export const startAdminPage = () => {
  const keeper = createKeeper();
  const signIn = find("sign-in", HTMLFormElement);
  const field = find("token", HTMLInputElement);
  const enter = find("enter", HTMLButtonElement);
  const fault = find("token-fault", HTMLElement);
  const leave = find("sign-out", HTMLButtonElement);
  const board = find("board", HTMLElement);
  const controls = find("controls", HTMLFormElement);
  const range = find("range", HTMLSelectElement);
  const interval = find("interval", HTMLSelectElement);
  const days = find("days", HTMLElement);
  const first = find("first", HTMLInputElement);
  const last = find("last", HTMLInputElement);
  const bot = find("bot", HTMLInputElement);
  const status = find("status", HTMLElement);
  const view = find("view", HTMLElement);

  const totals = createTotals();
  const plots = PLOTS.map(createPlot);
  const origins = createPlaces({ id: "origins", title: "Top origins", column: "Website", none: "No websites in this time yet" });
  const pages = createPlaces({ id: "pages", title: "Top pages", column: "Page", none: "No pages in this time yet" });
  find("totals", HTMLElement).append(totals.element);
  find("plots", HTMLElement).append(...plots.map(({ element }) => element));
  find("places", HTMLElement).append(origins.element, pages.element);

  let call = new AbortController();
  /** The interval that was chosen last, whether or not the time allows it. @type {A.Interval} */
  let wanted = "day";
  /** What the view shows, so that figures of another time never stay under a fault. */
  let seen = "";
  let typing = 0;

  /** @param {string} text */
  const say = (text, isFault = false) => {
    status.textContent = text;
    status.classList.toggle("fault", isFault);
  };
  /** @param {A.Report | null} report */
  const show = (report) => {
    const now = Date.now();
    totals.show(report?.totals ?? null);
    for (const plot of plots) {
      if (report) plot.show(report, now);
      else plot.clear();
    }
    origins.show(report?.origins ?? null);
    pages.show(report?.pages ?? null);
  };
  /** @param {string} said */
  const refuse = (said) => {
    fault.textContent = said;
    field.setAttribute("aria-invalid", String(Boolean(said)));
  };
  /** Ask for a token. @param {string} said */
  const askToken = (said) => {
    call.abort();
    clearTimeout(typing);
    keeper.set("");
    board.hidden = leave.hidden = true;
    signIn.hidden = false;
    field.value = seen = "";
    // What was chosen goes too: the next to sign in may be another.
    controls.reset();
    wanted = "day";
    start();
    refuse(said);
    field.focus();
  };

  /** @returns {A.Choice} */
  const choice = () => ({
    range: /** @type {A.Range} */ (range.value), interval: wanted, first: first.value, last: last.value, bot: bot.value,
  });
  /** Offer what the server tells of this time. */
  const offer = () => {
    const chosen = choice();
    const allowed = intervals(chosen);
    for (const option of interval.options) {
      option.disabled = !allowed.includes(/** @type {A.Interval} */ (option.value));
      if (option.value === "hour") option.text = option.disabled ? `Hour (${MOST_HOURS_DAYS} days at most)` : "Hour";
    }
    interval.value = allowed.includes(wanted) ? wanted : allowed[0];
    first.max = last.max = dayOf(Date.now());
    days.hidden = chosen.range !== "custom";
  };
  /** As it is before anything was chosen. */
  const start = () => {
    const now = Date.now();
    last.value = dayOf(now);
    first.value = dayOf(now - 6 * DAY);
    offer();
    show(null);
  };
  /** @param {A.Report} report @param {A.Query} query */
  const sentence = ({ from, to }, query) => {
    const time = new Intl.DateTimeFormat(undefined, { hour: "numeric", minute: "2-digit", second: "2-digit" }).format();
    const bounds = timeTexts(query.interval).span(from, to);
    const clock = query.interval === "day" ? "days are UTC days" : `your time zone, ${zone()}`;
    return `${bounds} (${clock})${query.bot ? `, bot ${query.bot}` : ""}. Updated at ${time}.`;
  };

  /** Tell what came of a call. @param {A.Answer} answer @param {A.Query} query @param {string} token */
  const tell = (answer, query, token) => {
    const asked = JSON.stringify([range.value, query.interval, first.value, last.value, query.bot]);
    if ("report" in answer) {
      keeper.set(token);
      field.value = "";
      enterBoard();
      show(answer.report);
      say(sentence(answer.report, query));
      seen = asked;
    } else if (answer.token === "wrong") {
      askToken(answer.said);
    } else if (board.hidden) {
      refuse(answer.said);
    } else {
      if (seen !== asked) show(null);
      say(seen === asked ? `${answer.said} These are the figures from before.` : answer.said, true);
      if (seen !== asked) seen = "";
    }
  };
  /** Fetch what was chosen, and show it. A later call ends this one. @param {string} token */
  const load = async (token) => {
    call.abort();
    call = new AbortController();
    const { signal } = call;
    const query = queryOf(choice(), Date.now());
    if ("said" in query) {
      seen = "";
      show(null);
      return say(query.said, true);
    }
    view.setAttribute("aria-busy", "true");
    // What is said of the figures that are still there stays, and keeps its room.
    if (!seen) say("Loading…");
    try {
      const answer = await askFigures(token, query, signal);
      if (!signal.aborted) tell(answer, query, token);
    } catch {
      // Another call has taken its place.
    } finally {
      if (!signal.aborted) view.setAttribute("aria-busy", "false");
    }
    return undefined;
  };
  const reload = () => void load(keeper.get());
  const enterBoard = () => {
    signIn.hidden = true;
    board.hidden = leave.hidden = false;
  };

  signIn.addEventListener("submit", async (event) => {
    event.preventDefault();
    const token = field.value.trim();
    if (!token) return refuse("Enter a token.");
    enter.disabled = true;
    refuse("");
    await load(token);
    enter.disabled = false;
    return (signIn.hidden ? range : field).focus();
  });
  leave.addEventListener("click", () => askToken(""));
  controls.addEventListener("submit", (event) => {
    event.preventDefault();
    reload();
  });
  interval.addEventListener("change", () => (wanted = /** @type {A.Interval} */ (interval.value)));
  controls.addEventListener("change", ({ target }) => {
    offer();
    clearTimeout(typing);
    // While a date is typed, it is many dates.
    if (target === first || target === last) typing = window.setTimeout(reload, TYPING);
    else reload();
  });

  if (!keeper.get()) return askToken("");
  start();
  enterBoard();
  return reload();
};
