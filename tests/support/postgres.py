"""Real PostgreSQL servers for tests, and databases in them that begin empty."""

import contextlib
import hashlib
import itertools
import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlencode

import psycopg
from psycopg import conninfo, errors, sql

from tests.support import processes
from tests.support.certificates import certificates
from tests.support.ports import free_port
from tests.support.processes import ServerProcess

ROOT = Path(__file__).parent.parent.parent
OWNER, OWNER_PASSWORD = "chatcore_owner", "owner of the tests"
APP, APP_PASSWORD = "chatcore_app", "app of the tests"
SUPERUSER, SUPERUSER_PASSWORD = "postgres", "superuser of the tests"
OLDEST = 15
CLUSTER = ("--auth=scram-sha-256", f"--username={SUPERUSER}", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync")

_numbers = itertools.count(1)


def _address(values: Mapping[str, Any]) -> str:
    """Write a URL as libpq reads it; other values than user, password, host, port and dbname are its query."""
    rest = dict(values)
    parts = {name: str(rest.pop(name, "")) for name in ("user", "password", "host", "port", "dbname")}
    quoted = {name: part.replace("%", "%25").replace(" ", "%20") for name, part in parts.items()}
    query = f"?{urlencode(rest)}" if rest else ""
    return "postgresql://{user}:{password}@{host}:{port}/{dbname}".format(**quoted) + query


class Database:
    """An empty database. Its owner may create what it likes in it, the serving role may connect and nothing else.

    `url` is for the serving role, `admin_url` for the owner, `superuser_url` for whoever made it.
    """

    def __init__(self, server: "Postgres", name: str) -> None:
        self.server = server
        self.name = name
        self.url = server.url(name, APP)
        self.admin_url = server.url(name, OWNER)
        self.superuser_url = server.url(name, SUPERUSER)

    def sql(self, statement: str, *arguments: Any) -> list[tuple[Any, ...]]:
        """Run a statement as superuser on a connection of its own (autocommit); gives its rows, if it has any."""
        with psycopg.connect(self.superuser_url, autocommit=True, connect_timeout=20) as connection:
            cursor = connection.execute(statement.encode(), arguments or None)
            return cursor.fetchall() if cursor.description else []

    def drop(self) -> None:
        """Remove the database, whoever is connected to it; idempotent."""
        self.server.sql(f'DROP DATABASE IF EXISTS "{self.name}" WITH (FORCE)')


class Postgres:
    """A PostgreSQL server that runs already, somewhere. `superuser_url` may create databases and roles there."""

    def __init__(self, superuser_url: str) -> None:
        self.superuser_url = superuser_url
        self._roles_made = False

    def url(self, database: str = "postgres", user: str = SUPERUSER) -> str:
        """Give the address of a database for `user`: the owner's role, the serving role, or the superuser's."""
        values = conninfo.conninfo_to_dict(self.superuser_url)
        if user in {OWNER, APP}:
            values |= {"user": user, "password": OWNER_PASSWORD if user == OWNER else APP_PASSWORD}
        return _address(values | {"dbname": database})

    def sql(self, statement: str, *arguments: Any) -> list[tuple[Any, ...]]:
        """Run a statement as superuser, outside of any database of the tests."""
        return Database(self, str(conninfo.conninfo_to_dict(self.superuser_url)["dbname"])).sql(statement, *arguments)

    def new_database(self, name: str | None = None, *, template: str = "template0") -> Database:
        """Create a database, empty or a copy of `template` (which nobody may be connected to)."""
        self._make_roles()
        database = Database(self, name or f"chatcore_{os.getpid()}_{next(_numbers)}")
        encoding = " ENCODING 'UTF8'" if template == "template0" else ""
        self.sql(f'CREATE DATABASE "{database.name}" OWNER {OWNER} TEMPLATE "{template}"{encoding}')
        self.sql(f'REVOKE ALL ON DATABASE "{database.name}" FROM PUBLIC')
        self.sql(f'GRANT CONNECT ON DATABASE "{database.name}" TO {APP}')
        return database

    def _make_roles(self) -> None:
        if self._roles_made:
            return
        for role, password in ((OWNER, OWNER_PASSWORD), (APP, APP_PASSWORD)):
            # Several processes of the tests may share a server that was there before.
            with contextlib.suppress(errors.DuplicateObject, errors.UniqueViolation):
                made = sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(role), password)
                self.sql(made.as_string())
        if not self.sql("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")[0][0]:
            self.sql(f"GRANT {OWNER} TO CURRENT_USER")
        self._roles_made = True


