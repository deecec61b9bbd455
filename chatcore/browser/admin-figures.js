// Figures on the operators' page, without a page: the answer read and checked, numbers told, axes and outlines of plots.
import { list, number, record, text, time } from "./admin-read.js";
/** @import * as A from "./admin-types.js" */

/** @param {unknown} value @returns {A.Figures} */
const figures = (value) => {
  const given = record(value);
  const orNull = (/** @type {string} */ name) => (given[name] === null ? null : number(given[name]));
  return {
    sessions: number(given.sessions),
    messages: number(given.messages),
    replies: number(given.replies),
    errors: number(given.errors),
    reply_ms_p50: orNull("reply_ms_p50"),
    reply_ms_p95: orNull("reply_ms_p95"),
    feedback_up: number(given.feedback_up),
    feedback_down: number(given.feedback_down),
  };
};
/** @param {unknown} value @param {string} name @returns {A.Place[]} */
const places = (value, name) => list(value).map((one) => {
  const given = record(one);
  return { name: text(given[name]), sessions: number(given.sessions), messages: number(given.messages) };
});

/** @param {unknown} value @returns {A.Cohorts} */
const cohorts = (value) => {
  const given = record(value);
  const each = record(given.messages_per_session);
  const orNull = (/** @type {unknown} */ one) => (one === null ? null : number(one));
  // By hours of the day; where they are told by hours of the week, the days are added up.
  const hours = new Array(24).fill(0);
  for (const [index, one] of list(given.busiest_hours).entries()) hours[index % 24] += number(one);
  return {
    returning: number(given.returning_sessions),
    fresh: number(given.new_sessions),
    mean: orNull(each.mean),
    half: orNull(each.p50),
    most: orNull(each.p95),
    counts: list(each.counts).map((one) => ({ messages: text(record(one).messages), sessions: number(record(one).sessions) })),
    hours,
  };
};

/** Read the server's answer; throws TypeError where it is another's. @param {unknown} value @returns {A.Report} */
export const readReport = (value) => {
  const given = record(value);
  const { interval } = given;
  if (interval !== "hour" && interval !== "day") throw new TypeError("no interval");
  return {
    from: time(given.from),
    to: time(given.to),
    interval,
    totals: figures(given.totals),
    series: list(given.series).map((slot) => ({ start: time(record(slot).start), ...figures(slot) })),
    origins: places(given.top_origins, "origin"),
    pages: places(given.top_pages, "page"),
    cohorts: given.cohorts === undefined ? null : cohorts(given.cohorts),
  };
};

/** @param {number} value */
export const count = (value) => new Intl.NumberFormat().format(value);

/** Short, for an axis. @param {number} value */
export const shortCount = (value) =>
  new Intl.NumberFormat(undefined, value < 10_000 ? {} : { notation: "compact", maximumFractionDigits: 1 }).format(value);

/** One number for so many of the other, as in "3.2 per session"; empty where there are none. @param {number} part @param {number} whole */
export const ratio = (part, whole) =>
  whole ? new Intl.NumberFormat(undefined, { maximumFractionDigits: 1 }).format(part / whole) : "";

/** @param {number} part @param {number} whole */
export const share = (part, whole) =>
  new Intl.NumberFormat(undefined, { style: "percent", maximumFractionDigits: 1 }).format(whole ? part / whole : 0);

