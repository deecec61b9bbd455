// Which time the operators' page asks for, and the ticks of its time axis, in zones with half hours and clock changes.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { DAY, dayOf, HOUR, intervals, queryOf, timestamp, timeTexts, timeTicks } from "../../chatcore/browser/admin-times.js";

/** @import * as A from "../../chatcore/browser/admin-types.js" */

const NOW = Date.parse("2026-03-18T13:24:00Z");
/** @type {A.Choice} */
const WEEK = { range: "7d", interval: "day", first: "2026-03-12", last: "2026-03-18", bot: "" };

/** @param {Partial<A.Choice>} changes */
const asked = (changes, now = NOW) => {
  const query = queryOf({ ...WEEK, ...changes }, now);
  return "said" in query ? query.said : `${timestamp(query.from)} ${timestamp(query.to)} ${query.interval}`;
};

/** @type {[Partial<A.Choice>, string][]} */
const QUESTIONS = [
  [{ range: "24h", interval: "hour" }, "2026-03-17T14:00:00Z 2026-03-18T14:00:00Z hour"],
  [{ range: "24h", interval: "day" }, "2026-03-17T14:00:00Z 2026-03-18T14:00:00Z hour"],
  [{ range: "7d" }, "2026-03-12T00:00:00Z 2026-03-19T00:00:00Z day"],
  [{ range: "7d", interval: "hour" }, "2026-03-11T14:00:00Z 2026-03-18T14:00:00Z hour"],
  [{ range: "30d", interval: "hour" }, "2026-02-16T14:00:00Z 2026-03-18T14:00:00Z hour"],
  [{ range: "90d", interval: "hour" }, "2025-12-19T00:00:00Z 2026-03-19T00:00:00Z day"],
  [{ range: "custom" }, "2026-03-12T00:00:00Z 2026-03-19T00:00:00Z day"],
  [{ range: "custom", interval: "hour" }, "2026-03-12T00:00:00Z 2026-03-18T14:00:00Z hour"],
  [{ range: "custom", first: "2026-01-01", last: "2026-01-31", interval: "hour" }, "2026-01-01T00:00:00Z 2026-02-01T00:00:00Z hour"],
  [{ range: "custom", first: "2026-01-01", last: "2026-02-01", interval: "hour" }, "2026-01-01T00:00:00Z 2026-02-02T00:00:00Z day"],
  [{ range: "custom", last: "2027-01-01" }, "2026-03-12T00:00:00Z 2026-03-19T00:00:00Z day"],
  [{ range: "custom", first: "2026-03-18", last: "2026-03-18" }, "2026-03-18T00:00:00Z 2026-03-19T00:00:00Z day"],
  [{ range: "custom", first: "0002-03-01" }, "The days begin in the year 2000."],
  [{ range: "custom", first: "" }, "Choose the first and the last day."],
  [{ range: "custom", last: "tomorrow" }, "Choose the first and the last day."],
  [{ range: "custom", first: "2026-03-19", last: "2026-03-18" }, "The first day is after the last."],
  [{ range: "custom", first: "2026-03-19", last: "2026-03-20" }, "The first day is yet to come."],
];

for (const [choice, wanted] of QUESTIONS) {
  test(`${JSON.stringify(choice)} asks for ${wanted}`, () => assert.equal(asked(choice), wanted));
}

test("at the first moment of an hour and of a day, that hour and that day are the last that are asked for", () => {
  const midnight = Date.parse("2026-03-19T00:00:00Z");
  assert.equal(asked({ range: "24h" }, midnight), "2026-03-18T01:00:00Z 2026-03-19T01:00:00Z hour");
  assert.equal(asked({ range: "7d" }, midnight), "2026-03-13T00:00:00Z 2026-03-20T00:00:00Z day");
});

test("every question is whole intervals, and never more hours than the server tells", () => {
  fc.assert(fc.property(
    fc.constantFrom("24h", "7d", "30d", "90d", "custom"), fc.constantFrom("hour", "day"),
    fc.integer({ min: -900, max: 40 }), fc.integer({ min: -900, max: 40 }), fc.integer({ min: 0, max: DAY }),
    (range, interval, first, last, moment) => {
      const now = Date.parse("2026-03-18T00:00:00Z") + moment;
      const choice = /** @type {A.Choice} */ ({
        range, interval, first: dayOf(now + first * DAY), last: dayOf(now + last * DAY), bot: "",
      });
      const query = queryOf(choice, now);
      if ("said" in query) return range === "custom" && (first > last || first > 0);
      const step = query.interval === "hour" ? HOUR : DAY;
      return query.from % step === 0 && query.to % step === 0 && query.from < query.to && query.to - now <= step
        && intervals(choice).includes(query.interval)
        && (query.interval === "day" || query.to - query.from <= 31 * DAY);
    },
  ));
});

