// The operators' page without a page: answers are read or refused, numbers and times told, axes round, outlines whole.
import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import fc from "fast-check";
import { ask, figures, refusal } from "../../chatcore/browser/admin-api.js";
import {
  bars, countTicks, duration, durationTicks, line, ratio, readReport, share, visible,
} from "../../chatcore/browser/admin-figures.js";

const FIGURES = {
  sessions: 4, messages: 9, replies: 8, errors: 1, reply_ms_p50: 1200, reply_ms_p95: null, feedback_up: 2, feedback_down: 0,
};
const ANSWER = {
  from: "2026-03-12T00:00:00Z", to: "2026-03-13T00:00:00Z", interval: "day", totals: FIGURES,
  series: [{ start: "2026-03-12T00:00:00Z", ...FIGURES }],
  top_origins: [{ origin: "https://example.com", sessions: 4, messages: 9 }],
  top_pages: [{ page: "", sessions: 4, messages: 9 }],
};

test("an answer of the contract is read", () => {
  const report = readReport({ ...ANSWER, more: "of a later version" });
  assert.deepEqual(report.totals, FIGURES);
  assert.deepEqual(report.series, [{ start: Date.UTC(2026, 2, 12), ...FIGURES }]);
  assert.deepEqual(report.origins, [{ name: "https://example.com", sessions: 4, messages: 9 }]);
  assert.deepEqual(report.pages, [{ name: "", sessions: 4, messages: 9 }]);
});

const COHORTS = {
  returning_sessions: 2, new_sessions: 5, messages_per_session: { mean: 2.5, p50: 2, p95: null, counts: [{ messages: "6-10", sessions: 1 }] },
  busiest_hours: Array.from({ length: 24 }, (_, hour) => hour),
};

test("cohorts are read where there are some", () => {
  assert.equal(readReport(ANSWER).cohorts, null);
  const { cohorts } = readReport({ ...ANSWER, cohorts: COHORTS });
  assert.deepEqual(cohorts, {
    returning: 2, fresh: 5, mean: 2.5, half: 2, most: null, counts: [{ messages: "6-10", sessions: 1 }], hours: COHORTS.busiest_hours,
  });
  const week = readReport({ ...ANSWER, cohorts: { ...COHORTS, busiest_hours: new Array(168).fill(1) } });
  assert.deepEqual(week.cohorts?.hours, new Array(24).fill(7), "hours of the week are added up");
  for (const wrong of [null, {}, { ...COHORTS, busiest_hours: ["1"] }, { ...COHORTS, messages_per_session: null }]) {
    assert.throws(() => readReport({ ...ANSWER, cohorts: wrong }), TypeError);
  }
});

test("whatever else is refused as a whole", () => {
  const wrong = [
    null, [], "x", 1, {}, { ...ANSWER, interval: "week" }, { ...ANSWER, from: "soon" }, { ...ANSWER, series: {} },
    { ...ANSWER, totals: { ...FIGURES, errors: -1 } }, { ...ANSWER, totals: { ...FIGURES, errors: "3" } },
    { ...ANSWER, totals: { ...FIGURES, errors: null } }, { ...ANSWER, totals: { ...FIGURES, reply_ms_p50: undefined } },
    { ...ANSWER, series: [null] }, { ...ANSWER, series: [FIGURES] }, { ...ANSWER, top_origins: [{ origin: 1, sessions: 1, messages: 1 }] },
    { ...ANSWER, top_pages: [{ origin: "x", sessions: 1, messages: 1 }] }, { ...ANSWER, totals: { ...FIGURES, errors: 1e300 } },
  ];
  for (const one of wrong) assert.throws(() => readReport(one), TypeError, JSON.stringify(one));
  fc.assert(fc.property(fc.jsonValue(), (value) => {
    assert.throws(() => readReport(value), TypeError);
  }));
});

/** As English has it, whatever the language of this machine. @param {string} text */
const english = (text) => text.replace(",", ".").replace(/\s%/, "%");

