// One plot: an SVG of bars or lines over time whose points are reached by pointer and keyboard, and the same as a table.
import { bars, count, countTicks, duration, durationTicks, line, shortCount } from "./admin-figures.js";
import { DAY, HOUR, timeTexts, timeTicks } from "./admin-times.js";
import { make } from "./widget-nodes.js";
/** @import * as A from "./admin-types.js" */

const HEIGHT = 176; // the style sheet's room for the frame, in pixels
const ABOVE = 10;
const BELOW = 26;
const LABEL = 62; // pixels that a label of the time axis needs
const LETTER = 6.8;
const DENSE = 4; // pixels for a point: with fewer there are no gaps between bars, and lines are thin

/** @param {string} tag @param {Record<string, string | number>} attributes @param {(Node | string)[]} children */
const draw = (tag, attributes = {}, ...children) => {
  const element = /** @type {SVGGraphicsElement} */ (document.createElementNS("http://www.w3.org/2000/svg", tag));
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  element.append(...children);
  return element;
};

/** The values of a point, with the words for them. @param {A.PlotSetup} setup @param {A.Slot} slot */
const told = ({ kind, members, value }, slot) => {
  if (kind === "lines" && slot.reply_ms_p50 === null) return ["no replies"];
  return members.map(({ key, label }) => `${label}: ${value(slot[key] ?? 0)}`);
};

