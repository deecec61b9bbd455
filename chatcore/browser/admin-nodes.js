// What the views of the operators' page make nodes of: parts of the page by their id, names from outside, times, bars.
import { visible } from "./admin-figures.js";
import { make } from "./widget-nodes.js";

const LONG_NAME = 80;

/** A part of the page. @template {HTMLElement} T @param {string} id @param {new () => T} kind */
export const find = (id, kind) => {
  const found = document.getElementById(id);
  if (!(found instanceof kind)) throw new TypeError(`the page has no ${id}`);
  return found;
};

/** A name from outside: it is only text, and where it is very long, it is shortened until somebody asks. @param {string} name */
export const named = (name) => {
  if (name === "") return make("em", {}, "(none)");
  name = visible(name);
  if (name.length <= LONG_NAME) return make("bdi", { dir: "ltr" }, name);
  // By characters, so that none is cut in half.
  const start = [...name.slice(0, 2 * LONG_NAME)].slice(0, LONG_NAME).join("");
  return make("details", { class: "long" }, make("summary", {},
    make("bdi", { class: "start", dir: "ltr" }, `${start}…`), make("bdi", { class: "whole", dir: "ltr" }, name)));
};

/** How long a row's bar is, drawn behind its name. @param {number} part @param {number} whole */
export const bar = (part, whole) => {
  const [svg, rect] = ["svg", "rect"].map((tag) => document.createElementNS("http://www.w3.org/2000/svg", tag));
  svg.setAttribute("class", "share");
  svg.setAttribute("aria-hidden", "true");
  rect.setAttribute("width", `${whole ? Math.round((part / whole) * 1000) / 10 : 0}%`);
  rect.setAttribute("height", "100%");
  svg.append(rect);
  return svg;
};
