"""Watches a page with the widget for what hostile texts want: that something runs, loads, leaves or looks real."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from playwright.async_api import Dialog, Page, Request

_WATCH = r"""(() => {
  const NAMES = new Set(("div p span bdi button svg path ol ul li i header h2 h3 h4 h5 h6 section dialog slot " +
    "textarea input mark time a strong em del code pre blockquote table tr th td hr br").split(" "));
  const ATTRIBUTES = new Set(("class part id type role lang dir href target rel hidden title tabindex open accept " +
    "placeholder rows enterkeyhint autocomplete viewBox d name start align datetime style data-value").split(" "));
  const found = (window.watchFound = []);
  const complain = (what) => found.length < 20 && found.push(what);

  const look = (element) => {
    const name = element.localName;
    if (!NAMES.has(name)) complain(`<${name}>`);
    for (const { name: attribute, value } of element.attributes) {
      if (!ATTRIBUTES.has(attribute) && !attribute.startsWith("aria-")) complain(`${attribute} of <${name}>`);
      if (attribute === "style" && !(name === "dialog" || name === "section")) complain(`a style of <${name}>`);
      if (attribute === "name" && name !== "slot") complain(`a name of <${name}>`);
      if (attribute === "type" && !/^(button|search|file)$/.test(value)) complain(`type ${value}`);
    }
    if (name === "a" && !element.hasAttribute("download")) {
      if (!/^(https?|mailto):$/.test(element.protocol)) complain(`a link to ${element.href.slice(0, 80)}`);
      if (element.username || element.password) complain(`a link with a user: ${element.href.slice(0, 80)}`);
      if (!element.relList.contains("noopener")) complain("a link that knows its opener");
      if (element.target !== "_blank") complain("a link in place of the page");
      if (/[\u202a-\u202e\u2066-\u2069]/.test(element.textContent)) complain("a link that is reordered");
    }
  };
  const through = (node) => {
    if (node.nodeType !== Node.ELEMENT_NODE) return;
    look(node);
    for (const inner of node.querySelectorAll("*")) look(inner);
  };
  const roots = [];
  const attach = Element.prototype.attachShadow;
  Element.prototype.attachShadow = function (init) {
    const root = attach.call(this, init);
    roots.push(root);
    new MutationObserver((records) => {
      for (const { addedNodes, target } of records) {
        for (const node of addedNodes) through(node);
        if (target !== root) look(target);
      }
    }).observe(root, { childList: true, subtree: true, attributes: true });
    return root;
  };
  document.addEventListener("securitypolicyviolation", (event) =>
    complain(`policy: ${event.violatedDirective} ${event.blockedURI}`));
  let outside = 0;
  let kept = null;
  addEventListener("load", () => {
    kept = document.documentElement;
    outside = document.querySelectorAll("*").length;
  });
  window.watchLook = () => {
    for (const root of roots) for (const child of root.children) through(child);
    if (roots.length !== 1) complain(`${roots.length} shadow roots`);
    if (outside !== document.querySelectorAll("*").length) complain("the page has other elements than before");
    if (document.documentElement !== kept) complain("another page");
    if (window.pwned !== undefined) complain("something ran");
    return found;
  };
})();"""


class Watch:
    """What a page did that it should not: `found` asks the page, `events` holds what the browser told."""

    def __init__(self, page: Page, own: set[str]) -> None:
        self._page = page
        self._own = own
        self.events: list[str] = []

    @classmethod
    async def over(cls, page: Page, *own: str) -> "Watch":
        """Watch a page before it is loaded; `own` are the origins that it may ask."""
        watch = cls(page, set(own))
        await page.add_init_script(_WATCH)
        page.context.on("request", watch._request)
        page.context.on("page", lambda other: watch.events.append(f"a window: {other.url}"))
        page.on("dialog", watch._dialog)
        page.on("download", lambda download: watch.events.append(f"a download: {download.url}"))
        page.on("frameattached", lambda frame: watch.events.append(f"a frame: {frame.url}"))
        return watch

    async def found(self) -> list[str]:
        """Look through everything that the widget shows, and give all that was ever wrong."""
        inside: list[str] = await self._page.evaluate("watchLook()")
        return [*self.events, *inside]

    def _request(self, request: Request) -> None:
        if urlsplit(request.url)._replace(path="", query="", fragment="").geturl() not in self._own:
            self.events.append(f"a request: {request.url}")

    async def _dialog(self, dialog: Dialog) -> None:
        self.events.append(f"a dialog: {dialog.message}")
        await dialog.dismiss()


async def send_all(page: Page, texts: Sequence[str]) -> list[dict[str, Any]]:
    """Send texts one after the other, each once the reply before has ended; give what `chat-reply` told."""
    told: list[dict[str, Any]] = await page.evaluate(
        """async (texts) => {
            const widget = document.querySelector("chat-widget");
            const told = [];
            for (const text of texts) {
                const ended = new Promise((resolve) => {
                    setTimeout(resolve, 20_000, { type: "nothing within 20 s" });
                    for (const name of ["chat-reply", "chat-error"]) {
                        const told = ({ type, detail }) => resolve({ type, ...detail });
                        widget.addEventListener(name, told, { once: true });
                    }
                });
                if (!(await widget.send(text))) throw new Error(`not taken: ${text.slice(0, 99)}`);
                told.push(await ended);
            }
            return told;
        }""",
        list(texts),
    )
    return told
