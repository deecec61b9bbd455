// Who came back, how long conversations are and at which hours people write: cards of figures, bars and tables.
import { bars, count, countTicks, ratio, share } from "./admin-figures.js";
import { bar } from "./admin-nodes.js";
import { make } from "./widget-nodes.js";
/** @import * as A from "./admin-types.js" */

const NONE = "–";
const BOX = { width: 480, height: 96 };

/** @param {string} name @param {string} value @param {string} note */
const figure = (name, value, note) =>
  make("div", {}, make("dt", {}, name), make("dd", {}, make("span", { class: "value" }, value), make("span", { class: "note" }, note)));

/** @param {number | null} value */
const figureOf = (value) => (value === null ? NONE : ratio(value, 1));

/** @param {string} label @param {string[]} heads @param {HTMLTableRowElement[]} rows */
const table = (label, heads, rows) => make("table", { "aria-label": label },
  make("thead", {}, make("tr", {}, ...heads.map((head) => make("th", { scope: "col" }, head)))), make("tbody", {}, ...rows));

/** @param {number} hour */
const hourText = (hour) => `${String(hour).padStart(2, "0")}:00`;

/** @param {A.Cohorts} cohorts */
const visitors = ({ fresh, returning, mean, half, most }) => make("dl", { class: "card totals cohorts", "aria-label": "Visitors" },
  figure("New sessions", count(fresh), "wrote for the first time"),
  figure("Returning sessions", count(returning), fresh + returning ? `${share(returning, fresh + returning)} had written before` : ""),
  figure("Messages per session", figureOf(mean), "on average"),
  figure("Half have at most", figureOf(half), "messages (p50)"),
  figure("95 % have at most", figureOf(most), "messages (p95)"));

/** @param {A.Cohorts} cohorts */
const lengths = ({ counts }) => {
  const busiest = Math.max(...counts.map(({ sessions }) => sessions), 0);
  return make("section", { class: "card places", "aria-labelledby": "lengths" },
    make("h2", { id: "lengths" }, "Messages per session"),
    table("Messages per session", ["Messages", "Sessions"], counts.map(({ messages, sessions }) => make("tr", {},
      make("th", { scope: "row" }, bar(sessions, busiest), make("bdi", {}, messages)), make("td", {}, count(sessions))))));
};

/** @param {A.Cohorts} cohorts */
const hourly = ({ hours }) => {
  const highest = Math.max(...hours);
  const top = countTicks(highest).at(-1) ?? 1;
  const [svg, path] = ["svg", "path"].map((tag) => document.createElementNS("http://www.w3.org/2000/svg", tag));
  for (const [name, value] of [["viewBox", `0 0 ${BOX.width} ${BOX.height}`], ["preserveAspectRatio", "none"], ["aria-hidden", "true"], ["class", "hours"]]) {
    svg.setAttribute(name, value);
  }
  path.setAttribute("class", "bar messages");
  path.setAttribute("d", bars(hours, top, BOX));
  svg.append(path);
  const peak = hours.indexOf(highest);
  const said = highest
    ? `The busiest hour of the UTC day is ${hourText(peak)}–${hourText((peak + 1) % 24)}, with ${count(highest)} ${highest === 1 ? "message" : "messages"} in this time.`
    : "No messages in this time yet";
  const rows = hours.map((value, hour) => make("tr", {}, make("th", { scope: "row" }, hourText(hour)), make("td", {}, count(value))));
  const scroll = make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Busiest hours as a table" },
    table("Busiest hours", ["Hour from (UTC)", "Messages"], rows));
  const scale = make("p", { class: "scale", "aria-hidden": "true" }, ...[0, 6, 12, 18, 24].map((hour) => make("span", {}, hourText(hour))));
  return make("section", { class: "card plot", "aria-labelledby": "hours" },
    make("h2", { id: "hours" }, "Busiest hours"), make("p", { class: "soft" }, said),
    ...(highest ? [make("div", {}, svg), scale, make("details", {}, make("summary", {}, "Show as table"), scroll)] : []));
};

/** The cards that show cohorts. @param {A.Cohorts} cohorts */
export const cohortCards = (cohorts) => [visitors(cohorts), lengths(cohorts), hourly(cohorts)];