/** @param {string} zone @param {() => void} check */
const inZone = (zone, check) => {
  const before = process.env.TZ;
  process.env.TZ = zone;
  try {
    check();
  } finally {
    if (before === undefined) delete process.env.TZ;
    else process.env.TZ = before;
  }
};
/** @param {string} from @param {number} length @param {number} step */
const starts = (from, length, step) => Array.from({ length }, (_, index) => Date.parse(from) + index * step);

test("ticks of days are UTC days whatever the viewer's zone, at Mondays and months where there are many", () => {
  inZone("America/Los_Angeles", () => {
    const week = timeTicks(starts("2026-03-12T00:00:00Z", 7, DAY), "day", 8);
    assert.deepEqual(week.map(({ index }) => index), [0, 1, 2, 3, 4, 5, 6]);
    assert.match(week[0].label, /12/);
    const quarter = timeTicks(starts("2025-12-19T00:00:00Z", 90, DAY), "day", 8);
    assert.deepEqual(quarter.map(({ index }) => new Date(Date.parse("2025-12-19") + index * DAY).getUTCDay()), [1, 1, 1, 1, 1, 1, 1]);
    const year = timeTicks(starts("2025-02-13T00:00:00Z", 400, DAY), "day", 8);
    assert.deepEqual(year.map(({ label }) => /2026/.test(label)), [false, false, false, false, false, true, false]);
  });
});

test("ticks of hours follow the viewer's clock, through half hours and changed clocks", () => {
  inZone("Asia/Kolkata", () => {
    const ticks = timeTicks(starts("2026-03-17T14:00:00Z", 24, HOUR), "hour", 8);
    assert.deepEqual(ticks.map(({ index }) => new Date(Date.parse("2026-03-17T14:00:00Z") + index * HOUR).getHours()), [21, 0, 3, 6, 9, 12, 15, 18]);
    assert.match(ticks[0].label, /30/);
  });
  inZone("Europe/Berlin", () => {
    const from = "2026-03-28T23:00:00Z"; // the day that has no two o'clock
    const ticks = timeTicks(starts(from, 23, HOUR), "hour", 5);
    assert.deepEqual(ticks.map(({ index }) => new Date(Date.parse(from) + index * HOUR).getHours()), [0, 6, 12, 18]);
    assert.match(ticks[0].label, /29/);
  });
});

test("there are never more ticks than there is room for, and some where there are enough points", () => {
  for (const zone of ["UTC", "Asia/Kolkata", "Pacific/Apia", "America/St_Johns"]) {
    inZone(zone, () => {
      for (const [interval, most] of /** @type {[A.Interval, number][]} */ ([["hour", 744], ["day", 800]])) {
        for (const length of [1, 2, 7, 24, 30, 168, 400, most]) {
          for (const room of [2, 4, 8, 12]) {
            const ticks = timeTicks(starts("2025-02-13T05:00:00Z", length, interval === "hour" ? HOUR : DAY), interval, room);
            assert.ok(ticks.length <= room, `${zone} ${interval} ${length} ${room}`);
            assert.ok(ticks.length > 0 || (length < 24 && length < 2 * room), `${zone} ${interval} ${length} ${room}`);
          }
        }
      }
    });
  }
});

test("points of the hour that comes twice are told apart, and days are those of UTC", () => {
  inZone("Europe/Berlin", () => {
    const { point } = timeTexts("hour");
    assert.notEqual(point(Date.parse("2026-10-25T00:00:00Z")), point(Date.parse("2026-10-25T01:00:00Z")));
  });
  inZone("America/Los_Angeles", () => {
    const { point, span } = timeTexts("day");
    assert.match(point(Date.parse("2026-03-12T00:00:00Z")), /12/);
    const week = span(Date.parse("2026-03-12T00:00:00Z"), Date.parse("2026-03-19T00:00:00Z"));
    assert.match(week, /12/);
    assert.match(week, /18/);
  });
});
