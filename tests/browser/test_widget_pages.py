"""The pages the widget stands on: strict policies, careless styles and scripts, several widgets, elements that move."""

import pytest
from playwright.async_api import BrowserContext, expect

from tests.conftest import StartServer
from tests.support.answers import answer_json, answer_stream
from tests.support.background import Gate
from tests.support.n8n import ScriptedN8n
from tests.support.server import ChatServer
from tests.support.site import Website
from tests.support.widget import Visitor, page_with_widget, visit

REPLY = "## Prices\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n```js\nconst a = 1;\n```\n[a link](https://example.com/)"
STRICT = (
    "default-src 'none'; script-src {server}; connect-src {server}; style-src 'none'; img-src 'none'; font-src 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'; base-uri 'none'; form-action 'none'"
)


async def test_a_strict_policy_is_content_with_a_whole_chat(
    context: BrowserContext, server: ChatServer, site: Website, n8n: ScriptedN8n
) -> None:
    site.headers["Content-Security-Policy"] = STRICT.format(server=server.url)
    visitor = Visitor(await context.new_page())
    await visitor.page.add_init_script(
        "window.violations = []; document.addEventListener('securitypolicyviolation', "
        "(event) => violations.push(`${event.violatedDirective} ${event.blockedURI} ${event.sample}`))"
    )
    await visitor.page.goto(site.url)
    await visitor.open()
    n8n.next(answer_stream([REPLY[:40], REPLY[40:]]))
    await visitor.say("Prices?")
    await expect(visitor.replies.last).to_contain_text("a link")
    await visitor.rests()
    await visitor.button("Good answer").click()
    n8n.next(answer_stream(["half ", "never"], gap=Gate()))
    await visitor.say("Stop")
    await visitor.reads("half")
    await visitor.button("Stop").click()
    await visitor.rests()
    await visitor.button("New chat").click()
    await visitor.chats("two", "Echo: two")
    data = await visitor.page.evaluate("chatPersistence.exportChatHistory('json')")
    await visitor.conversations()
    async with visitor.page.expect_download():
        await visitor.button("Export as Markdown").click()
    await visitor.button("Delete all").click()
    await visitor.button("Delete").click()
    await visitor.widget.locator("input[type=file]").set_input_files(
        {"name": "chat.json", "mimeType": "application/json", "buffer": data.encode()}
    )
    await expect(visitor.widget.locator(".row")).to_have_count(2)
    await visitor.page.evaluate("document.querySelector('chat-widget').setAttribute('lang', 'de')")
    await expect(visitor.widget.get_by_label("Ihre Nachricht")).to_be_visible()
    assert await visitor.page.evaluate("violations") == []
    assert visitor.complaints == []


async def test_a_policy_that_keeps_the_server_out_is_told_to_the_visitor(
    context: BrowserContext, server: ChatServer, site: Website
) -> None:
    site.headers["Content-Security-Policy"] = f"default-src 'none'; script-src {server.url}"
    visitor = await visit(context, site.url)
    await visitor.open()
    await visitor.say("Hello")
    await expect(visitor.failure).to_contain_text("The connection was lost.")
    await expect(visitor.button("Send again")).to_be_visible()


CARELESS = """<style>
* { all: unset; font-size: 3px !important; color: red !important; }
button, ol, li, dialog, textarea, svg { display: none !important; }
:root { font-size: 5px; line-height: 9; letter-spacing: 4px; text-transform: uppercase; direction: ltr; }
</style><script>
Array.prototype.last = function () { return this[this.length - 1]; };
Object.prototype.extra = "polluted";
String.prototype.trimmed = () => "x";
window.addEventListener("keydown", (event) => event.key.length === 1 && document.title, true);
</script>"""


async def test_careless_styles_and_scripts_of_the_page_change_nothing(
    context: BrowserContext, server: ChatServer, site: Website, n8n: ScriptedN8n
) -> None:
    site.pages["/"] = page_with_widget(server.url, 'suggestions="Hi|Ho"', before=CARELESS)
    visitor = await visit(context, site.url)
    await visitor.page.evaluate("document.querySelector('chat-widget').open()")
    await expect(visitor.input).to_be_visible()
    size = await visitor.input.evaluate(
        "(input) => [getComputedStyle(input).fontSize, getComputedStyle(input).textTransform]"
    )
    assert size == ["16px", "none"]
    n8n.next(answer_stream([REPLY]))
    await visitor.button("Hi").click()
    await expect(visitor.replies.last).to_contain_text("a link")
    await visitor.rests()
    await visitor.chats("two", "Echo: two")
    assert [request.text for request in n8n.requests] == ["Hi", "two"]
    document = await visitor.page.evaluate("chatPersistence.exportChatHistory('json')")
    report = await visitor.page.evaluate("(text) => chatPersistence.importData(text)", document)
    assert report["skipped"] == 4
    assert "polluted" not in document
    assert visitor.complaints == []


async def test_a_base_address_of_the_page_leads_nowhere_else(
    context: BrowserContext, server: ChatServer, site: Website
) -> None:
    site.pages["/"] = page_with_widget(server.url, head='<base href="https://elsewhere.example/">')
    visitor = await visit(context, site.url)
    await visitor.open()
    await visitor.chats("Hello", "Echo: Hello")
    assert visitor.complaints == []