test("times of waiting are told as people would", () => {
  const told = [0, 1, 840, 999, 999.6, 1240, 9940, 9960, 42_400, 59_600, 61_000, 200_000, 3_599_600, 3_600_000, 5_400_000, 187_200_000].map(duration).map(english);
  assert.deepEqual(told, [
    "0 ms", "1 ms", "840 ms", "999 ms", "1 s", "1.2 s", "9.9 s", "10 s", "42 s", "1 min", "1 min 1 s", "3 min 20 s",
    "1 h", "1 h", "1 h 30 min", "52 h",
  ]);
});

test("shares and ratios of nothing say nothing wrong", () => {
  assert.equal(ratio(7, 0), "");
  assert.equal(english(ratio(32, 10)), "3.2");
  assert.equal(english(share(0, 0)), "0%");
  assert.equal(english(share(1, 30)), "3.3%");
});

test("names hide nothing", () => {
  assert.equal(visible("https://example.com/ä😀?a=b"), "https://example.com/ä😀?a=b");
  assert.equal(visible("a\u202egnp.exe\0\u2028\u200b"), "a%E2%80%AEgnp.exe%00%E2%80%A8%E2%80%8B");
  assert.equal(visible("\ud800"), "\ud800");
});

test("axes begin at 0, hold the highest value and have few round ticks", () => {
  assert.deepEqual(countTicks(0), [0, 1]);
  assert.deepEqual(countTicks(3), [0, 1, 2, 3]);
  assert.deepEqual(countTicks(26), [0, 10, 20, 30]);
  assert.deepEqual(countTicks(90), [0, 20, 40, 60, 80, 100]);
  assert.deepEqual(durationTicks(6900), [0, 2000, 4000, 6000, 8000]);
  assert.deepEqual(durationTicks(100_000), [0, 20_000, 40_000, 60_000, 80_000, 100_000]);
  assert.deepEqual(durationTicks(187_200_000).map((one) => one / 3.6e6), [0, 20, 40, 60]);
  fc.assert(fc.property(fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER }), (highest) => {
    for (const ticks of [countTicks(highest), durationTicks(highest)]) {
      assert.equal(ticks[0], 0);
      assert.ok(ticks.length >= 2 && ticks.length <= 6, String(ticks));
      assert.ok(ticks[ticks.length - 1] >= highest * (1 - 1e-12));
    }
    assert.ok(countTicks(highest).every(Number.isInteger));
  }));
});

test("a bar for every value that is not 0, and one alone where it is asked for", () => {
  const box = { width: 300, height: 100 };
  assert.equal(bars([1, 0, 3], 3, box).split("M").length - 1, 2);
  assert.match(bars([1, 0, 3], 3, box, 2), /^M234 100V2q/);
  assert.equal(bars([0, 0], 1, box), "");
});

test("where there are more values than pixels, each pixel shows its highest", () => {
  const values = new Array(744).fill(1);
  values[371] = 10;
  const path = bars(values, 10, { width: 280, height: 100 });
  assert.equal(path.split("H").length - 1, 280);
  assert.ok(path.includes("V0H"), "the highest is as high as it is");
  assert.ok(path.length < 10_000);
});

test("outlines hold numbers only, whatever the values", () => {
  const value = fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER });
  fc.assert(fc.property(
    fc.array(fc.option(value), { minLength: 1, maxLength: 900 }), fc.integer({ min: 1, max: 2000 }),
    (values, width) => {
      const top = Math.max(...values.map((one) => one ?? 0), 1);
      const { path, alone } = line(values, top, { width, height: 100 });
      assert.match(path + bars(values.map((one) => one ?? 0), top, { width, height: 100 }), /^[MLVHqhz0-9. -]*$/);
      const told = values.filter((one) => one !== null).length;
      assert.equal(path.split(/[ML]/).length - 1 + alone.length, told, "each value once");
    },
  ));
});

test("a line has gaps where there is no value", () => {
  const { path, alone } = line([1, 1, null, 1, null], 1, { width: 50, height: 10 });
  assert.equal(path, "M5 0L15 0");
  assert.deepEqual(alone, [[35, 0]]);
});

