// Sends a request with files and tells how far it is: XMLHttpRequest, since `fetch` does not tell.

/**
 * For so long nothing may move. A slow network still carries what the system has taken from the browser long ago, some
 * megabytes, while nothing is told; the server itself gives up sooner.
 */
const STALL_MS = 180_000;
const WITHOUT_BODY = [204, 205, 304];

/**
 * As `fetch`, with the JSON body as the form's part `request` and then each file as `files`. Its headers resolve it; the
 * body comes as it is read, and must be UTF-8. Fails as `fetch`, and where somebody else answered: it can't refuse to
 * follow a redirect.
 * @param {string} url
 * @param {RequestInit} init method, headers, body (a text) and signal are used
 * @param {File[]} files
 * @param {(share: number) => void} told 0 to 1, and 1 once all of it has left
 * @param {new () => XMLHttpRequest} [Request]
 * @returns {Promise<Response>}
 */
export const upload = (url, { method = "POST", headers, body, signal }, files, told, Request = XMLHttpRequest) =>
  new Promise((resolve, reject) => {
    const form = new FormData();
    form.append("request", String(body));
    for (const file of files) form.append("files", file, file.name);
    const request = new Request();
    const encoder = new TextEncoder();
    /** @type {ReadableStreamDefaultController<Uint8Array> | null} */
    let stream = null;
    let read = 0;
    /** @type {any} */
    let timer;

    /** @param {DOMException | TypeError} error */
    const fail = (error) => {
      end();
      request.abort();
      reject(error);
      stream?.error(error);
      stream = null;
    };
    const stop = () => fail(new DOMException("Aborted", "AbortError"));
    const end = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", stop);
      request.onreadystatechange = request.onprogress = request.onerror = request.onload = null;
      request.upload.onprogress = request.upload.onload = null;
    };
    const moved = () => {
      clearTimeout(timer);
      timer = setTimeout(() => fail(new TypeError("nothing moves")), STALL_MS);
    };
    const more = () => {
      const text = request.responseText;
      if (text.length > read) stream?.enqueue(encoder.encode(text.slice(read)));
      read = text.length;
    };
    const answered = () => {
      if (request.readyState !== 2 || !request.status) return;
      clearTimeout(timer); // who reads the body watches over it
      if (request.responseURL && request.responseURL !== new URL(url).href) {
        return fail(new TypeError("redirected"));
      }
      const { status } = request;
      const content = new ReadableStream({
        start: (controller) => void (stream = controller),
        cancel() {
          stream = null;
          end();
          request.abort();
        },
      });
      resolve(new Response(WITHOUT_BODY.includes(status) ? null : content, { status, headers: headersOf(request) }));
    };

    request.open(method, url);
    for (const [name, value] of Object.entries(headers ?? {})) {
      if (name !== "Content-Type") request.setRequestHeader(name, value); // the form's own names its boundary
    }
    request.upload.onprogress = ({ loaded, total }) => {
      moved();
      told(Math.min(loaded / total, 0.99) || 0);
    };
    request.upload.onload = () => {
      moved();
      told(1);
    };
    request.onreadystatechange = answered;
    request.onprogress = more;
    request.onerror = () => fail(new TypeError("network error"));
    request.onload = () => {
      more();
      end();
      stream?.close();
    };
    signal?.addEventListener("abort", stop);
    if (signal?.aborted) return stop();
    moved();
    told(0);
    request.send(form);
  });

/** Those that the server lets a page see. @param {XMLHttpRequest} request */
const headersOf = (request) => {
  const headers = new Headers();
  for (const line of request.getAllResponseHeaders().split("\r\n")) {
    const colon = line.indexOf(":");
    if (colon > 0) headers.append(line.slice(0, colon), line.slice(colon + 1).trim());
  }
  return headers;
};