async def test_two_widgets_of_one_page_have_their_own_chats(
    context: BrowserContext, start_server: StartServer, n8n: ScriptedN8n, site: Website
) -> None:
    server = start_server(n8n, {"ALLOWED_ORIGINS": site.url, "N8N_WEBHOOK_URL_SALES": n8n.url})
    second = '<chat-widget id="second" mode="inline" bot="sales" heading="Sales"></chat-widget>'
    site.pages["/"] = page_with_widget(server.url, 'id="first"', before=second)
    page = await context.new_page()
    await page.goto(site.url)
    sales, first = page.locator("#second"), page.locator("#first")
    await sales.get_by_label("Your message").fill("to sales")
    await sales.get_by_label("Your message").press("Enter")
    await expect(sales.locator("li.assistant [part=text]")).to_have_text("Echo: to sales")
    await first.locator(".bubble").click()
    await first.get_by_label("Your message").fill("to the first")
    await first.get_by_label("Your message").press("Enter")
    await expect(first.locator("li.assistant [part=text]")).to_have_text("Echo: to the first")
    await expect(sales.locator("li.user [part=text]")).to_have_text("to sales")
    assert len({request.json["sessionId"] for request in n8n.requests}) == 2


async def test_a_table_in_a_box_of_the_page_is_as_high_as_its_rows(
    context: BrowserContext, server: ChatServer, n8n: ScriptedN8n, site: Website
) -> None:
    """The panel is a `section` there, and so is what a table scrolls in."""
    n8n.answer(answer_stream(["| a | b |\n|---|---|\n| 1 | 2 |\n\nafter"]))
    site.pages["/"] = page_with_widget(server.url, 'mode="inline"')
    visitor = await visit(context, site.url)
    await visitor.say("a table")
    table = visitor.widget.get_by_role("table")
    await expect(table).to_be_visible()
    await visitor.rests()
    around = await table.evaluate("table => table.parentElement.offsetHeight - table.offsetHeight")
    assert 0 <= around <= 20, "borders, perhaps a bar to scroll by"


async def test_a_widget_that_is_moved_while_it_streams_goes_on(visitor: Visitor, n8n: ScriptedN8n) -> None:
    gate = Gate()
    n8n.next(answer_stream(["half ", "whole"], gap=gate))
    await visitor.say("Hello")
    await visitor.reads("half")
    await visitor.page.evaluate("""() => {
        const widget = document.querySelector("chat-widget");
        widget.remove();
        document.body.append(widget);
    }""")
    gate.open()
    await visitor.reads("half whole")
    await visitor.chats("two", "Echo: two")
    await visitor.shows(["Hello", "two"], ["half whole", "Echo: two"])
    assert len(n8n.requests) == 2


async def test_an_element_made_before_its_definition_keeps_what_was_set(
    context: BrowserContext, server: ChatServer, site: Website, n8n: ScriptedN8n
) -> None:
    site.pages["/"] = "<!doctype html><title>A shop</title><p>Things to buy.</p>"
    visitor = await visit(context, site.url)
    await visitor.page.evaluate(
        """(server) => {
            const widget = document.createElement("chat-widget");
            widget.metadata = { plan: "pro" };
            widget.strings = { heading: "Ask us" };
            document.body.append(widget);
            for (let turn = 0; turn < 2; turn++) {
                const script = document.createElement("script");
                script.type = "module";
                script.src = `${server}/widget/chat-widget-define.js?${turn}`;
                document.head.append(script);
            }
        }""",
        server.url,
    )
    await visitor.open("Ask us")
    await visitor.chats("Hello", "Echo: Hello")
    assert n8n.requests[0].json["metadata"] == {"plan": "pro"}
    assert visitor.complaints == []


async def test_attributes_may_change_while_it_is_open(
    visitor: Visitor, start_server: StartServer, n8n: ScriptedN8n, site: Website
) -> None:
    await visitor.chats("one", "Echo: one")
    await visitor.input.fill("half a thought")
    await visitor.page.evaluate("document.querySelector('chat-widget').setAttribute('heading', 'Ask us')")
    await expect(visitor.widget.get_by_role("heading", name="Ask us")).to_be_visible()
    await expect(visitor.input).to_have_value("half a thought")
    await visitor.shows(["one"], ["Echo: one"])
    other = start_server(n8n, {"ALLOWED_ORIGINS": site.url, "JWT_SECRET_KEY": "another-secret-that-nobody-knows-yet"})
    await visitor.page.evaluate("(url) => document.querySelector('chat-widget').setAttribute('server', url)", other.url)
    await visitor.input.fill("")
    await visitor.button("New chat").click()
    await visitor.chats("two", "Echo: two")
    assert n8n.requests[0].json["sessionId"] != n8n.requests[1].json["sessionId"]
    assert visitor.complaints == []


@pytest.mark.parametrize(("attribute", "images"), [("", 0), ("allow-images", 1)])
async def test_images_are_shown_where_the_page_allows_them(
    context: BrowserContext, server: ChatServer, site: Website, n8n: ScriptedN8n, attribute: str, images: int
) -> None:
    site.pages["/"] = page_with_widget(server.url, attribute)
    visitor = await visit(context, site.url)
    await visitor.open()
    n8n.next(answer_stream([f"![a shoe]({site.url}/shoe.png)"]))
    await visitor.say("Show me")
    await expect(visitor.replies.last.locator("a, img").first).to_be_attached()
    assert await visitor.replies.last.locator("img").count() == images


async def test_a_server_that_refuses_the_website_says_so(
    context: BrowserContext, start_server: StartServer, n8n: ScriptedN8n, site: Website
) -> None:
    server = start_server(n8n)
    site.pages["/"] = page_with_widget(server.url)
    visitor = await visit(context, site.url)
    await visitor.open()
    await visitor.say("Hello")
    await expect(visitor.failure).to_be_visible()
    n8n.next(answer_json({"output": "never"}))
    assert n8n.requests == []
