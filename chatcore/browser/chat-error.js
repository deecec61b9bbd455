// What a call to the server failed with, and what is kept of that.
/** @import * as Parts from "./api-client-parts.js" */

/** A call that failed, with the server's code or one of ours: `network`, `invalid_answer`, `http_<status>`. */
export class ChatError extends Error {
  /** @param {string} code where `problem` has none @param {Parts.Unchecked} [problem] @param {Response} [response] */
  constructor(code, problem, response) {
    const named = typeof problem?.code === "string" && /^[a-z]\w{0,63}$/.test(problem.code);
    const { detail, retry_after, content, errors } = named ? problem : {};
    const status = response?.status;
    const sentence = status ? `The server answered with status ${status}.` : code;
    super(typeof detail === "string" ? detail.slice(0, 999) : sentence);
    this.code = named ? problem.code : code;
    this.detail = this.message;
    this.status = status;
    const seconds = typeof retry_after === "number" ? retry_after : Number(response?.headers.get("Retry-After"));
    this.retryAfter = seconds > 0 && seconds < 1e7 ? seconds : undefined;
    this.content = typeof content === "string" ? content : "";
    this.errors = errors;
  }
}

/** What is stored of a failure. @param {unknown} error @param {number} now @returns {Parts.Failure} */
export const failureOf = (error, now) => {
  const { code, detail, retryAfter, errors } = error instanceof ChatError ? error : new ChatError("internal_error");
  const file = /^files\[(\d{1,4})]$/.exec(errors?.[0]?.field)?.[1];
  const retry_at = retryAfter && new Date(now + retryAfter * 1e3).toISOString();
  return { code, detail, ...(retry_at && { retry_at }), ...(file && { file: Number(file) }) };
};
