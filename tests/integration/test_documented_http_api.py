"""The walk-through of the HTTP API, typed as it is written: what comes has the members that the page shows."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import StartServer
from tests.support.databases import Database, RedisDatabase
from tests.support.documented import Place, commands, differences, fenced
from tests.support.n8n import ScriptedN8n
from tests.support.postgres_mode import AUDIT_KEY, MAIN, OPS
from tests.support.server import ChatServer

PAGE = "docs/http-api.md"
MESSAGE_ID = "0b7f9c3e-9d2a-4c1e-8f0b-3a5d7e9c1b2f"
JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01" + bytes(64) + b"\xff\xd9"
PDF = b"%PDF-1.4\n1 0 obj\n<<>>\nendobj\ntrailer\n<<>>\n%%EOF\n"


class Reader:
    """Somebody who types the page's commands in one shell, where `S` and `TOKEN` stay."""

    def __init__(self, server: ChatServer, folder: Path) -> None:
        self.place = Place(folder)
        self.place.environment["S"] = self._told(
            "S", commands("docs/http-api.md", "HTTP API"), {"http://localhost:8000": server.url}
        )

    def _told(self, name: str, text: str, instead: dict[str, str] | None = None) -> str:
        return self.place.run(f'{text}\nprintf "\\n%s" "${name}"', instead).rsplit("\n", 1)[-1]

    def chats(self) -> str:
        """Have a session and a first chat, as the page begins; gives what was printed."""
        text = commands("docs/http-api.md", "A chat in two calls")
        printed = self.place.run(f'{text}\nprintf "TOKEN=%s\\n" "$TOKEN"')
        (self.place.environment["TOKEN"],) = re.findall(r"(?m)^TOKEN=(\S+)$", printed)
        return printed

    def types(self, text: str, instead: dict[str, str] | None = None) -> str:
        """Type a block; gives what was printed."""
        return self.place.run(text, instead)


def documents(printed: str) -> list[Any]:
    """Give the JSON documents among what was printed."""
    found, decoder = [], json.JSONDecoder()
    while begin := re.search(r"\{\s*\"", printed):
        document, end = decoder.raw_decode(printed, begin.start())
        found.append(document)
        printed = printed[end:]
    return found


def events(text: str) -> Iterator[tuple[int, str, Any]]:
    """Give number, name and data of the events in a text."""
    for number, name, data in re.findall(r"(?m)^id: (\d+)\nevent: (\w+)\ndata: (.*)$", text):
        yield int(number), name, json.loads(data)


def head(printed: str) -> tuple[int, dict[str, str]]:
    """Give status and headers that `curl -i` printed."""
    begin, *lines = printed[printed.index("HTTP/1.1") :].split("\n\n", 1)[0].split("\n")
    return int(begin.split()[1]), {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}


