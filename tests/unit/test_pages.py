"""What pages and modules say to clients: codings, tags, addresses that strangers make up, and what the page holds."""

import gzip
import json
import re
import subprocess
from typing import Any

import msgspec
import pytest

from chatcore.asgi import Message, Visit
from chatcore.errors import Refusal
from chatcore.routes import pages
from chatcore.routes.pages import PageRoutes, accepts_gzip
from chatcore.settings import Mode
from tests.support import sources
from tests.support.settings import settings_with


class Got(msgspec.Struct):
    """One answer."""

    status: int
    headers: dict[str, str]
    body: bytes


async def get(
    routes: PageRoutes, path: str, headers: dict[str, str] | None = None, *, peer: str | None = "127.0.0.1"
) -> Got:
    """Ask for a path as the router would."""
    template = "/widget/{file:path}" if path.startswith("/widget/") else path
    lines = [(name.encode(), value.encode("latin-1")) for name, value in (headers or {}).items()]
    scope: dict[str, Any] = {
        "method": "GET",
        "path": path,
        "path_params": {"file": path.removeprefix("/widget/")},
        "headers": lines,
        "client": None if peer is None else (peer, 1234),
        "scheme": "http",
    }
    scope["chatcore.visit"] = Visit(scope, lambda: "fresh", 0.0)
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    await routes.routes[template]["GET"](scope, receive, send)
    start, body = sent
    given: dict[str, str] = {name.decode(): value.decode() for name, value in start["headers"]}
    assert len(given) == len(start["headers"]), "a header twice"
    return Got(start["status"], given, body["body"])


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (None, False),
        ("", False),
        ("gzip", True),
        ("GZIP", True),
        ("x-gzip", True),
        ("br, gzip;q=0.5", True),
        ("gzip, deflate, br, zstd", True),
        ("*", True),
        ("*;q=0", False),
        ("gzip;q=0", False),
        ("gzip;q=0.000", False),
        ("gzip; q=0, *", False),
        ("*;q=0, gzip", True),
        ("identity, gzip;q=0.5", False),
        ("identity;q=0.5, gzip", True),
        ("identity", False),
        ("br", False),
        ("gzip;q=2", False),
        ("gzip;level=9", False),
        ("gzip;q=", False),
        ("gzipped", False),
        ("\xff" * 2000, False),
        ("a," * 2000 + "gzip", False),
    ],
)
def test_gzip_is_given_to_those_who_want_it(value: str | None, wanted: bool) -> None:
    assert accepts_gzip(None if value is None else value.encode("latin-1")) is wanted


@pytest.mark.parametrize("path", ["/", "/openapi.json", "/widget/demo.js", "/widget/demo.css", "/widget/icon.svg"])
async def test_both_codings_hold_the_same_under_different_strong_tags(path: str) -> None:
    routes = PageRoutes(settings_with())
    plain = await get(routes, path)
    packed = await get(routes, path, {"accept-encoding": "gzip"})
    assert gzip.decompress(packed.body) == plain.body
    assert packed.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert plain.headers["vary"] == packed.headers["vary"] == "Accept-Encoding"
    assert plain.headers["etag"] != packed.headers["etag"]
    for got in (plain, packed):
        assert re.fullmatch(r'"[0-9a-f]{32}(-gz)?"', got.headers["etag"])
        assert int(got.headers["content-length"]) == len(got.body)


@pytest.mark.parametrize("form", ["{}", "W/{}", '"other", {}', '"other" ,W/{} ', "*"])
async def test_who_has_the_content_gets_304_without_it(form: str) -> None:
    routes = PageRoutes(settings_with())
    for coding in ("gzip", "identity"):
        had = await get(routes, "/widget/demo.js", {"accept-encoding": coding})
        asked = {"accept-encoding": coding, "if-none-match": form.format(had.headers["etag"])}
        got = await get(routes, "/widget/demo.js", asked)
        assert (got.status, got.body) == (304, b"")
        assert got.headers == {name: had.headers[name] for name in ("etag", "vary", "cache-control")}


async def test_another_tag_gets_the_content() -> None:
    got = await get(PageRoutes(settings_with()), "/widget/demo.js", {"if-none-match": '"0123456789abcdef", W/"x"'})
    assert got.status == 200


async def test_versioned_addresses_are_kept_for_ever_and_others_shortly() -> None:
    routes = PageRoutes(settings_with())
    for_ever = await get(routes, f"/widget/{routes.version}/demo.css")
    shortly = await get(routes, "/widget/demo.css")
    assert for_ever.body == shortly.body
    assert for_ever.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert shortly.headers["cache-control"] == "public, max-age=300"


