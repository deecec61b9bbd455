// The demo page's chat: one session, one reply at a time, written against the public contract alone.

/** An answer of the server that is an error: a problem document (RFC 9457). */
class Problem extends Error {
  /** @param {{detail: string, code: string, retry_after?: number, content?: string}} document */
  constructor(document) {
    super(document.detail);
    this.code = document.code;
    this.retryAfter = document.retry_after;
    this.content = document.content ?? "";
  }
}

const find = (/** @type {string} */ id) => /** @type {HTMLElement} */ (document.getElementById(id));
const form = /** @type {HTMLFormElement} */ (find("form"));
const input = /** @type {HTMLTextAreaElement} */ (find("message"));
const [log, spoken, send, stop, copy] = ["log", "spoken", "send", "stop", "copy"].map(find);

/** @type {string | null} */
let token = null;
/** @type {string | null} */
let running = null;

/**
 * Ask the server; relative addresses, so that it works below any path.
 * @param {string} path
 * @param {RequestInit & {headers?: Record<string, string>}} options
 */
async function ask(path, options) {
  const headers = { ...options.headers, ...(token && { Authorization: `Bearer ${token}` }) };
  const answer = await fetch(`api/v1/${path}`, { ...options, headers });
  if (answer.ok) return answer;
  const document = answer.headers.get("content-type")?.includes("problem+json") ? await answer.json() : null;
  throw new Problem(document ?? { code: "", detail: `The server answered with status ${answer.status}.` });
}

/**
 * Read server-sent events as they come.
 * @param {ReadableStream<Uint8Array>} body
 */
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop() ?? "";
    for (const block of blocks) {
      const name = /^event: (.*)$/m.exec(block)?.[1];
      if (name) yield { name, data: JSON.parse(/^data: (.*)$/m.exec(block)?.[1] ?? "null") };
    }
  }
}

/**
 * Send a message and hand its reply on, piece by piece. The same id again joins the reply that runs or is kept.
 * @param {string} message
 * @param {string} id
 * @param {(text: string) => void} say
 */
async function chat(message, id, say) {
  if (!token) {
    const session = await (await ask("session", { method: "POST" })).json();
    token = session.token;
  }
  const answer = await ask("chat", {
    method: "POST",
    headers: { "Content-Type": "application/json", Accept: "text/event-stream" },
    body: JSON.stringify({ message, message_id: id, page_url: location.origin + location.pathname }),
  });
  if (!answer.body) throw new TypeError("no body");
  for await (const { name, data } of events(answer.body)) {
    if (name === "delta") say(data.content);
    if (name === "error") throw new Problem(data);
    if (name === "done") return data.finish_reason;
  }
  throw new TypeError("the stream ended early");
}

/**
 * Add an entry to the conversation.
 * @param {string} kind
 * @param {string} text
 */
function show(kind, text) {
  const entry = document.createElement("li");
  entry.className = kind;
  entry.textContent = text;
  log.append(entry);
  log.scrollTop = log.scrollHeight;
  return entry;
}

/** @param {unknown} error */
function sentence(error) {
  if (!(error instanceof Problem)) return "The connection was lost.";
  return error.retryAfter ? `${error.message} Try again in ${error.retryAfter} s.` : error.message;
}

/**
 * Carry one message through: show what comes, say it to screen readers once it is whole, offer another try.
 * @param {string} message
 * @param {string} id
 */
async function converse(message, id) {
  running = id;
  send.hidden = true;
  stop.hidden = false;
  const reply = show("theirs waiting", "");
  reply.setAttribute("aria-busy", "true");
  try {
    const ending = await chat(message, id, (text) => {
      const following = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
      reply.append(text);
      if (following) log.scrollTop = log.scrollHeight;
    });
    spoken.textContent = reply.textContent;
    if (ending === "stopped") show("note", "Stopped.");
  } catch (error) {
    if (error instanceof Problem) {
      if (error.code.startsWith("token_")) token = null;
      reply.append(error.content); // what was said of a reply that failed before its status went out
    }
    const fault = show("error", sentence(error));
    spoken.textContent = fault.textContent;
    const again = document.createElement("button");
    again.type = "button";
    again.textContent = "Try again";
    again.addEventListener("click", () => {
      if (running) return;
      fault.remove();
      reply.remove();
      input.focus();
      // A lost connection joins its reply by the same id; a reply that failed is asked for anew.
      void converse(message, error instanceof Problem ? newId() : id);
    });
    fault.append(again);
    log.scrollTop = log.scrollHeight;
  }
  reply.classList.remove("waiting");
  reply.removeAttribute("aria-busy");
  if (!reply.textContent) reply.remove();
  running = null;
  const focused = document.activeElement === stop;
  send.hidden = false;
  stop.hidden = true;
  if (focused) input.focus();
}

/** A random UUID; `crypto.randomUUID` is missing where a page came by plain http. */
function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const message = input.value;
  if (running || !message.trim()) return;
  document.getElementById("hint")?.remove();
  input.value = "";
  show("mine", message);
  void converse(message, newId());
});

input.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  form.requestSubmit();
});

stop.addEventListener("click", async () => {
  if (!running) return;
  try {
    await ask(`chat/${running}`, { method: "DELETE" });
  } catch (error) {
    spoken.textContent = sentence(error);
  }
});

copy.addEventListener("click", async () => {
  const example = find("example");
  try {
    await navigator.clipboard.writeText(example.textContent ?? "");
    copy.textContent = "Copied";
    setTimeout(() => (copy.textContent = "Copy"), 2000);
  } catch {
    getSelection()?.selectAllChildren(example); // no clipboard by plain http: ready for Ctrl+C
  }
});

input.focus({ preventScroll: true });
