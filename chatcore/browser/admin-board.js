// The view of figures: its controls, what they ask for, and the plots and tables that show it.
import { figures } from "./admin-api.js";
import { createPlot, PLOTS } from "./admin-plots.js";
import { createPlaces, createTotals } from "./admin-report.js";
import { DAY, dayOf, intervals, MOST_HOURS_DAYS, queryOf, timeTexts, zone } from "./admin-times.js";
import { find } from "./admin-nodes.js";
/** @import * as A from "./admin-types.js" */

const TYPING = 500; // milliseconds without a key

/** Bring the figures' part of the page to life. @param {A.Host} host @returns {A.View} */
export const createBoard = ({ ask }) => {
  const element = find("board", HTMLElement);
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
  find("plots", HTMLElement).append(...plots.map((plot) => plot.element));
  find("places", HTMLElement).append(origins.element, pages.element);

  const cohorts = find("cohorts", HTMLElement);

  let call = new AbortController();
  /** The interval that was chosen last, whether or not the time allows it. @type {A.Interval} */
  let wanted = "day";
  /** What the view shows, so that figures of another time never stay under a fault. */
  let seen = "";
  let typing = 0;
  /** @type {A.Report | null} */
  let shown = null;

  /** @param {string} text */
  const say = (text, isFault = false) => {
    status.textContent = text;
    status.classList.toggle("fault", isFault);
  };
  /** Cohorts are told by some servers alone, so what shows them comes with the first. @param {A.Report | null} report */
  const showCohorts = async (report) => {
    const told = report?.cohorts;
    if (!told) return cohorts.replaceChildren();
    const { cohortCards } = await import("./admin-cohorts.js");
    return shown === report ? cohorts.replaceChildren(...cohortCards(told)) : undefined;
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
    shown = report;
    showCohorts(report).catch(() => cohorts.replaceChildren("A part of this page could not be loaded. Reload the page."));
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

  /** Tell what came of a call. @param {A.Answer<A.Report>} answer @param {A.Query} query */
  const tell = (answer, query) => {
    const asked = JSON.stringify([range.value, query.interval, first.value, last.value, query.bot]);
    if ("found" in answer) {
      show(answer.found);
      say(sentence(answer.found, query));
      seen = asked;
    } else if (answer.why !== "token") {
      if (seen !== asked) show(null);
      say(seen === asked ? `${answer.said} These are the figures from before.` : answer.said, true);
      if (seen !== asked) seen = "";
    }
  };
  /** Fetch what was chosen, and show it. A later call ends this one. */
  const load = async () => {
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
      const answer = await ask(figures(query), signal);
      if (!signal.aborted) tell(answer, query);
    } catch {
      // Another call has taken its place.
    } finally {
      if (!signal.aborted) view.setAttribute("aria-busy", "false");
    }
    return undefined;
  };
  const leave = () => {
    call.abort();
    clearTimeout(typing);
    view.setAttribute("aria-busy", "false");
  };

  controls.addEventListener("submit", (event) => {
    event.preventDefault();
    void load();
  });
  interval.addEventListener("change", () => (wanted = /** @type {A.Interval} */ (interval.value)));
  controls.addEventListener("change", ({ target }) => {
    offer();
    clearTimeout(typing);
    // While a date is typed, it is many dates.
    if (target === first || target === last) typing = window.setTimeout(load, TYPING);
    else void load();
  });
  start();
  return {
    element,
    title: "figures",
    heading: find("figures-heading", HTMLElement),
    entry: range,
    open: load,
    leave,
    forget() {
      leave();
      seen = "";
      // What was chosen goes too: the next to sign in may be another.
      controls.reset();
      wanted = "day";
      start();
    },
  };
};
