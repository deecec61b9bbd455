"""What the page on privacy says: all of a person and nothing else is given, and nothing is left after an erasure."""

import asyncio
import json
import subprocess
import time
from pathlib import Path
from typing import Any

import redis

from tests.conftest import StartPostgres
from tests.support import jwts
from tests.support.answers import Answer, Wait, answer_bytes, line
from tests.support.client import ChatClient
from tests.support.databases import Database, RedisDatabase
from tests.support.documented import Place, commands
from tests.support.n8n import Request, ScriptedN8n
from tests.support.postgres import program
from tests.support.postgres_mode import AUDIT_KEY, Mode, is_well, until
from tests.support.server import JWT_SECRET, N8N_SECRET, ChatServer

IDENTITY = "a-site-vouches-for-its-users-with-this"
NAME, MAIL = "Ada Lovelace", "ada.lovelace@mail.test"
SAID, ANSWERED, COMMENT = (
    "Where is parcel 18-15 of Analytical Street?",
    "In Piccadilly, of all places.",
    "Too slow by far.",
)
OF_ADA = ("parcel 18-15", "Piccadilly", "by far", NAME, MAIL, "lovelace")
OTHERS = "Somebody else says this."


SITE = "https://shop.test"
PAGE_URL = f"{SITE}/orders?mail=lovelace#by%20far"


def answered_slowly(request: Request) -> Answer:
    """Answer in pieces, slow enough for the reply to be shared with other instances."""
    first, last = (ANSWERED[:3], ANSWERED[3:]) if request.text == SAID else ("All ", "right.")
    return answer_bytes(line("begin"), line("item", first), Wait(0.3), line("item", last), line("end"))


async def chats(server: ChatServer, text: str, user: dict[str, str] | None, *, comment: str = "") -> ChatClient:
    """Be a visitor, signed in or not, who says something and rates the reply."""
    client = ChatClient(server.url, origin=SITE)
    body: dict[str, Any] = {"page_url": PAGE_URL}
    if user is not None:
        body["identity_token"] = jwts.forge({**user, "exp": int(time.time()) + 300}, IDENTITY)
    assert (await client.session(body)).status_code == 201
    reply = await client.reply(text, page_url=PAGE_URL)
    assert reply.finish_reason == "complete"
    message_id = reply.named("start")[0].data["message_id"]
    rating = {"rating": "down", "comment": comment} if comment else {"rating": "up"}
    bearer = {"Authorization": f"Bearer {client.token}"}
    rated = await client.http.post(f"/api/v1/chat/{message_id}/feedback", json=rating, headers=bearer)
    assert rated.status_code == 204
    await client.close()
    return client


class Kept:
    """All that a server of PostgreSQL mode keeps anywhere."""

    def __init__(self, server: ChatServer, database: Database, redis_url: str, folder: Path) -> None:
        self._server, self._database, self._redis_url, self._folder = server, database, redis_url, folder

    def found(self, *texts: str) -> dict[str, list[str]]:
        """Tell which of these texts are where."""
        places = {"database": self._dump(), "redis": self.redis(), "journal": self.journal(), "log": self._server.log}
        return {name: [text for text in texts if text in kept] for name, kept in places.items()}

    def _dump(self) -> str:
        command = (program("pg_dump"), "--schema=chatcore", "--dbname", self._database.admin_url)
        return subprocess.run(command, check=True, capture_output=True).stdout.decode()

    def redis(self) -> str:
        """Give the names and values of all keys."""
        with redis.Redis.from_url(self._redis_url) as client:
            read = {b"string": client.get, b"stream": client.xrange, b"set": client.smembers, b"none": client.exists}
            return str([(name, read[client.type(name)](name)) for name in client.scan_iter(count=1000)])

    def journal(self) -> str:
        """Give the bytes of the journal and of what SQLite has beside it."""
        return "".join(path.read_bytes().decode("latin-1") for path in self._folder.glob("spool*"))


def operator(database: Database, redis_url: str, folder: Path) -> Place:
    """Give the folder of an operator, with the settings of the server."""
    (folder / "operator").mkdir()
    settings = {"DATABASE_URL": database.url, "DATABASE_ADMIN_URL": database.admin_url, "REDIS_URL": redis_url}
    secrets = {"AUDIT_KEY": AUDIT_KEY, "JWT_SECRET_KEY": JWT_SECRET, "SESSION_SECRET_KEY": N8N_SECRET}
    return Place(folder / "operator", {**settings, **secrets})