/** @type {[number, unknown, RegExp][]} */
const REFUSALS = [
  [429, { code: "rate_limited", retry_after: 41.2 }, /^There were too many wrong tokens from your address\. Try again in 42 seconds\.$/],
  [429, { code: "rate_limited", retry_after: 1 }, /in 1 second\.$/],
  [429, { code: "rate_limited", retry_after: 3600 }, /in 60 minutes\.$/],
  [429, { code: "rate_limited", retry_after: "<b>" }, /in a minute\.$/],
  [404, { code: "not_stored", detail: "It stores none." }, /^This server keeps no figures\. It stores none\.$/],
  [404, { code: "not_stored" }, /^This server keeps no figures\.$/],
  [503, { code: "store_unavailable", detail: "…" }, /^The figures cannot be read right now\./],
  [400, { code: "invalid_request", detail: "x", errors: [{ field: "bot", message: "must be a bot" }, null] }, /: bot must be a bot; undefined undefined\.$/],
  [500, { code: "internal_error", detail: "Something went wrong." }, /^Something went wrong\.$/],
  [502, null, /status 502/],
  [418, "tea", /status 418/],
  [400, { errors: "x", detail: 7 }, /status 400/],
];
const { texts: TEXTS } = figures({ from: 0, to: 1, interval: "day", bot: "" });
for (const [status, problem, wanted] of REFUSALS) {
  test(`${status} ${JSON.stringify(problem)} is a sentence, and the token stays`, () => {
    const answer = refusal(status, problem, TEXTS);
    assert.match(answer.said, wanted);
    assert.notEqual(answer.why, "token");
  });
}

const { fetch } = globalThis;
afterEach(() => {
  globalThis.fetch = fetch;
});
const QUERY = { from: Date.UTC(2026, 2, 12), to: Date.UTC(2026, 2, 13), interval: /** @type {const} */ ("day"), bot: "" };
const { signal } = new AbortController();
/** @param {string} token @param {typeof QUERY} query @param {AbortSignal} [end] */
const askFigures = (token, query, end = signal) => ask(token, figures(query), end);

test("the token goes into the header, never into the address", async () => {
  /** @type {any[]} */
  const calls = [];
  globalThis.fetch = async (...call) => {
    calls.push(call);
    return Response.json(ANSWER);
  };
  const answer = await askFigures("secret", { ...QUERY, bot: "a b&c" });
  assert.ok("found" in answer);
  const [[address, options]] = calls;
  assert.equal(address, "api/v1/admin/analytics?from=2026-03-12T00%3A00%3A00Z&to=2026-03-13T00%3A00%3A00Z&interval=day&bot=a+b%26c");
  assert.deepEqual(options.headers, { Authorization: "Bearer secret" });
});

test("a token that no header carries is wrong without a call", async () => {
  globalThis.fetch = () => assert.fail("asked");
  for (const token of ["tökén", "a b", "a\nb", "😀"]) assert.equal(Reflect.get(await askFigures(token, QUERY), "why"), "token");
});

test("another's answer, half an answer and no answer are told, and an end that was asked for is raised", async () => {
  const said = async () => Reflect.get(await askFigures("secret", QUERY), "said");
  globalThis.fetch = async () => new Response("<html>");
  assert.match(await said(), /could not be read/);
  globalThis.fetch = async () => Response.json({ ...ANSWER, totals: {} });
  assert.match(await said(), /could not be read/);
  globalThis.fetch = async () => new Response("<html>", { status: 504 });
  assert.match(await said(), /status 504/);
  globalThis.fetch = async () => {
    throw new TypeError("network");
  };
  assert.match(await said(), /cannot be reached/);
  const end = new AbortController();
  globalThis.fetch = (_, options) => new Promise((_resolve, reject) => {
    options?.signal?.addEventListener("abort", () => reject(options.signal?.reason));
  });
  const call = askFigures("secret", QUERY, end.signal);
  end.abort();
  await assert.rejects(call, { name: "AbortError" });
});