async def test_a_module_without_a_version_leads_to_all_modules_of_this_version() -> None:
    routes = PageRoutes(settings_with())
    door = await get(routes, "/widget/chat-widget-define.js")
    first, *others = door.body.decode().splitlines()
    assert first == f'export * from "./{routes.version}/chat-widget-define.js";'
    assert door.headers["cache-control"] == "no-cache", "else an old door leads to a version that is gone"
    loaded, waiting = set[str](), [f"{routes.version}/chat-widget-define.js"]
    while waiting:
        name = waiting.pop()
        if name not in loaded:
            loaded.add(name)
            module = await get(routes, f"/widget/{name}")
            assert module.headers["cache-control"] == "public, max-age=31536000, immutable"
            found = re.findall(r'(?m)^(?:import|export)\b[^"();]*"\./([^"]+)"', module.body.decode())
            waiting += [f"{routes.version}/{one}" for one in found]
    assert len(loaded) > 5
    wanted = loaded - {f"{routes.version}/chat-widget-define.js"}
    assert sorted(others) == sorted(f'import "./{name}";' for name in wanted)


def different(modules: list[list[str]]) -> Any:
    """Give the names of the modules whose two sources mean different things."""
    asked = ["node", "tests/javascript/same-syntax.js"]
    done = subprocess.run(
        asked, cwd=sources.ROOT, input=json.dumps(modules), capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def test_sources_that_mean_different_things_are_told_apart() -> None:
    twins = [["a", "a = `b\n  c`", "a = `b\nc`"], ["b", "a;\n// b\n", "a;"], ["c", "a('// b')", "a('')"]]
    assert different(twins) == ["a", "c"]


async def test_modules_are_served_without_comments_and_mean_the_same() -> None:
    routes = PageRoutes(settings_with())
    modules = []
    for path in sorted(pages.BROWSER.glob("*.js")):
        served = (await get(routes, f"/widget/{routes.version}/{path.name}")).body.decode()
        assert not re.search(r"^[ \t]|^//|/\*\*", served, re.MULTILINE), path.name
        modules.append([path.name, path.read_text("utf-8"), served])
    assert len(modules) > 10
    assert different(modules) == []


def test_the_version_is_that_of_the_contents() -> None:
    assert PageRoutes(settings_with()).version == PageRoutes(settings_with(demo=True)).version
    assert re.fullmatch("[0-9a-f]{16}", PageRoutes(settings_with()).version)


@pytest.mark.parametrize(
    "file",
    [
        "",
        "nothing.js",
        "demo.html",
        "../routes/pages.py",
        "..%2froutes%2fpages.py",
        "/etc/passwd",
        "./demo.js",
        "demo.js/",
        "demo.js\0",
        "DEMO.JS",
        "0000000000000000/demo.js",
    ],
)
async def test_other_names_are_not_found(file: str) -> None:
    routes = PageRoutes(settings_with())
    with pytest.raises(Refusal) as caught:
        await get(routes, f"/widget/{file}")
    assert caught.value.kind.code == "not_found"


async def test_the_page_holds_nothing_inline_and_nothing_from_elsewhere() -> None:
    got = await get(PageRoutes(settings_with()), "/")
    page = got.body.decode()
    policy = got.headers["content-security-policy"]
    assert "unsafe" not in policy
    assert policy.startswith("default-src 'none'; ")
    assert {source for part in policy.split("; ") for source in part.split()[1:]} == {"'none'", "'self'"}
    shown = re.sub(r"<code[^>]*>.*?</code>", "", page, flags=re.DOTALL)
    assert not re.findall(r"<style|<script>|\sstyle=|\son[a-z]+=|javascript:|<form[^>]+action", shown)
    assert not re.findall(r'(?:src|href)="(?:[a-z]+:|/)', shown)
    assert "{{" not in page
    assert got.headers["content-type"] == "text/html; charset=utf-8"
    assert got.headers["cache-control"] == "private, no-cache"


async def test_everything_that_the_page_loads_is_there_for_ever_and_the_page_itself_small() -> None:
    routes = PageRoutes(settings_with())
    packed = await get(routes, "/", {"accept-encoding": "gzip"})
    files = set(re.findall(r'(?:src|href)="(widget/[^"]+)"', gzip.decompress(packed.body).decode()))
    own = {file for file in files if file.rpartition("/")[2] in {"demo.js", "demo.css", "icon.svg"}}
    assert len(own) == 3
    loaded = {file: await get(routes, f"/{file}", {"accept-encoding": "gzip"}) for file in files}
    assert all("immutable" in got.headers["cache-control"] for got in loaded.values())
    assert len(packed.body) + sum(len(loaded[file].body) for file in own) < 5_000
    needed = (await get(routes, "/widget/chat-widget-define.js")).body.decode()
    modules = {f"widget/{name}" for name in re.findall(r'"\./([^"]+)"', needed)}
    assert files - own == modules, "the browser learns at once of all that the widget needs"


@pytest.mark.parametrize(
    ("headers", "peer", "wanted"),
    [
        ({"host": "chat.example.com"}, "203.0.113.9", "http://chat.example.com"),
        ({"host": "Chat.Example.com:8080"}, "203.0.113.9", "http://chat.example.com:8080"),
        ({"host": "[::1]:8000"}, "::1", "http://[::1]:8000"),
        ({"host": "a.test", "x-forwarded-proto": "https"}, "127.0.0.1", "https://a.test"),
        ({"host": "a.test", "x-forwarded-proto": " HTTPS "}, "::1", "https://a.test"),
        ({"host": "a.test", "x-forwarded-proto": "https"}, "::ffff:127.0.0.1", "https://a.test"),
        ({"host": "a.test", "x-forwarded-proto": "https"}, "203.0.113.9", "http://a.test"),
        ({"host": "a.test", "x-forwarded-proto": "https"}, None, "http://a.test"),
        ({"host": "a.test", "x-forwarded-proto": "https"}, "a socket", "http://a.test"),
        ({"host": "a.test", "x-forwarded-proto": "javascript"}, "127.0.0.1", "http://a.test"),
        ({"host": "a.test", "x-forwarded-proto": "https, http"}, "127.0.0.1", "http://a.test"),
        ({"host": 'a"><script>alert(1)</script>'}, "203.0.113.9", "http://localhost:8123"),
        ({"host": "a.test/../x"}, "203.0.113.9", "http://localhost:8123"),
        ({"host": "user@a.test"}, "203.0.113.9", "http://localhost:8123"),
        ({"host": "a`${alert(1)}`"}, "203.0.113.9", "http://localhost:8123"),
        ({"host": "a" * 400}, "203.0.113.9", "http://localhost:8123"),
        ({"host": "ä.test"}, "203.0.113.9", "http://localhost:8123"),
        ({"host": ""}, "203.0.113.9", "http://localhost:8123"),
        ({}, "203.0.113.9", "http://localhost:8123"),
    ],
)
async def test_the_page_names_the_address_by_which_it_was_asked(
    headers: dict[str, str], peer: str | None, wanted: str
) -> None:
    page = (await get(PageRoutes(settings_with()), "/", headers, peer=peer)).body.decode()
    assert f'&lt;script type="module" src="{wanted}/widget/chat-widget-define.js"&gt;' in page
    assert "alert" not in page


async def test_the_configured_address_stands_whatever_the_request_says() -> None:
    routes = PageRoutes(settings_with(cors={"public_url": "https://chat.example.com/a&b"}))
    headers = {"host": "evil.test", "x-forwarded-proto": "http"}
    page = (await get(routes, "/", headers)).body.decode()
    assert "https://chat.example.com/a&amp;b" in page
    assert "evil" not in page


async def test_made_up_hosts_do_not_grow_memory() -> None:
    routes = PageRoutes(settings_with())
    for number in range(200):
        await get(routes, "/", {"host": f"h{number}.test"})
    assert routes._pages.cache_info().currsize <= 16  # noqa: SLF001 - the bound is the promise


@pytest.mark.parametrize("mode", ["stateless", "sqlite", "postgres"])
async def test_the_page_says_what_runs_and_what_it_keeps(mode: Mode) -> None:
    page = (await get(PageRoutes(settings_with(mode=mode)), "/")).body.decode()
    assert f"{mode} mode" in page
    assert ("in your browser alone" in page) is (mode == "stateless")
    assert "n8n workflow answers" in page
    shown = (await get(PageRoutes(settings_with(mode=mode, demo=True)), "/")).body.decode()
    assert "demo stand-in answers" in shown


def test_without_the_demo_page_there_is_no_route_to_it() -> None:
    without = PageRoutes(settings_with(operations={"demo_page": False})).routes
    assert set(PageRoutes(settings_with()).routes) - set(without) == {"/"}


async def test_any_page_may_read_the_description_and_none_the_demo_page() -> None:
    routes = PageRoutes(settings_with())
    assert (await get(routes, "/openapi.json")).headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-origin" not in (await get(routes, "/")).headers


def test_every_file_of_the_browser_folder_is_served_or_is_for_the_type_checker() -> None:
    unknown = {path.name for path in pages.BROWSER.iterdir() if path.suffix not in {".js", ".css", ".svg"}}
    assert {name for name in unknown if not name.endswith(".d.ts")} == {"admin.html", "demo.html", "package.json"}