async def test_what_is_kept_of_a_person_is_given_and_then_erased_everywhere(
    n8n: ScriptedN8n, database: Database, redis_server: RedisDatabase, tmp_path: Path
) -> None:
    n8n.answer(answered_slowly)
    place = operator(database, redis_server.url, tmp_path)
    more = {"IDENTITY_SECRET_KEY": IDENTITY, "ALLOWED_ORIGINS": SITE, "LOG_LEVEL": "DEBUG"}
    with Mode(n8n, database, redis_server.url, tmp_path, **more) as mode:
        server = mode.start()
        kept = Kept(server, database, redis_server.url, tmp_path)
        ada = {"sub": "42", "name": NAME, "email": MAIL}
        first, second, other, unknown = await asyncio.gather(
            chats(server, SAID, ada, comment=COMMENT),
            chats(server, SAID, ada),
            chats(server, OTHERS, {"sub": "420"}),
            chats(server, SAID, None),
        )
        assert kept.found(*OF_ADA) == {"database": list(OF_ADA[:3]), "redis": ["Piccadilly"], "journal": [], "log": []}
        assert not any(kept.found("127.0.0.1")[place] for place in ("database", "redis", "journal"))
        assert {request.json["context"].get("user", {}).get("email") for request in n8n.requests} == {MAIL, None}

        place.run(commands("docs/privacy.md", "Somebody asks what you have", 0))
        given = place.folder / "person.jsonl"
        documents = {one["session"]["session_id"]: one for one in map(json.loads, given.read_text().splitlines())}
        assert documents.keys() == {first.session_id, second.session_id}
        for document in documents.values():
            assert [message["content"] for message in document["messages"]] == [SAID, ANSWERED]
            assert (document["session"]["user"], document["session"]["page"]) == ("42", f"{SITE}/orders")
        assert documents[str(first.session_id)]["session"]["turns"][0]["comment"] == COMMENT
        assert given.stat().st_mode & 0o777 == 0o600

        example = "s_0123456789ABCDEFGHIJKL"
        place.run(commands("docs/privacy.md", "Somebody asks what you have", 1), {example: str(unknown.session_id)})
        (line_of_session,) = (place.folder / "session.jsonl").read_text().splitlines()
        assert json.loads(line_of_session)["session"]["session_id"] == unknown.session_id

        erased = place.run(commands("docs/privacy.md", "Somebody wants it erased"), {example: str(unknown.session_id)})
        assert erased.count(": erased, 2 messages") == 3
        nowhere: dict[str, list[str]] = {"database": [], "redis": [], "journal": [], "log": []}
        await until(lambda: "Piccadilly" not in kept.redis())
        assert kept.found(*OF_ADA) == nowhere
        async with ChatClient(server.url) as asking:
            for client, status in ((first, 401), (second, 401), (unknown, 401), (other, 200)):
                bearer = {"Authorization": f"Bearer {client.token}"}
                assert (await asking.http.get("/api/v1/session", headers=bearer)).status_code == status
        left = place.run("python main_postgres.py export")
        assert OTHERS in left
        assert "parcel 18-15" not in left
        audited = database.sql("SELECT action, session_id, detail FROM chatcore.audit_log ORDER BY number")
        assert audited[0] == ("exported", None, {"user": True, "sessions": 2})
        assert {session for action, session, _ in audited if action == "session_erased"} == {
            first.session_id,
            second.session_id,
            unknown.session_id,
        }
        assert not server.crashes


async def test_what_waited_in_a_journal_is_not_left_there(
    n8n: ScriptedN8n, start_postgres: StartPostgres, redis_server: RedisDatabase, tmp_path: Path
) -> None:
    postgres = start_postgres()
    database = postgres.new_database()
    with Mode(n8n, database, redis_server.url, tmp_path) as mode:
        server = mode.start()
        postgres.stop()
        async with ChatClient(server.url) as client:
            await client.session()
            assert (await client.chat(SAID)).status_code == 200
        kept = Kept(server, database, redis_server.url, tmp_path)
        assert "parcel 18-15" in kept.journal()
        postgres.start()
        await until(lambda: is_well(server))
        assert kept.found("parcel 18-15")["database"] == ["parcel 18-15"]
        assert "parcel 18-15" not in kept.journal()