def test_the_walk_through_gives_what_the_page_shows(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server(options=["--demo"])
    reader = Reader(server, tmp_path)

    came = list(events(reader.chats()))
    shown = {name: data for _, name, data in events(fenced(PAGE, "A chat in two calls", "text"))}
    assert [number for number, _, _ in came] == list(range(1, len(came) + 1))
    assert list(dict.fromkeys(name for _, name, _ in came)) == list(shown) == ["start", "delta", "done"]
    assert [differences(shown[name], data) for _, name, data in came] == [[]] * len(came)
    message_id = came[0][2]["message_id"]

    status, _ = head(reader.types(commands("docs/http-api.md", "Websites")))
    assert status == 403

    printed = reader.types(commands("docs/http-api.md", "Start: `POST /api/v1/session`"))
    assert head(printed)[0] == 201
    (session,) = documents(printed)
    assert not differences(json.loads(fenced(PAGE, "Start: `POST /api/v1/session`", "json")), session)
    assert session["features"] == {"history": False, "resume": True, "uploads": False}

    sent = documents(reader.types(commands("docs/http-api.md", "Send: `POST /api/v1/chat`")))[0]
    example = json.loads(fenced(PAGE, "Send: `POST /api/v1/chat`", "json"))
    assert not differences(example, sent)
    assert (sent["content"], sent["finish_reason"]) == (example["content"], example["finish_reason"])

    resumed = reader.types(
        commands("docs/http-api.md", "Resume: `GET /api/v1/chat/{message_id}`"), {MESSAGE_ID: message_id}
    )
    assert list(events(resumed)) == came[2:]
    rate = commands("docs/http-api.md", "Rate: `POST /api/v1/chat/{message_id}/feedback`")
    assert head(reader.types(rate, {MESSAGE_ID: message_id}))[0] == 204

    (refused,) = documents(reader.types(commands("docs/http-api.md", "History: `GET /api/v1/history`")))
    assert refused["code"] == "not_stored"

    widget = "n8n's widget: `POST /chat`, `POST /chat/{bot}`"
    said = documents(reader.types(commands("docs/http-api.md", "n8n's widget: `POST /chat`, `POST /chat/{bot}`")))[0]
    assert not differences(json.loads(fenced(PAGE, widget, "json")), said)

    printed = reader.types(commands("docs/http-api.md", "Operations"))
    assert not differences(json.loads(fenced("docs/operations.md", "Health", "json")), documents(printed)[0])
    assert 'chatcore_messages_total{bot="default"} 3.0' in printed

    looked, refreshed, *_ = documents(printed := reader.types(commands("docs/http-api.md", "Look, refresh, erase")))
    assert looked["session_id"] == refreshed["session_id"] == came[0][2]["session_id"]
    assert looked["session_id"] not in server.log, "docs/privacy.md says so"
    assert refreshed["token"] != reader.place.environment["TOKEN"]
    assert head(printed)[0] == 204


@pytest.fixture
def keeping(
    start_server: StartServer, database: Database, redis_server: RedisDatabase, tmp_path: Path
) -> tuple[ChatServer, Reader]:
    """Give a server that keeps messages and takes files, and somebody who reads the page."""
    environment = {
        "DATABASE_URL": database.url,
        "DATABASE_ADMIN_URL": database.admin_url,
        "REDIS_URL": redis_server.url,
        "SPOOL_PATH": str(tmp_path / "spool.db"),
        "AUDIT_KEY": AUDIT_KEY,
        "ADMIN_TOKENS": f"anna:{OPS}",
        "UPLOAD_MAX_BYTES": "20971520",
        "UPLOAD_TYPES": "image/*,application/pdf",
    }
    server = start_server(None, environment, main=MAIN, options=["--demo"])
    reader = Reader(server, tmp_path)
    reader.place.environment["ADMIN_TOKEN"] = OPS
    return server, reader


def test_a_server_that_keeps_messages_shows_what_the_page_shows_of_them(keeping: tuple[ChatServer, Reader]) -> None:
    server, reader = keeping
    reader.chats()

    (reader.place.folder / "photo.jpg").write_bytes(JPEG)
    (reader.place.folder / "report.pdf").write_bytes(PDF)
    answered = documents(reader.types(commands("docs/http-api.md", "Files")))[0]
    assert "photo.jpg, report.pdf" in answered["content"]
    (limits,) = re.findall(r"`(\{\"max_bytes\": .*?\})`", (Path(__file__).parents[2] / PAGE).read_text("utf-8"))
    session = documents(reader.types(commands("docs/http-api.md", "Start: `POST /api/v1/session`")))[0]
    assert session["features"]["uploads"] == json.loads(limits)

    history = documents(reader.types(commands("docs/http-api.md", "History: `GET /api/v1/history`")))[0]
    assert not differences(json.loads(fenced(PAGE, "History: `GET /api/v1/history`", "json")), history)
    assert [message["role"] for message in history["messages"]] == ["user", "assistant"]

    figures = documents(reader.types(commands("docs/http-api.md", "Figures: `GET /api/v1/admin/analytics`")))[0]
    heading = "Figures: `GET /api/v1/admin/analytics`"
    example, of_postgres = (json.loads(fenced(PAGE, heading, "json", number)) for number in (0, 1))
    assert not differences({**example, **of_postgres}, figures)
    assert (figures["from"], figures["to"], figures["interval"]) == (example["from"], example["to"], "day")

    with httpx.Client(base_url=server.url, trust_env=False, headers={"Authorization": f"Bearer {OPS}"}) as operator:
        found = operator.get("/api/v1/admin/sessions", params={"q": "hello"}).json()
        audit = operator.get("/api/v1/admin/audit").json()
    example = json.loads(fenced(PAGE, "Conversations: `GET /api/v1/admin/sessions`", "json"))
    assert not differences(example, found)
    assert found["sessions"][0]["messages"] == 2
    example = json.loads(fenced(PAGE, "Audit log: `GET /api/v1/admin/audit`", "json"))
    assert audit.keys() == example.keys()
    entry, changes = (
        example["entries"][0],
        {"number": 0, "at": "", "address": "", "detail": {"q": "hello", "limit": 20}},
    )
    assert audit["entries"][0]["action"] == "audit_read"
    assert audit["entries"][1] | changes == entry | changes
    assert audit["entries"][1]["detail"] == changes["detail"]


def test_an_error_is_as_the_page_on_errors_shows_it(server: ChatServer, n8n: ScriptedN8n) -> None:
    with httpx.Client(base_url=server.url, trust_env=False) as client:
        token = client.post("/api/v1/session").json()["token"]
        told = {"message": "Hi", "metadata": {"plan": "\0"}}
        refused = client.post("/api/v1/chat", json=told, headers={"Authorization": f"Bearer {token}"})
    example = json.loads(fenced("docs/errors.md", "Errors", "json"))
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json() == example | {"request_id": refused.headers["x-request-id"]}
    assert not n8n.requests
