// What of chosen files may be sent, and how files are named: pure, in any language.
/** @import { UploadLimits } from "./types.js" */

const MAX_NAME = 60; // of a name within a sentence
const MAX_TEXT = 10_000; // of a message
const HIDDEN = /[\0-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g; // they make names look like others

/** A name as it may be shown. @param {string} name */
export const shownName = (name) => name.replace(HIDDEN, "\ufffd");

/** The same within a sentence: short, and of its own direction. @param {string} name */
export const quotedName = (name) => {
  const letters = [...shownName(name)];
  const short = letters.length > MAX_NAME ? [...letters.slice(0, MAX_NAME - 11), "…", ...letters.slice(-10)] : letters;
  return `\u2068${short.join("")}\u2069`;
};

/** What a message says that has no words. @param {{ name: string }[]} files */
export const textOf = (files) => {
  const names = files.map(({ name }) => name.slice(0, 255)).join(", ");
  return names.trim() ? [...names].slice(0, MAX_TEXT).join("") : "file";
};

/** "1.5 MB", to the language's habits. @param {number} bytes @param {string} locale */
export const sizeText = (bytes, locale) => {
  const power = bytes < 1000 ? 0 : bytes < 999_500 ? 1 : bytes < 999_500_000 ? 2 : 3;
  const unit = ["byte", "kilobyte", "megabyte", "gigabyte"][power];
  const maximumFractionDigits = power > 1 ? 1 : 0;
  const unitDisplay = power ? "short" : "long";
  return new Intl.NumberFormat(locale, { style: "unit", unit, unitDisplay, maximumFractionDigits })
    .format(bytes / 1000 ** power);
};

/**
 * Whether a MIME type is one of `types`; what the browser does not know, the server looks at.
 * @type {(type: string, types: string[]) => boolean}
 */
const isTaken = (type, types) =>
  !type || types.some((one) => one === "*/*" || one === type || (one.endsWith("/*") && type.startsWith(one.slice(0, -1))));

/**
 * Why a file can't go along: `off` (no files at all), `many`, `large`, `type`; empty where it can.
 * @param {{ size: number, type: string }} file
 * @param {number} before how many go along already
 * @param {UploadLimits | null} limits
 * @returns {"" | "off" | "many" | "large" | "type"}
 */
export const faultOf = ({ size, type }, before, limits) => {
  if (!limits) return "off";
  if (before >= limits.max_files) return "many";
  if (size > limits.max_bytes) return "large";
  return isTaken(type.replace(/;.*/, "").trim().toLowerCase(), limits.types) ? "" : "type";
};

/**
 * What may be sent, for people: "images, PDF, or text".
 * @param {string[]} types @param {string} locale
 * @param {Record<string, string | undefined>} words for the kinds `image`, `audio`, `video`, `text`
 */
export const typesText = (types, locale, words) => {
  const names = types.map((type) => {
    const [kind, sub = ""] = type.split("/");
    if (sub === "*" || type === "text/plain") return words[kind] ?? type;
    return /^[a-z0-9]{1,5}$/.test(sub) ? sub.toUpperCase() : type;
  });
  return new Intl.ListFormat(locale, { type: "disjunction" }).format(new Set(names));
};