/** @param {A.PlotSetup} setup @returns {A.Plot} */
export const createPlot = (setup) => {
  const { id, title, text, kind, members, empty } = setup;
  /** @type {{report: A.Report, texts: A.TimeTexts, running: number} | null} */
  let shown = null;
  let at = 0;
  let isHushed = false;
  /** How wide the drawing is, and where in it the points are. */
  let width = 0;
  let left = 0;
  let top = 1;

  const svg = draw("svg", { "aria-hidden": "true", height: HEIGHT });
  const mark = draw("g", { class: "mark" });
  const frame = make("div", { class: "frame" }, svg);
  const nothing = make("p", { class: "nothing" });
  const about = make("p", { class: "soft", id: `${id}-about` });
  const table = make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `${title} as a table` });
  const details = make("details", {}, make("summary", {}, "Show as table"), table);
  const legend = kind === "bars" ? "" : make("ul", { class: "legend" }, ...members.map(({ label, style }) => {
    const sample = draw("svg", { "aria-hidden": "true", width: 26, height: 10 }, draw("path", { class: style, d: "M1 5H25" }));
    return make("li", {}, sample, label);
  }));
  const element = make("section", { class: "card plot", "aria-labelledby": id },
    make("div", { class: "head" }, make("h2", { id }, title), legend), about, make("div", { class: "room" }, frame, nothing), details);

  const slots = () => shown?.report.series ?? [];
  const step = () => (width - left) / Math.max(slots().length, 1);

  /** Draw all but what follows the pointer. */
  const redraw = () => {
    svg.replaceChildren();
    svg.setAttribute("width", String(width));
    const series = slots();
    if (!shown || !series.length || frame.hidden || width < 1) return;
    const highest = Math.max(...members.flatMap(({ key }) => series.map((slot) => slot[key] ?? 0)));
    const [ticks, label] = kind === "bars" ? [countTicks(highest), shortCount] : [durationTicks(highest), duration];
    top = ticks[ticks.length - 1];
    const labels = ticks.map((tick) => (tick ? label(tick) : "0"));
    left = Math.ceil(Math.max(...labels.map((one) => one.length), 4) * LETTER) + 8;
    const box = { width: width - left, height: HEIGHT - ABOVE - BELOW };
    for (const [index, one] of labels.entries()) {
      const y = Math.round(ABOVE + box.height * (1 - ticks[index] / top)) + 0.5;
      svg.append(
        draw("path", { class: index ? "grid" : "grid axis", d: `M${left} ${y}H${width}` }),
        draw("text", { class: "value", x: left - 8, y: y + 4 }, one),
      );
    }
    const starts = series.map(({ start }) => start);
    for (const tick of timeTicks(starts, shown.report.interval, Math.max(Math.floor(box.width / LABEL), 2))) {
      const x = Math.round(left + (tick.index + 0.5) * step()) + 0.5;
      svg.append(
        draw("path", { class: "grid", d: `M${x} ${HEIGHT - BELOW + 1}v5` }),
        draw("text", { class: "time", x: Math.min(x, width - tick.label.length * LETTER / 2), y: HEIGHT - 6 }, tick.label),
      );
    }
    const isDense = step() < DENSE;
    element.classList.toggle("dense", isDense);
    const area = draw("g", { transform: `translate(${left} ${ABOVE})` });
    for (const { key, style } of [...members].reverse()) { // the first is drawn above the others
      const values = series.map((slot) => slot[key]);
      if (kind === "bars") {
        const counts = values.map((value) => value ?? 0);
        const running = isDense ? -1 : shown.running;
        const whole = counts.map((value, index) => (index === running ? 0 : value));
        area.append(draw("path", { class: style, d: bars(whole, top, box) }));
        if (running >= 0) area.append(draw("path", { class: `${style} running`, d: bars(counts, top, box, running) }));
        continue;
      }
      const { path, alone } = line(values, top, box);
      area.append(draw("path", { class: style, d: path }));
      area.append(...alone.map(([cx, cy]) => draw("circle", { class: `${style} dot`, cx, cy, r: 2.5 })));
    }
    svg.append(area, mark);
    point();
  };

  /** Show the point at which the pointer or the keyboard is. */
  const point = () => {
    mark.replaceChildren();
    const slot = slots()[at];
    if (!shown || !slot || isHushed || !frame.matches(":focus-visible, .pointed")) return;
    const height = HEIGHT - ABOVE - BELOW;
    const x = left + (at + 0.5) * step();
    const wide = Math.max(step(), 1);
    mark.append(draw("rect", { class: "band", x: x - wide / 2, y: ABOVE, width: wide, height }));
    if (kind === "lines") {
      for (const { key, style } of members) {
        const value = slot[key];
        if (value !== null) mark.append(draw("circle", { class: `${style} dot`, cx: x, cy: ABOVE + height * (1 - value / top), r: 4 }));
      }
    }
    const lines = [shown.texts.point(slot.start) + (at === shown.running ? ", so far" : ""), ...told(setup, slot)];
    const words = draw("text", {}, ...lines.map((one, index) => draw("tspan", { x: 10, dy: index ? 18 : 19 }, one)));
    const tip = draw("g", { class: "tip" }, words);
    mark.append(tip);
    const room = { width: Math.ceil(words.getBBox().width) + 20, height: lines.length * 18 + 10 };
    tip.prepend(draw("rect", { ...room, rx: 7 }));
    // Beside the point, so that it is not covered, and inside the plot where it fits there.
    const beside = x + 12 + room.width <= width ? x + 12 : x - 12 - room.width;
    tip.setAttribute("transform", `translate(${Math.round(Math.max(Math.min(beside, width - room.width), 0))} 2)`);
  };

  /** What is read out of the point. */
  const say = () => {
    const slot = slots()[at];
    if (!shown || !slot) return;
    frame.setAttribute("aria-valuenow", String(at + 1));
    const running = at === shown.running ? ", so far" : "";
    frame.setAttribute("aria-valuetext", `${shown.texts.point(slot.start)}${running}. ${told(setup, slot).join(", ")}`);
  };
  /** @param {number} index */
  const go = (index) => {
    at = Math.min(Math.max(index, 0), slots().length - 1);
    isHushed = false;
    say();
    point();
  };

  const rows = () => {
    if (!shown || !details.open) return table.replaceChildren();
    const { texts, running } = shown;
    const head = [texts.column, ...members.map(({ label }) => label)].map((one) => make("th", { scope: "col" }, one));
    const body = slots().map((slot, index) => make("tr", {},
      make("th", { scope: "row" }, texts.point(slot.start) + (index === running ? ", so far" : "")),
      ...members.map(({ key }) => make("td", {}, slot[key] === null ? "–" : setup.value(slot[key])))));
    return table.replaceChildren(make("table", {},
      make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...body)));
  };

  /** @param {PointerEvent} event */
  const follow = (event) => {
    const x = event.clientX - svg.getBoundingClientRect().left - left;
    frame.classList.add("pointed");
    go(Math.floor(x / step()));
  };
  const leave = () => {
    frame.classList.remove("pointed");
    isHushed = false;
    point();
  };
  frame.addEventListener("pointerdown", follow);
  frame.addEventListener("pointermove", follow);
  // A finger leaves when it is lifted: what it pointed at stays, until another place is touched.
  frame.addEventListener("pointerleave", (event) => event.pointerType === "touch" || leave());
  frame.addEventListener("focus", point);
  frame.addEventListener("blur", leave);
  frame.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const page = shown?.report.interval === "hour" ? DAY / HOUR : 7;
    /** @type {Record<string, number>} */
    const steps = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -page, PageUp: page };
    const last = slots().length - 1;
    if (event.key === "Escape") {
      isHushed = true;
      return point();
    }
    if (event.key in steps) go(at + steps[event.key]);
    else if (event.key === "Home" || event.key === "End") go(event.key === "Home" ? 0 : last);
    else return;
    event.preventDefault();
  });
  details.addEventListener("toggle", rows);
  new ResizeObserver(([{ contentRect }]) => {
    if (Math.floor(contentRect.width) === width) return;
    width = Math.floor(contentRect.width);
    redraw();
  }).observe(element.querySelector(".room") ?? element);

  const arrange = () => {
    const isEmpty = !slots().some((slot) => members.some(({ key }) => slot[key]));
    about.textContent = shown ? `${text} ${shown.texts.per}` : text;
    nothing.textContent = shown && isEmpty ? empty : "";
    frame.hidden = isEmpty;
    details.classList.toggle("unseen", isEmpty);
    if (isEmpty) details.open = false;
    redraw();
    rows();
  };
  const clear = () => {
    shown = null;
    arrange();
  };
  clear();
  return {
    element,
    clear,
    show(report, now) {
      const texts = timeTexts(report.interval);
      const length = report.interval === "hour" ? HOUR : DAY;
      const running = report.series.findIndex(({ start }) => start <= now && now < start + length);
      const same = shown?.report.from === report.from && shown.report.interval === report.interval;
      shown = { report, texts, running };
      const last = report.series.length - 1;
      at = same ? Math.min(at, last) : last;
      const reached = { role: "slider", tabindex: "0", "aria-labelledby": id, "aria-describedby": about.id };
      for (const [name, value] of Object.entries(reached)) frame.setAttribute(name, value);
      frame.setAttribute("aria-valuemin", "1");
      frame.setAttribute("aria-valuemax", String(last + 1));
      arrange();
      say();
    },
  };
};

/** @type {Pick<A.PlotSetup, "kind" | "value">} */
const COUNTS = { kind: "bars", value: count };

/** The plots of the page, from top to bottom. @type {A.PlotSetup[]} */
export const PLOTS = [
  {
    ...COUNTS, id: "plot-messages", title: "Messages", text: "Accepted messages of visitors,",
    members: [{ key: "messages", label: "Messages", style: "bar messages" }], empty: "No messages in this time yet",
  },
  {
    ...COUNTS, id: "plot-sessions", title: "Sessions", text: "Conversations that began,",
    members: [{ key: "sessions", label: "Sessions", style: "bar sessions" }], empty: "No sessions in this time yet",
  },
  {
    ...COUNTS, id: "plot-errors", title: "Errors", text: "Replies that failed,",
    members: [{ key: "errors", label: "Errors", style: "bar errors" }], empty: "No errors in this time",
  },
  {
    kind: "lines", value: duration, id: "plot-times", title: "Reply time", text: "From a message to the end of its reply,",
    members: [
      { key: "reply_ms_p50", label: "Half within (p50)", style: "line half" },
      { key: "reply_ms_p95", label: "95 % within (p95)", style: "line most" },
    ],
    empty: "No replies in this time yet",
  },
];
