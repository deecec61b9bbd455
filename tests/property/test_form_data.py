"""Forms cut anywhere are read alike, and nothing but a refusal comes of any bytes."""

import asyncio
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatcore.asgi import Message, Visit
from chatcore.errors import Refusal
from chatcore.form_data import MAX_FIELDS, FormData, base_name
from chatcore.live import ClientGoneError
from chatcore.model import FileHead
from chatcore.settings import UploadSettings
from tests.support.uploads import BOUNDARY, FORM, PNG, Part, file, form, message

LIMITS = UploadSettings(max_bytes=20_000, max_files=3, types=("text/plain", "image/*"))
TEXT_BYTES = 10_000
ROOM = 3 * 20_000 + TEXT_BYTES + (MAX_FIELDS + 3) * 8192
"""What a whole request may have with these limits."""

Read = tuple[dict[str, str], list[tuple[str, str, bytes]]]


def visit(content_type: str = FORM, *headers: tuple[bytes, bytes]) -> Visit:
    scope = {"path": "/api/v1/chat", "headers": [(b"content-type", content_type.encode("latin-1")), *headers]}
    return Visit(scope, lambda: "id", 0.0)


class Body:
    """A request's body in pieces; `gone` ends it with the connection. `taken` is how much was asked for."""

    def __init__(self, pieces: Iterable[bytes], *, gone: bool = False) -> None:
        self._pieces = list(pieces)
        self._gone = gone
        self.taken = 0

    async def receive(self) -> Message:
        if not self._pieces:
            return {"type": "http.disconnect"} if self._gone else {"type": "http.request", "body": b""}
        piece = self._pieces.pop(0)
        self.taken += len(piece)
        return {"type": "http.request", "body": piece, "more_body": self._gone or bool(self._pieces)}


async def read(data: FormData) -> Read:
    fields = await data.fields()
    files: list[tuple[str, str, bytes]] = []
    async for piece in data.pieces():
        if isinstance(piece, FileHead):
            files.append((piece.name, piece.content_type, b""))
        else:
            name, kind, content = files[-1]
            files[-1] = (name, kind, content + piece)
    return fields, files


def told(pieces: Sequence[bytes]) -> Any:
    """Read a form in these pieces; gives what it holds, or how it was refused."""

    async def run() -> Any:
        data = FormData(visit(), Body(pieces).receive, LIMITS, TEXT_BYTES)
        try:
            return await read(data)
        except Refusal as refusal:
            return refusal.kind.code, refusal.errors

    return asyncio.run(run())


def cut_at(body: bytes, places: Iterable[int]) -> list[bytes]:
    marks = sorted({place % (len(body) + 1) for place in places} | {0, len(body)})
    return [body[begin:end] for begin, end in pairwise(marks)]


NAMES = st.text(min_size=1, max_size=20).filter(lambda name: not set(name) & set('"\\\r\n%\0') and name.isprintable())
TEXTS = st.text(max_size=200).filter(lambda text: "\r\n--" not in text and text.isprintable()).map(str.encode)
TRICKY = st.sampled_from(
    [b"\r", b"\r\n", b"\r\n-", b"\r\n--", b"\r\n--" + BOUNDARY.encode()[:-1], b"-" * 50, b"\r" * 9]
)
IMAGES = st.lists(TRICKY | st.binary(max_size=3000), max_size=4).map(b"".join).map(lambda rest: PNG + rest)
FILES = st.lists(
    st.builds(lambda data, name: file(data, name + ".txt"), TEXTS, NAMES)
    | st.builds(lambda data, name: file(data, name + ".png", "image/png"), IMAGES, NAMES),
    max_size=3,
)


@given(FILES, st.lists(st.integers(0, 1 << 20), max_size=30))
def test_a_form_is_read_alike_wherever_it_is_cut(files: list[Part], places: list[int]) -> None:
    body = form(message("Hello"), *files)
    expected = [(base_name(part.filename or ""), part.content_type, part.data) for part in files]
    assert told([body])[1] == expected
    assert told(cut_at(body, places)) == told([body])


