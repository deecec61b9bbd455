"""A visitor goes along from mode to mode, as docs/moving*.md say it: nothing is lost, doubled or made anew."""

from pathlib import Path

import httpx

from tests.support.client import ChatClient
from tests.support.databases import Database, RedisDatabase
from tests.support.documented import commands
from tests.support.moving import (
    Journey,
    Move,
    Profile,
    begins,
    looks_well,
    moves,
    moves_unseen,
    sessions_seen,
    travelling,
)
from tests.support.n8n import Request, ScriptedN8n
from tests.support.site import Website

START_STATELESS = commands("docs/moving-sqlite-to-stateless.md", "Move")
TO_SQLITE = Move(
    "sqlite",
    before=[commands("docs/moving-stateless-to-sqlite.md", "Before")],
    start=commands("docs/moving-stateless-to-sqlite.md", "Move"),
    after=[commands("docs/moving-stateless-to-sqlite.md", "After")],
)
SQLITE_TO_POSTGRES = Move(
    "postgres",
    before=[
        commands("docs/moving-sqlite-to-postgres.md", "Before", 0),
        commands("docs/moving-sqlite-to-postgres.md", "Before", 1),
    ],
    stopped=[commands("docs/moving-sqlite-to-postgres.md", "Move", 0)],
    start=commands("docs/moving-sqlite-to-postgres.md", "Move", 1),
    after=[commands("docs/moving-sqlite-to-postgres.md", "After")],
    figures_of=["sqlite"],
)
POSTGRES_TO_STATELESS = Move(
    "stateless",
    before=[commands("docs/moving-postgres-to-stateless.md", "Before")],
    start=commands("docs/moving-postgres-to-stateless.md", "Move"),
    after=[commands("docs/moving-postgres-to-stateless.md", "After", 0)],
)


async def erases_a_session(journey: Journey) -> str:
    """Let another visitor begin and erase a session, and keep a copy of the token."""
    async with ChatClient(journey.url) as client:
        await client.session()
        token = str(client.token)
        bearer = {"Authorization": f"Bearer {token}"}
        assert (await client.http.delete("/api/v1/session", headers=bearer)).status_code == httpx.codes.NO_CONTENT
    return token


async def says(journey: Journey, token: str) -> str:
    """Send a message with a token; gives the refusal's code, or the reply's text."""
    async with ChatClient(journey.url) as client:
        client.token = token
        answer = (await client.chat("Hello")).json()
    return str(answer.get("code") or answer["content"])


async def asks_again(profile: Profile, request: Request, url: str) -> str:
    """Let the visitor's browser send a message that n8n had before, with the same id; gives the refusal's code."""
    code: str = await profile.one.tab.page.evaluate(
        """async ([address, token, message, message_id]) => {
            const headers = {"Content-Type": "application/json", Authorization: `Bearer ${token}`};
            const body = JSON.stringify({message, message_id});
            return (await (await fetch(address, {method: "POST", headers, body})).json()).code;
        }""",
        [f"{url}/api/v1/chat", (await profile.tokens())[0][1], request.text, request.json["context"]["message_id"]],
    )
    return code


async def test_from_stateless_over_sqlite_and_postgres_back_to_stateless(
    tmp_path: Path, site: Website, n8n: ScriptedN8n, database: Database, redis_server: RedisDatabase
) -> None:
    async with travelling(tmp_path, site, n8n, database, redis_server.url) as (journey, profile):
        tokens = await begins(journey, profile, START_STATELESS)
        await moves(journey, TO_SQLITE, profile)
        await looks_well(journey, TO_SQLITE, profile)
        erased = await erases_a_session(journey)
        await moves(journey, SQLITE_TO_POSTGRES, profile)
        await looks_well(journey, SQLITE_TO_POSTGRES, profile)
        assert await says(journey, erased) == "token_invalid"
        before = [request for request in journey.messages if request.text == "kept, then sqlite"]
        assert len(before) == 1
        assert await asks_again(profile, before[0], journey.url) == "reply_gone"
        await moves_unseen(journey, POSTGRES_TO_STATELESS, profile)
        await looks_well(journey, POSTGRES_TO_STATELESS, profile)
        assert await profile.tokens() == tokens
        assert sessions_seen(journey, profile) == [{session} for session, _ in tokens]
        lines = tmp_path / "place" / "all.jsonl"
        await journey.runs(commands("docs/moving-postgres-to-stateless.md", "After", 1))
        assert len(lines.read_text("utf-8").splitlines()) == 2
        assert await says(journey, erased) == "Echo: Hello", "stateless mode knows nobody who was erased"
        await shuts_out(journey, profile, erased)


async def shuts_out(journey: Journey, profile: Profile, erased: str) -> None:
    """Change the key: whoever has an old token gets nowhere, and the visitor has a new session without knowing it."""
    await journey.stops()
    await journey.runs(commands("docs/moving.md", "Erased sessions"))
    await journey.starts(START_STATELESS, "stateless")
    assert await says(journey, erased) == "token_invalid"
    await profile.one.chats("with a new key")
    await profile.holds_all()
    assert len(sessions_seen(journey, profile)[0]) == 2
