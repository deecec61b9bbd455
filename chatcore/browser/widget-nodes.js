// Makes nodes without markup: elements, icons, buttons; style sheets that all widgets share.
/** @import * as W from "./widget.js" */

/** On a grid of 24. @type {Record<string, string>} */
const PATHS = {
  chat: "M20 11.5a8 8 0 0 1-11.6 7.1L4 20l1.4-4.3A8 8 0 1 1 20 11.5z",
  close: "M6 6l12 12M18 6 6 18",
  fold: "M5 9l7 7 7-7",
  back: "M15 5l-7 7 7 7",
  list: "M4 7h16M4 12h16M4 17h9",
  clip: "M19.5 11.5l-7.4 7.3a4.6 4.6 0 0 1-6.5-6.5l7.9-7.9a3 3 0 0 1 4.3 4.3l-7.9 7.9a1.5 1.5 0 0 1-2.1-2.1l7-7",
  fresh: "M12 5v14M5 12h14",
  send: "M12 19V5M6 11l6-6 6 6",
  stop: "M7 7h10v10H7z",
  latest: "M12 5v14M6 13l6 6 6-6",
  copy: "M9 9h11v11H9zM15 9V4H4v11h5",
  check: "M5 12.5l4.5 4.5L19 7.5",
  thumb: "M8 11l3.6-7c1.5 0 2.6 1.2 2.3 2.7L13.3 10h4.9c1.2 0 2 1 1.8 2.2l-1 6c-.2 1-1 1.8-2 1.8H8zM4 11h4v9H4z",
  again: "M19.5 13a7.5 7.5 0 1 1-2-6l2.5 2.5M20 4.5v5h-5",
};

// Functions listen (`onclick`), other values are attributes, left out where null or false.
/** @type {W.Make} */
export const make = (tag, attributes = {}, ...children) => {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (value || value === "") element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
};

/** By its name, or a path of one's own. @param {string} name */
export const icon = (name) => {
  const [svg, path] = ["svg", "path"].map((tag) => document.createElementNS("http://www.w3.org/2000/svg", tag));
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  path.setAttribute("d", PATHS[name] ?? name);
  svg.append(path);
  return svg;
};

/** @type {W.IconButton} */
export const iconButton = (name, label, onclick, attributes) =>
  make("button", {
    type: "button", class: "icon", "aria-label": label, title: label, onclick, ...attributes,
  }, icon(name));

/** @type {Map<string, CSSStyleSheet>} */
const sheets = new Map();

/** Give a shadow root a style sheet, made once for all. @type {(shadow: ShadowRoot, text: string) => void} */
export const adopt = (shadow, text) => {
  const sheet = sheets.get(text) ?? new CSSStyleSheet();
  if (!sheets.has(text)) sheet.replaceSync(text);
  sheets.set(text, sheet);
  if (!shadow.adoptedStyleSheets.includes(sheet)) shadow.adoptedStyleSheets = [...shadow.adoptedStyleSheets, sheet];
};