def test_a_form_is_read_alike_byte_by_byte() -> None:
    body = form(message("Hello"), file(b"a" * 50), file(PNG, "x.png", "image/png"))
    assert told([body[place : place + 1] for place in range(len(body))]) == told([body])


PIECES = st.sampled_from(
    [
        b"--" + BOUNDARY.encode(),
        b"\r\n",
        b"--",
        b"\n",
        b"Content-Disposition: form-data",
        b'; name="files"',
        b'; name="request"',
        b'; filename="a.txt"',
        b'; filename="',
        b"Content-Type: text/plain",
        b"Content-Length: 3",
        b"Content-Length: -1",
        b" folded",
        b"\xff",
        b"abc",
        PNG[:9],
        b"x" * 5000,
        form(message(), file("abc")),
    ]
)


@given(st.lists(PIECES | st.binary(max_size=40), max_size=25), st.lists(st.integers(0, 1 << 20), max_size=8))
def test_whatever_comes_is_read_or_refused(parts: list[bytes], places: list[int]) -> None:
    told(cut_at(b"".join(parts), places))


@given(st.text(max_size=80), st.binary(max_size=60))
def test_any_head_is_taken_or_refused(content_type: str, boundary: bytes) -> None:
    async def run(given_type: str) -> None:
        try:
            data = FormData(visit(given_type), Body([boundary]).receive, LIMITS, TEXT_BYTES)
            await read(data)
        except Refusal:
            pass

    for kind in (content_type, f"multipart/form-data; boundary={content_type}"):
        asyncio.run(run(kind.encode("latin-1", "replace").decode("latin-1")))


@given(st.integers(0, 400))
def test_a_client_that_vanishes_is_told_from_a_bad_form(place: int) -> None:
    body = form(message("Hello"), file("abc" * 50))[:place]

    async def run() -> None:
        data = FormData(visit(), Body([body], gone=True).receive, LIMITS, TEXT_BYTES)
        try:
            await data.fields()
        except ClientGoneError:
            return
        with pytest.raises(Refusal) as refused:
            async for _ in data.pieces():
                pass
        assert refused.value.kind.code == "request_timeout"
        assert str(data.refusal) == str(refused.value)
        async with asyncio.timeout(5):
            await data.settled()

    asyncio.run(run())


async def test_nothing_is_taken_before_it_is_wanted() -> None:
    body = Body([form(message("Hello"), file(b"x" * 100))[:300], *[b"y" * 5000] * 3], gone=True)
    data = FormData(visit(), body.receive, LIMITS, TEXT_BYTES)
    assert body.taken == 0
    await data.fields()
    assert (data.has_files, body.taken) == (True, 300)
    pieces = data.pieces()
    assert isinstance(await anext(pieces), FileHead)
    assert body.taken == 5300, "no more than the type needs"


async def test_what_nobody_wants_is_read_within_the_same_limit() -> None:
    async def settled(size: int) -> tuple[int, str | None]:
        body = Body([form(message("Hello"), file("abc"))[:-10], *[b"z" * 4096] * (size // 4096)])
        data = FormData(visit(), body.receive, LIMITS, TEXT_BYTES)
        await data.fields()
        try:
            await data.discard()
        except Refusal as refusal:
            return body.taken, refusal.kind.code
        await data.settled()
        await data.discard()
        return body.taken, None

    assert (await settled(40_000))[1] is None
    taken, code = await settled(ROOM * 2)
    assert code == "body_too_large"
    assert taken <= ROOM + 4096


async def test_a_closed_one_lets_go_of_the_request() -> None:
    data = FormData(visit(), Body([form(message("Hello"), file("abc"))]).receive, LIMITS, TEXT_BYTES)
    await data.fields()
    data.close()
    data.close()
    await data.settled()
    assert data.refusal is None


def test_the_length_of_the_whole_counts_by_its_head() -> None:
    def begin(length: int) -> FormData:
        return FormData(visit(FORM, (b"content-length", b"%d" % length)), Body([]).receive, LIMITS, TEXT_BYTES)

    assert begin(ROOM).refusal is None
    for length in (ROOM + 1, 10**30):
        with pytest.raises(Refusal, match="body_too_large"):
            begin(length)
