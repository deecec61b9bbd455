"""A real nginx with deploy/nginx.conf before instances of the tests, and visitors who come to it as the widget does."""

import signal
import ssl
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import httpx

from tests.support import processes, sources
from tests.support.certificates import certificates
from tests.support.client import ChatClient
from tests.support.ports import free_port
from tests.support.processes import ServerProcess

EXAMPLE_PORTS = (8001, 8002, 8003)
AROUND = """\
daemon off;
worker_processes 2;
pid nginx.pid;
error_log stderr notice;
events { worker_connections 2048; }
http {
    client_body_temp_path bodies;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    include chatcore.conf;
}
"""
"""What a package's own nginx.conf is: the frame into which the file is included."""


class Nginx(ServerProcess):
    """Serves deploy/nginx.conf with other ports, certificate and log, and with what `instead` puts in its text's place.

    `instances` are the ports of three. With `tls=False` it speaks plain HTTP where the file speaks TLS.
    """

    def __init__(self, instances: Sequence[int], instead: Mapping[str, str] | None = None, *, tls: bool = True) -> None:
        super().__init__("nginx")
        self.port = free_port()
        self.plain_port = free_port()
        self.url = f"http{'s' * tls}://127.0.0.1:{self.port}"
        self.access_log = self.folder / "access.log"
        files = certificates()
        listening = f"listen 127.0.0.1:{self.port}" + " ssl http2" * tls
        ours = {
            f"127.0.0.1:{example} ": f"127.0.0.1:{port} "
            for example, port in zip(EXAMPLE_PORTS, instances, strict=True)
        }
        ours |= {
            "listen 80;": f"listen 127.0.0.1:{self.plain_port};",
            "    listen [::]:80;\n": "",
            "listen 443 ssl http2;": f"{listening};",
            "    listen [::]:443 ssl http2;\n": "",
            "/etc/letsencrypt/live/chat.example.com/fullchain.pem": str(files.certificate),
            "/etc/letsencrypt/live/chat.example.com/privkey.pem": str(files.key),
            "/var/log/nginx/chatcore.log": str(self.access_log),
        }
        text = (sources.ROOT / "deploy" / "nginx.conf").read_text("utf-8")
        for written, put in {**ours, **(instead or {})}.items():
            assert written in text, f"deploy/nginx.conf has no {written!r}"
            text = text.replace(written, put)
        self.file = processes.write_for_servers(self.folder / "chatcore.conf", text)
        self._main = processes.write_for_servers(self.folder / "nginx.conf", AROUND)
        self._command = (processes.find_program("nginx"), "-p", self.folder, "-c", self._main, "-e", "stderr")

    def start(self) -> None:
        """Start it and wait until it listens. Raises `ProgramFailedError`."""
        processes.run((*self._command, "-t"), self.folder)
        self.launch(self._command, lambda: processes.listens(self.port))

    def stop(self) -> None:
        """Let running requests end, and end."""
        self.end(signal.SIGQUIT)

    def reload(self) -> None:
        """Have it read its file again; its old processes end when their requests have."""
        processes.run((*self._command, "-s", "reload"), self.folder)

    def command(self, folder: Path) -> None:
        """Put a program `nginx` into a folder that means this one, for commands which operators type."""
        program = folder / "nginx"
        program.write_text(f'#!/bin/sh\nexec {" ".join(str(part) for part in self._command)} "$@"\n', "utf-8")
        program.chmod(0o755)

    @property
    def spooled(self) -> list[str]:
        """The files in which it keeps bodies that it does not hold in memory."""
        return [str(path) for name in ("bodies", "proxy") for path in (self.folder / name).rglob("*") if path.is_file()]


@cache
def trust() -> ssl.SSLContext:
    """Give what trusts the certificate of the tests' nginx."""
    return ssl.create_default_context(cafile=certificates().authority)


class Visitor(ChatClient):
    """A visitor who comes from an address of his own (127.0.0.x) and says which session is his, as the widget does."""

    def __init__(self, url: str, *, address: str = "127.0.0.1", named: bool = True) -> None:
        super().__init__(url)
        self._named = named
        transport = httpx.AsyncHTTPTransport(verify=trust(), local_address=address, limits=httpx.Limits())
        self.http = httpx.AsyncClient(
            base_url=url, headers=self.http.headers, timeout=30.0, trust_env=False, transport=transport
        )

    def _headers(self, *more: Mapping[str, str] | None) -> dict[str, str]:
        name = {"X-Chat-Session": self.session_id} if self._named and self.session_id else {}
        return super()._headers(name, *more)

    def again(self, *, address: str = "127.0.0.1") -> "Visitor":
        """Give the same visitor with new connections, perhaps from another address."""
        other = Visitor(str(self.http.base_url), address=address, named=self._named)
        other.token, other.session_id = self.token, self.session_id
        return other
