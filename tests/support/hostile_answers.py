"""What a server may answer that only looks like ours: HTML, streams of garbage, wrong types, heads without end."""

import json
from collections.abc import Mapping
from typing import Any

from tests.support.answers import Answer, Close, Send, Stall, answer_bytes, head
from tests.support.hostile_texts import FOREIGN

CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "*",
    "Access-Control-Allow-Headers": "authorization, content-type, x-chat-session, last-event-id",
    "Access-Control-Expose-Headers": "*",
}
SESSION = {"session_id": "s_1", "token": "t", "expires_in_seconds": 3600, "features": {"history": False}}
BAD_WORDS = (b"<!doctype html><h1>502</h1>", b"null", b"[]", b"7", b"{", b"[" * 100_000, b"\xff\xfe\0" * 999, b"")


def answer(body: bytes = b"", status: int = 200, kind: str = "application/json", **headers: str) -> Answer:
    """Answer as any server may, with leave for every website to read it."""
    return answer_bytes(body, status=status, content_type=kind, headers={**CORS, **headers}, framing="length")


def events(*lines: str) -> Answer:
    """Answer with an event stream of these lines."""
    return answer("".join(f"{one}\n" for one in lines).encode("utf-8", "surrogatepass"), kind="text/event-stream")


def event(name: str, data: Any, number: object = 1) -> str:
    """Give one event of a stream."""
    return f"id: {number}\nevent: {name}\ndata: {json.dumps(data)}\n"


ENDLESS_HEAD = Answer((Send(b"HTTP/1.1 200 OK\r\n"), *[Send(b"X: " + b"a" * 60_000 + b"\r\n")] * 20, Stall()))
NO_HTTP = Answer((Send(b"\x16\x03\x01 SSH-2.0 <html>\r\n\r\n"), Close()))
CUT_BODY = Answer((head(200, {**CORS, "Content-Type": "application/json"}, "Content-Length: 999"), Send(b"{"), Close()))
ELSEWHERE = answer(status=302, Location=f"{FOREIGN}/api/v1/session")

SESSIONS: Mapping[str, Answer] = {
    **{f"body {word[:9]!r}": answer(word) for word in BAD_WORDS},
    **{
        f"{name} {str(value)[:20]!r}": answer(json.dumps({**SESSION, name: value}).encode())
        for name, value in [
            ("token", 7), ("token", None), ("token", ["t"]), ("token", ""), ("token", "a\nb"), ("token", "\u00fc"),
            ("token", "t" * 9000), ("session_id", 7), ("session_id", "a b"), ("session_id", {"toString": 1}),
            ("expires_in_seconds", "soon"), ("expires_in_seconds", {}),
        ]
    },
    "endless number": answer(json.dumps(SESSION).replace("3600", "1e999").encode()),
    "204": answer(status=204),
    "404": answer(b"<h1>Not found</h1>", 404, "text/html"),
    "401": answer(b'{"code":"token_expired"}', 401),
    "429": answer(b'{"code":"rate_limited","retry_after":"<b>"}', 429, **{"Retry-After": "never"}),
    "500": answer(b"Traceback (most recent call last)", 500, "text/plain"),
    "endless head": ENDLESS_HEAD,
    "elsewhere": ELSEWHERE,
}  # fmt: skip
"""What a hostile server may answer where it is asked for a session."""

CHATS: Mapping[str, Answer] = {
    **{f"body {word[:9]!r}": answer(word) for word in BAD_WORDS},
    "stream": answer(b"\n\ndata: ".join(BAD_WORDS) + b"\n\n", kind="text/event-stream"),
    "types": answer(b'{"session_id":7,"content":{},"finish_reason":[]}'),
    "no JSON": events("id: 1", "event: start", "data: {", ""),
    "null": events(event("start", None)),
    "number": events(event("start", {"session_id": 7})),
    "no session": events(event("start", {})),
    "prototype": events(event("start", {"__proto__": {"session_id": "s"}})),
    "ids": events(
        *(event("delta", {"content": "x"}, number) for number in ("", "-1", "0", "1e999", "NaN", "2.5", "9" * 30))
    ),
    "other names": events(
        *(event(name, {"content": "x"}) for name in ("constructor", "__proto__", "<b>", "message", ""))
    ),
    "reason": events(event("done", {"finish_reason": "because"})),
    "error": events(event("error", {"code": {}, "detail": []}), event("done", {"finish_reason": "error"}, 2)),
    "problem": events(event("error", None), event("done", {"finish_reason": "error"}, 2)),
    "9 MiB": events("data: " + "x" * 9 * 2**20),
    "204": answer(status=204),
    "401": answer(b'{"code":"token_expired"}', 401),
    "401 again": answer(b'{"code":"token_invalid"}', 401),
    "problem of types": answer(b'{"code":"x","detail":{},"retry_after":[],"content":7,"errors":"x"}', 400),
    "429": answer(b'{"code":"rate_limited","retry_after":1e300}', 429, **{"Retry-After": "-5"}),
    "cut body": CUT_BODY,
    "no HTTP": NO_HTTP,
}
"""What it may answer to a message."""

ENDLESS = answer_bytes(b": nothing\n\n" * 9999, Stall(), content_type="text/event-stream", headers=CORS)
"""A stream that goes on for ever and says nothing."""