class PostgresServer(Postgres, ServerProcess):
    """A server of one's own on a free port of 127.0.0.1; `start` it first, `close` it last (or use it in `with`).

    It is quick and survives the death of its processes; `durable` makes it survive a power cut too, as operators have
    it. `tls` lets it accept encrypted connections alone. `settings` are lines of its configuration. Its time zone is
    far from UTC, so that a day that was meant to be a UTC day and is not is seen.
    """

    def __init__(self, *, durable: bool = False, tls: bool = False, settings: Mapping[str, str] | None = None) -> None:
        ServerProcess.__init__(self, "postgres")
        self.port = free_port()
        values = {"user": SUPERUSER, "password": SUPERUSER_PASSWORD, "host": "127.0.0.1", "port": self.port}
        if tls:
            values |= {"sslmode": "verify-full", "sslrootcert": str(certificates().authority)}
        Postgres.__init__(self, _address(values | {"dbname": "postgres"}))
        self._tls = tls
        self._data = self.folder / "data"
        self._settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self.folder),
            "max_connections": "100",
            "shared_buffers": "64MB",
            "jit": "off",
            "synchronous_commit": "on",
            "fsync": "on" if durable else "off",
            "full_page_writes": "on" if durable else "off",
            "dynamic_shared_memory_type": "mmap",  # leaves nothing behind outside of the folder
            "timezone": "Asia/Kathmandu",
            "log_line_prefix": "%m [%p] %q%u@%d ",
            **(settings or {}),
        }

    def start(self) -> None:
        """Start it, on the same port and data as before, and wait until it serves. Raises `ProgramFailedError`."""
        if not self._data.exists():
            _unpack_cluster(self._data)
        self._configure()
        self.launch((program("postgres"), "-D", self._data), self._serves)

    def _configure(self) -> None:
        settings = dict(self._settings)
        if self._tls:
            settings |= {"ssl": "on", "ssl_cert_file": str(certificates().certificate)}
            settings |= {"ssl_key_file": str(certificates().key)}
        lines = "".join(f"{name} = '{value}'\n" for name, value in settings.items())
        processes.write_for_servers(self._data / "postgresql.conf", lines)
        kind = "hostssl" if self._tls else "host"
        # The tests' own superuser comes and goes all the time, and a password costs both sides thousands of hashes.
        ways = {SUPERUSER: "trust", "all": "scram-sha-256"}
        places = ((what, role) for role in ways for what in ("all", "replication"))
        entries = "".join(f"{kind} {what} {role} 127.0.0.1/32 {ways[role]}\n" for what, role in places)
        processes.write_for_servers(self._data / "pg_hba.conf", entries)

    def _serves(self) -> bool:
        try:
            psycopg.connect(self.superuser_url, connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def stop(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Shut it down: `fast` ends sessions and writes everything, `immediate` is a crash that it takes part in."""
        self.end(signal.SIGINT if mode == "fast" else signal.SIGQUIT)

    def restart(self) -> None:
        """Stop it fast and start it again."""
        self.stop()
        self.start()

    def replica(self) -> "PostgresServer":
        """Give a server that follows this one and can only be read, started."""
        standby = PostgresServer(tls=self._tls, settings={"hot_standby": "on"})
        backup = ("--pgdata", standby._data, "--write-recovery-conf", "--checkpoint", "fast", "--no-sync")
        processes.run((program("pg_basebackup"), *backup, "--dbname", self.superuser_url), standby.folder)
        standby.start()
        return standby

    def promote(self) -> None:
        """Make a replica a server that can be written."""
        assert self.sql("SELECT pg_promote()") == [(True,)]

    def close(self) -> None:
        """End it at once and remove all it had."""
        shared_memory = self._shared_memory()
        super().close()
        if shared_memory:  # only a server that is started again would give back what a killed one had
            subprocess.run(("ipcrm", "-m", shared_memory), check=False, stderr=subprocess.DEVNULL)

    def _shared_memory(self) -> str:
        try:
            return (self._data / "postmaster.pid").read_text("ascii").split("\n")[6].split()[1]
        except (OSError, IndexError):
            return ""


def program(name: str) -> Path:
    """Give the path of one of PostgreSQL's programs: the newest of Debian's, which are not on the PATH, or any."""
    found = [path for path in Path("/usr/lib/postgresql").glob(f"*/bin/{name}") if path.parent.parent.name.isdecimal()]
    newest = max(found, key=lambda path: int(path.parent.parent.name), default=None)
    return newest or Path(processes.find_program(name))


def _unpack_cluster(data: Path) -> None:
    """Put a cluster as `initdb` makes it into `data`; it is made once, packed, and kept for later tests."""
    version = subprocess.run((program("initdb"), "--version"), check=True, capture_output=True).stdout
    number = int(version.split()[2].split(b".")[0])
    if number < OLDEST:
        raise processes.ProgramFailedError(f"the tests need PostgreSQL {OLDEST} or newer; {number} is here")
    source = hashlib.sha256(version + repr(CLUSTER).encode()).hexdigest()
    packed = ROOT / ".cache" / f"postgres-{source[:16]}.tar"
    if not packed.exists():
        _pack_cluster(packed)
    data.mkdir(mode=0o700)
    processes.give_to_servers(data)
    with packed.open("rb") as archive:
        processes.run(("tar", "-x"), data, archive)


def _pack_cluster(packed: Path) -> None:
    folder = processes.new_folder("initdb")
    password = processes.write_for_servers(folder / "password", SUPERUSER_PASSWORD)
    processes.run((program("initdb"), *CLUSTER, f"--pwfile={password}", folder / "data"), folder)
    processes.run(("tar", "-c", "-f", folder / "tar", "-C", folder / "data", "."), folder)
    packed.parent.mkdir(exist_ok=True)
    unfinished = packed.with_name(f"{packed.name}.{os.getpid()}")
    unfinished.write_bytes((folder / "tar").read_bytes())
    unfinished.rename(packed)  # whole or not at all: another process may make it at the same time
