"""Pages, browser modules and the API's description: read and packed once at start, answered from memory by name."""

import gzip
import re
from collections.abc import Mapping
from functools import lru_cache
from hashlib import sha256
from html import escape
from pathlib import Path

import msgspec

from chatcore import __version__, openapi
from chatcore.asgi import App, Header, Receive, Scope, Send, Visit, visit_of
from chatcore.clientaddr import Addresses
from chatcore.errors import NOT_FOUND, Refusal
from chatcore.settings import Mode, Settings

BROWSER = Path(__file__).parent.parent / "browser"
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

_TYPES: Mapping[str, bytes] = {
    ".js": b"text/javascript; charset=utf-8",
    ".css": b"text/css; charset=utf-8",
    ".svg": b"image/svg+xml",
}
_IMMUTABLE: Header = (b"cache-control", b"public, max-age=31536000, immutable")
_SHORT: Header = (b"cache-control", b"public, max-age=300")
_CHECKED: Header = (b"cache-control", b"no-cache")
_HOST = re.compile(r"(?:[a-z0-9](?:[a-z0-9._-]{0,252})|\[[0-9a-f:.]{2,45}\])(?::[0-9]{1,5})?", re.IGNORECASE)
_CODING = re.compile(r"\s*([a-z0-9*-]{1,32})\s*(?:;\s*q\s*=\s*(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)\s*)?", re.IGNORECASE)
_IMPORT = re.compile(r'^(?:import|export)\b[^"();]*"\./([a-z0-9-]+\.js)";', re.MULTILINE)
_SPARED = re.compile(r"^[ \t]*//[^\n]*\n|[ \t]+// [^\n]*$|[ \t]*/\*\*.*?\*/[ \t]*\n?|^[ \t]+", re.MULTILINE | re.DOTALL)
_LONGEST_HOST = 300
_ADDRESSES_CACHED = 16

_KEPT: Mapping[Mode, str] = {
    "stateless": "Your conversations, in your browser alone. The server writes nothing; a reply stays in its memory "
    "for a while, so that a lost connection can pick it up again.",
    "sqlite": "Your conversations, in your browser. The server keeps sessions and figures in a file, no messages.",
    "postgres": "Your conversations, in your browser and in the server's database.",
}
_GREETING = "Hello! Ask me anything: the answer streams in as it is made."
_STAND_IN_GREETING = "Hello! I stand in for an n8n workflow: try what I can do, or say anything."
_STAND_IN_SUGGESTIONS = "What can you do?|/help|/slow|/error"
_STAND_IN = "The demo stand-in answers, on this machine: no n8n is needed, and none is asked."
_WORKFLOW = "Your n8n workflow answers, through this server."


class _Content(msgspec.Struct, frozen=True):
    """One content with its headers, ready to be sent, as it is and gzipped."""

    plain: bytes
    packed: bytes
    plain_headers: tuple[Header, ...]
    packed_headers: tuple[Header, ...]
    tags: frozenset[bytes]

    async def answer(self, visit: Visit, send: Send) -> None:
        """Give the content as the client wants it, or 304 where it has it (RFC 9110, 12.5.3 and 13.1.2)."""
        gzipped = accepts_gzip(visit.given.get(b"accept-encoding"))
        headers, body = (self.packed_headers, self.packed) if gzipped else (self.plain_headers, self.plain)
        asked = visit.given.get(b"if-none-match")
        if asked is not None and self._is_known(asked):
            kept = [header for header in headers if header[0] not in (b"content-type", b"content-encoding")]
            await send({"type": "http.response.start", "status": 304, "headers": kept})
            await send({"type": "http.response.body", "body": b""})
            return
        length = (b"content-length", b"%d" % len(body))
        await send({"type": "http.response.start", "status": 200, "headers": [*headers, length]})
        await send({"type": "http.response.body", "body": body})

    def _is_known(self, asked: bytes) -> bool:
        names = {name.strip().removeprefix(b"W/") for name in asked[:4096].split(b",")}
        return b"*" in names or not names.isdisjoint(self.tags)


