// Asks the server, and says in a sentence why there is no answer.
import { readReport } from "./admin-figures.js";
import { timestamp } from "./admin-times.js";
/** @import * as A from "./admin-types.js" */

const LONGEST_WAIT = 30_000;
const UNREADABLE = "The server's answer could not be read. Is there something else at this address?";

/** @param {unknown} seconds */
const wait = (seconds) => {
  if (typeof seconds !== "number" || !(seconds > 0)) return "in a minute";
  const whole = Math.ceil(seconds);
  return whole < 120 ? `in ${whole} ${whole === 1 ? "second" : "seconds"}` : `in ${Math.ceil(whole / 60)} minutes`;
};

/** What is wrong with each part of the question, as the server tells. @param {unknown} faults */
const parts = (faults) => (Array.isArray(faults) ? faults : []).slice(0, 5)
  .map((fault) => `${Object(fault).field} ${Object(fault).message}`.slice(0, 200)).join("; ");

/** Why there is no answer. @param {number} status @param {unknown} problem @param {A.Texts} texts @returns {A.Refused} */
export const refusal = (status, problem, { none, unavailable, unknown }) => {
  const { code, detail, errors, retry_after: seconds } = Object(problem);
  const told = typeof detail === "string" ? detail.slice(0, 500) : "";
  const wrong = parts(errors);
  if (status === 401) return { said: "The server does not know this token. Sign in with one of its admin tokens.", why: "token" };
  const said = code === "rate_limited" ? `There were too many wrong tokens from your address. Try again ${wait(seconds)}.`
    : code === "not_stored" ? `${none} ${told}`.trim()
    : code === "not_found" && unknown ? unknown
    : code === "store_unavailable" ? unavailable
    : wrong ? `The server does not accept this: ${wrong}.`
    : told || `The server answered with status ${status}.`;
  const isQuestion = wrong || said === unknown;
  return { said, why: code === "not_stored" ? "not stored" : isQuestion ? "question" : "other" };
};

/**
 * Ask the server. Raises AbortError where `signal` says so, and nothing else.
 * @template T
 * @param {string} token @param {A.Request<T>} request @param {AbortSignal} signal @returns {Promise<A.Answer<T>>}
 */
export const ask = async (token, { method = "GET", path, parameters, read, texts }, signal) => {
  // A header carries nothing else, and neither does a token of the server.
  if (!/^[\x21-\x7e]+$/.test(token)) return refusal(401, null, texts);
  const asked = new URLSearchParams(Object.entries(parameters ?? {}).filter(([, value]) => value));
  const late = AbortSignal.timeout(LONGEST_WAIT);
  const ended = new AbortController();
  for (const one of [signal, late]) one.addEventListener("abort", () => ended.abort(one.reason), { once: true });
  try {
    const response = await fetch(`api/v1/admin/${path}${asked.size ? `?${asked}` : ""}`, {
      method,
      headers: { Authorization: `Bearer ${token}` },
      cache: "no-store",
      signal: ended.signal,
    });
    /** @type {unknown} */
    const document = response.status === 204 ? undefined : await response.json().catch((error) => {
      if (ended.signal.aborted) throw error;
      return null; // a proxy's page, or half an answer
    });
    if (!response.ok) return refusal(response.status, document, texts);
    try {
      return { found: read(document) };
    } catch {
      return { said: UNREADABLE, why: "other" };
    }
  } catch (error) {
    if (signal.aborted) throw error;
    const said = late.aborted ? "The server took too long to answer. Try again." : "The server cannot be reached. Check the connection and try again.";
    return { said, why: "other" };
  }
};

/** The figures of some time. @param {A.Query} query @returns {A.Request<A.Report>} */
export const figures = ({ from, to, interval, bot }) => ({
  path: "analytics",
  parameters: { from: timestamp(from), to: timestamp(to), interval, bot },
  read: readReport,
  texts: { none: "This server keeps no figures.", unavailable: "The figures cannot be read right now. Try again in a moment." },
});
