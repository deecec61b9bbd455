// Speaks the server's HTTP contract: sessions and tokens, sending, streaming, resuming, stopping.
/** @import * as Parts from "./api-client-parts.js" */
import { ChatError, failureOf } from "./chat-error.js";
import { createEventParser } from "./sse.js";

export { ChatError, failureOf };

const STREAM = { Accept: "text/event-stream" };
const TEXTS = /** @type {any} */ ({ start: "session_id", delta: "content", content: "content", done: "finish_reason" });

/** JSON, its texts as the server takes them. @param {unknown} value */
const jsonOf = (value) =>
  JSON.stringify(value, (_, text) => (typeof text === "string" ? text.replace(/[\0\ud800-\udfff]/gu, "\ufffd") : text));
/** In bytes. @param {unknown} value */
const sizeOf = (value) => new TextEncoder().encode(jsonOf(value)).length;

/** Origin and path; a server refuses long addresses, and those of files. @param {string} [url] */
const pageOf = (url = "") => /^https?:[^?#]{1,2000}/i.exec(url)?.[0];

/** @type {Parts.TokenOf} */
const tokenOf = ({ session_id, token, expires_at, features, used }) => {
  const fit = [session_id, token].every((text) => typeof text === "string" && /^[!-~]{1,8192}$/.test(text));
  return fit && Number.isFinite(expires_at) ? { session_id, token, expires_at, features, used } : null;
};

/** The code of what another token may cure; raises all else. @type {Parts.TokenFault} */
const tokenFault = (error) => {
  if (/^token_/.test(error.code)) return error.code;
  throw error;
};

/** The client of one server. @type {Parts.CreateApiClient} */
export const createApiClient = ({
  server, bot, sessionOptions, localStorage, locks = globalThis.navigator?.locks, fetch = globalThis.fetch,
  now = Date.now, setTimeout = globalThis.setTimeout, clearTimeout = globalThis.clearTimeout,
}) => {
  const root = server.replace(/\/+$/, "");
  /** @param {string} conversation */
  const keyOf = (conversation) => `chatcore/token/${root}/${conversation}`;
  const memory = /** @type {Map<string, Parts.Token | null>} */ (new Map()); // what could not be stored
  const turns = /** @type {Map<string, Promise<unknown>>} */ (new Map());
  const storage = () => localStorage ?? globalThis.localStorage; // raises where it is denied

  /** @type {Parts.ReadToken} */
  const read = (key) => {
    const kept = memory.get(key);
    if (kept !== undefined) return kept;
    try {
      return tokenOf(JSON.parse(storage().getItem(key) ?? ""));
    } catch {
      return null;
    }
  };

  /** @type {Parts.WriteToken} */
  const write = (key, token) => {
    const put = () => (token ? storage().setItem(key, JSON.stringify(token)) : storage().removeItem(key));
    memory.set(key, token);
    try {
      try {
        put();
      } catch {
        for (const one of Object.keys(storage()))
          if (/^chatcore\/token\//.test(one) && !((read(one)?.expires_at ?? 0) > now())) storage().removeItem(one);
        put();
      }
      memory.delete(key);
    } catch {
      // memory has it
    }
  };

  /** Wait, but neither for ever nor beyond an abort. @type {Parts.Within} */
  const within = async (work, signal, ms = 60e3) => {
    const controller = new AbortController();
    const stop = () => controller.abort();
    const timer = setTimeout(stop, ms);
    signal?.addEventListener("abort", stop);
    try {
      return await new Promise((resolve, reject) => {
        controller.signal.onabort = reject;
        if (signal?.aborted) stop();
        else work(controller.signal).then(resolve, reject);
      });
    } catch (error) {
      if (signal?.aborted) throw new DOMException("Aborted", "AbortError");
      throw error instanceof ChatError ? error : new ChatError("network");
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener("abort", stop);
    }
  };

  /** @type {Parts.BytesOf} */
  async function* bytesOf({ body }, signal) {
    const reader = body?.getReader();
    let left = 2 ** 28;
    try {
      while (reader) {
        const { done, value } = await within(() => reader.read(), signal, 45e3); // a ping comes every 15 s
        if (done) return;
        if ((left -= value.length) < 0) throw new ChatError("invalid_answer");
        yield value;
      }
    } finally {
      reader?.cancel().catch(() => {});
    }
  }

  /** An object, without members where the answer is no JSON. @type {Parts.DocumentOf} */
  const documentOf = async (response, signal) => {
    const parts = [];
    for await (const bytes of bytesOf(response, signal)) parts.push(bytes);
    return Object(await new Response(new Blob(parts)).json().catch(() => 0));
  };

  /** @type {Parts.Ask} */
  const ask = async (method, path, token, { headers, data, keepalive, through } = {}, outer) => {
    const request = (/** @type {AbortSignal} */ signal) =>
      (through ?? fetch)(`${root}/api/v1/${path}`, {
        method,
        headers: {
          ...headers,
          ...(data && { "Content-Type": "application/json" }),
          ...(token && { Authorization: `Bearer ${token.token}`, "X-Chat-Session": token.session_id }),
        },
        body: data && jsonOf(data),
        keepalive,
        signal,
        cache: "no-store",
        credentials: "omit",
        redirect: "error", // nobody else gets the token
        referrerPolicy: "strict-origin", // with none, some browsers send `Origin: null`
      });
    const response = await within(request, outer, through && 2e9); // it sees itself whether it gets on
    if (response.ok) return response;
    throw new ChatError(`http_${response.status}`, await documentOf(response, outer), response);
  };

  /** Gives another tab's token, a refreshed one, or for what is `outgoing` a new session's. @type {Parts.Renew} */
  const renew = async (key, old, fault, outgoing) => {
    const stored = read(key);
    if (stored && stored.token !== old?.token) return stored;
    let response;
    if (stored && fault === "token_expired") response = await ask("POST", "session/refresh", stored).catch(tokenFault);
    if (!response?.ok) {
      write(key, null);
      if (!outgoing) throw new ChatError("reply_gone");
      const data = { bot: bot || undefined, page_url: pageOf(outgoing.page_url), ...(await sessionOptions?.()) };
      response = await ask("POST", "session", null, { data });
    }
    const given = await documentOf(response);
    const expires_at = now() + given.expires_in_seconds * 1e3; // the server's clock may differ
    const fresh = tokenOf({ ...given, expires_at, used: read(key)?.used });
    if (!fresh) throw new ChatError("invalid_answer");
    write(key, fresh);
    return fresh;
  };

  /** The same, one at a time. @type {Parts.Renew} */
  const renewInTurn = (key, ...rest) => {
    const work = () => within(() => renew(key, ...rest), undefined, 300e3); // the page may ask the visitor
    const turn = Promise.resolve(turns.get(key))
      .then(() => locks.request(key, work))
      .catch((error) => (error instanceof ChatError ? Promise.reject(error) : work())); // there are no locks
    turns.set(key, turn.catch(() => {}));
    return turn;
  };

  /** What the server gets; a new session, with what was said before. @type {Parts.DataOf} */
  const dataOf = async ({ history, page_url, message, message_id, metadata }, { used, features }, signal) => {
    const data = { message, message_id, metadata, page_url: pageOf(page_url) };
    const entries = [];
    if (history && !used && features?.history === true) {
      let room = Math.min(6e4, 2e5 - sizeOf(data)) - 20;
      for (const entry of (await within(history, signal).catch(() => [])).slice(-20).reverse()) {
        room -= sizeOf(entry) + 1;
        if (room < 0) break;
        entries.unshift(entry);
      }
    }
    return entries[0] ? { ...data, history: entries } : data;
  };

  /** Ask with the conversation's token; only what is `outgoing` makes a new session. @type {Parts.Call} */
  const call = async (conversation, method, path, asked, signal, outgoing) => {
    const key = keyOf(conversation);
    let token = read(key);
    let fault = token && token.expires_at - now() > 60e3 ? "" : "token_expired";
    for (let tries = 3; ; tries--) {
      const old = token;
      if (fault || !token) token = await within(() => renewInTurn(key, old, fault, outgoing), signal, 300e3);
      try {
        const through = outgoing?.through;
        if (through && !token.features?.uploads) throw new ChatError("uploads_off");
        const data = outgoing && (await dataOf(outgoing, token, signal));
        const response = await ask(method, path, token, { data, through, ...asked }, signal);
        const stored = outgoing && read(key);
        if (stored?.session_id === token.session_id) write(key, { ...stored, used: true });
        return response;
      } catch (error) {
        fault = tokenFault(error);
        if (tries < 2) throw error;
      }
    }
  };

  /** @type {Parts.Order} */
  const order = async (...args) => {
    if ((await call(...args)).status !== 204) throw new ChatError("invalid_answer");
  };

  /** @type {Parts.EventOf} */
  const eventOf = (type, id, given) => {
    if (type === "error") return { type, id, failure: failureOf(new ChatError("invalid_answer", given), now()) };
    const member = TEXTS[type];
    if (!member) return {};
    const text = given[member];
    if (typeof text !== "string" || (type === "done" && !/^(complete|stopped|error)$/.test(text))) {
      throw new ChatError("invalid_answer");
    }
    return { type, id, [member]: text };
  };

  /** What comes behind event `last`. @type {Parts.EventsOf} */
  async function* eventsOf(response, last, signal) {
    if (!response.headers.get("Content-Type")?.includes(STREAM.Accept)) {
      const document = await documentOf(response, signal);
      if (!last) yield eventOf("start", ++last, document);
      yield eventOf("content", ++last, document);
      if (document.error) yield eventOf("error", ++last, document.error);
      return yield eventOf("done", ++last, document);
    }
    const parser = createEventParser();
    for await (const bytes of bytesOf(response, signal)) {
      let events;
      try {
        events = parser.push(bytes).map(({ event, data, id }) => eventOf(event, Number(id), JSON.parse(data)));
      } catch {
        throw new ChatError("invalid_answer");
      }
      for (const event of events) {
        if (!Number.isSafeInteger(event.id) || event.id <= last) continue;
        last = event.id;
        yield event;
        if (event.type === "done") return;
      }
    }
    throw new ChatError("network");
  }

  /** @param {string} id */
  const pathOf = (id) => `chat/${encodeURIComponent(id)}`;

  return {
    async *send(conversation, outgoing, signal) {
      yield* eventsOf(await call(conversation, "POST", "chat", { headers: STREAM }, signal, outgoing), 0, signal);
    },
    async *resume(conversation, id, after, signal) {
      const headers = { ...STREAM, ...(after > 0 && { "Last-Event-ID": `${after}` }) };
      let response = await call(conversation, "GET", pathOf(id), { headers }, signal);
      // Everything was read: the whole text tells how it ended.
      if (response.status === 204) response = await call(conversation, "GET", pathOf(id), {}, signal);
      yield* eventsOf(response, after, signal);
    },
    stop: (conversation, id) => order(conversation, "DELETE", pathOf(id)),
    rate: (conversation, id, rating) => order(conversation, "POST", `${pathOf(id)}/feedback`, { data: { rating } }),
    async features(conversation, outgoing) {
      const key = keyOf(conversation);
      return (read(key) ?? (outgoing && (await renewInTurn(key, null, "", outgoing))))?.features;
    },
    async erase(conversation) {
      await turns.get(keyOf(conversation));
      try {
        await order(conversation, "DELETE", "session", { keepalive: true });
      } catch (error) {
        if (!/gone|found|http_40[14]/.test(failureOf(error, 0).code)) throw error;
      } finally {
        write(keyOf(conversation), null);
      }
    },
  };
};
