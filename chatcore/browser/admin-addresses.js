// The addresses of the operators' page: what stands behind its # becomes a view, and the other way round. Pure.
/** @import * as A from "./admin-types.js" */

/** @type {A.Filter} */
export const NO_FILTER = { q: "", origin: "", bot: "", from: "", to: "" };

/** @param {URLSearchParams} given @param {string} name */
const part = (given, name) => (given.get(name) ?? "").trim();

/** What an address shows; where it is none of ours, the figures. @param {string} hash @returns {A.Address} */
export const readAddress = (hash) => {
  const [, path, query] = /^#?([^?]*)\??(.*)$/s.exec(hash) ?? [];
  if (path === "audit") return { view: "audit" };
  if (path === "conversations") {
    const given = new URLSearchParams(query);
    const filter = { ...NO_FILTER };
    for (const name of /** @type {(keyof A.Filter)[]} */ (Object.keys(filter))) filter[name] = part(given, name);
    return { view: "conversations", filter };
  }
  const found = /^session\/([^/]+)$/.exec(path);
  try {
    if (found) return { view: "session", id: decodeURIComponent(found[1]) };
  } catch {
    // No address that we made.
  }
  return { view: "figures" };
};

/** @param {A.Address} address */
export const writeAddress = (address) => {
  if (address.view === "session") return `#session/${encodeURIComponent(address.id)}`;
  if (address.view !== "conversations") return `#${address.view}`;
  const asked = new URLSearchParams(Object.entries(address.filter).map(([name, value]) => [name, value.trim()]).filter(([, value]) => value));
  return `#conversations${asked.size ? `?${asked}` : ""}`;
};
