// Reads parts of the server's answers; whatever is not what the contract says throws TypeError.

/** @param {unknown} value @returns {Record<string, unknown>} */
export const record = (value) => {
  if (typeof value !== "object" || value === null) throw new TypeError("no object");
  return /** @type {Record<string, unknown>} */ (value);
};
/** @param {unknown} value */
export const number = (value) => {
  if (typeof value !== "number" || !(value >= 0 && value <= Number.MAX_SAFE_INTEGER)) throw new TypeError("no number");
  return value;
};
/** @param {unknown} value */
export const time = (value) => {
  const moment = typeof value === "string" ? Date.parse(value) : NaN;
  if (Number.isNaN(moment)) throw new TypeError("no time");
  return moment;
};
/** @param {unknown} value @returns {unknown[]} */
export const list = (value) => {
  if (!Array.isArray(value)) throw new TypeError("no list");
  return value;
};
/** @param {unknown} value */
export const text = (value) => {
  if (typeof value !== "string") throw new TypeError("no text");
  return value;
};
/** As `text`, or null where there is none. @param {unknown} value */
export const textOrNull = (value) => (value === null || value === undefined ? null : text(value));