class PageRoutes:
    """Handlers of `/`, `/admin`, `/widget/…`, `/openapi.json`; `routes` maps path templates to handlers by method."""

    def __init__(self, settings: Settings) -> None:
        """Read the browser's files and pack everything. Raises `OSError` where the installation lacks a file."""
        sources = {path.name: _served(path) for path in sorted(BROWSER.iterdir()) if path.is_file()}
        self._page = sources["demo.html"].decode()
        self._has_page = settings.operations.demo_page
        self._public_url = settings.cors.public_url
        self._addresses = Addresses(settings.limits.trusted_proxies)
        self._fallback = f"localhost:{settings.server.port}"
        self.version = _hash(b"".join(name.encode() + b"\0" + source for name, source in sources.items()))[:16]
        self._fixed = {
            "version": self.version,
            "preloads": _preloads("chat-widget-define.js", sources, self.version),
            "release": __version__,
            "mode": settings.mode,
            "kept": _KEPT[settings.mode],
            "answers": _STAND_IN if settings.demo else _WORKFLOW,
            "greeting": _STAND_IN_GREETING if settings.demo else _GREETING,
            "suggestions": _STAND_IN_SUGGESTIONS if settings.demo else "",
        }
        self._files = _files(sources, self.version)
        described = msgspec.json.encode(openapi.document(settings))
        anyone = (b"access-control-allow-origin", b"*")
        self._description = _content(described, b"application/json", _CHECKED, anyone)
        # Only what strangers make up in `Host` fills it; a flood pushes out, it does not grow.
        self._pages = lru_cache(_ADDRESSES_CACHED)(self._render)
        self._has_admin = settings.has_admin_page
        words = {
            **self._fixed,
            "preloads": _preloads("admin-define.js", sources, self.version),
            "bots": "" if len(settings.upstream.bots) > 1 else "hidden",
        }
        self._admin = _page(sources["admin.html"].decode(), words)

    @property
    def routes(self) -> Mapping[str, Mapping[str, App]]:
        """Path template -> method -> handler. The demo page is there only where `DEMO_PAGE` is on."""
        routes: dict[str, Mapping[str, App]] = {
            "/widget/{file:path}": {"GET": self.file},
            "/openapi.json": {"GET": self.description},
        }
        if self._has_page:
            routes["/"] = {"GET": self.page}
        if self._has_admin:
            routes["/admin"] = {"GET": self.admin}
        return routes

    async def page(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        """GET /: the demo page, with this server's address in it."""
        visit = visit_of(scope)
        await self._pages(self._address(scope, visit)).answer(visit, send)

    async def admin(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        """GET /admin: the operators' page. It holds no data: it asks for a token, then the API for figures."""
        await self._admin.answer(visit_of(scope), send)

    async def file(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        """GET /widget/<file> and /widget/<version>/<file>: a module as it was at start."""
        content = self._files.get(scope["path_params"]["file"])
        if content is None:
            raise Refusal(NOT_FOUND)
        await content.answer(visit_of(scope), send)

    async def description(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        """GET /openapi.json."""
        await self._description.answer(visit_of(scope), send)

    def _address(self, scope: Scope, visit: Visit) -> str:
        """Give the address under which the visitor sees this server: as configured, else as the request tells."""
        if self._public_url is not None:
            return self._public_url
        host = visit.given.get(b"host", b"")[:_LONGEST_HOST].decode("latin-1")
        if _HOST.fullmatch(host) is None:
            host = self._fallback
        scheme = str(scope.get("scheme", "http"))
        told = visit.given.get(b"x-forwarded-proto", b"").strip().lower()
        if told in (b"http", b"https") and self._addresses.trusts((scope.get("client") or (None,))[0]):
            scheme = told.decode()
        return f"{scheme}://{host.lower()}"

    def _render(self, address: str) -> _Content:
        return _page(self._page, {**self._fixed, "address": address})


def accepts_gzip(value: bytes | None) -> bool:
    """Tell whether an `Accept-Encoding` prefers gzip to the content as it is (RFC 9110, 12.5.3)."""
    if value is None:
        return False
    weights: dict[str, float] = {}
    for entry in value[:1024].decode("latin-1").split(","):
        match = _CODING.fullmatch(entry)
        if match is not None:
            weights[match[1].lower()] = 1.0 if match[2] is None else float(match[2])
    others = weights.get("*", 0.0)
    gzipped = weights.get("gzip", weights.get("x-gzip", others))
    return gzipped > 0 and gzipped >= weights.get("identity", 0.0)


def _served(path: Path) -> bytes:
    """Give a file as browsers get it: a module without comments and indentation, which are a third of it.

    This takes for granted how our modules are written; a test compares the syntax trees of what is and what is served.
    """
    source = path.read_bytes()
    return _SPARED.sub("", source.decode()).encode() if path.suffix == ".js" else source


def _files(sources: Mapping[str, bytes], version: str) -> dict[str, _Content]:
    """Give every file by its addresses below `/widget/`: the plain one, and the one that never changes.

    A module's plain address is a door to the other: it imports the module of this version, and with it at once all that
    this imports in turn, so that a browser learns of them in one step. Versions never mix, since a door is always asked
    for anew.
    """
    files = {}
    for name, source in sources.items():
        kind = _TYPES.get(Path(name).suffix)
        if kind is not None:
            files[f"{version}/{name}"] = _content(source, kind, _IMMUTABLE)
            is_module = name.endswith(".js")
            plain = _door(name, sources, version) if is_module else source
            files[name] = _content(plain, kind, _CHECKED if is_module else _SHORT)
    return files


def _door(name: str, sources: Mapping[str, bytes], version: str) -> bytes:
    """Give a module that stands for the module `name` of this version."""
    first, *others = _needed(name, sources)
    lines = [f'export * from "./{version}/{first}";', *(f'import "./{version}/{other}";' for other in others)]
    return "\n".join([*lines, ""]).encode()


def _needed(name: str, sources: Mapping[str, bytes]) -> list[str]:
    """Give a module and all that it imports at once, directly or not."""
    needed = [name]
    for module in needed:  # grows while it is walked
        needed += [one for one in _IMPORT.findall(sources[module].decode()) if one not in needed]
    return needed


def _preloads(name: str, sources: Mapping[str, bytes], version: str) -> str:
    """Give the markup by which a browser learns at once of a module and all that it needs."""
    needed = _needed(name, sources)
    return "".join(f'<link rel="modulepreload" href="widget/{version}/{one}">\n' for one in needed)


def _page(page: str, words: Mapping[str, str]) -> _Content:
    """Give a page with its words in place; only those that load modules are markup."""
    page = page.replace("{{preloads}}", words["preloads"])
    page = re.sub(r"\{\{([a-z]+)\}\}", lambda match: escape(words[match[1]]), page)
    policy = (b"content-security-policy", CONTENT_SECURITY_POLICY.encode())
    return _content(page.encode(), b"text/html; charset=utf-8", (b"cache-control", b"private, no-cache"), policy)


def _content(plain: bytes, kind: bytes, *more: Header) -> _Content:
    packed = gzip.compress(plain, 9, mtime=0)
    name = _hash(plain).encode()
    tags = b'"%b"' % name, b'"%b-gz"' % name
    headers: tuple[Header, ...] = ((b"content-type", kind), (b"vary", b"Accept-Encoding"), *more)
    return _Content(
        plain,
        packed,
        (*headers, (b"etag", tags[0])),
        (*headers, (b"etag", tags[1]), (b"content-encoding", b"gzip")),
        frozenset(tags),
    )


def _hash(content: bytes) -> str:
    return sha256(content).hexdigest()[:32]
