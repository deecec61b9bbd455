"""Real Redis servers for tests: one alone, or a master and a replica that three Sentinels watch."""

import dataclasses
import signal
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode

import redis

from tests.support import processes
from tests.support.certificates import certificates
from tests.support.ports import free_port
from tests.support.processes import ServerProcess

MASTER = "mymaster"


@dataclasses.dataclass(frozen=True)
class RedisDatabase:
    """A Redis that runs already, somewhere; the database that `url` names belongs to the test."""

    url: str

    def client(self) -> redis.Redis:
        """Give a new client that reads texts; the caller closes it."""
        return redis.Redis.from_url(self.url, decode_responses=True, socket_timeout=10.0)

    def flush(self) -> None:
        """Empty the database, and forget the scripts of the server."""
        with self.client() as client:
            client.flushdb()
            client.script_flush()


class RedisServer(ServerProcess):
    """A server of one's own on a free port of 127.0.0.1; `start` it first, `close` it last (or use it in `with`).

    It writes nothing to disk unless `persistent` (an append-only file, written before anything is answered; what was
    answered outlives SIGKILL). `tls` lets it accept encrypted connections alone; `url` then names the authority to
    trust. `options` are more of the server's: their names without dashes, and their values.
    """

    def __init__(
        self,
        *,
        password: str | None = None,
        tls: bool = False,
        persistent: bool = False,
        options: dict[str, str] | None = None,
    ) -> None:
        super().__init__("redis")
        self.port = free_port()
        self.password = password
        name = f":{password}@" if password else ""
        query = f"?{urlencode({'ssl_ca_certs': certificates().authority})}" if tls else ""
        self.url = f"{'rediss' if tls else 'redis'}://{name}127.0.0.1:{self.port}/0{query}"
        values = {"bind": "127.0.0.1", "save": "", "dir": str(self.folder), "repl-diskless-sync-delay": "0"}
        values |= {"appendonly": "yes" if persistent else "no"}
        values |= _encrypted(self.port) if tls else {"port": str(self.port)}
        values |= {"requirepass": password, "masterauth": password} if password else {}
        self._options = values | (options or {})

    def start(self) -> None:
        """Start it on the same port as before, and wait until it serves. Raises `ProgramFailedError`."""
        options = [part for name, value in self._options.items() for part in (f"--{name}", value)]
        self.launch((processes.find_program("redis-server"), *options), self._serves)

    def _serves(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except (redis.ConnectionError, redis.TimeoutError):  # not there yet, or it reads its file
            return False

    def stop(self) -> None:
        """Shut it down."""
        self.end(signal.SIGTERM)

    def restart(self) -> None:
        """Stop it and start it again; without `persistent` it comes back empty."""
        self.stop()
        self.start()

    def client(self) -> redis.Redis:
        """Give a new client that reads texts; the caller closes it."""
        return RedisDatabase(self.url).client()

    def flush(self) -> None:
        """Empty the server, and forget its scripts."""
        RedisDatabase(self.url).flush()


def _encrypted(port: int) -> dict[str, str]:
    files = certificates()
    return {
        "port": "0",
        "tls-port": str(port),
        "tls-cert-file": str(files.certificate),
        "tls-key-file": str(files.key),
        "tls-ca-cert-file": str(files.authority),
        "tls-auth-clients": "no",
    }


class _Sentinel(ServerProcess):
    """One of the watchers."""

    def __init__(self, master: RedisServer) -> None:
        super().__init__("sentinel")
        self.port = free_port()
        lines = [
            f"port {self.port}",
            "bind 127.0.0.1",
            f"dir {self.folder}",
            f"sentinel monitor {MASTER} 127.0.0.1 {master.port} 2",
            f"sentinel down-after-milliseconds {MASTER} 1000",
            f"sentinel failover-timeout {MASTER} 3000",
        ]
        if master.password:
            lines.append(f"sentinel auth-pass {MASTER} {master.password}")
        self._file = processes.write_for_servers(self.folder / "sentinel.conf", "\n".join(lines) + "\n")

    def start(self) -> None:
        command = (processes.find_program("redis-server"), self._file, "--sentinel")
        self.launch(command, lambda: self.state() is not None)

    def state(self) -> dict[str, Any] | None:
        """What it knows of the master; nothing while it does not answer."""
        try:
            with redis.Redis(port=self.port, decode_responses=True, socket_timeout=5.0) as client:
                known: dict[str, Any] = client.sentinel_master(MASTER)
                return known
        except redis.RedisError:
            return None

    def sees_all(self) -> bool:
        known = self.state()
        return known is not None and (known["num-slaves"], known["num-other-sentinels"], known["flags"]) == (
            1,
            2,
            "master",
        )


class Sentinels:
    """A master, its replica, and three Sentinels that replace a master that was silent for a second.

    `servers` are the two that hold data; one that was killed joins as a replica when it is started again.
    """

    def __init__(self, *, password: str | None = None) -> None:
        master = RedisServer(password=password)
        replica = RedisServer(password=password, options={"replicaof": f"127.0.0.1 {master.port}"})
        self.servers = (master, replica)
        self._sentinels = [_Sentinel(master) for _ in range(3)]
        hosts = ",".join(f"127.0.0.1:{one.port}" for one in self._sentinels)
        name = f":{password}@" if password else ""
        self.url = f"redis+sentinel://{name}{hosts}/{MASTER}/0"

    def start(self) -> None:
        """Start all and wait until each Sentinel knows all others and the replica. Raises `ProgramFailedError`."""
        for server in self.servers:
            server.start()
        with self.servers[1].client() as replica:
            if not processes.poll(lambda: replica.info("replication")["master_link_status"] == "up", 20.0):
                raise processes.ProgramFailedError(f"the replica does not follow:\n{self.servers[1].log}")
        for sentinel in self._sentinels:
            sentinel.start()
        if not processes.poll(lambda: all(one.sees_all() for one in self._sentinels), 30.0):
            raise processes.ProgramFailedError(f"the Sentinels do not find each other:\n{self._sentinels[0].log}")

    def master_port(self) -> int:
        """Give the port of the master that most Sentinels name now."""
        named = [int(state["port"]) for one in self._sentinels if (state := one.state()) is not None]
        return max(set(named), key=named.count)

    def master(self) -> RedisServer:
        """Give the server that the Sentinels name as master now."""
        port = self.master_port()
        return next(server for server in self.servers if server.port == port)

    def kill_master(self) -> RedisServer:
        """Kill the master (SIGKILL) and return at once; gives the server, for `start`. A failover takes 2 to 4 s."""
        killed = self.master()
        killed.kill()
        return killed

    def close(self) -> None:
        """End all of them at once."""
        for server in (*self._sentinels, *self.servers):
            server.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
