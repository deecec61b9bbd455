"""What n8n's own widget is given of earlier messages: always an answer, and only to whom they belong."""

import json
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import MakeClient, StartPostgres, StartServer
from tests.support.answers import (
    Answer,
    answer_bytes,
    answer_json,
    answer_text,
    cut,
    drop_before_head,
    hold,
    recording,
    replay,
)
from tests.support.background import Gate
from tests.support.databases import Database, RedisDatabase
from tests.support.jwts import read
from tests.support.n8n import ScriptedN8n
from tests.support.n8n_widget import N8nWidget
from tests.support.postgres_mode import AS_OPS, Mode
from tests.support.server import ChatServer

SHOP, DESK = "https://shop.example", "https://desk.example"
RECORDED = "73-chat-loadprevious-memory"
SAID = [
    ("user", "hello chat"),
    ("bot", "Echo: hello chat"),
    ("user", "[[nmsgs]] again"),
    ("bot", "I saw 3 messages"),
]


@pytest.fixture(scope="module", name="keeping_n8n")
def _keeping_n8n() -> Iterator[ScriptedN8n]:
    with ScriptedN8n() as scripted:
        yield scripted


@pytest.fixture(scope="module", name="keeping")
def _keeping(
    keeping_n8n: ScriptedN8n,
    database_of_module: Database,
    redis_server: RedisDatabase,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[ChatServer]:
    folder: Path = tmp_path_factory.mktemp("previous")
    settings = {"ALLOWED_ORIGINS": f"{SHOP},{DESK}", "N8N_LOAD_PREVIOUS": "true"}
    with Mode(keeping_n8n, database_of_module, redis_server.url, folder, **settings) as mode:
        yield mode.start()


async def test_postgres_gives_a_session_its_own_messages(keeping: ChatServer, keeping_n8n: ScriptedN8n) -> None:
    session = str(uuid.uuid4())
    async with N8nWidget(keeping.url, origin=SHOP, session=session) as widget:
        assert await widget.previous() == []
        await widget.send("Hello <b>")
        await widget.send("Again 🙂", streaming=True)
        expected = [("user", "Hello <b>"), ("bot", "Echo: Hello <b>"), ("user", "Again 🙂"), ("bot", "Echo: Again 🙂")]
        assert await widget.previous() == expected
        assert await widget.previous(metadata={"a": [[[[1]]]]}, evil=1) == expected, "nothing else is looked at"
    async with N8nWidget(keeping.url, origin=DESK, session=session) as elsewhere:
        assert await elsewhere.previous() == [], "the same id on another website is another session"
    async with N8nWidget(keeping.url, session=session) as bare:
        assert await bare.previous() == []
    assert [request.json["action"] for request in keeping_n8n.requests] == ["sendMessage"] * 2, "n8n is not asked"


@pytest.mark.parametrize("session", ["shop-1", "00000000-0000-1000-8000-000000000000", "x" * 128])
async def test_an_id_that_can_be_guessed_shows_nothing(keeping: ChatServer, session: str) -> None:
    async with N8nWidget(keeping.url, origin=SHOP, session=session) as widget:
        assert (await widget.send("Hello")).status == 200
        assert await widget.previous() == []


async def test_a_token_shows_its_own_session_and_a_wrong_one_nothing(
    keeping: ChatServer, make_client: MakeClient
) -> None:
    client = make_client(keeping, origin=SHOP)
    await client.session()
    async with N8nWidget(keeping.url, origin=SHOP) as widget:
        await widget.send("without a token")
        widget.headers["Authorization"] = f"Bearer {client.token}"
        assert await widget.previous() == []
        await widget.send("with one")
        assert await widget.previous() == [("user", "with one"), ("bot", "Echo: with one")]
        assert len(await widget.previous(sessionId=None)) == 2
        widget.headers["Authorization"] = "Bearer forged"
        assert await widget.previous() == []


async def test_an_erased_session_is_dead_and_shows_nothing(keeping: ChatServer) -> None:
    async with N8nWidget(keeping.url, origin=SHOP) as widget:
        await widget.send("forget me")
        listed = await widget.http.get("/api/v1/admin/sessions?q=forget", headers=AS_OPS)
        (session_id,) = [session["session_id"] for session in listed.json()["sessions"]]
        assert session_id.startswith("w_")
        read_ = await widget.http.get(f"/api/v1/admin/sessions/{session_id}/messages", headers=AS_OPS)
        assert [message["content"] for message in read_.json()["messages"]] == ["forget me", "Echo: forget me"]
        erased = await widget.http.delete(f"/api/v1/admin/sessions/{session_id}", headers=AS_OPS)
        assert erased.status_code == 204
        assert (await widget.send("Hi")).status == 401
        assert await widget.previous() == []


async def test_the_last_hundred_are_given_and_those_without_words_left_out(
    keeping: ChatServer, keeping_n8n: ScriptedN8n
) -> None:
    async with N8nWidget(keeping.url, origin=SHOP) as widget:
        keeping_n8n.next(answer_json({}, 500))
        await widget.send("unanswered")
        assert await widget.previous() == [("user", "unanswered")]
        for number in range(51):
            await widget.send(f"message {number}")
        said = await widget.previous()
        assert len(said) == 100
        assert said[0] == ("user", "message 1")
        assert said[-1] == ("bot", "Echo: message 50")


async def test_a_database_that_is_away_leaves_the_widget_its_input(
    n8n: ScriptedN8n, start_postgres: StartPostgres, redis_server: RedisDatabase, tmp_path: Path
) -> None:
    postgres = start_postgres()
    with Mode(n8n, postgres.new_database(), redis_server.url, tmp_path) as mode:
        server = mode.start()
        async with N8nWidget(server.url) as widget:
            await widget.send("Hi")
            assert len(await widget.previous()) == 2
            postgres.stop("immediate")
            assert await widget.previous() == []
            assert (await widget.send("Hi")).status == 200


@pytest.mark.parametrize("main", ["main_stateless.py", "main_sqlite.py"])
async def test_modes_that_keep_no_messages_give_none_and_ask_nobody(
    n8n: ScriptedN8n, start_server: StartServer, main: str, tmp_path: Path
) -> None:
    server = start_server(n8n, {"SQLITE_DB_PATH": str(tmp_path / "chat.db")}, main=main)
    async with N8nWidget(server.url) as widget:
        await widget.send("Hi")
        assert await widget.previous() == []
        assert await widget.previous(sessionId=7) == []
        assert await widget.previous(sessionId="../../etc") == []
    assert len(n8n.requests) == 1


async def test_n8n_is_asked_where_that_is_wished(
    n8n: ScriptedN8n, start_server: StartServer, make_client: MakeClient
) -> None:
    server = start_server(n8n, {"N8N_LOAD_PREVIOUS": "true", "N8N_API_KEY": "key-of-the-webhook"})
    n8n.answer(replay(RECORDED))
    async with N8nWidget(server.url) as widget:
        assert await widget.previous(secret="x") == SAID
        asked = n8n.requests[-1]
        session_id = asked.json["sessionId"]
        assert asked.json == {"action": "loadPreviousSession", "sessionId": session_id}
        assert session_id.startswith("w_")
        assert asked.headers["x-n8n-api-key"] == "key-of-the-webhook"
        assert read(asked.headers["x-session-token"])["sub"] == session_id
        assert asked.headers["authorization"] == f"Bearer {asked.headers['x-session-token']}"
        await widget.send("Hi")
        assert n8n.requests[-1].json["sessionId"] == session_id, "the memory that messages are kept under"
        client = make_client(server)
        await client.session()
        widget.headers["Authorization"] = f"Bearer {client.token}"
        assert await widget.previous() == SAID
        assert n8n.requests[-1].json["sessionId"] == client.session_id
    asked_so_far = len(n8n.requests)
    async with N8nWidget(server.url, session="shop-1") as guessable:
        assert await guessable.previous() == []
    assert len(n8n.requests) == asked_so_far


def _previous(*messages: object) -> Answer:
    return answer_json({"data": list(messages)})


def _message(kind: object, content: object) -> dict[str, object]:
    return {"lc": 1, "type": "constructor", "id": ["langchain_core", "messages", kind], "kwargs": {"content": content}}


ODD: list[tuple[str, Answer, list[tuple[str, str]]]] = [
    ("nothing yet", replay("74-chat-loadprevious-empty"), []),
    ("it is off", replay("75-chat-loadprevious-off"), []),
    ("an answer to a message", answer_json({"output": "What do you mean?"}), []),
    ("data of another kind", answer_json({"data": {"secret-host": 1}}), []),
    ("an array", answer_json([1]), []),
    ("null", answer_json(None), []),
    ("text", answer_text("<html>secret-host</html>"), []),
    ("a stream", answer_bytes(b'{"type":"begin"}\n', b'{"type":"end"}\n'), []),
    ("an error", answer_json({"data": [_message("HumanMessage", "x")]}, 500), []),
    ("no body", answer_bytes(), []),
    ("body cut", cut("x"), []),
    ("no answer at all", drop_before_head(), []),
    ("more than 2 MiB", _previous(*[_message("AIMessage", "x" * 300_000)] * 8), []),
    (
        "other kinds of messages",
        _previous(
            _message("SystemMessage", "secret-host: you are"),
            _message("HumanMessage", "a\x00"),
            _message("ToolMessage", "rows"),
            _message("AIMessage", ""),
            _message("AIMessage", ["parts"]),
            _message(5, "x"),
            {"id": "HumanMessage", "kwargs": {"content": "x"}},
            {"id": [], "kwargs": {}},
            7,
            _message("AIMessage", "b"),
        ),
        [("user", "a\ufffd"), ("bot", "b")],
    ),
]


@pytest.fixture(scope="module", name="asking")
def _asking(keeping_n8n: ScriptedN8n) -> Iterator[ChatServer]:
    with ChatServer({"N8N_WEBHOOK_URL": keeping_n8n.url, "N8N_LOAD_PREVIOUS": "true"}) as started:
        yield started


@pytest.mark.parametrize(("answer", "said"), [row[1:] for row in ODD], ids=[row[0] for row in ODD])
async def test_whatever_n8n_says_becomes_messages_or_none(
    asking: ChatServer, keeping_n8n: ScriptedN8n, answer: Answer, said: list[tuple[str, str]]
) -> None:
    keeping_n8n.next(answer)
    async with N8nWidget(asking.url) as widget:
        assert await widget.previous() == said


async def test_an_answer_that_is_none_is_told_once(n8n: ScriptedN8n, start_server: StartServer) -> None:
    server = start_server(n8n, {"N8N_LOAD_PREVIOUS": "true"})
    n8n.answer(answer_json({"secret-host": 1}))
    async with N8nWidget(server.url) as widget:
        for _ in range(3):
            assert await widget.previous() == []
    assert server.log.count('"event":"AnswerOdd"') == 1
    assert "N8N_LOAD_PREVIOUS" in server.log
    assert "secret-host" not in server.log


async def test_at_most_a_hundred_of_n8n_s_messages_are_given(asking: ChatServer, keeping_n8n: ScriptedN8n) -> None:
    keeping_n8n.next(_previous(*[_message("HumanMessage", str(number)) for number in range(150)]))
    async with N8nWidget(asking.url) as widget:
        assert [text for _, text in await widget.previous()] == [str(number) for number in range(50, 150)]


async def test_asking_n8n_costs_and_beyond_the_limit_nobody_is_asked(
    n8n: ScriptedN8n, start_server: StartServer
) -> None:
    server = start_server(n8n, {"N8N_LOAD_PREVIOUS": "true", "RATE_LIMIT_PER_MINUTE": "3"})
    n8n.answer(replay(RECORDED))
    async with N8nWidget(server.url) as widget:
        assert [len(await widget.previous()) for _ in range(5)] == [4, 4, 4, 0, 0]
    assert len(n8n.requests) == 3


async def test_a_workflow_that_does_not_answer_is_left_alone_in_time(
    n8n: ScriptedN8n, start_server: StartServer
) -> None:
    server = start_server(n8n, {"N8N_LOAD_PREVIOUS": "true"})
    gate = Gate()
    n8n.answer(hold(gate, replay(RECORDED)))
    async with N8nWidget(server.url) as widget:
        assert await widget.previous() == []  # after 10 s
        gate.open()
        assert await widget.previous() == SAID
    n8n.refuse()
    n8n.disconnect()
    async with N8nWidget(server.url) as widget:
        assert await widget.previous() == []
        assert (await widget.send("Hi")).status == 503


def test_the_form_is_the_recorded_one() -> None:
    body = json.loads(recording(RECORDED).data.partition(b"\r\n\r\n")[2])
    assert [(entry["id"][-1], entry["kwargs"]["content"]) for entry in body["data"]] == [
        ("HumanMessage" if who == "user" else "AIMessage", text) for who, text in SAID
    ]
