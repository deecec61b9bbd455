"""The commands of docs/reverse-proxy.md and docs/scaling.md, run as they are written, with what they promise."""

import asyncio
import re
import shlex
import shutil
from pathlib import Path

import httpx
import pytest

from tests.conftest import StartServer
from tests.support import documented, processes
from tests.support.caddy import Caddy
from tests.support.n8n import ScriptedN8n
from tests.support.nginx import Nginx, Visitor
from tests.support.ports import free_port
from tests.support.processes import ServerProcess
from tests.support.server import JWT_SECRET, N8N_SECRET

INSTALLED = "/etc/nginx"


class PackagedNginx(ServerProcess):
    """nginx with the settings of its Debian package, in a folder that stands for /etc/nginx."""

    def __init__(self) -> None:
        super().__init__("packaged-nginx")
        self.settings = self.folder / "etc"
        self.settings.mkdir()
        (self.settings / "conf.d").mkdir()
        (self.settings / "sites-enabled").mkdir()
        shutil.copy(f"{INSTALLED}/mime.types", self.settings)
        text = Path(f"{INSTALLED}/nginx.conf").read_text("utf-8")
        here = {
            INSTALLED: str(self.settings),
            "/var/log/nginx": str(self.folder),
            "/run/nginx.pid": f"{self.folder}/pid",
        }
        for written, put in here.items():
            assert written in text
            text = text.replace(written, put)
        (self.settings / "nginx.conf").write_text(text, "utf-8")
        for path in [self.settings, *self.settings.rglob("*")]:
            processes.give_to_servers(path)
        temporary = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        paths = "".join(f"{name}_temp_path {self.folder}/{name};\n" for name in temporary)
        processes.write_for_servers(self.settings / "conf.d" / "paths.conf", paths)
        program = processes.find_program("nginx")
        globally = f"daemon off; lock_file {self.folder}/lock;"
        self._command = (program, "-p", self.folder, "-c", self.settings / "nginx.conf", "-e", "stderr", "-g", globally)

    def command(self, folder: Path) -> None:
        """Put a program `nginx` into a folder that means this one."""
        program = folder / "nginx"
        program.write_text(f'#!/bin/sh\nexec {shlex.join(str(part) for part in self._command)} "$@"\n', "utf-8")
        program.chmod(0o755)

    def start(self) -> None:
        """Start it; it listens nowhere yet."""
        self.launch(self._command, (self.folder / "pid").exists)


@pytest.fixture(name="place")
def _place(tmp_path: Path) -> documented.Place:
    """Give a place whose shell finds programs of the test first, in `bin`."""
    place = documented.Place(tmp_path)
    (tmp_path / "bin").mkdir()
    place.environment["PATH"] = f"{tmp_path}/bin:{place.environment['PATH']}"
    return place


def _program(place: documented.Place, name: str, text: str) -> None:
    path = place.folder / "bin" / name
    path.write_text(f"#!/bin/sh\n{text}\n", "utf-8")
    path.chmod(0o755)


async def _serves(url: str) -> None:
    async with Visitor(url) as visitor:

        async def answers() -> bool:
            try:
                return (await visitor.session()).status_code == httpx.codes.CREATED
            except httpx.TransportError:
                return False

        async with asyncio.timeout(20):
            while not await answers():
                await asyncio.sleep(0.05)
        assert (await visitor.chat("Hi")).json()["content"] == "Echo: Hi"


@pytest.fixture(name="instances")
def _instances(n8n: ScriptedN8n, start_server: StartServer) -> list[int]:
    return [start_server(n8n).port] * 3


async def test_nginx_is_set_up_by_the_documented_commands(place: documented.Place, instances: list[int]) -> None:
    with PackagedNginx() as installed, Nginx(instances) as ours:
        installed.start()
        processes.write_for_servers(ours.access_log, "")  # else `nginx -t`, which we run as root, would own it
        (place.folder / "deploy" / "nginx.conf").write_text(ours.file.read_text("utf-8"), "utf-8")
        installed.command(place.folder / "bin")
        _program(place, "systemctl", '[ "$*" = "reload nginx" ] && exec nginx -s reload')
        text = documented.commands("docs/reverse-proxy.md", "nginx")
        for _ in range(2):
            place.run(text, {INSTALLED: str(installed.settings)})
            await _serves(ours.url)
        whole = (installed.settings / "nginx.conf").read_text("utf-8")
        assert re.findall(r"worker_(?:connections|rlimit_nofile) \d+", whole) == [
            "worker_rlimit_nofile 20000",
            "worker_connections 8192",
        ]


async def test_caddy_is_set_up_by_the_documented_commands(
    place: documented.Place, instances: list[int], tmp_path: Path
) -> None:
    with Caddy(instances) as caddy:
        caddy.start()
        (place.folder / "deploy" / "Caddyfile").write_text(
            caddy.file.read_text("utf-8").replace("\theader Strict", "\theader X-New yes\n\theader Strict"), "utf-8"
        )
        _program(
            place, "systemctl", f'[ "$*" = "reload caddy" ] && exec caddy reload --config {tmp_path}/etc/Caddyfile 2>&1'
        )
        (tmp_path / "etc").mkdir()
        text = documented.commands("docs/reverse-proxy.md", "Caddy")
        place.run(text, {"/etc/caddy": f"{tmp_path}/etc"})
        await _serves(caddy.url)
        async with Visitor(caddy.url) as visitor:
            assert (await visitor.http.get("/health")).headers["x-new"] == "yes"


async def test_instances_are_started_by_the_documented_commands(n8n: ScriptedN8n, place: documented.Place) -> None:
    ports = [free_port() for _ in range(3)]
    (place.folder / ".env").write_text(
        f"N8N_WEBHOOK_URL={n8n.url}\nJWT_SECRET_KEY={JWT_SECRET}\nSESSION_SECRET_KEY={N8N_SECRET}\n", "utf-8"
    )
    text = documented.commands("docs/scaling.md", "Instances of one machine") + "\nwait"
    with place.running(text, {"8001 8002 8003": " ".join(str(port) for port in ports)}):
        assert processes.poll(lambda: all(processes.listens(port) for port in ports), 60)
        with Nginx(ports) as nginx:
            nginx.start()
            await _serves(nginx.url)
