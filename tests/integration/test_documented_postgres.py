"""What docs/postgres.md says is typed as it is written: from nothing to a server, exports, the audit log."""

import asyncio
import gzip
import json
import re
from pathlib import Path

import httpx

from tests.conftest import StartPostgres
from tests.support.client import ChatClient
from tests.support.databases import RedisDatabase
from tests.support.documented import commands
from tests.support.guided_postgres import START, Guided
from tests.support.n8n import ScriptedN8n, published


async def test_the_guide_leads_from_nothing_to_kept_messages_exports_and_a_verified_log(
    start_postgres: StartPostgres, redis_server: RedisDatabase, n8n: ScriptedN8n, tmp_path: Path
) -> None:
    n8n.answer(published)
    guided = Guided(tmp_path, start_postgres(), redis_server.url, n8n)
    place = guided.place
    checked = guided.writes_settings()
    assert all(line.startswith("ok ") or "there is no schema yet" in line for line in checked.splitlines()), checked
    assert (tmp_path / ".env").stat().st_mode & 0o777 == 0o600
    with place.running(START):
        await guided.serves()
        async with ChatClient(guided.url, origin="https://www.example.com") as client:
            await client.session()
            for text in ("one", "two"):
                assert (await client.chat(text)).json()["content"] == f"Echo: {text}"
            exports(place_folder=tmp_path, session_id=str(client.session_id), guided=guided)
            as_anna = {"Authorization": f"Bearer {guided.admin_token}"}
            transcript = await client.http.get(f"/api/v1/admin/sessions/{client.session_id}/messages", headers=as_anna)
            assert transcript.status_code == httpx.codes.OK
        await asyncio.to_thread(verifies, guided)
    rights = "SELECT tableowner FROM pg_tables WHERE schemaname = 'chatcore' GROUP BY 1"
    assert guided.database.sql(rights) == [("chatcore_owner",)], "who serves owns nothing"


def exports(place_folder: Path, session_id: str, guided: Guided) -> None:
    """Run the four exports of the page, and look at what each wrote."""
    (place_folder / "conversations").mkdir()
    text = commands("docs/postgres.md", "Export")
    printed = guided.place.run(text, {"s_0123456789ABCDEFGHIJKL": session_id})
    (line,) = (place_folder / "all.jsonl").read_text().splitlines()
    assert [one["content"] for one in json.loads(line)["messages"]] == ["one", "Echo: one", "two", "Echo: two"]
    (one,) = (place_folder / "conversations").iterdir()
    assert json.loads(one.read_text()) == json.loads(line)
    assert line in printed, "one session went to the terminal"
    assert gzip.decompress((place_folder / "january.jsonl.gz").read_bytes()) == b"", "no bot has that name"


def verifies(guided: Guided) -> None:
    """Run both lines on the audit log with a head of its own, then with its end cut off."""
    (bare, with_head) = commands("docs/postgres.md", "Audit log").splitlines()
    told = guided.place.run(bare)
    (head,) = re.findall(r"\d+:[0-9a-f]{64}", told)
    (example,) = re.findall(r"\d+:[0-9a-f]{64}", with_head)
    guided.place.run(".venv/bin/python main_postgres.py export --output more.jsonl")
    assert "go on from the head that was noted" in guided.place.run(with_head, {example: head})
    (head,) = re.findall(r"\d+:[0-9a-f]{64}", guided.place.run(bare))
    guided.database.sql("DELETE FROM chatcore.audit_log WHERE number = (SELECT max(number) FROM chatcore.audit_log)")
    assert "All entries" in guided.place.run(bare), "nobody without the head can tell"
    assert "was cut off at the end" in guided.place.run(with_head, {example: head}, status=1)
    guided.database.sql("UPDATE chatcore.audit_log SET actor = 'x' WHERE number = 1")
    backups = guided.place.folder / "backups"
    night = commands("docs/backup.md", "Each night")
    guided.place.run(night, {"/var/backups/chatcore": str(backups)}, status=1)
    assert [path.suffix for path in backups.iterdir()] == [".head"], "no dump of a log that was changed"