/** A time of waiting, as exact as one needs it. @param {number} milliseconds */
export const duration = (milliseconds) => {
  if (milliseconds < 999.5) return `${Math.round(milliseconds)} ms`;
  const seconds = milliseconds / 1000;
  if (seconds < 9.95) return `${new Intl.NumberFormat(undefined, { maximumFractionDigits: 1 }).format(seconds)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  /** @type {(whole: number, unit: string, smaller: string) => string} */
  const told = (all, unit, smaller) => `${Math.floor(all / 60)} ${unit}${all % 60 ? ` ${all % 60} ${smaller}` : ""}`;
  return whole < 3600 ? told(whole, "min", "s") : told(Math.round(whole / 60), "h", "min");
};

/** A name in which nothing is hidden or turned around: what has no shape is written as addresses do. @param {string} name */
export const visible = (name) => name.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, encodeURIComponent);

/** Round times, in milliseconds: as clocks count from a minute on. */
const DURATIONS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 3e4, 6e4, 12e4, 3e5, 6e5, 12e5, 18e5];

/** @param {number} step @param {number} highest */
const multiples = (step, highest) => Array.from({ length: Math.max(Math.ceil(highest / step), 1) + 1 }, (_, i) => i * step);

/** Ticks of an axis of counts, 1-2-5, from 0 to the highest or more. @param {number} highest @param {number} most */
export const countTicks = (highest, most = 5) => {
  const power = 10 ** Math.floor(Math.log10(Math.max(highest / most, 1)));
  const factor = [1, 2, 5, 10].find((one) => one * power * most >= highest) ?? 10;
  return multiples(factor * power, highest);
};

/** Ticks of an axis of times, likewise. @param {number} highest @param {number} most */
export const durationTicks = (highest, most = 5) => {
  const step = DURATIONS.find((one) => one * most >= highest);
  return step ? multiples(step, highest) : countTicks(highest / 36e5, most).map((hours) => hours * 36e5);
};

const GAPS = 4; // pixels for a bar: with fewer there are no gaps
const LEAST = 2; // pixels: a single error among days of many is seen
const WIDEST = 32;

/**
 * The outline of bars. Where they are too narrow for gaps they become one shape; where there are more than pixels, each
 * pixel shows its highest. `only` leaves all out but one.
 * @param {number[]} values @param {number} top what the box's upper edge stands for @param {A.Box} box @param {number} [only]
 */
export const bars = (values, top, { width, height }, only) => {
  const step = width / values.length;
  const tall = (/** @type {number} */ value) => (value ? Math.max((value / top) * height, LEAST) : 0);
  const f = (/** @type {number} */ value) => String(Math.round(value * 100) / 100);
  if (step >= GAPS) {
    const wide = Math.min(Math.round(step * 0.75), WIDEST);
    const round = wide > 5 ? 2 : 0;
    return values.map((value, index) => {
      if (!value || (only !== undefined && index !== only)) return "";
      const left = Math.round((index + 0.5) * step - wide / 2);
      const upper = height - tall(value);
      const corner = `q0-${round} ${round}-${round}h${wide - 2 * round}q${round} 0 ${round} ${round}`;
      return `M${left} ${height}V${f(upper + round)}${corner}V${height}z`;
    }).join("");
  }
  const columns = step < 1 ? Math.max(Math.floor(width), 1) : values.length;
  const highest = new Array(columns).fill(0);
  for (const [index, value] of values.entries()) {
    const column = Math.floor((index * columns) / values.length);
    if (only === undefined || index === only) highest[column] = Math.max(highest[column], value);
  }
  const each = width / columns;
  return `M0 ${height}${highest.map((value, i) => `V${f(height - tall(value))}H${f((i + 1) * each)}`).join("")}V${height}z`;
};

/**
 * The outline of a line with gaps where there is no value, and the points that stand alone.
 * @param {(number | null)[]} values @param {number} top @param {A.Box} box
 */
export const line = (values, top, { width, height }) => {
  const step = width / values.length;
  /** @type {[number, number][]} */
  const alone = [];
  let path = "";
  for (const [index, value] of values.entries()) {
    if (value === null) continue;
    const point = /** @type {[number, number]} */ ([
      Math.round((index + 0.5) * step * 100) / 100, Math.round((1 - value / top) * height * 100) / 100,
    ]);
    const begins = (values[index - 1] ?? null) === null;
    if (begins && (values[index + 1] ?? null) === null) alone.push(point);
    else path += `${begins ? "M" : "L"}${point.join(" ")}`;
  }
  return { path, alone };
};
