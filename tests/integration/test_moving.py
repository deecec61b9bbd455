"""What a move between modes takes along on the server's side, and what its pages say to systemd and Compose."""

import re
from pathlib import Path

from tests.conftest import StartServer
from tests.support import sources
from tests.support.client import ChatClient
from tests.support.n8n import ScriptedN8n


async def test_limits_begin_anew_and_a_file_that_was_used_before_goes_on(
    tmp_path: Path, start_server: StartServer, n8n: ScriptedN8n
) -> None:
    environment = {"SESSION_RATE_LIMIT_PER_MINUTE": "1", "SQLITE_DB_PATH": str(tmp_path / "chat.db")}
    token = None
    for main, expected in (
        ("main_sqlite.py", [200, 429]),
        ("main_stateless.py", [200, 429]),
        ("main_sqlite.py", [429]),
    ):
        server = start_server(n8n, environment, main=main)
        async with ChatClient(server.url) as client:
            if token is None:
                await client.session()
            token = client.token = token or client.token
            assert [(await client.chat("Hello")).status_code for _ in expected] == expected, main
        assert server.stop() == 0


def test_what_pages_say_to_systemd_and_compose_has_the_names_that_are_there() -> None:
    pages = "\n".join(page.read_text("utf-8") for page in (sources.ROOT / "docs").glob("moving*.md"))
    compose = (sources.ROOT / "compose.yaml").read_text("utf-8")
    unit = (sources.ROOT / "deploy" / "chatcore@.service").read_text("utf-8")
    modes = {main.stem.removeprefix("main_") for main in sources.mains()}
    assert set(re.findall(r"COMPOSE_PROFILES=(\w+)", pages)) == modes
    assert modes <= set(re.findall(r"profiles: \[(\w+)\]", compose))
    assert modes <= set(re.findall(r"(?m)^  chatcore-(\w+):$", compose))
    assert "name: chatcore\n" in compose
    assert re.findall(r"--volume chatcore_([\w-]+):/sqlite", pages) == re.findall(r'"([\w-]+):/data"]', compose)[:1]
    assert set(re.findall(r"CHATCORE_MODE=(\w+)", pages)) == modes
    assert "main_${CHATCORE_MODE}.py" in unit
    for path in set(re.findall(r"/(?:var|etc|opt)/[\w/.]*\w", pages)):
        assert path.replace("/8000/", "/%i/") in unit
