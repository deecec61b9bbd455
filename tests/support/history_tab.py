"""A browser tab that holds nothing but the modules which store conversations, as a real server gives them."""

from typing import Any, Self

from playwright.async_api import BrowserContext, Page

_SCENE = """
globalThis.id = (number) => `00000000-0000-4000-8000-${String(number).padStart(12, "0")}`;
globalThis.time = (number) => new Date(Date.UTC(2026, 0, 31) + number).toISOString();
globalThis.changes = [];
globalThis.loaded = import("/widget/chat-persistence.js").then(({ chatPersistence, createChatPersistence }) => {
  globalThis.p = chatPersistence;
  globalThis.create = createChatPersistence;
  const save = (role, content, status) => (session_id, number, more) =>
    p.saveMessage({ session_id, message_id: id(number), role, content: content + number, status, ...more });
  globalThis.question = save("user", "q", "pending");
  globalThis.reply = save("assistant", "a", "complete");
  globalThis.turn = async (session_id, number) => [
    await question(session_id, number),
    await reply(session_id, number),
    await question(session_id, number, { status: "complete" }),
  ];
  globalThis.contents = async (session_id, page) => (await p.getMessages(session_id, page)).map((one) => one.content);
  globalThis.conversations = (...many) => ({
    format: "chatcore-history", version: 1, exported_at: time(0),
    sessions: many.map(([session_id, ...turns]) => ({
      session_id, bot: "", title: "t", created_at: time(0), updated_at: time(0),
      messages: turns.map((turn, index) => ({
        message_id: id(index), role: "user", content: "text", created_at: time(index + 1), status: "complete", ...turn,
      })),
    })),
  });
});
"""
"""`p` is the default instance; `question`, `reply` and `turn` save, `conversations` makes a document."""

FULL = """
  const put = IDBObjectStore.prototype.put;
  globalThis.full = true;
  IDBObjectStore.prototype.put = function (value) {
    const request = put.call(this, value);
    if (globalThis.full) {
      this.transaction.abort();
      Object.defineProperty(this.transaction, "error", { value: new DOMException("", "QuotaExceededError") });
    }
    return request;
  };
"""
"""Every write is refused as by a full disk while `full` is true."""


class HistoryTab:
    """A tab; `run` evaluates a function's body with `p` and what else the scene offers, `given` is its argument."""

    def __init__(self, page: Page) -> None:
        self.page = page

    @classmethod
    async def open(cls, context: BrowserContext, origin: str, *before: str) -> Self:
        """Open an empty page of that origin; `before` are scripts that run first."""
        page = await context.new_page()
        address = f"{origin}/empty"
        await page.route(address, lambda route: route.fulfill(body="<!doctype html>", content_type="text/html"))
        for script in (*before, _SCENE):
            await page.add_init_script(script)
        await page.goto(address)
        await page.evaluate("loaded")
        return cls(page)

    async def reload(self) -> None:
        """Load the page anew."""
        await self.page.reload()
        await self.page.evaluate("loaded")

    async def run(self, body: str, given: Any = None) -> Any:
        """Give what the body returns."""
        return await self.page.evaluate(f"async (given) => {{ {body} }}", given)

    async def says(self, expression: str, given: Any = None) -> Any:
        """Give an expression's value."""
        return await self.run(f"return {expression}", given)
