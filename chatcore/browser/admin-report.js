// What is above and below the plots: totals as figures, and the origins and pages that chats come from.
import { count, duration, ratio, share } from "./admin-figures.js";
import { bar, named } from "./admin-nodes.js";
import { make } from "./widget-nodes.js";
/** @import * as A from "./admin-types.js" */

const NONE = "–";
const ROWS = 10;
const OTHER = "(other)";

/** @param {number | null} value */
const time = (value) => (value === null ? NONE : duration(value));
/** @param {string} text @param {number} whole */
const where = (text, whole) => (whole ? text : "");

/** Each figure: its name, its value, a word about it. @type {[string, (totals: A.Figures) => string, (totals: A.Figures) => string][]} */
const FIGURES = [
  ["Sessions", (t) => count(t.sessions), () => "began in this time"],
  ["Messages", (t) => count(t.messages), (t) => where(`${ratio(t.messages, t.sessions)} per session`, t.sessions)],
  ["Replies", (t) => count(t.replies), () => "without error"],
  ["Errors", (t) => count(t.errors),
    (t) => where(`${share(t.errors, t.errors + t.replies)} failed`, t.errors + t.replies)],
  ["Half within", (t) => time(t.reply_ms_p50), () => "p50 reply time"],
  ["95 % within", (t) => time(t.reply_ms_p95), () => "p95 reply time"],
  ["Rated good", (t) => count(t.feedback_up), (t) => where(`${share(t.feedback_up, t.feedback_up + t.feedback_down)} of ratings`, t.feedback_up + t.feedback_down)],
  ["Rated bad", (t) => count(t.feedback_down), (t) => where(`${share(t.feedback_down, t.feedback_up + t.feedback_down)} of ratings`, t.feedback_up + t.feedback_down)],
];

/** The totals; without a report they keep their room. */
export const createTotals = () => {
  const cells = FIGURES.map(([name]) => {
    const value = make("span", { class: "value" }, NONE);
    const note = make("span", { class: "note" });
    return { value, note, cell: make("div", {}, make("dt", {}, name), make("dd", {}, value, note)) };
  });
  return {
    element: make("dl", { class: "card totals" }, ...cells.map(({ cell }) => cell)),
    /** @param {A.Figures | null} totals */
    show(totals) {
      for (const [index, [, value, note]] of FIGURES.entries()) {
        cells[index].value.textContent = totals ? value(totals) : NONE;
        cells[index].note.textContent = totals ? note(totals) : "";
      }
    },
  };
};

/**
 * A table of places, the busiest first.
 * @param {{id: string, title: string, column: string, none: string}} texts
 */
export const createPlaces = ({ id, title, column, none }) => {
  const body = make("tbody");
  const note = make("p", { class: "soft" });
  const more = make("button", { type: "button", hidden: true, onclick: () => {
    most = Infinity;
    fill();
    table.focus({ preventScroll: true }); // the button is gone
  } });
  const table = make("table", { "aria-labelledby": id, tabindex: "-1" },
    make("thead", {}, make("tr", {},
      make("th", { scope: "col" }, column), make("th", { scope: "col" }, "Sessions"), make("th", { scope: "col" }, "Messages"))),
    body);
  const empty = make("p", { class: "nothing" });
  /** @type {A.Place[]} */
  let places = [];
  let most = ROWS;

  const fill = () => {
    const busiest = Math.max(...places.map(({ messages }) => messages), 0);
    body.replaceChildren(...places.slice(0, most).map(({ name, sessions, messages }) => make("tr", {},
      make("th", { scope: "row" }, bar(messages, busiest), name === OTHER ? make("em", {}, OTHER) : named(name)),
      make("td", {}, count(sessions)), make("td", {}, count(messages)))));
    more.hidden = places.length <= most;
    more.textContent = `Show all ${count(places.length)}`;
  };
  return {
    element: make("section", { class: "card places", "aria-labelledby": id }, make("h2", { id }, title), table, empty, more, note),
    /** @param {A.Place[] | null} told */
    show(told) {
      places = told ?? [];
      if (!told) most = ROWS;
      fill();
      table.hidden = !places.length;
      empty.textContent = told && !places.length ? none : "";
      const notes = [
        ...(places.length ? ["Counted by whole UTC days."] : []),
        ...(places.some(({ name }) => name === "") ? ["(none): nothing was told, as by apps and servers."] : []),
        ...(places.some(({ name }) => name === OTHER) ? ["(other): what is beyond the first 1,000 of a day."] : []),
      ];
      note.textContent = notes.join(" ");
    },
  };
};
