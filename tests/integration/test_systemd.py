"""The unit in deploy/ and what docs/systemd.md says, checked by systemd's own tools and run in a sandbox like its."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support import sources, systemd
from tests.support.client import NO_TLS
from tests.support.databases import Database, RedisDatabase
from tests.support.documented import Place, commands
from tests.support.n8n import ScriptedN8n, published
from tests.support.ports import free_port

UNIT = sources.ROOT / "deploy" / "chatcore@.service"
SITE = {"Origin": "https://www.example.com"}


class Machine:
    """A folder that stands for a machine on which docs/systemd.md is followed.

    Packages, those of all modes, are copied from the environment of the tests: README's test lets pip load them.
    """

    def __init__(self, root: Path, n8n: ScriptedN8n) -> None:
        self.root, self.n8n, self.port = root, n8n, free_port()
        for folder in ("opt", "etc/systemd/system", "run", "files", "bin"):
            (root / folder).mkdir(parents=True)
        for name in ("systemctl", "journalctl"):
            shim = root / "bin" / name
            shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m tests.support.systemctl {name} "$@"\n')
            shim.chmod(0o755)
        packages = root / "bin" / "install_packages"
        packages.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m tests.support.copied_packages "$@"\n')
        packages.chmod(0o755)
        path = f"{root}/bin:{os.environ['PATH']}"
        given = {"PATH": path, "MACHINE": str(root), "PYTHONPATH": str(sources.ROOT)}
        self.place = Place(root / "files", given, installed=False)

    def type(self, text: str) -> str:
        """Run commands of the document on this machine."""
        pip = "$release/.venv/bin/pip install -q -r $release/requirements-stateless.txt"
        for written, put in {
            pip: "install_packages $release/.venv",
            "8000": str(self.port),
            "/opt/": f"{self.root}/opt/",
            "/etc/": f"{self.root}/etc/",
            "/var/": f"{self.root}/var/",
            "https://n8n.example.com/webhook/chat": self.n8n.url,
        }.items():
            text = text.replace(written, put)
        return self.place.run(text, seconds=120)

    def unit(self) -> systemd.Unit:
        """Give the instance as its unit and drop-ins describe it now."""
        return systemd.Unit(self.root, f"chatcore@{self.port}")

    def pid(self) -> int:
        """Give the number of its process."""
        return int((self.root / "run" / f"chatcore@{self.port}.pid").read_text())

    def log(self) -> str:
        """Give what it printed."""
        return (self.root / "run" / f"chatcore@{self.port}.log").read_text()

    def health(self) -> dict[str, object]:
        """Wait until it serves, and give its health."""
        began = time.monotonic()
        while True:
            try:
                answer = httpx.get(f"http://127.0.0.1:{self.port}/health", trust_env=False, verify=NO_TLS, timeout=30.0)
            except httpx.TransportError:
                assert time.monotonic() - began < 60, self.log()
                assert systemd.runs(self.pid(), self.root), self.log()
                time.sleep(0.05)
            else:
                return dict(answer.json())

    def chat(self) -> str:
        """Say something as a page of the website; gives the reply."""
        with httpx.Client(
            base_url=f"http://127.0.0.1:{self.port}", trust_env=False, timeout=30.0, headers=SITE
        ) as client:
            token = client.post("/api/v1/session").json()["token"]
            bearer = {"Authorization": f"Bearer {token}"}
            answer = client.post("/api/v1/chat", json={"message": "Hi"}, headers=bearer)
        assert answer.status_code == 200, answer.text + self.log()
        return str(answer.json()["content"])

    def end(self) -> None:
        """End what still runs."""
        for pid in [int(file.read_text()) for file in (self.root / "run").glob("*.pid")]:
            if systemd.runs(pid, self.root):
                systemd.stop(pid, 20)


@pytest.fixture(scope="module")
def machine(n8n_of_module: ScriptedN8n) -> Iterator[Machine]:
    """Give a machine where chatcore is installed, its settings are made, and its unit is started."""
    n8n_of_module.answer(published)
    root = Path(tempfile.mkdtemp(prefix="chatcore-machine-"))
    root.chmod(0o755)
    machine = Machine(root, n8n_of_module)
    try:
        machine.type(commands("docs/systemd.md", "Install", 0))
        checked = machine.type(commands("docs/systemd.md", "Install", 1))
        assert {line.split()[0] for line in checked.splitlines()} == {"ok"}
        machine.type(commands("docs/systemd.md", "Install", 2))
        yield machine
    finally:
        machine.end()
        shutil.rmtree(root)


def test_systemd_understands_every_line_of_the_unit(tmp_path: Path) -> None:
    program = tmp_path / "opt/chatcore/.venv/bin/python"
    program.parent.mkdir(parents=True)
    program.symlink_to(sys.executable)
    written = tmp_path / "chatcore@8000.service"
    written.write_text(UNIT.read_text("utf-8").replace("/opt/", f"{tmp_path}/opt/"))
    verify = ["systemd-analyze", "--no-pager", "--man=no", "verify", str(written)]
    done = subprocess.run(verify, capture_output=True, text=True, check=False)
    assert (done.returncode, [line for line in done.stderr.splitlines() if "chatcore" in line]) == (0, [])
    written.write_text(written.read_text() + "\n[Service]\nProtectEverything=yes\n")
    assert "ProtectEverything" in subprocess.run(verify, capture_output=True, text=True, check=False).stderr


def test_systemd_gives_the_exposure_that_the_document_names() -> None:
    (named,) = re.findall(r"`systemd-analyze security chatcore@8000` gives it (\d)\.(\d),", DOCUMENT)
    done = subprocess.run(
        ["systemd-analyze", "--no-pager", "--offline=true", f"--threshold={''.join(named)}", "security", str(UNIT)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    (exposure,) = re.findall(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert exposure == ".".join(named)


DOCUMENT = (sources.ROOT / "docs" / "systemd.md").read_text("utf-8")


def test_the_installed_service_runs_private_and_confined(machine: Machine) -> None:
    assert machine.health()["mode"] == "stateless"
    machine.type(commands("docs/systemd.md", "Install", 3))
    assert machine.chat() == "Echo: Hi"
    settings = machine.root / "etc/chatcore/chatcore.env"
    assert settings.stat().st_mode & 0o777 == 0o600
    status = dict(re.findall(r"(?m)^(\w+):\s*(.*)$", Path(f"/proc/{machine.pid()}/status").read_text()))
    uid = status["Uid"].split()[0]
    assert int(uid) >= systemd.FIRST_UID
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert {int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
    environment = Path(f"/proc/{machine.pid()}/environ").read_bytes().decode()
    (secret,) = re.findall(r"(?m)^JWT_SECRET_KEY=(.*)$", settings.read_text())
    assert secret not in environment
    assert "N8N_WEBHOOK_URL" not in environment
    assert not re.findall(r"(?i)limit on open files|cannot|traceback", machine.log())
    wants = machine.root / f"etc/systemd/system/multi-user.target.wants/chatcore@{machine.port}.service"
    assert wants.readlink().name == "chatcore@.service"


def test_running_replies_have_their_time_at_a_stop_and_systemd_waits_for_it(machine: Machine) -> None:
    defaults = dict(re.findall(r"\| `(SHUTDOWN_\w+_SECONDS)` \| `(\d+)`", SETTINGS))
    needs = int(defaults["SHUTDOWN_DELAY_SECONDS"]) + int(defaults["SHUTDOWN_GRACE_SECONDS"]) + 10
    assert machine.unit().seconds("TimeoutStopSec") >= needs
    assert machine.unit().value("KillMode") == "mixed"
    machine.type("systemctl restart chatcore@8000")
    assert machine.health()["status"] == "ok"


SETTINGS = (sources.ROOT / "docs" / "settings.md").read_text("utf-8")


def test_a_newer_version_and_the_way_back(machine: Machine) -> None:
    newer = machine.root / "opt/chatcore-0.1.1"
    older = machine.root / "opt/chatcore-0.1.0"
    shutil.copytree(older, newer, ignore=shutil.ignore_patterns(".venv"))
    (newer / ".venv").symlink_to(older / ".venv")
    source = newer / "chatcore" / "__init__.py"
    written = source.read_text("utf-8")
    assert "0.1.0" in written
    source.write_text(written.replace("0.1.0", "0.1.1"))
    machine.type("ln -sfn /opt/chatcore-0.1.1 /opt/chatcore")
    told = machine.type(commands("docs/systemd.md", "Update and roll back", 0))
    assert '"version":"0.1.1"' in told.replace(" ", "")
    machine.type(commands("docs/systemd.md", "Update and roll back", 1))
    assert machine.health()["version"] == "0.1.0"


def test_sqlite_mode_keeps_its_file_in_the_folder_of_the_instance(machine: Machine) -> None:
    machine.type(commands("docs/systemd.md", "Choose the mode", 0))
    assert machine.health()["mode"] == "sqlite"
    assert machine.chat() == "Echo: Hi"
    figures = machine.type(commands("docs/systemd.md", "Choose the mode", 1))
    assert re.search(r"(?i)messages\D+1\b", figures), figures
    file = machine.root / f"var/lib/chatcore/{machine.port}/chat_sessions.db"
    assert {path.stat().st_uid for path in file.parent.iterdir()} == {file.parent.stat().st_uid} != {0}
    assert file.stat().st_mode & 0o777 == 0o600
    machine.type("systemctl stop chatcore@8000")


def test_postgres_mode_serves_with_workers(
    machine: Machine, database_of_module: Database, redis_server: RedisDatabase
) -> None:
    with (machine.root / "etc/chatcore/chatcore.env").open("a") as settings:
        settings.write(f"DATABASE_URL={database_of_module.url}\nDATABASE_ADMIN_URL={database_of_module.admin_url}\n")
        settings.write(f"REDIS_URL={redis_server.url}\n")
    machine.type(commands("docs/systemd.md", "Choose the mode", 2))
    assert machine.health()["mode"] == "postgres"
    assert machine.chat() == "Echo: Hi"
    workers = Path(f"/proc/{machine.pid()}/task/{machine.pid()}/children").read_text().split()
    assert len(workers) == 2
    machine.type("systemctl stop chatcore@8000")
    assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]
    assert "Traceback" not in machine.log()


def test_another_instance_is_apart(machine: Machine) -> None:
    (machine.root / "etc/systemd/system/chatcore@.service.d/mode.conf").unlink(missing_ok=True)
    first, machine.port = machine.port, free_port()
    try:
        machine.type(commands("docs/systemd.md", "More instances", 0).replace("8001", "8000"))
        assert machine.health()["mode"] == "stateless"
        assert machine.chat() == "Echo: Hi"
    finally:
        machine.port = first
