"""What the contract says of every refusal of the running main, checked in one place; and raw ways to ask for one."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.support.client import USER_AGENT
from tests.support.rawhttp import Answer, RawClient, request
from tests.support.server import ChatServer

JSON = "Content-Type: application/json"
AGENT = f"User-Agent: {USER_AGENT}"
SOME_ID = "0b8f3b1e-5f0e-4c3e-9a55-2f5d0c6a7d11"
MEMBERS = {"type", "title", "status", "code", "detail", "request_id"}


@contextmanager
def left_as_it_was(server: ChatServer, memory: int = 24_000_000) -> Iterator[None]:
    """Check at the end that the server lives, met no bug, and neither grew by `memory` bytes nor kept descriptors."""
    for _ in range(20):
        ask(server, request("GET", "/health"))
    before, descriptors = server.rss_bytes(), server.descriptors()
    yield
    assert server.process.poll() is None
    assert "unexpected exception" not in server.log
    assert server.rss_bytes() < before + memory
    assert server.descriptors() <= descriptors + 8


def new_bearer(server: ChatServer) -> str:
    """Create a session and give the header line of its token."""
    answer = ask(server, request("POST", "/api/v1/session", AGENT))
    return f"Authorization: Bearer {json.loads(answer.body)['token']}"


def ask(server: ChatServer, data: bytes) -> Answer:
    """Send bytes on a connection of their own and give the answer."""
    with RawClient(server.url) as client:
        client.send(data)
        return client.answer(to_head=data.startswith(b"HEAD "))


def problem(answer: Answer, status: int, code: str, *more: str, origin: str | None = None) -> dict[str, Any]:
    """Check everything that the contract says of an error below `/api`, and give its document.

    `more` are its members beside the usual ones; `origin` is the one that may read it.
    """
    assert answer.status == status, answer.body
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = json.loads(answer.body)
    assert set(document) == MEMBERS | set(more)
    assert (document["type"], document["status"], document["code"]) == ("about:blank", status, code)
    assert document["title"]
    assert document["detail"]
    assert document["request_id"] == answer.headers["x-request-id"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["vary"] == "Origin"
    assert ("www-authenticate" in answer.headers) == (status == 401)
    assert ("retry-after" in answer.headers) == ("retry_after" in document)
    assert answer.headers.get("access-control-allow-origin") == origin
    assert ("access-control-expose-headers" in answer.headers) == (origin is not None)
    assert "server" not in answer.headers
    assert "set-cookie" not in answer.headers
    return document
