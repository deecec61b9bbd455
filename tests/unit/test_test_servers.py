"""The servers that the other tests lean on do what their scripts say: the scripted n8n and the fault proxy."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator

import httpx
import pytest

from tests.support import answers
from tests.support.answers import Answer
from tests.support.background import Gate, eventually
from tests.support.client import NO_TLS
from tests.support.faultproxy import FaultProxy
from tests.support.n8n import ScriptedN8n

MESSAGE = {"action": "sendMessage", "sessionId": "s", "chatInput": "hello"}


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False, verify=NO_TLS, timeout=5.0) as client:
        yield client


def _items(body: str) -> str:
    return "".join(json.loads(one)["content"] for one in body.split("\n") if '"item"' in one)


async def test_it_repeats_what_is_said_and_remembers_the_request(n8n: ScriptedN8n, http: httpx.AsyncClient) -> None:
    for _ in range(2):
        assert _items((await http.post(n8n.url, json=MESSAGE)).text) == "Echo: hello"
    assert [request.json for request in n8n.requests] == [MESSAGE, MESSAGE]
    assert n8n.requests[0].headers["content-type"] == "application/json"
    assert (n8n.connections, n8n.hangups) == (1, 0)


async def test_a_chunked_request_is_read_whole(n8n: ScriptedN8n, http: httpx.AsyncClient) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b'{"chatInput"'
        yield b':"x"}'

    assert _items((await http.post(n8n.url, content=pieces())).text) == "Echo: x"
    assert n8n.requests[0].body == b'{"chatInput":"x"}'


@pytest.mark.parametrize("framing", ["chunked", "length", "close"])
@pytest.mark.parametrize("zipped", [False, True])
async def test_each_framing_carries_the_same_body(
    n8n: ScriptedN8n, http: httpx.AsyncClient, framing: answers.Framing, zipped: bool
) -> None:
    n8n.answer(answers.answer_bytes(b"one", b"two", framing=framing, zipped=zipped))
    for _ in range(2):
        assert (await http.post(n8n.url, json=MESSAGE)).content == b"onetwo"
    assert n8n.connections == (2 if framing == "close" else 1)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (answers.drop_before_head(), httpx.RemoteProtocolError),
        (answers.drop_before_head(reset=True), httpx.ReadError),
        (answers.cut("a"), httpx.RemoteProtocolError),
        (answers.cut("a", reset=True), httpx.ReadError),
    ],
)
async def test_it_breaks_as_told(
    n8n: ScriptedN8n, http: httpx.AsyncClient, answer: Answer, error: type[Exception]
) -> None:
    n8n.answer(answer)
    with pytest.raises(error):
        await http.post(n8n.url, json=MESSAGE)


async def test_scripts_come_in_order_and_then_the_usual_one(n8n: ScriptedN8n, http: httpx.AsyncClient) -> None:
    n8n.answer(lambda request: answers.answer_text(request.text.upper()))
    n8n.next(answers.answer_json({"output": "1"}, 201), answers.answer_empty())
    got = [await http.post(n8n.url, json=MESSAGE) for _ in range(3)]
    assert [(one.status_code, one.text) for one in got] == [(201, '{"output": "1"}'), (200, ""), (200, "HELLO")]


async def test_a_gate_holds_the_answer_back(n8n: ScriptedN8n, http: httpx.AsyncClient) -> None:
    gate = Gate()
    n8n.answer(answers.hold(gate))
    asked = asyncio.create_task(http.post(n8n.url, json=MESSAGE))
    await eventually(lambda: n8n.requests)
    assert not asked.done()
    gate.open()
    assert (await asked).json() == {"output": "at last"}


async def test_a_hangup_is_seen(n8n: ScriptedN8n, http: httpx.AsyncClient) -> None:
    n8n.answer(answers.stall("a"))
    async with http.stream("POST", n8n.url, json=MESSAGE) as response:
        assert response.status_code == 200
    await eventually(lambda: n8n.hangups == 1 and n8n.open_connections == 0)


async def test_it_refuses_connections_and_comes_back_on_its_port(n8n: ScriptedN8n, http: httpx.AsyncClient) -> None:
    n8n.refuse()
    with pytest.raises(httpx.ConnectError):
        await http.post(n8n.url, json=MESSAGE)
    n8n.listen()
    assert (await http.post(n8n.url, json=MESSAGE)).status_code == 200


async def test_a_recording_is_replayed_to_the_byte(n8n: ScriptedN8n) -> None:
    for name in answers.recordings():
        answer = answers.replay(name, speed=1e9)
        if isinstance(answer.steps[-1], answers.Stall):
            continue
        n8n.answer(Answer((*answer.steps, answers.Close())))
        reader, writer = await asyncio.open_connection("127.0.0.1", n8n.port)
        writer.write(b"POST /webhook/chat HTTP/1.1\r\nContent-Length: 0\r\n\r\n")
        assert await reader.read() == answers.recording(name).data, name
        writer.close()


@pytest.fixture
def faults(n8n: ScriptedN8n) -> Iterator[FaultProxy]:
    with FaultProxy(n8n.port) as proxy:
        yield proxy


async def test_the_fault_proxy_passes_on_and_delays(faults: FaultProxy, http: httpx.AsyncClient) -> None:
    assert _items((await http.post(faults.url, json=MESSAGE)).text) == "Echo: hello"
    faults.delay = 0.05
    began = time.monotonic()
    assert _items((await http.post(faults.url, json=MESSAGE)).text) == "Echo: hello"
    assert time.monotonic() - began >= 0.1


def _broken(_data: bytes) -> bytes:
    return b"HTTP/9.9 what\r\n\r\n"


@pytest.mark.parametrize(
    "fault",
    [
        lambda proxy: setattr(proxy, "corrupt", _broken),
        lambda proxy: setattr(proxy, "cut_after", 30),
        lambda proxy: setattr(proxy, "target", 1),
        FaultProxy.refuse,
        FaultProxy.stop,
    ],
)
async def test_the_fault_proxy_breaks_what_passes(
    faults: FaultProxy, http: httpx.AsyncClient, fault: Callable[[FaultProxy], None]
) -> None:
    fault(faults)
    with pytest.raises(httpx.TransportError):
        await http.post(faults.url, json=MESSAGE)


async def test_the_fault_proxy_cuts_what_is_open(n8n: ScriptedN8n, faults: FaultProxy, http: httpx.AsyncClient) -> None:
    n8n.answer(answers.stall())
    asked = asyncio.create_task(http.post(faults.url, json=MESSAGE))
    await eventually(lambda: n8n.requests)
    faults.cut()
    with pytest.raises(httpx.ReadError):
        await asked
    await eventually(lambda: n8n.hangups == 1)
