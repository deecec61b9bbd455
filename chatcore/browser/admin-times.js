// Times on the operators' page, without a page: which time is asked for, where the axis has ticks, how times are told.
/** @import * as A from "./admin-types.js" */

export const HOUR = 3_600_000;
export const DAY = 24 * HOUR;
/** The server tells hours of no longer time than this. */
export const MOST_HOURS_DAYS = 31;

const FIRST = Date.UTC(2000, 0);
/** @type {Record<string, number>} */
const DAYS = { "7d": 7, "30d": 30, "90d": 90 };

/** @param {number} moment @param {number} step */
const after = (moment, step) => (Math.floor(moment / step) + 1) * step;

/** The UTC day of a moment, as date fields want it. @param {number} moment */
export const dayOf = (moment) => new Date(moment).toISOString().slice(0, 10);

/** As the API wants it. @param {number} moment */
export const timestamp = (moment) => new Date(moment).toISOString().replace(".000Z", "Z");

/**
 * Which time a choice means, to the end of the running interval at most; or a sentence about what is wrong with it.
 * @param {A.Choice} choice @param {number} now @returns {{from: number, to: number} | {said: string}}
 */
const bounds = ({ range, interval, first, last }, now) => {
  const today = after(now, DAY);
  if (range === "24h") return { from: after(now, HOUR) - DAY, to: after(now, HOUR) };
  const end = interval === "hour" ? after(now, HOUR) : today;
  if (range !== "custom") return { from: end - (DAYS[range] ?? 1) * DAY, to: end };
  const from = Date.parse(first);
  const to = Date.parse(last) + DAY;
  if (Number.isNaN(from) || Number.isNaN(to)) return { said: "Choose the first and the last day." };
  if (Math.min(from, to) < FIRST) return { said: "The days begin in the year 2000." };
  if (from >= to) return { said: "The first day is after the last." };
  if (from >= today) return { said: "The first day is yet to come." };
  return { from, to: Math.min(to, end) };
};

/** Which intervals a choice may have, the usual one first. @param {A.Choice} choice @returns {A.Interval[]} */
export const intervals = ({ range, first, last }) => {
  if (range === "24h") return ["hour"];
  const days = DAYS[range] ?? (Date.parse(last) - Date.parse(first)) / DAY + 1;
  return days > MOST_HOURS_DAYS ? ["day"] : ["day", "hour"];
};

/**
 * What to ask the server, or a sentence about what is wrong.
 * @param {A.Choice} choice @param {number} now @returns {A.Query | {said: string}}
 */
export const queryOf = (choice, now) => {
  const allowed = intervals(choice);
  const interval = allowed.includes(choice.interval) ? choice.interval : allowed[0];
  const found = bounds({ ...choice, interval }, now);
  return "said" in found ? found : { ...found, interval, bot: choice.bot.trim() };
};

/** From the finest to the coarsest; the first that leaves few enough ticks serves. @type {["hour" | "day" | "month" | "year", number][]} */
const STEPS = [
  ["hour", 1], ["hour", 2], ["hour", 3], ["hour", 6], ["hour", 12], ["day", 1], ["day", 2], ["day", 7], ["day", 14],
  ["month", 1], ["month", 2], ["month", 3], ["month", 6], ["year", 1], ["year", 2], ["year", 5], ["year", 10],
];

/** A moment's parts: hours by the viewer's clock, days by UTC. @param {number} start @param {A.Interval} interval */
const parts = (start, interval) => {
  const at = new Date(start);
  const [hour, day, month, year] = interval === "hour"
    ? [at.getHours(), at.getDate(), at.getMonth(), at.getFullYear()]
    : [0, at.getUTCDate(), at.getUTCMonth(), at.getUTCFullYear()];
  return { hour, day, month, year, number: Date.UTC(year, month, day) / DAY };
};

/** @param {ReturnType<typeof parts>} at @param {string} unit @param {number} step */
const isTick = ({ hour, day, month, year, number }, unit, step) => {
  if (unit === "hour") return hour % step === 0;
  if (hour) return false;
  if (unit === "day") return (number - 4) % step === 0; // the fifth day of 1970 was a Monday: weeks begin there
  if (day !== 1) return false;
  return unit === "month" ? month % step === 0 : month === 0 && year % step === 0;
};

/**
 * Where the time axis has its ticks: at round times, no more than `most`.
 * @param {number[]} starts @param {A.Interval} interval @param {number} most @returns {A.TimeTick[]}
 */
export const timeTicks = (starts, interval, most) => {
  const timeZone = interval === "day" ? "UTC" : undefined;
  /** @param {Intl.DateTimeFormatOptions} options */
  const format = (options) => new Intl.DateTimeFormat(undefined, { ...options, timeZone });
  const texts = {
    hour: format({ hour: "numeric", minute: "2-digit" }), // in some zones hours begin at :30
    day: format({ day: "numeric", month: "short" }),
    month: format({ month: "short" }),
    year: format({ year: "numeric" }),
  };
  const all = starts.map((start) => parts(start, interval));
  for (const [unit, step] of STEPS) {
    if (unit === "hour" && interval === "day") continue;
    const found = [...all.keys()].filter((index) => isTick(all[index], unit, step));
    if (found.length > most) continue;
    return found.map((index) => {
      const { hour, month } = all[index];
      // Where a day or a year begins, the tick says which.
      const coarser = unit === "hour" && !hour ? "day" : unit === "month" && !month ? "year" : unit;
      return { index, label: texts[coarser].format(starts[index]) };
    });
  }
  return [];
};

/** How the points of a series are told, in the viewer's language. @param {A.Interval} interval @returns {A.TimeTexts} */
export const timeTexts = (interval) => {
  /** @type {Intl.DateTimeFormatOptions} */
  const day = { weekday: "short", day: "numeric", month: "short", year: "numeric" };
  const whole = new Intl.DateTimeFormat(undefined, interval === "day"
    ? { ...day, timeZone: "UTC" }
    : { ...day, hour: "numeric", minute: "2-digit", timeZoneName: "short" });
  const between = new Intl.DateTimeFormat(undefined, interval === "day"
    ? { day: "numeric", month: "short", year: "numeric", timeZone: "UTC" }
    : { day: "numeric", month: "short", year: "numeric", hour: "numeric", minute: "2-digit" });
  return {
    point: (start) => whole.format(start),
    span: (from, to) => between.formatRange(from, interval === "day" ? to - 1 : to),
    per: interval === "day" ? "per UTC day" : "per hour",
    column: interval === "day" ? "UTC day" : "Hour from",
  };
};

/** The viewer's time zone by its name. */
export const zone = () => new Intl.DateTimeFormat().resolvedOptions().timeZone;
