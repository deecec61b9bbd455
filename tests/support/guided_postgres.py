"""PostgreSQL mode set up by the words of docs/postgres.md: roles and database by psql, `.env`, and a `service`."""

import asyncio
import time
from pathlib import Path

import httpx

from tests.support.client import NO_TLS
from tests.support.databases import Database, PostgresServer
from tests.support.documented import Place, commands, fenced
from tests.support.n8n import ScriptedN8n
from tests.support.ports import free_port

SETTINGS = commands("docs/postgres.md", "From nothing", 0)
ALONE = "\n".join(SETTINGS.splitlines()[1:-1])
"""Those of its lines that write `.env`, without what installs and checks."""
START = commands("docs/postgres.md", "From nothing", 1)
AT_DATABASE = "db.example.com:5432/chatcore?sslmode=verify-full"


class Guided:
    """An operator who follows the guide: `place` is the folder, `url` where the server listens that runs there."""

    def __init__(self, folder: Path, postgres: PostgresServer, redis_url: str, n8n: ScriptedN8n) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        limits = {"RATE_LIMIT_PER_MINUTE": "100000", "SESSION_RATE_LIMIT_PER_MINUTE": "100000"}
        self.place = Place(folder, {"API_PORT": str(self.port), "LOG_LEVEL": "INFO", **limits})
        self.postgres = postgres
        self._redis_url = redis_url
        self._n8n = n8n
        self.superuser(fenced("docs/postgres.md", "From nothing", "sql"))
        self.database = self.database_at(postgres)

    @staticmethod
    def database_at(postgres: PostgresServer) -> Database:
        """Give the guide's database in a server, with the guide's passwords."""
        database = Database(postgres, "chatcore")
        at = f"127.0.0.1:{postgres.port}/chatcore"
        database.url = f"postgresql://chatcore_app:change-me-2@{at}"
        database.admin_url = f"postgresql://chatcore_owner:change-me-1@{at}"
        return database

    def superuser(self, statements: str) -> str:
        """Run statements by psql as superuser, as they are written."""
        script = self.place.folder / "statements.sql"
        script.write_text(statements)
        return self.place.run(f"psql -X -v ON_ERROR_STOP=1 -f statements.sql '{self.postgres.superuser_url}'")

    def writes_settings(self, text: str = SETTINGS) -> str:
        """Make `.env` as the guide does, and run `check`; gives what that printed."""
        return self.place.run(
            text,
            {
                "https://n8n.example.com/webhook/chat": self._n8n.url,
                AT_DATABASE: f"127.0.0.1:{self.postgres.port}/chatcore",
                "rediss://:password@redis.example.com:6379/0": self._redis_url,
            },
        )

    def writes_service(self) -> None:
        """Make `~/.pg_service.conf` as the page on backups has it."""
        text = fenced("docs/backup.md", "PostgreSQL mode", "ini")
        for written, put in (
            ("db.example.com", "127.0.0.1"),
            ("5432", str(self.postgres.port)),
            ("verify-full", "disable"),
        ):
            assert written in text
            text = text.replace(written, put)
        service = self.place.folder / ".pg_service.conf"
        service.touch(0o600)
        service.write_text(text)

    def moves_to(self, postgres: PostgresServer) -> None:
        """Have another server in the place of the one that was."""
        before, self.postgres = self.postgres, postgres
        self.database = self.database_at(postgres)
        for name in (".env", ".pg_service.conf"):
            path = self.place.folder / name
            path.write_text(path.read_text().replace(str(before.port), str(postgres.port)))

    @property
    def admin_token(self) -> str:
        """The token that `.env` was given for anna."""
        (line,) = [line for line in (self.place.folder / ".env").read_text().splitlines() if "ADMIN_TOKENS" in line]
        return line.removeprefix("ADMIN_TOKENS=anna:")

    async def serves(self, seconds: float = 60.0) -> None:
        """Wait until the server in the folder answers."""
        await until_serving(self.url, self.place.folder / "log", seconds)


async def until_serving(url: str, log: Path, seconds: float = 60.0) -> None:
    """Wait until a server answers at an address; the test fails with its log where it does not."""
    began = time.monotonic()
    async with httpx.AsyncClient(trust_env=False, verify=NO_TLS) as client:
        while True:
            try:
                (await client.get(f"{url}/health/live")).raise_for_status()
            except httpx.TransportError:
                assert time.monotonic() - began < seconds, _read(log)
                await asyncio.sleep(0.05)
            else:
                return


def _read(log: Path) -> str:
    return log.read_text("utf-8", "replace")
