// `<chat-widget>`: its attributes and its bubble. What costs more is loaded when somebody is about to chat.
import { chatPersistence } from "./chat-persistence.js";
import { adopt, icon, make } from "./widget-nodes.js";
import { stringsFor } from "./widget-strings.js";
import { WIDGET_STYLES } from "./widget-styles.js";
/** @import { ChatSession, SessionOptions } from "./types.js" */
/** @import * as W from "./widget.js" */

const HOME = /^(.*)\/widget\//.exec(import.meta.url)?.[1] ?? "/";
const DARK = "(prefers-color-scheme: dark)";

/** A chat, in a bubble in the page's corner or inline. */
export class ChatWidgetElement extends HTMLElement {
  static observedAttributes = [
    "server", "bot", "mode", "heading", "greeting", "suggestions", "lang", "allow-images", "theme",
  ];

  #shadow = this.attachShadow({ mode: "open" });
  #root = make("div", { class: "root" });
  #news = make("p", { class: "unseen", role: "status" });
  #bubble = make("button", {
    type: "button", class: "bubble", part: "bubble", "aria-controls": "panel", onclick: () => this.toggle(),
    onpointerenter: () => this.#want(), onfocus: () => this.#want(),
  }, icon("chat"), icon("fold"), make("span", { class: "dot" }));
  /** @type {Partial<W.Translation>} */
  #strings = {};
  #texts = this.#strings;
  /** @type {Promise<ChatSession> | null} */
  #session = null;
  /** @type {W.Panel | null} */
  #panel = null;
  #built = Promise.resolve();
  #builds = 0;
  #wanted = false;
  #open = false;
  #unread = false;
  #paint = () => this.#colour();

  constructor() {
    super();
    const given = /** @type {any} */ (this); // what was set before the element was defined
    /**
     * Gives what goes along when a server session is made.
     * @type {(() => SessionOptions | Promise<SessionOptions>) | undefined}
     */
    this.sessionOptions = given.sessionOptions;
    /** Sent with each message. @type {Record<string, unknown> | undefined} */
    this.metadata = given.metadata;
    if (Object.hasOwn(this, "strings")) {
      this.#strings = given.strings ?? {};
      delete given.strings;
    }
    this.#root.append(this.#news);
    this.#shadow.append(this.#root);
  }

  /** Texts in place of the widget's own. */
  get strings() {
    return this.#strings;
  }
  set strings(strings) {
    this.#strings = strings ?? {};
    this.#build();
  }

  get isOpen() {
    return this.#open || this.#inline;
  }
  get #inline() {
    return this.getAttribute("mode") === "inline";
  }

  open() {
    this.#turn(true);
  }
  close() {
    this.#turn(false);
  }
  toggle() {
    this.#turn(!this.#open);
  }

  /** Send a text as if the visitor had typed it; false where it was not taken. @param {string} text */
  async send(text) {
    this.#want();
    for (let built; built !== this.#built; await built) built = this.#built;
    return (await this.#panel?.send(String(text))) ?? false;
  }

  connectedCallback() {
    adopt(this.#shadow, WIDGET_STYLES);
    matchMedia(DARK).addEventListener("change", this.#paint);
    this.#build();
    // A reply that was under way when a page was left is gone on with.
    void chatPersistence.pendingMessages().then(({ length }) => length && this.#want());
  }

  disconnectedCallback() {
    matchMedia(DARK).removeEventListener("change", this.#paint);
    this.#builds++;
    this.#leave();
  }

  /** @param {string} name @param {string | null} before @param {string | null} after */
  attributeChangedCallback(name, before, after) {
    if (before === after) return;
    if (name === "theme") return this.#colour();
    if (name === "server" || name === "bot") this.#leave();
    this.#build();
  }

  #leave() {
    this.#panel?.destroy();
    void this.#session?.then((session) => session.close(), () => {});
    this.#panel = this.#session = null;
  }

  #want() {
    if (this.#wanted) return;
    this.#wanted = true;
    this.#build();
  }

  /** Make the view anew, once for all that changes in one go. */
  #build() {
    if (this.isConnected) this.#built = this.#make(++this.#builds);
  }

  /** @param {number} build */
  async #make(build) {
    const { strings, locale } = await stringsFor(this.#nearest("lang") || navigator.language, this.#strings);
    if (build !== this.#builds) return;
    const inline = this.#inline;
    const heading = this.getAttribute("heading") || strings.heading;
    this.#texts = { ...strings, heading };
    this.#root.lang = locale;
    this.#root.dir = this.#nearest("dir") ? "" : strings.direction;
    this.#colour();
    if (inline) this.#bubble.remove();
    else if (!this.#bubble.isConnected) this.#root.prepend(this.#bubble); // else it would lose the focus
    this.#show();
    if (!inline && !this.#wanted) return;
    try {
      const [session, { createPanel }] = await Promise.all([
        (this.#session ??= this.#connect()),
        import("./widget-panel.js"),
        // All at once, not one after the other.
        ...["messages", "composer", "panel-styles"].map((name) => import(`./widget-${name}.js`)),
      ]);
      if (build !== this.#builds) return;
      this.#panel?.destroy();
      this.#panel = createPanel({
        session, strings, locale, heading, persistence: chatPersistence, shadow: this.#shadow,
        greeting: this.getAttribute("greeting") ?? strings.greeting,
        suggestions: textsIn(this.getAttribute("suggestions") ?? ""),
        allowImages: this.hasAttribute("allow-images"),
        close: inline ? null : () => this.close(),
        emit: (name, detail) => this.#emit(name, detail),
      });
      this.#root.append(this.#panel.element);
      this.#show();
    } catch (error) {
      if (build !== this.#builds) return;
      reportError(error);
      this.#leave();
      this.#wanted = false; // until somebody tries again
      this.close();
      this.#news.textContent = strings.notLoaded;
      this.#emit("chat-error", { code: "not_loaded", detail: strings.notLoaded });
    }
  }

  /** The one place where server, storage and view meet. */
  async #connect() {
    const [{ createApiClient }, { createChatSession }] = await Promise.all([
      import("./api-client.js"), import("./chat-session.js"),
    ]);
    const common = {
      server: new URL(this.getAttribute("server") || HOME, document.baseURI).href.replace(/\/+$/, ""),
      bot: this.getAttribute("bot") ?? "", localStorage: storage(), now: Date.now,
    };
    const client = createApiClient({ ...common, sessionOptions: async () => (await this.sessionOptions?.()) ?? {} });
    const session = createChatSession({
      ...common, client, window, persistence: chatPersistence, metadata: () => this.metadata,
    });
    await session.start();
    return session;
  }

  /** @param {boolean} open */
  #turn(open) {
    if (this.#inline || open === this.#open) return;
    this.#open = open;
    if (open) this.#want();
    this.#show();
    this.#emit(open ? "chat-open" : "chat-close", {});
  }

  #show() {
    const bubble = this.#bubble;
    const { heading = "", newReply = "" } = this.#texts;
    if (this.#open) this.#unread = false;
    this.#news.textContent = this.#unread ? newReply : "";
    bubble.ariaLabel = this.#unread ? `${heading}: ${newReply}` : heading;
    bubble.ariaExpanded = String(this.#open);
    bubble.ariaBusy = this.#open && !this.#panel ? "true" : null;
    bubble.classList.toggle("unread", this.#unread);
    if (this.#panel?.show(this.#open)) bubble.focus();
  }

  /** Light or dark: as `theme` says, else as the page says, else as the visitor likes it. */
  #colour() {
    const page = getComputedStyle(parentOf(this) ?? document.documentElement).colorScheme;
    const said = [this.getAttribute("theme"), page].find((scheme) => scheme === "light" || scheme === "dark");
    this.#root.classList.toggle("dark", said ? said === "dark" : matchMedia(DARK).matches);
  }

  /** @param {string} name @param {Record<string, unknown>} detail */
  #emit(name, detail) {
    if (name === "chat-reply" && !this.isOpen) {
      this.#unread = true;
      this.#show();
    }
    this.dispatchEvent(new CustomEvent(name, { bubbles: true, composed: true, detail }));
  }

  /** What the nearest element around says, this one first. @param {string} attribute */
  #nearest(attribute) {
    for (let at = /** @type {Element | null} */ (this); at; at = parentOf(at)) {
      const said = at.getAttribute(attribute);
      if (said) return said;
    }
    return "";
  }
}

/** @param {Element} element @returns {Element | null} */
const parentOf = (element) =>
  element.parentElement ?? /** @type {Partial<ShadowRoot>} */ (element.getRootNode()).host ?? null;

const storage = () => {
  try {
    return window.localStorage;
  } catch {
    return null; // denied
  }
};

/** `["one", "two"]`, or `one|two`. @param {string} value @returns {string[]} */
const textsIn = (value) => {
  let texts = /** @type {unknown} */ (value.split("|"));
  try {
    texts = JSON.parse(value);
  } catch {
    // not JSON
  }
  return (Array.isArray(texts) ? texts : []).map((text) => String(text).trim()).filter(Boolean).slice(0, 12);
};
