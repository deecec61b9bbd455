"""Both ways of the upstream transport do the same: one suite, a real server that misbehaves byte by byte."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Callable, Iterator

import aiohttp
import pytest

from chatcore.upstream import pooled
from chatcore.upstream.pooled import DirectTransport, SessionTransport, direct_works
from chatcore.upstream.transport import Answer, CutError, HungUpError, NotConnectedError, NotHttpError, Transport
from tests.support.answers import (
    Answer as Script,
)
from tests.support.answers import (
    Close,
    Framing,
    Send,
    Stall,
    Wait,
    answer_bytes,
    answer_json,
    cut,
    drop_before_head,
    head,
)
from tests.support.background import Gate
from tests.support.n8n import ScriptedN8n, Taking
from tests.support.ports import free_port

HEADERS = {"Content-Type": "application/json", "Accept-Encoding": "identity", "User-Agent": "chatcore/test"}
SIGNED = {"X-Session-Token": "a.b.c", "Authorization": "Bearer a.b.c"}


@pytest.fixture(name="transport", params=[DirectTransport, SessionTransport])
async def _transport(request: pytest.FixtureRequest) -> AsyncIterator[Transport]:
    make: Callable[[int, float], Transport] = request.param
    opened = make(10, 2.0)
    yield opened
    await opened.close()


@pytest.fixture(name="n8n")
def _n8n() -> Iterator[ScriptedN8n]:
    with ScriptedN8n() as scripted:
        scripted.answer(answer_json({"output": "yes"}))
        yield scripted
    assert not scripted.faults


async def post(transport: Transport, n8n: ScriptedN8n, body: bytes = b"{}") -> Answer:
    async with asyncio.timeout(10):
        return await transport.to(n8n.url, HEADERS)(SIGNED, body)


async def read_all(answer: Answer) -> bytes:
    whole = b""
    async with asyncio.timeout(10):
        while data := await answer.read():
            whole += data
    return whole


async def test_the_request_arrives_as_it_was_meant(transport: Transport, n8n: ScriptedN8n) -> None:
    n8n.answer(answer_json({"output": "yes"}))
    answer = await post(transport, n8n, '{"chatInput":"ü"}'.encode())
    assert (answer.status, answer.content_type) == (200, "application/json; charset=utf-8")
    assert await read_all(answer) == b'{"output": "yes"}'
    answer.release()
    (request,) = n8n.requests
    assert request.method == "POST"
    assert request.body == '{"chatInput":"ü"}'.encode()
    wanted = {name.lower(): value for name, value in {**HEADERS, **SIGNED}.items()}
    wanted |= {"host": f"127.0.0.1:{n8n.port}", "content-length": str(len(request.body))}
    assert {name: value for name, value in request.headers.items() if name != "accept"} == wanted


async def test_a_connection_is_used_again_once_its_answer_was_read(transport: Transport, n8n: ScriptedN8n) -> None:
    for _ in range(5):
        answer = await post(transport, n8n)
        await read_all(answer)
        answer.release()
        answer.release()
    assert n8n.connections == 1


async def test_an_answer_left_unread_costs_its_connection(transport: Transport, n8n: ScriptedN8n) -> None:
    n8n.next(answer_bytes(b"x" * 1000, Stall()))
    answer = await post(transport, n8n)
    await answer.read()
    answer.release()
    again = await post(transport, n8n)
    await read_all(again)
    again.release()
    assert n8n.connections == 2


async def test_a_refused_connection_is_told_from_one_that_hung_up(transport: Transport, n8n: ScriptedN8n) -> None:
    with pytest.raises(NotConnectedError):
        await transport.to(f"http://127.0.0.1:{free_port()}/", HEADERS)(SIGNED, b"{}")
    with pytest.raises(NotConnectedError):
        await transport.to("http://no-such-host.invalid/", HEADERS)(SIGNED, b"{}")
    for reset in (False, True):
        n8n.next(drop_before_head(reset=reset))
        with pytest.raises(HungUpError):
            await post(transport, n8n)
    assert len(n8n.requests) == 2, "nothing was sent twice"


@pytest.mark.parametrize("reply", [b"garbage\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n", b"\x00\x01\x02\r\n\r\n"])
async def test_what_is_no_http_is_told(transport: Transport, n8n: ScriptedN8n, reply: bytes) -> None:
    n8n.next(Script((Send(reply), Close())))
    with pytest.raises((NotHttpError, HungUpError)):
        await post(transport, n8n)


async def test_a_body_that_is_cut_is_told_after_what_came(transport: Transport, n8n: ScriptedN8n) -> None:
    for reset in (False, True):
        n8n.next(cut("some", reset=reset))
        answer = await post(transport, n8n)
        with pytest.raises(CutError):
            await read_all(answer)
        answer.release()


async def test_bad_framing_and_bad_gzip_are_told(transport: Transport, n8n: ScriptedN8n) -> None:
    begin = head(200, {"Content-Type": "text/plain"}, "Transfer-Encoding: chunked")
    n8n.next(Script((begin, Send(b"zz\r\nx"), Close())), answer_bytes(b"no gzip", headers={"Content-Encoding": "gzip"}))
    for _ in range(2):
        with pytest.raises((CutError, NotHttpError)):  # as the first bytes of the body came with the head or later
            await _told(transport, n8n)


async def test_a_bad_chunk_after_the_head_is_told_by_the_answer(transport: Transport, n8n: ScriptedN8n) -> None:
    begin = head(200, {"Content-Type": "text/plain"}, "Transfer-Encoding: chunked")
    n8n.next(Script((begin, Send(b"2\r\nok\r\n"), Wait(0.2), Send(b"zz\r\nx"), Stall())))
    answer = await post(transport, n8n)
    assert await answer.read() == b"ok"
    assert not answer.broken
    async with asyncio.timeout(5):
        while not answer.broken:
            await asyncio.sleep(0.01)
    answer.release()
    assert not answer.broken


async def _told(transport: Transport, n8n: ScriptedN8n) -> None:
    answer = await post(transport, n8n)
    try:
        async with asyncio.timeout(1):
            await read_all(answer)
    except TimeoutError:
        assert answer.broken
        raise CutError from None
    finally:
        answer.release()


async def test_gzip_is_unpacked_although_it_was_not_asked_for(transport: Transport, n8n: ScriptedN8n) -> None:
    packed = gzip.compress(b"x" * 300_000)
    n8n.next(answer_bytes(packed, headers={"Content-Encoding": "gzip"}))
    answer = await post(transport, n8n)
    assert await read_all(answer) == b"x" * 300_000
    answer.release()


async def test_every_framing_is_read_to_its_end(transport: Transport, n8n: ScriptedN8n) -> None:
    framings: tuple[Framing, ...] = ("chunked", "length", "close")
    n8n.next(*(answer_bytes(b"a" * 200_000, b"b", framing=framing) for framing in framings))
    for _ in framings:
        answer = await post(transport, n8n)
        assert await read_all(answer) == b"a" * 200_000 + b"b"
        answer.release()


async def test_interim_answers_are_passed_over(transport: Transport, n8n: ScriptedN8n) -> None:
    interim = Send(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")
    n8n.next(Script((interim, *answer_json({"output": "yes"}).steps)))
    answer = await post(transport, n8n)
    assert answer.status == 200
    assert await read_all(answer) == b'{"output": "yes"}'
    answer.release()


async def test_cancelling_closes_the_connection(transport: Transport, n8n: ScriptedN8n) -> None:
    n8n.next(Script((Stall(),)))
    waiting = asyncio.create_task(post(transport, n8n))
    async with asyncio.timeout(5):
        while not n8n.requests:
            await asyncio.sleep(0.01)
    waiting.cancel()
    await asyncio.wait({waiting})
    async with asyncio.timeout(5):
        while n8n.open_connections:
            await asyncio.sleep(0.01)


async def test_no_more_connections_than_the_limit(n8n: ScriptedN8n) -> None:
    for make in (DirectTransport, SessionTransport):
        transport: Transport = make(2, 2.0)

        async def one(using: Transport = transport) -> None:
            answer = await post(using, n8n)
            await read_all(answer)
            answer.release()

        before = n8n.connections
        await asyncio.gather(*(one() for _ in range(20)))
        assert n8n.connections - before <= 2
        await transport.close()


def test_the_direct_way_is_taken_with_the_pinned_aiohttp_and_left_with_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert direct_works()

    async def connect(self: object, request: object) -> None:
        del self, request

    monkeypatch.setattr(aiohttp.BaseConnector, "connect", connect)
    assert not direct_works()


async def test_another_aiohttp_is_served_by_the_ordinary_way(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = pooled.open_transport(1, 1.0)
    assert isinstance(opened, DirectTransport)
    await opened.close()
    monkeypatch.setattr(pooled, "direct_works", lambda: False)
    opened = pooled.open_transport(1, 1.0)
    assert isinstance(opened, SessionTransport)
    await opened.close()


async def in_pieces(*pieces: bytes, then: BaseException | None = None) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece
    if then is not None:
        raise then


async def stream(transport: Transport, n8n: ScriptedN8n, body: AsyncIterator[bytes]) -> Answer:
    async with asyncio.timeout(10):
        return await transport.to(n8n.url, HEADERS)({**SIGNED, "Content-Type": "x/y"}, body)


async def test_a_body_in_pieces_goes_out_in_chunks(transport: Transport, n8n: ScriptedN8n) -> None:
    for _ in range(2):
        answer = await stream(transport, n8n, in_pieces(b"some, ", b"", b"x" * 300_000, b" end"))
        assert (answer.status, await read_all(answer)) == (200, b'{"output": "yes"}')
        answer.release()
    assert n8n.connections == 1, "one connection was used twice"
    request = n8n.requests[0]
    assert request.body == b"some, " + b"x" * 300_000 + b" end"
    wanted = {name.lower(): value for name, value in {**HEADERS, **SIGNED, "Content-Type": "x/y"}.items()}
    wanted |= {"host": f"127.0.0.1:{n8n.port}", "transfer-encoding": "chunked"}
    assert {name: value for name, value in request.headers.items() if name != "accept"} == wanted


async def test_a_body_that_fails_is_cut_and_not_ended(transport: Transport, n8n: ScriptedN8n) -> None:
    with pytest.raises(HungUpError):
        await stream(transport, n8n, in_pieces(b"half", then=ValueError("no more")))
    async with asyncio.timeout(5):
        while n8n.cut_bodies != 1:
            await asyncio.sleep(0.01)
    assert not n8n.requests
    answer = await post(transport, n8n)
    await read_all(answer)
    answer.release()
    assert n8n.connections == 2


async def test_an_answer_before_the_end_of_the_body_is_told_at_once(transport: Transport, n8n: ScriptedN8n) -> None:
    n8n.taking = Taking(most=4)
    n8n.answer(Script((*answer_json({"output": "no"}, status=413).steps,)))
    held = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield b"half"
        await held.wait()

    answer = await stream(transport, n8n, body())
    assert (answer.status, await read_all(answer)) == (413, b'{"output": "no"}')
    answer.release()
    async with asyncio.timeout(5):
        while n8n.open_connections:
            await asyncio.sleep(0.01)


async def test_a_body_is_asked_for_no_faster_than_it_is_taken(transport: Transport, n8n: ScriptedN8n) -> None:
    n8n.taking = Taking(gate=(gate := Gate()))
    asked = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal asked
        for _ in range(1000):
            asked += 1
            yield b"x" * 65_536

    sending = asyncio.create_task(stream(transport, n8n, body()))
    before = -1
    while asked != before:
        before = asked
        await asyncio.sleep(0.3)
    assert 0 < asked < 500, "the rest waits"
    gate.open()
    answer = await sending
    answer.release()
    assert asked == 1000


async def test_cancelling_in_the_middle_of_a_body_closes_the_connection(transport: Transport, n8n: ScriptedN8n) -> None:
    n8n.taking = Taking(each=(seen := asyncio.Queue[bytes]()).put_nowait)

    async def body() -> AsyncIterator[bytes]:
        yield b"half"
        await asyncio.Event().wait()

    sending = asyncio.create_task(stream(transport, n8n, body()))
    async with asyncio.timeout(5):
        while seen.empty():
            await asyncio.sleep(0.01)
    sending.cancel()
    await asyncio.wait({sending})
    async with asyncio.timeout(5):
        while n8n.cut_bodies != 1:
            await asyncio.sleep(0.01)


async def test_a_body_in_pieces_finds_no_connection(transport: Transport) -> None:
    with pytest.raises(NotConnectedError):
        await transport.to(f"http://127.0.0.1:{free_port()}/", HEADERS)(SIGNED, in_pieces(b"x"))
