"""A real PgBouncer in transaction mode before a database of the tests."""

import signal

from psycopg import conninfo

from tests.support import processes
from tests.support.ports import free_port
from tests.support.postgres import APP, APP_PASSWORD, Database
from tests.support.processes import ServerProcess


class PgBouncer(ServerProcess):
    """Pools connections to `database` for the serving role, at most `pool_size`; `url` is its address.

    Every setting that is not written here is Debian's default. `start` it first, `close` it last (or use it in `with`).
    """

    def __init__(self, database: Database, *, pool_size: int = 10) -> None:
        super().__init__("pgbouncer")
        self.port = free_port()
        self.url = f"postgresql://{APP}:{APP_PASSWORD.replace(' ', '%20')}@127.0.0.1:{self.port}/{database.name}"
        server = conninfo.conninfo_to_dict(database.url)
        users = processes.write_for_servers(self.folder / "users", f'"{APP}" "{APP_PASSWORD}"\n')
        lines = (
            "[databases]",
            f"{database.name} = host={server['host']} port={server.get('port', 5432)}",
            "[pgbouncer]",
            "listen_addr = 127.0.0.1",
            f"listen_port = {self.port}",
            "unix_socket_dir =",
            "auth_type = scram-sha-256",
            f"auth_file = {users}",
            "pool_mode = transaction",
            f"default_pool_size = {pool_size}",
            "server_login_retry = 1",
        )
        self._file = processes.write_for_servers(self.folder / "pgbouncer.ini", "\n".join(lines) + "\n")

    def start(self) -> None:
        """Start it on the same port as before, and wait until it listens. Raises `ProgramFailedError`."""
        program = processes.find_program("pgbouncer")
        self.launch((program, self._file), lambda: processes.listens(self.port))

    def stop(self) -> None:
        """Shut it down at once, as its packages' service does."""
        self.end(signal.SIGTERM)

    def restart(self) -> None:
        """Stop it and start it again."""
        self.stop()
        self.start()
